"""Splitting tables of samples honestly: by subject, by a column of folds, or by sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from facsnet.samples import Samples

__all__ = ["Splits", "check_disjoint"]

IntArray = npt.NDArray[np.int64]


class Splits:
    """The part of `Samples` that splits: what it needs of them, and the methods."""

    subjects: npt.NDArray[Any] | None
    folds_column: npt.NDArray[Any] | None
    _subject_order: tuple[str, ...] | None

    def __len__(self) -> int:
        raise NotImplementedError

    def _take(self, rows: IntArray) -> Samples:
        raise NotImplementedError

    def _need_subjects(self) -> npt.NDArray[Any]:
        if self.subjects is None:
            raise ValueError("subjects are not known: name their column with subject=, or split by sample")
        return self.subjects

    def _ordered_subjects(self, seed: int) -> list[str]:
        """Subjects sorted, then permuted; a part of a split keeps the order of the whole."""
        present = set(self._need_subjects())
        if self._subject_order is not None:
            return [s for s in self._subject_order if s in present]
        return _permuted(present, seed)

    def _without(self, held: npt.NDArray[np.bool_]) -> tuple[Samples, Samples]:
        """The other rows and the held ones."""
        return self._take(np.flatnonzero(~held)), self._take(np.flatnonzero(held))

    def _apart(self, held: Sequence[str], order: Sequence[str]) -> tuple[Samples, Samples]:
        """The other subjects and the held ones; both remember the order of the whole."""
        parts = self._without(np.isin(self._need_subjects().astype(str), list(held)))
        for part in parts:
            part._subject_order = tuple(order)
        return parts

    def split_by_subject(self, *, test: float = 0.33, seed: int = 0) -> tuple[Samples, Samples]:
        """Two parts without a common subject: (train, test).

        Parameters
        ----------
        test : float
            Share of the subjects in the second part, at least one.
        seed : int
        """
        if not 0 < test < 1:
            raise ValueError(f"test is {test}, want a share between 0 and 1")
        order = _permuted(self._need_subjects(), seed)
        if len(order) < 2:
            raise ValueError(f"there is only {len(order)} subject, a split wants two")
        count = min(max(1, round(test * len(order))), len(order) - 1)
        return self._apart(order[:count], order)

    def folds(self, k: int, *, by: str = "subject", seed: int = 0) -> list[tuple[Samples, Samples]]:
        """k pairs (train, test) that together test every sample once.

        Parameters
        ----------
        k : int
        by : {"subject", "fold", "sample"}
            subject: subjects sorted, permuted by ``numpy.random.default_rng(seed)``, fold = position
            mod k. fold: as the fold column says (k must fit, no subject may be in two folds).
            sample: ignores subjects, which leaks where one subject has several images, and warns.
        seed : int

        Notes
        -----
        Parts by subject remember the order, so that `inner_split` goes on with it::

            for train, test in samples.folds(3, by="subject", seed=0):
                inner, valid = train.inner_split(every=5)  # every fifth of the remaining subjects
        """
        if k < 2:
            raise ValueError(f"k is {k}, want at least 2")
        if by == "subject":
            order = _permuted(self._need_subjects(), seed)
            if k > len(order):
                raise ValueError(f"k is {k}, but there are only {len(order)} subjects")
            return [self._apart(order[fold::k], order) for fold in range(k)]
        if by == "fold":
            if self.folds_column is None:
                raise ValueError("by='fold', but there is no fold column")
            assignment = _numbered(self.folds_column, k)
        elif by == "sample":
            if self.subjects is not None and len(set(self.subjects)) < len(self):
                warnings.warn(
                    "folds by sample put one subject on both sides: scores will look better than they are", stacklevel=2
                )
            assignment = _dealt(len(self), k, seed)
        else:
            raise ValueError(f"by is {by!r}, want 'subject', 'fold' or 'sample'")
        parts = [self._without(assignment == fold) for fold in range(k)]
        if by == "fold":
            for train, test in parts:
                check_disjoint(train, test)
        return parts

    def inner_split(self, *, every: int = 5, seed: int = 0) -> tuple[Samples, Samples]:
        """A training part and the validation part that chooses epoch and thresholds.

        One subject in ``every`` goes to validation, in the order of the split this part came
        from (`folds`, `split_by_subject`), else sorted and permuted by ``seed``. Where subjects are
        not known, one sample in ``every`` of a permutation.
        """
        if every < 2:
            raise ValueError(f"every is {every}, want at least 2")
        if self.subjects is None:
            held_rows = np.zeros(len(self), bool)
            held_rows[np.random.default_rng(seed).permutation(len(self))[::every]] = True
            return self._without(held_rows)
        order = self._ordered_subjects(seed)
        if len(order) < 2:
            raise ValueError(f"there is only {len(order)} subject, an inner validation part wants another")
        return self._apart(order[::every], order)


def check_disjoint(a: Samples, b: Samples) -> None:
    """Raises ValueError naming the subjects (or, where they are not known, the files) that are in both."""
    if a.subjects is not None and b.subjects is not None:
        common = sorted(set(a.subjects) & set(b.subjects))
        if common:
            raise ValueError(f"{len(common)} subjects are on both sides of the split, first {common[:5]}")
    elif a.paths is not None and b.paths is not None:
        same = sorted(set(a.paths) & set(b.paths))
        if same:
            raise ValueError(f"{len(same)} images are on both sides of the split, first {same[:3]}")


def _permuted(names: Iterable[str], seed: int) -> list[str]:
    """The distinct names sorted, then permuted by ``numpy.random.default_rng(seed)``."""
    ordered = sorted(set(names))
    return [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]


def _numbered(column: Iterable[str], k: int) -> IntArray:
    """Fold of every row, where a column names them: numbers in their order, then the other names."""
    names = list(column)
    groups = sorted(set(names), key=lambda name: (int(name) if name.isdecimal() else 0, name))
    if len(groups) != k:
        raise ValueError(f"k is {k}, the fold column has {len(groups)}: {groups[:8]}")
    return np.array([groups.index(name) for name in names], np.int64)


def _dealt(n: int, k: int, seed: int) -> IntArray:
    """Fold of every row, permuted rows being dealt out like cards."""
    if k > n:
        raise ValueError(f"k is {k}, but there are only {n} samples")
    assignment = np.empty(n, np.int64)
    assignment[np.random.default_rng(seed).permutation(n)] = np.arange(n) % k
    return assignment
