"""Splitting tables of samples honestly: by subject, by a column of folds, or by sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facsnet._stratify import deal_groups, group_counts

if TYPE_CHECKING:
    from facsnet.samples import Samples

__all__ = ["DISFA_FOLDS", "Splits", "check_disjoint"]

IntArray = npt.NDArray[np.int64]

DISFA_FOLDS: tuple[tuple[str, ...], ...] = tuple(
    tuple(f"SN{number:03d}" for number in numbers)
    for numbers in (
        (2, 10, 1, 26, 27, 32, 30, 9, 16),
        (13, 18, 11, 28, 12, 6, 31, 21, 24),
        (3, 29, 23, 25, 8, 5, 7, 17, 4),
    )
)
"""The test subjects of the three folds that published results on DISFA use."""

_NAMED_FOLDS = {"disfa": DISFA_FOLDS}


class Splits:
    """The part of `Samples` that splits: what it needs of them, and the methods."""

    labels: npt.NDArray[np.float32]
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

    def _stratified(self, order: Sequence[str], sizes: Sequence[int]) -> list[list[str]]:
        """The subjects of every fold, each in ``order``."""
        fold_of = deal_groups(group_counts(list(self._need_subjects()), order, self.labels), sizes)
        return [[name for name, fold in zip(order, fold_of, strict=True) if fold == i] for i in range(len(sizes))]

    def split_by_subject(self, *, test: float = 0.33, stratify: bool = False, seed: int = 0) -> tuple[Samples, Samples]:
        """Two parts without a common subject: (train, test).

        Parameters
        ----------
        test : float
            Share of the subjects in the second part, at least one.
        stratify : bool
            Spread the positives of every label as evenly as whole subjects allow, as `folds` does.
        seed : int
        """
        if not 0 < test < 1:
            raise ValueError(f"test is {test}, want a share between 0 and 1")
        order = _permuted(self._need_subjects(), seed)
        if len(order) < 2:
            raise ValueError(f"there is only {len(order)} subject, a split wants two")
        count = min(max(1, round(test * len(order))), len(order) - 1)
        held = self._stratified(order, (count, len(order) - count))[0] if stratify else order[:count]
        return self._apart(held, order)

    def folds(
        self, k: int | str, *, by: str = "subject", stratify: bool = False, seed: int = 0
    ) -> list[tuple[Samples, Samples]]:
        """k pairs (train, test) that together test every sample once.

        Parameters
        ----------
        k : int or "disfa"
            ``"disfa"``: the field's three folds of DISFA, `DISFA_FOLDS`, in their order. Subjects they
            do not name are an error, since they would be trained on in every fold; a fold none of
            whose subjects is there is one too.
        by : {"subject", "fold", "sample"}
            subject: subjects sorted, permuted by ``numpy.random.default_rng(seed)``, fold = position
            mod k. fold: as the fold column says (k must fit, no subject may be in two folds).
            sample: ignores subjects, which leaks where one subject has several images, and warns.
        stratify : bool
            By subject: deal the permuted subjects out by iterative stratification (Sechidis et al. 2011), so
            that every fold has its part of the positives of every label as far as whole subjects
            allow. Folds differ in size by at most one subject either way.
        seed : int

        Raises
        ------
        ValueError
            Subjects or folds are not known, k does not fit, or a subject would be on both sides.

        Notes
        -----
        Parts by subject remember the order, so that `inner_split` goes on with it::

            for train, test in samples.folds(3, by="subject", seed=0):
                inner, valid = train.inner_split(every=5)  # every fifth of the remaining subjects
        """
        if isinstance(k, str):
            return self._named_folds(k, by, stratify, seed)
        if k < 2:
            raise ValueError(f"k is {k}, want at least 2")
        if stratify and by != "subject":
            raise ValueError(f"stratify wants by='subject', by is {by!r}")
        if by == "subject":
            order = _permuted(self._need_subjects(), seed)
            if k > len(order):
                raise ValueError(f"k is {k}, but there are only {len(order)} subjects")
            dealt = [order[fold::k] for fold in range(k)]
            if stratify:
                dealt = self._stratified(order, [len(names) for names in dealt])
            return [self._apart(names, order) for names in dealt]
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

    def _named_folds(self, name: str, by: str, stratify: bool, seed: int) -> list[tuple[Samples, Samples]]:
        if name not in _NAMED_FOLDS:
            raise ValueError(f"k is {name!r}, want a number or one of {sorted(_NAMED_FOLDS)}")
        if by != "subject" or stratify:
            raise ValueError(f"k is {name!r}, whose folds are fixed: by is {by!r} and stratify {stratify}")
        order, folds = _permuted(self._need_subjects(), seed), _NAMED_FOLDS[name]
        unknown = sorted(set(order).difference(*folds))
        if unknown:
            raise ValueError(f"the folds {name!r} do not have {len(unknown)} of the subjects: {unknown[:5]}")
        parts = []
        for i, subjects in enumerate(folds):
            held = [subject for subject in order if subject in subjects]
            if not held or len(held) == len(order):
                raise ValueError(
                    f"fold {i + 1} of {name!r} has {len(held)} of the {len(order)} subjects that are there, "
                    "want some on both sides"
                )
            parts.append(self._apart(held, order))
        return parts

    def inner_split(self, *, every: int = 5, stratify: bool = False, seed: int = 0) -> tuple[Samples, Samples]:
        """A training part and the validation part that chooses epoch and thresholds.

        One subject in ``every`` goes to validation, in the order of the split this part came
        from (`folds`, `split_by_subject`), else sorted and permuted by ``seed``. Where subjects are
        not known, one sample in ``every`` of a permutation.

        Parameters
        ----------
        every : int
        stratify : bool
            Take as many subjects, but such that positives of every label go along, as `folds` does;
            wants known subjects.
        seed : int
        """
        if every < 2:
            raise ValueError(f"every is {every}, want at least 2")
        if stratify:
            self._need_subjects()
        if self.subjects is None:
            held_rows = np.zeros(len(self), bool)
            held_rows[np.random.default_rng(seed).permutation(len(self))[::every]] = True
            return self._without(held_rows)
        order = self._ordered_subjects(seed)
        if len(order) < 2:
            raise ValueError(f"there is only {len(order)} subject, an inner validation part wants another")
        held = order[::every]
        if stratify:
            held = self._stratified(order, (len(held), len(order) - len(held)))[0]
        return self._apart(held, order)


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
