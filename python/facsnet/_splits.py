"""Which rows or subjects go together: the arithmetic behind `Samples.folds` and its kin."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["dealt", "numbered", "permuted"]

IntArray = npt.NDArray[np.int64]


def permuted(names: Iterable[str], seed: int) -> list[str]:
    """The distinct names sorted, then permuted by ``numpy.random.default_rng(seed)``."""
    ordered = sorted(set(names))
    return [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]


def numbered(column: Iterable[str], k: int) -> IntArray:
    """Fold of every row, where a column names them: numbers in their order, then the other names."""
    names = list(column)
    groups = sorted(set(names), key=lambda name: (int(name) if name.isdecimal() else 0, name))
    if len(groups) != k:
        raise ValueError(f"k is {k}, the fold column has {len(groups)}: {groups[:8]}")
    return np.array([groups.index(name) for name in names], np.int64)


def dealt(n: int, k: int, seed: int) -> IntArray:
    """Fold of every row, permuted rows being dealt out like cards."""
    if k > n:
        raise ValueError(f"k is {k}, but there are only {n} samples")
    assignment = np.empty(n, np.int64)
    assignment[np.random.default_rng(seed).permutation(n)] = np.arange(n) % k
    return assignment
