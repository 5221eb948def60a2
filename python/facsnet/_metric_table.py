"""Scores, targets and masks as the core takes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facsnet import _core

__all__ = ["Table"]

FloatArray = NDArray[np.float64]


class Table:
    """Arguments as (n, k) arrays, and results back in the caller's number of axes."""

    def __init__(self, scores: ArrayLike, target: ArrayLike, mask: ArrayLike | None) -> None:
        self.scores = np.asarray(scores)
        self.target = np.asarray(target)
        self.mask = None if mask is None else np.asarray(mask)
        self.flat = self.scores.ndim == 1
        if self.scores.ndim not in (1, 2):
            raise ValueError(f"scores: shape is {self.scores.shape}, want (n, k) or (n,)")
        for name, array in (("target", self.target), ("mask", self.mask)):
            if array is not None and array.shape != self.scores.shape:
                raise ValueError(f"{name}: shape is {array.shape}, want {self.scores.shape} as scores")
        if self.flat:
            self.scores, self.target = self.scores[:, None], self.target[:, None]
            self.mask = None if self.mask is None else self.mask[:, None]

    def limits(self, threshold: ArrayLike) -> NDArray[np.generic]:
        """One threshold per label."""
        limits = np.asarray(threshold)
        return np.full(self.scores.shape[1], limits) if limits.ndim == 0 else limits

    def count(self, threshold: ArrayLike) -> NDArray[np.int64]:
        limits = self.limits(threshold)
        counts: NDArray[np.int64] = _core.metric_confusion(self.scores, self.target, limits, self.mask)
        return counts

    def rank(self, measure: str) -> FloatArray:
        return self.shaped(_core.metric_ranking(measure, self.scores, self.target, self.mask))

    def rate(self, name: str, threshold: ArrayLike) -> FloatArray:
        return self.shaped(_core.metric_rate(name, self.count(threshold)))

    def shaped(self, values: FloatArray) -> FloatArray:
        return values.reshape(()) if self.flat else values
