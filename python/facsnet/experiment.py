"""Experiments described in a TOML file: data, folds, what is compared, training, report."""

from __future__ import annotations

import inspect
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import facsnet
from facsnet._core import FormatError
from facsnet._files import write_text
from facsnet._plain import from_plain
from facsnet.crossvalidation import CrossValidation
from facsnet.datasets import synthetic_faces
from facsnet.estimator import AUClassifier
from facsnet.losses import Loss
from facsnet.protocol import cross_validate
from facsnet.published import DISFA_LABELS
from facsnet.samples import Samples

__all__ = ["Experiment", "read_experiment"]

_SECTIONS = ("title", "data", "folds", "compare", "training", "process", "report")
_COMPARED = {"backbones": list[str], "losses": list[Any], "seeds": list[int]}
_PROCESS = {"workers": int, "threads": int, "dtype": str, "memory": str, "cache_limit": str, "cache_folder": str}
_REPORT = {"published": str, "draws": int, "faces": bool}
# Arguments of a reader that are places, from the folder of the config.
_PLACES = ("path", "root", "frames")


@dataclass(frozen=True)
class Experiment:
    """What a config says.

    Attributes
    ----------
    title : str
    data : mapping
        ``reader`` (``"csv"``, the default, ``"synthetic_faces"``, or that of a data set, as
        ``"disfa"`` for `read_disfa`) and its arguments; ``select`` are the labels to keep, and
        ``min_positives`` keeps those with at least so many.
    folds : mapping
        Arguments of `Samples.folds`.
    compare : mapping
        ``backbones``, ``losses`` (names, or tables of `Loss` with a ``label``) and ``seeds``.
    training : mapping
        Arguments of `AUClassifier`.
    process : mapping
        ``workers``, ``threads``, ``dtype``, ``memory``, ``cache_limit``, ``cache_folder``.
    report : mapping
        ``published`` (see `cross_validate`; by default so where the reader, what is positive and the
        folds are theirs), ``draws``, ``faces``.
    folder : Path
        Of the config; relative paths start there.
    """

    title: str = "Experiment"
    data: Mapping[str, Any] = field(default_factory=dict)
    folds: Mapping[str, Any] = field(default_factory=lambda: {"k": 3})
    compare: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    process: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    def samples(self) -> Samples:
        """Reads the data.

        Raises
        ------
        ValueError
            There is no such reader, or it has no such argument; or as the reader.
        OSError
            A file cannot be read.
        """
        arguments = dict(self.data)
        name = arguments.pop("reader", "csv")
        labels, least = arguments.pop("select", None), arguments.pop("min_positives", None)
        reader = _reader(name)
        for place in _PLACES:
            if place in arguments:
                arguments[place] = self.folder / arguments[place]
        try:
            inspect.signature(reader).bind(**arguments)
        except TypeError as problem:
            raise ValueError(f"data: the reader {name!r}: {problem}") from None
        samples = reader(**arguments)
        if labels is not None:
            samples = samples.select_labels(labels)
        if least is not None:
            samples = samples.select_labels(samples.labels_with(min_positives=least))
        return samples

    def run(
        self,
        out: str | os.PathLike[str],
        *,
        workers: int | None = None,
        threads: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> CrossValidation:
        """Does the runs that ``out`` does not hold yet, and writes tables, plots and report.html there.

        Parameters
        ----------
        out : path
        workers, threads : int, optional
            In place of the config's, see `cross_validate`.
        progress : callable, optional
            Called with lines of text.

        Raises
        ------
        ValueError, OSError, MemoryError, FormatError
            As `samples` and `cross_validate`.
        """
        place = Path(out)
        process = dict(self.process)
        report = dict(self.report)
        faces = report.pop("faces", True)
        samples = self.samples()
        if self._is_published_protocol(samples):
            report.setdefault("published", "disfa")
        if progress is not None:
            progress(samples.summary())
        samples.check()
        found = cross_validate(
            samples,
            folds=self.folds,
            out=place / "runs",
            workers=workers or process.pop("workers", 1),
            threads=threads or process.pop("threads", None),
            progress=progress,
            **self.compare,
            **self.training,
            **{name: value for name, value in process.items() if name not in ("workers", "threads")},
            **report,
        )
        found.save(place, title=self.title, faces=faces)
        write_text(place / "results.txt", f"{found}\n")
        return found

    def _is_published_protocol(self, samples: Samples) -> bool:
        """Whether the data, what counts as positive, and the folds are those of the published results."""
        return (
            self.data.get("reader") == "disfa"
            and self.data.get("positive", 2) == 2
            and self.folds.get("k") == "disfa"
            and set(samples.label_names) <= set(DISFA_LABELS)
        )


def read_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Reads and checks a config.

    Raises
    ------
    OSError
        The file cannot be read.
    FormatError
        It is not TOML.
    ValueError
        A section or an entry is unknown, or of another type; the message names it.
    """
    name = os.fspath(path)
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise FormatError(f"{name}: not TOML: {problem}") from None
    try:
        return _experiment(table, Path(path).parent)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None


def _experiment(table: Mapping[str, Any], folder: Path) -> Experiment:
    for section, value in table.items():
        if section not in _SECTIONS:
            raise ValueError(f"there is no section {section!r}, but {', '.join(_SECTIONS)}")
        if section != "title" and not isinstance(value, dict):
            raise ValueError(f"{section} is {value!r:.80}, want a section [{section}]")
    _known(table.get("compare", {}), _COMPARED, "compare")
    compare = dict(table.get("compare", {}))
    if "losses" in compare:
        compare["losses"] = _losses(compare["losses"])
    types = AUClassifier._argument_types()
    for taken in ("backbone", "loss", "random_state"):
        types.pop(taken)
    training = dict(table.get("training", {}))
    _names(training, types, "training")
    if "weights" in training and (folder / str(training["weights"])).is_file():
        training["weights"] = str(folder / training["weights"])
    return Experiment(
        title=from_plain(str, table.get("title", Experiment.title), "title"),
        data=dict(table.get("data", {})),
        folds=dict(table.get("folds", {"k": 3})),
        compare=compare,
        training={name: from_plain(types[name], value, f"training.{name}") for name, value in training.items()},
        process=_known(table.get("process", {}), _PROCESS, "process"),
        report=_known(table.get("report", {}), _REPORT, "report"),
        folder=folder,
    )


def _losses(rows: list[Any]) -> dict[str, str | Loss]:
    """Name to loss, of names and of tables; a table's ``label`` is how it is called in the report."""
    found: dict[str, str | Loss] = {}
    for i, row in enumerate(rows):
        if isinstance(row, dict):
            options = dict(row)
            label = from_plain(str, options.pop("label", options.get("name", "")), f"compare.losses[{i}].label")
            loss: str | Loss = from_plain(Loss, options, f"compare.losses[{i}]")
        else:
            label = loss = from_plain(str, row, f"compare.losses[{i}]")
            Loss(label)
        if label in found:
            raise ValueError(f"compare.losses: {label!r} is there twice: give them a label")
        found[label] = loss
    return found


def _known(table: Mapping[str, Any], types: Mapping[str, Any], section: str) -> dict[str, Any]:
    _names(table, types, section)
    return {name: from_plain(types[name], value, f"{section}.{name}") for name, value in table.items()}


def _names(table: Mapping[str, Any], types: Mapping[str, Any], section: str) -> None:
    for name in table:
        if name not in types:
            raise ValueError(f"{section}: there is no entry {name!r}, but {', '.join(types)}")


def _reader(name: str) -> Callable[..., Samples]:
    """The function that reads a data set: of this module, or ``facsnet.read_NAME``."""
    own: dict[str, Callable[..., Samples]] = {"csv": Samples.from_csv, "synthetic_faces": synthetic_faces}
    for public in facsnet.__all__:
        found = getattr(facsnet, public)
        if public.startswith("read_") and inspect.signature(found).return_annotation in (Samples, "Samples"):
            own[public.removeprefix("read_")] = found
    if name not in own:
        raise ValueError(f"data: there is no reader {name!r}, but {', '.join(own)}")
    return own[name]
