"""Cross-validation that a reviewer would believe: folds x seeds x losses x backbones, and what they come to."""

from __future__ import annotations

import contextlib
import inspect
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from facsnet import _core
from facsnet._runs import Job, RunKey, RunResult, data_digest, perform_all, read_result
from facsnet._splits import check_disjoint
from facsnet.crossvalidation import CrossValidation
from facsnet.estimator import AUClassifier, _loss_text
from facsnet.losses import Loss
from facsnet.pretrained import pretrained
from facsnet.published import published_f1
from facsnet.samples import Samples

__all__ = ["cross_validate"]

Part = tuple[Samples, Samples]

# Arguments of AUClassifier that are not a run's own: set here, or of the process.
_OURS = {
    "backbone": "backbones",
    "loss": "losses",
    "random_state": "seeds",
    "threads": "threads",
    "progress": "progress",
}
_OF_THE_PROCESS = ("memory", "cache_limit", "cache_folder")


def cross_validate(
    samples: Samples,
    *,
    folds: int | str | Mapping[str, Any] | Sequence[Part] = 3,
    seeds: Sequence[int] = (0,),
    losses: Sequence[str | Loss] | Mapping[str, str | Loss] = ("bce",),
    backbones: Sequence[str] = ("mobilenet_v1",),
    out: str | os.PathLike[str] | None = None,
    workers: int = 1,
    threads: int | None = None,
    draws: int = 1000,
    published: str | None = None,
    allow_training_subjects: bool = False,
    progress: Callable[[str], None] | None = None,
    **training: Any,
) -> CrossValidation:
    """Train and test detectors fold by fold, with every choice made inside the training part.

    Each run trains an `AUClassifier` on the training part of a fold. That holds every fifth of its
    subjects out, and they alone choose the epoch and the thresholds; the test part is scored once,
    at the end, and nothing is chosen on it.

    Parameters
    ----------
    samples : Samples
    folds : int, str, mapping, or sequence of (train, test)
        What `Samples.folds` is called with: its first argument, or all of them by name, as
        ``{"k": 3, "by": "subject", "seed": 0}``; or the pairs themselves.
    seeds : sequence of int
        Of training; the folds are the same for all.
    losses : sequence of str or Loss, or mapping of names to them
    backbones : sequence of str
    out : path, optional
        Folder of the runs' files. Runs that are there already are not done again, so that an
        experiment that was stopped goes on where it was; one that trains on other data or with other
        arguments is refused. None keeps the results in memory and no models.
    workers : int
        Runs at a time. More than one run in processes of their own, each with its part of the
        threads: a script then needs the usual ``if __name__ == "__main__":``. Results do not depend
        on it.
    threads : int, optional
        In all; None is every processor.
    draws : int
        Of the bootstrap over subjects, see `metrics.bootstrap`.
    published : {"disfa"}, optional
        Put published results beside: say so only where ``samples`` are that data set.
    allow_training_subjects : bool
        Score even subjects or images that are in the training part.
    progress : callable, optional
        Called with a line of text after every run.
    **training
        Arguments of `AUClassifier`: weights, width, stages, head_epochs and so on.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ValueError
        An argument is out of its range; a subject is on both sides of a fold; ``out`` holds runs of
        another experiment.
    FormatError
        A file in ``out`` is damaged.
    TypeError
        `AUClassifier` has no such argument.
    OSError, MemoryError
        As `AUClassifier.fit`. A run that fails does not end the others; its exception comes in the end.

    Examples
    --------
    >>> import facsnet as fn
    >>> samples = fn.datasets.synthetic_faces(900)
    >>> found = fn.cross_validate(samples, losses=["bce", "pr"], weights="demo")  # doctest: +SKIP
    >>> print(found)  # doctest: +SKIP
    """
    _check_numbers(workers, threads, draws)
    _check_training(training)
    parts = _parts(samples, folds)
    if not allow_training_subjects:
        for train, test in parts:
            check_disjoint(train, test)
    if published is not None:
        published_f1(published, samples.label_names)  # now, and not after hours
    chosen = _settings(backbones, losses)
    _check_seeds(seeds)
    workers = min(workers, len(chosen) * len(seeds) * len(parts))
    if training.get("weights") == "imagenet":
        for backbone in backbones:
            pretrained(backbone)  # once, and not in every process
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out)
        folder.mkdir(parents=True, exist_ok=True)
        process = {name: training[name] for name in _OF_THE_PROCESS if name in training}
        shared = max(1, (threads or _core.build_facts()["threads"]) // workers)
        process["threads"] = threads if workers == 1 else shared
        digests = [data_digest(*part) for part in parts]
        jobs = [
            Job(
                RunKey(name, seed, fold),
                train,
                test,
                loss,
                {"backbone": backbone, **{a: v for a, v in training.items() if a not in process}},
                folder,
                digests[fold],
                process,
                allow_training_subjects,
            )
            for name, (backbone, loss) in chosen.items()
            for seed in seeds
            for fold, (train, test) in enumerate(parts)
        ]
        results = _run(jobs, workers, progress)
    return CrossValidation(
        results, draws=draws, published=published, parts=parts, folder=None if out is None else folder
    )


def _run(jobs: Sequence[Job], workers: int, progress: Callable[[str], None] | None) -> list[RunResult]:
    say = progress or (lambda line: None)
    found = {job.key: _kept(job) for job in jobs}
    missing = [job for job in jobs if found[job.key] is None]
    kept = len(jobs) - len(missing)
    say(f"{len(jobs)} runs" + (f", {kept} of them done before" if kept else ""))
    ready = kept

    def done(job: Job) -> None:
        nonlocal ready
        ready += 1
        result = found[job.key] = read_result(job.result_path)
        seconds = sum(stage["seconds"] for stage in result.costs["stages"])
        say(f"{ready} of {len(jobs)}: {job.key}: trained in {seconds:.0f} s")

    perform_all(missing, workers=workers, done=done)
    return [result for result in found.values() if result is not None]


def _kept(job: Job) -> RunResult | None:
    """The result of a run that was done before."""
    if not job.result_path.exists():
        return None
    result = read_result(job.result_path)
    if result.digest != job.digest() or result.key != job.key:
        raise ValueError(
            f"{job.result_path}: is of other data, other arguments or another version of facsnet: choose another folder, or delete this one's runs"
        )
    return result


def _parts(samples: Samples, folds: int | str | Mapping[str, Any] | Sequence[Part]) -> list[Part]:
    if isinstance(folds, (int, str, Mapping)):
        arguments = dict(folds) if isinstance(folds, Mapping) else {"k": folds}
        try:
            inspect.signature(samples.folds).bind(**arguments)
        except TypeError as problem:
            raise ValueError(f"folds: {problem}") from None
        return samples.folds(**arguments)
    parts = list(folds)
    if not parts:
        raise ValueError("folds: there are none")
    return parts


def _settings(
    backbones: Sequence[str], losses: Sequence[str | Loss] | Mapping[str, str | Loss]
) -> dict[str, tuple[str, str | Loss]]:
    """Name to backbone and loss; a name has what is not the same for all."""
    if isinstance(backbones, str) or isinstance(losses, str):
        raise ValueError("backbones and losses are a string, want a sequence of them")
    named = (
        dict(losses)
        if isinstance(losses, Mapping)
        else _unique(((_loss_text(loss), loss) for loss in losses), "losses")
    )
    networks = _unique(((name, name) for name in backbones), "backbones")
    if not named or not networks:
        raise ValueError(f"there are {len(networks)} backbones and {len(named)} losses, want at least one of each")
    settings = {
        name if len(networks) == 1 else f"{backbone} {name}": (backbone, loss)
        for backbone in networks
        for name, loss in named.items()
    }
    files: dict[str, str] = {}
    for name in settings:
        other = files.setdefault(RunKey(name, 0, 0).file_name, name)
        if other != name:
            raise ValueError(
                f"losses: {other!r} and {name!r} would have the same files, want names that differ in more"
            )
    return settings


def _unique(pairs: Iterable[tuple[str, Any]], what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{what}: {name!r} is there twice")
        found[name] = value
    return found


def _check_numbers(workers: int, threads: int | None, draws: int) -> None:
    for name, value in (("workers", workers), ("threads", threads), ("draws", draws)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, want at least 1")


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds are {list(seeds)}, want distinct numbers of at least 0")


def _check_training(training: Mapping[str, Any]) -> None:
    known = list(inspect.signature(AUClassifier.__init__).parameters)[1:]
    for name in training:
        if name in _OURS:
            raise TypeError(f"cross_validate: {name!r} is set through {_OURS[name]!r}")
        if name not in known:
            raise TypeError(f"cross_validate: AUClassifier has no argument {name!r}, but {', '.join(known)}")
