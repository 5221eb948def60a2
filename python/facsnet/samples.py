"""Tables of samples: images, subjects, labels."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facsnet import _table
from facsnet._splits import DISFA_FOLDS, Splits, check_disjoint
from facsnet.sampling import Sampling

if TYPE_CHECKING:
    import pandas as pd

    from facsnet.faces import Alignment

__all__ = ["DISFA_FOLDS", "Sample", "Samples", "check_disjoint"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """One row: its image (a path or an array), subject, fold and labels (NaN is unknown)."""

    image: Any
    subject: str | None
    fold: str | None
    labels: dict[str, float]


class Samples(Splits):
    """An immutable table of images with several labels each.

    Make one with `from_csv`, `from_frame` or `from_arrays`.

    Attributes
    ----------
    label_names : tuple of str
    labels : float32 array (n, k)
        1, 0, or NaN where unknown.
    subjects : array of str (n,), or None
    folds_column : array of str (n,), or None
    paths : tuple of str, or None
    images : list of uint8 arrays (h, w, 3), or uint8 array (n, h, w, 3), or None
        Either paths or images.
    intensity : float32 array (n, k), or None
        How strong each label is, in the units of its source, 0 or more; NaN where unknown. Training
        does not read it.
    recipe : Alignment, or None
        How the faces were cut out of their images; None where the images are as they came.

    The arrays are read-only.
    """

    def __init__(
        self,
        *,
        label_names: Sequence[str],
        labels: npt.ArrayLike,
        paths: Sequence[str] | None = None,
        images: Any = None,
        subjects: Sequence[str] | None = None,
        folds: Sequence[str] | None = None,
        intensity: npt.ArrayLike | None = None,
        recipe: Alignment | None = None,
        subject_order: tuple[str, ...] | None = None,
    ) -> None:
        self.label_names = tuple(_table.check_names(label_names, "label_names"))
        self.labels = _table.check_labels(labels, self.label_names)
        self.labels.setflags(write=False)
        _table.check_sources(images, paths)
        self.paths = None if paths is None else tuple(paths)
        self.images = images
        if isinstance(images, np.ndarray):
            self.images = images.view()
            self.images.setflags(write=False)
        self.subjects = _fixed(subjects)
        self.folds_column = _fixed(folds)
        self.intensity = None if intensity is None else _table.check_intensity(intensity, self.labels.shape)
        self.recipe = recipe
        self._subject_order = subject_order
        n = len(self.labels)
        for name, values in (("paths", paths), ("images", images), ("subject", subjects), ("fold", folds)):
            if values is not None and len(values) != n:
                raise ValueError(f"{name} has {len(values)} entries, labels has {n}")

    # --- making one

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        labels: Sequence[str] | None = None,
        image: str = "image",
        subject: str | None = "subject",
        fold: str | None = None,
        intensity: Mapping[str, str] | None = None,
    ) -> Samples:
        """Reads a table of one row per image.

        Parameters
        ----------
        path : path
            CSV with a header, separated by commas, semicolons or tabs. Spaces around names and text
            do not count.
        root : path, optional
            Folder that image paths start from; default the CSV's.
        labels : sequence of str, optional
            Columns of 0, 1 or nothing (unknown). Default: every column named AU and a number; where
            there is none, every other column that holds only 0, 1 and nothing.
        image, subject, fold : str
            Columns, read as text (007 stays 007). A missing ``subject`` column by its default name
            means subjects are unknown; None passes such a column over.
        intensity : mapping of str to str, optional
            Label to the column of its intensity.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            It is empty, lacks a column or has one twice, has a label that is not 0, 1 or empty, or a
            column Subject in place of ``subject``. Rows are counted from 0 below the header.

        Warns
        -----
        UserWarning
            An image is there more than once.
        """
        try:
            frame = _table.read_csv(path, [column for column in (image, subject, fold) if column])
            return cls.from_frame(
                frame,
                root=Path(path).parent if root is None else root,
                labels=labels,
                image=image,
                subject=subject,
                fold=fold,
                intensity=intensity,
            )
        except ValueError as problem:
            raise ValueError(f"{os.fspath(path)}: {problem}") from None

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        root: str | os.PathLike[str] | None = None,
        labels: Sequence[str] | None = None,
        image: str = "image",
        subject: str | None = "subject",
        fold: str | None = None,
        intensity: Mapping[str, str] | None = None,
    ) -> Samples:
        """As `from_csv`, from a pandas DataFrame."""
        if len(frame) == 0:
            raise ValueError("the table has no rows")
        if labels is None:
            names = _table.choose_labels(frame, (image, subject, fold))
        else:
            names = _table.check_names(labels, "labels")
        if subject == "subject":
            subject = _table.subject_column(frame.columns)
        for column in [image, *names, *(c for c in (subject, fold) if c), *(intensity or {}).values()]:
            found = list(frame.columns).count(column)
            if found != 1:
                raise ValueError(
                    f"column {column!r} is there twice"
                    if found
                    else f"there is no column {column!r}, but {list(frame.columns)[:12]}"
                )
        return cls(
            label_names=names,
            labels=_table.frame_labels(frame, names) if names else np.empty((len(frame), 0)),
            paths=_table.join_paths(root, _table.texts(frame[image], f"column {image!r}")),
            subjects=None if subject is None else _table.group_names(frame[subject], f"column {subject!r}"),
            folds=None if fold is None else _table.group_names(frame[fold], f"column {fold!r}"),
            intensity=None if intensity is None else _table.frame_intensity(frame, names, intensity),
        )

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: npt.ArrayLike,
        *,
        label_names: Sequence[str] | None = None,
        subject: Sequence[Any] | None = None,
        fold: Sequence[Any] | None = None,
        intensity: npt.ArrayLike | None = None,
    ) -> Samples:
        """From arrays in memory.

        Parameters
        ----------
        images : uint8 array (n, h, w, 3), or sequence of (h, w, 3) uint8 arrays, or sequence of paths
        labels : array-like (n, k)
            0, 1 or NaN (unknown).
        label_names : sequence of str, optional
        subject, fold : sequence, optional
        intensity : array-like (n, k), optional
            0 or more, or NaN (unknown).
        """
        values = np.asarray(labels, dtype=np.float64)
        if len(values) == 0:
            raise ValueError("labels is empty: there are no samples")
        if values.ndim != 2:
            raise ValueError(f"labels has shape {values.shape}, want (n, k)")
        names = label_names if label_names is not None else [f"label{i}" for i in range(values.shape[1])]
        paths = None
        if not isinstance(images, np.ndarray) or images.dtype.kind in "UO":
            images = list(images)
            if images and all(isinstance(p, (str, os.PathLike)) for p in images):
                paths, images = _table.join_paths(None, _table.texts(map(os.fspath, images), "path")), None
        return cls(
            label_names=names,
            labels=values,
            paths=paths,
            images=images,
            subjects=None if subject is None else _table.group_names(subject, "subject"),
            folds=None if fold is None else _table.group_names(fold, "fold"),
            intensity=intensity,
        )

    # --- looking at it

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Sample]:
        return (self._sample(i) for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """A `Sample` for an integer; `Samples` for a slice, a list of indices or a boolean mask."""
        if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
            return self._sample(range(len(self))[int(index)])
        if isinstance(index, slice):
            return self._take(np.arange(len(self))[index])
        chosen = np.asarray(index, dtype=np.int64 if isinstance(index, (list, tuple)) and not index else None)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iub":
            raise TypeError(
                f"the index is {chosen.dtype} of shape {chosen.shape}, want an integer, a slice, a list of integers or a mask"
            )
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ValueError(f"the mask has shape {chosen.shape}, want ({len(self)},)")
            chosen = np.flatnonzero(chosen)
        return self._take(chosen.astype(np.int64))

    def _sample(self, i: int) -> Sample:
        return Sample(
            self.images[i] if self.paths is None else self.paths[i],
            None if self.subjects is None else str(self.subjects[i]),
            None if self.folds_column is None else str(self.folds_column[i]),
            {name: float(v) for name, v in zip(self.label_names, self.labels[i], strict=True)},
        )

    def _take(self, rows: npt.NDArray[np.int64]) -> Samples:
        images = self.images
        if images is not None:
            if isinstance(images, np.memmap):
                # rows of a mapped file stay where they are: a fold of it may be larger than the memory
                images = list(np.asarray(images))
            images = images[rows] if isinstance(images, np.ndarray) else [images[i] for i in rows]
        return Samples(
            label_names=self.label_names,
            labels=self.labels[rows],
            images=images,
            paths=None if self.paths is None else [self.paths[i] for i in rows],
            subjects=None if self.subjects is None else list(self.subjects[rows]),
            folds=None if self.folds_column is None else list(self.folds_column[rows]),
            intensity=None if self.intensity is None else self.intensity[rows],
            recipe=self.recipe,
            subject_order=self._subject_order,
        )

    def prevalence(self) -> FloatArray:
        """Share of positives among the known, per label (k,); NaN where nothing is known."""
        known = (~np.isnan(self.labels)).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nansum(self.labels, axis=0) / np.where(known, known, np.nan), np.float32)

    def summary(self) -> str:
        """Table of labels: known, positive, prevalence."""
        subjects = "unknown subjects" if self.subjects is None else f"{len(set(self.subjects))} subjects"
        lines = [f"{len(self)} samples, {subjects}, {len(self.label_names)} labels"]
        lines.append(f"{'label':<24}{'known':>8}{'positive':>10}{'%':>7}")
        for k, (name, rate) in enumerate(zip(self.label_names, self.prevalence(), strict=True)):
            known = int((~np.isnan(self.labels[:, k])).sum())
            lines.append(f"{name:<24}{known:>8}{int(np.nansum(self.labels[:, k])):>10}{100 * rate:>7.1f}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Samples: {self.summary().splitlines()[0]}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.summary())}</pre>"

    def to_frame(self) -> pd.DataFrame:
        """image, subject, fold and the labels as a pandas DataFrame."""
        import pandas as pd

        columns: dict[str, Any] = {"image": list(self.paths) if self.paths is not None else list(range(len(self)))}
        if self.subjects is not None:
            columns["subject"] = list(self.subjects)
        if self.folds_column is not None:
            columns["fold"] = list(self.folds_column)
        columns.update({name: self.labels[:, k] for k, name in enumerate(self.label_names)})
        return pd.DataFrame(columns)

    def plot(self, n: int = 16, *, columns: int = 8) -> Any:
        """A grid of the first n images with their positive labels, as a matplotlib figure."""
        import matplotlib.pyplot as plt

        from facsnet.images import read_image

        if n < 1 or columns < 1:
            raise ValueError(f"n is {n} and columns {columns}, want at least 1")
        n = min(n, len(self))
        columns = min(columns, n)
        rows = -(-n // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(1.6 * columns, 1.9 * rows), squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for i in range(n):
            axis = axes.flat[i]
            axis.imshow(self.images[i] if self.paths is None else read_image(self.paths[i]))
            axis.set_title(
                " ".join(name for name, v in zip(self.label_names, self.labels[i], strict=True) if v == 1) or "none",
                fontsize=7,
            )
        figure.tight_layout()
        return figure

    def check(self) -> None:
        """Raises FileNotFoundError naming the images that do not exist."""
        missing = [p for p in self.paths or () if not os.path.isfile(p)]
        if missing:
            raise FileNotFoundError(f"{len(missing)} of {len(self)} images do not exist, first {missing[:5]}")

    # --- choosing

    def select_labels(self, names: Sequence[str]) -> Samples:
        """The same samples with these labels, in this order."""
        names = _table.check_names(names, "names")
        unknown = [name for name in names if name not in self.label_names]
        if unknown:
            raise ValueError(f"labels {unknown} are not among {list(self.label_names)}")
        columns = [self.label_names.index(name) for name in names]
        return Samples(
            label_names=names,
            labels=self.labels[:, columns],
            images=self.images,
            paths=self.paths,
            subjects=None if self.subjects is None else list(self.subjects),
            folds=None if self.folds_column is None else list(self.folds_column),
            intensity=None if self.intensity is None else self.intensity[:, columns],
            recipe=self.recipe,
            subject_order=self._subject_order,
        )

    def with_images(
        self, images: Any, *, rows: Sequence[int] | None = None, recipe: Alignment | None = None
    ) -> Samples:
        """The same rows, or some of them, with other images.

        Parameters
        ----------
        images : uint8 array (n, h, w, 3), or list of (h, w, 3) uint8 arrays
        rows : sequence of int, optional
            The samples that the images are of; None all.
        recipe : Alignment, optional
            How the images were cut out.
        """
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        return Samples(
            label_names=self.label_names,
            labels=self.labels[chosen],
            images=images,
            subjects=None if self.subjects is None else list(self.subjects[chosen]),
            folds=None if self.folds_column is None else list(self.folds_column[chosen]),
            intensity=None if self.intensity is None else self.intensity[chosen],
            recipe=recipe,
            subject_order=self._subject_order,
        )

    def draw(self, sampling: Sampling, *, seed: int = 0, epoch: int = 0) -> Samples:
        """The samples that an epoch draws, once and for all: to keep fewer images and smaller caches.

        Raises
        ------
        ValueError
            ``per_subject`` is set and subjects are not known.
        """
        rows = sampling.drawer(self, seed=seed)(epoch)
        return self if rows is None else self._take(rows)

    def labels_with(self, *, min_positives: int) -> list[str]:
        """Names of the labels with at least so many positives."""
        counts = np.nansum(self.labels, axis=0)
        return [name for name, count in zip(self.label_names, counts, strict=True) if count >= min_positives]

    @staticmethod
    def concatenate(parts: Sequence[Samples]) -> Samples:
        """All rows of several tables with the same labels and the same columns."""
        if not parts:
            raise ValueError("concatenate: there are no parts")
        first = parts[0]
        for part in parts[1:]:
            if part.label_names != first.label_names:
                raise ValueError(f"concatenate: labels are {list(first.label_names)} and {list(part.label_names)}")
            for what in ("paths", "images", "subjects", "folds_column", "intensity"):
                if (getattr(part, what) is None) != (getattr(first, what) is None):
                    raise ValueError(f"concatenate: some parts have {what}, others not")
            if part.recipe != first.recipe:
                raise ValueError(f"concatenate: faces are cut out by {first.recipe} and {part.recipe}")

        def rows(what: str) -> list[Any] | None:
            return None if getattr(first, what) is None else [row for p in parts for row in getattr(p, what)]

        return Samples(
            label_names=first.label_names,
            labels=np.concatenate([p.labels for p in parts]),
            paths=rows("paths"),
            images=rows("images"),
            subjects=rows("subjects"),
            folds=rows("folds_column"),
            intensity=rows("intensity"),
            recipe=first.recipe,
        )


def _fixed(values: Sequence[str] | None) -> npt.NDArray[Any] | None:
    if values is None:
        return None
    array = np.array(values, dtype=object)
    array.setflags(write=False)
    return array
