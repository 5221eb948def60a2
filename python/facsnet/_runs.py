"""The single runs of an experiment: one detector trained and scored, its file, and many in processes of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import resource
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._mapped import open_images, place_of, send_images
from facsnet._plain import to_plain
from facsnet._safetensors import read_safetensors, write_safetensors
from facsnet._version import __version__
from facsnet.estimator import AUClassifier
from facsnet.losses import Loss
from facsnet.samples import Samples

__all__ = ["Job", "RunKey", "RunResult", "data_digest", "perform_all", "read_result"]

_Outcomes = Generator[tuple["Job", BaseException | None], None, None]

_FORMAT, _VERSION = "facsnet.run", 1
_TENSORS = {"scores": "<f4", "target": "<f4", "thresholds": "<f8", "training_share": "<f8"}


class RunKey(NamedTuple):
    """Which run: the name of its backbone and loss, the seed of its training, its fold."""

    setting: str
    seed: int
    fold: int

    @property
    def file_name(self) -> str:
        """Without an ending; distinct for distinct settings, whatever characters they have."""
        plain = re.sub(r"[^A-Za-z0-9_.+-]+", "-", self.setting).strip("-.")
        if plain != self.setting.replace(" ", "-"):
            plain += "-" + hashlib.blake2b(self.setting.encode(), digest_size=3).hexdigest()
        return f"{plain}-seed{self.seed}-fold{self.fold}"

    def __str__(self) -> str:
        return f"{self.setting}, seed {self.seed}, fold {self.fold}"


@dataclass(frozen=True, eq=False)
class Job:
    """One run to do: what is trained, on what, and where its files go.

    ``arguments`` are those of `AUClassifier`, without loss, seed and what belongs to the process;
    ``data`` is the `data_digest` of the two parts.
    """

    key: RunKey
    train: Samples
    test: Samples
    loss: str | Loss
    arguments: Mapping[str, Any]
    folder: Path
    data: str
    process: Mapping[str, Any] = field(default_factory=dict)
    allow_training_subjects: bool = False

    @property
    def result_path(self) -> Path:
        return self.folder / f"{self.key.file_name}.result.safetensors"

    @property
    def model_path(self) -> Path:
        return self.folder / f"{self.key.file_name}.model.safetensors"

    def digest(self) -> str:
        """What the result follows from: the data and the arguments, but not the machine."""
        ours = {"facsnet": __version__, "data": self.data, "loss": self.loss, "seed": self.key.seed}
        plain = {**ours, **self.arguments}
        text = json.dumps(to_plain(plain), sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "train": send_images(self.train), "test": send_images(self.test)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parts = {name: open_images(state[name]) for name in ("train", "test")}
        self.__dict__.update({**state, **parts})


def data_digest(*parts: Samples) -> str:
    """What the samples are. Images in files, mapped ones too, count by their place and not by their bytes.

    The order of subjects belongs to it, since it says who is held out inside.
    """
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        subjects = None if part.subjects is None else [str(s) for s in part.subjects]
        state.update(json.dumps([part.label_names, part.paths, subjects, part._subject_order]).encode())
        state.update(np.ascontiguousarray(part.labels).tobytes())
        for image in () if part.images is None else part.images:
            place = place_of(image)
            state.update(np.ascontiguousarray(image).tobytes() if place is None else repr(place).encode())
    return state.hexdigest()


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run left: scores of its test part, and how it came to them.

    Attributes
    ----------
    key : RunKey
    label_names : tuple of str
    scores, target : float32 arrays (n, k)
        Of the test part, in its order.
    thresholds : float64 array (k,)
        Fitted inside the training part.
    training_share : float64 array (k,)
        Share of positives in the training part.
    subjects : tuple of str, or None
        Of each row.
    history : list of dict
        Rows of training.
    best : dict
        Stage to the epoch kept.
    notes : list of str
        Warnings of the run.
    costs : dict
        parameters, macs, peak_memory (bytes, of the whole process), scoring_seconds, and stages:
        rows of name, epochs, seconds, memory (planned bytes of a batch), trained (parameters).
    config : dict
        Facts of the detector.
    """

    key: RunKey
    label_names: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    target: npt.NDArray[np.float32]
    thresholds: npt.NDArray[np.float64]
    training_share: npt.NDArray[np.float64]
    subjects: tuple[str, ...] | None
    history: list[dict[str, Any]]
    best: dict[str, int]
    notes: list[str]
    costs: dict[str, Any]
    config: dict[str, Any]
    digest: str


# --- one run


def perform(job: Job) -> None:
    """Trains and scores one detector, and writes its model and, last, its result.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C came in while it trained; nothing is written then.
    ValueError, OSError, MemoryError
        As `AUClassifier.fit` and `evaluate`.
    """
    detector = AUClassifier(**job.arguments, loss=job.loss, random_state=job.key.seed, progress=False, **job.process)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(job.train)
        if detector.history_.interrupted:
            raise KeyboardInterrupt
        start = time.perf_counter()
        report = detector.evaluate(job.test, allow_training_subjects=job.allow_training_subjects)
        seconds = time.perf_counter() - start
    detector.save(job.model_path)
    facts = {
        "version": _VERSION,
        "digest": job.digest(),
        **job.key._asdict(),
        "label_names": job.test.label_names,
        "subjects": None if job.test.subjects is None else [str(s) for s in job.test.subjects],
        "history": detector.history_.rows,
        "best": detector.history_.best,
        "notes": [*detector.history_.notes, *dict.fromkeys(str(w.message) for w in caught)],
        "costs": {**_costs(detector), "scoring_seconds": seconds, "peak_memory": _peak_memory()},
        "config": report.config,
    }
    tensors: dict[str, npt.NDArray[Any]] = {
        "scores": report.scores,
        "target": report.target,
        "thresholds": detector.thresholds_,
        "training_share": job.train.prevalence().astype(np.float64),
    }
    text = json.dumps(to_plain(facts), allow_nan=False)
    write_safetensors(job.result_path, tensors, {_FORMAT: text}, checksums=True)


def _costs(detector: AUClassifier) -> dict[str, Any]:
    network, trainer = detector.network, detector.trainer_
    assert trainer is not None
    stages = []
    for stage in trainer.stages:
        rows = [row for row in detector.history_.rows if row["stage"] == stage.name]
        first = network.blocks.index(network.resolve_block(stage.unfreeze))
        trained = sum(row[4] for row in network._core.node_rows() if row[2] in network.blocks[first:])
        memory = network.plan_bytes(
            batch=detector.batch_size, training=True, unfreeze=stage.unfreeze, memory=detector.memory
        )
        seconds = sum(row["seconds"] for row in rows)
        stages.append(
            {"name": stage.name, "epochs": len(rows), "seconds": seconds, "memory": memory, "trained": trained}
        )
    return {"parameters": network.parameter_count(), "macs": network.macs(), "stages": stages}


def _peak_memory() -> int:
    """Bytes; of everything that this process did so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def read_result(path: str | os.PathLike[str]) -> RunResult:
    """What `perform` wrote.

    Raises
    ------
    FormatError
        The file is damaged or is no result of a run.
    """
    tensors, metadata = read_safetensors(path)
    try:
        facts = json.loads(metadata[_FORMAT])
        if facts["version"] != _VERSION:
            raise ValueError(f"version is {facts['version']}, this library knows {_VERSION}")
        key = RunKey(str(facts["setting"]), int(facts["seed"]), int(facts["fold"]))
        names = tuple(facts["label_names"])
        arrays: dict[str, Any] = {name: tensors[name].astype(kind) for name, kind in _TENSORS.items()}
        n, k = arrays["scores"].shape
        wanted = {"scores": (n, k), "target": (n, k), "thresholds": (k,), "training_share": (k,)}
        subjects = facts["subjects"]
        if {name: array.shape for name, array in arrays.items()} != wanted or len(names) != k:
            raise ValueError("its arrays do not belong together")
        if subjects is not None and len(subjects) != n:
            raise ValueError(f"it has {len(subjects)} subjects, want {n}")
        # what is undefined was written as null
        history = [{c: np.nan if v is None else v for c, v in row.items()} for row in facts["history"]]
        rest = {name: facts[name] for name in ("best", "notes", "costs", "config", "digest")}
    except (KeyError, ValueError, TypeError, AttributeError) as problem:
        raise FormatError(f"{os.fspath(path)}: not the result of a run: {problem!r:.200}") from None
    who = None if subjects is None else tuple(subjects)
    return RunResult(key=key, label_names=names, subjects=who, history=history, **arrays, **rest)


# --- many runs


def perform_all(jobs: Sequence[Job], *, workers: int, done: Callable[[Job], None]) -> None:
    """Does every job, up to ``workers`` at a time in processes of their own; one alone in this process.

    A failed run does not end the others. `done` is called here after each that succeeded.

    Raises
    ------
    The first exception of a run, with a note that names the run, when the others are done.
    """
    problems: list[tuple[Job, BaseException]] = []
    outcomes = _one_by_one(jobs) if workers == 1 else _side_by_side(jobs, workers)
    with contextlib.closing(outcomes):  # ends what runs, whatever happens here
        for job, problem in outcomes:
            if problem is None:
                done(job)
            else:
                problems.append((job, problem))
    if problems:
        job, problem = problems[0]
        problem.add_note(f"in the run {job.key}; {len(problems)} of {len(jobs)} runs failed, the others are kept")
        raise problem


def _one_by_one(jobs: Sequence[Job]) -> _Outcomes:
    for job in jobs:
        try:
            perform(job)
        except Exception as problem:
            yield job, problem
        else:
            yield job, None


class _Child(NamedTuple):
    job: Job
    process: BaseProcess
    answer: Connection


def _side_by_side(jobs: Sequence[Job], workers: int) -> _Outcomes:
    """A fresh interpreter for each run: memory is given back, and a run that is killed takes no other along."""
    waiting, running = list(jobs), list[_Child]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_start(waiting.pop(0)))
            ready = wait([child.answer for child in running])
            for child in [child for child in running if child.answer in ready]:
                running.remove(child)
                yield child.job, _outcome(child)
    finally:
        for child in running:
            child.process.terminate()
        for child in running:
            child.process.join()


def _start(job: Job) -> _Child:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(job, there), daemon=True)
    process.start()
    there.close()
    return _Child(job, process, here)


def _outcome(child: _Child) -> BaseException | None:
    try:
        problem: BaseException | None = child.answer.recv()
    except EOFError:
        child.process.join()
        problem = ChildProcessError(
            f"{child.job.key}: its process ended with {child.process.exitcode}"
            + (", killed, perhaps for want of memory" if child.process.exitcode == -9 else "")
        )
    child.process.join()
    child.answer.close()
    return problem


def _work(job: Job, answer: Connection) -> None:
    """The main function of a child."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        perform(job)
    except BaseException as problem:
        answer.send(_portable(problem))
    else:
        answer.send(None)


def _end_with_parent() -> None:
    """Without this a run whose experiment was killed would go on for hours with nobody to read it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _portable(problem: BaseException) -> BaseException:
    """The exception where it can be sent; else one that says the same."""
    import pickle

    try:
        pickle.loads(pickle.dumps(problem))
    except Exception:
        return RuntimeError(f"{type(problem).__name__}: {problem}")
    return problem
