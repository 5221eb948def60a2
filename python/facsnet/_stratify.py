"""Dealing groups (subjects) out to folds so that every label is spread evenly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["deal_groups", "group_counts"]

IntArray = npt.NDArray[np.int64]


def group_counts(
    groups: Sequence[str], order: Sequence[str], labels: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Positives per group and label, and its samples in the last column: (groups, k + 1), groups in ``order``."""
    place = {name: i for i, name in enumerate(order)}
    row = np.array([place[name] for name in groups], np.int64)
    counts = np.zeros((len(order), labels.shape[1] + 1))
    np.add.at(counts[:, :-1], row, np.nan_to_num(labels))
    counts[:, -1] = np.bincount(row, minlength=len(order))
    return counts


def deal_groups(counts: npt.NDArray[np.float64], sizes: Sequence[int]) -> IntArray:
    """Fold of every group, by iterative stratification.

    The label that has the fewest positives left goes first: its groups, those with most of them
    first, each to the fold that still wants most of it. Groups without positives even out the
    samples.

    Parameters
    ----------
    counts : float64 array (groups, k + 1)
        As of `group_counts`; ties are decided by the order of the rows.
    sizes : sequence of int
        Groups of every fold; their sum is the count of groups. A fold wants this part of each label.

    References
    ----------
    Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011, algorithm 1; there of
    samples, here of groups.
    """
    counts = np.asarray(counts, np.float64)
    room = np.asarray(sizes, np.int64).copy()
    wanted = room[:, None] / room.sum() * counts.sum(axis=0)
    fold_of = np.full(len(counts), -1, np.int64)
    while (fold_of < 0).any():
        free = np.flatnonzero(fold_of < 0)
        left = counts[free, :-1].sum(axis=0)
        label = int(np.argmin(np.where(left > 0, left, np.inf))) if (left > 0).any() else -1
        group = int(free[np.argmax(counts[free, label])])
        # lexsort goes by its last key first: most wanted of the label, then of samples, then the first fold
        open_folds = np.flatnonzero(room > 0)
        fold = open_folds[np.lexsort((open_folds, -wanted[open_folds, -1], -wanted[open_folds, label]))[0]]
        fold_of[group] = fold
        wanted[fold] -= counts[group]
        room[fold] -= 1
    return fold_of
