"""Beyond single measures: intervals over subjects, calibration, and which labels come together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facsnet import _core
from facsnet._metric_table import Table

__all__ = ["Calibration", "bootstrap", "calibration", "cooccurrence", "interval"]

FloatArray = NDArray[np.float64]


class Calibration(NamedTuple):
    """Scores of each label in equal bins of [0, 1].

    `entries`, `score` and `share` are (k, bins): entries, their mean score, and the share of them that
    is positive (NaN in an empty bin). `error` (k,) is the expected calibration error: the distance
    of score and share, mean over the entries. 1-D scores lose the axis of labels.
    """

    entries: NDArray[np.int64]
    score: FloatArray
    share: FloatArray
    error: FloatArray


def bootstrap(
    scores: ArrayLike,
    target: ArrayLike,
    subjects: Sequence[Any] | NDArray[Any],
    *,
    measure: str = "f1",
    threshold: ArrayLike = 0.5,
    mask: ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    part: int = 0,
) -> FloatArray:
    """Take a measure again and again on subjects drawn with replacement.

    Frames of one face are alike, so that frames drawn one by one would make any result look far
    surer than it is; here a subject is drawn with all of its rows (Efron and Tibshirani, "An
    introduction to the bootstrap", 1993).

    Parameters
    ----------
    scores, target, mask
        See the conventions at the top of `facsnet.metrics`.
    subjects
        (n,) names of anything that can be sorted.
    measure
        ``"f1"``, ``"average_precision"`` or ``"roc_auc"``.
    threshold
        For F1, see the conventions.
    draws, seed, part
        How often, and which drawing: equal seed, part and subjects draw alike whatever is measured,
        so that two detectors are compared on the same drawn subjects by taking the difference.

    Returns
    -------
    ndarray (draws, k), or (draws,) for 1-D scores, float64
        NaN where the measure is undefined for what was drawn. See `interval`.

    Raises
    ------
    ValueError
        As `confusion`; or a number is out of its range, or subjects are of another length.
    """
    table = Table(scores, target, mask)
    names = np.asarray(subjects)
    if names.shape != (len(table.scores),):
        raise ValueError(f"subjects: shape is {names.shape}, want ({len(table.scores)},) as scores has rows")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: {seed}, want 0 to 2**64 - 1")
    distinct, index = np.unique(names.astype(str), return_inverse=True)
    values: FloatArray = _core.metric_bootstrap(
        measure,
        table.scores,
        table.target,
        table.mask,
        table.limits(threshold),
        index.astype(np.int64),
        max(1, len(distinct)),
        draws,
        seed,
        part,
    )
    return values[:, 0] if table.flat else values


def interval(values: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """The middle ``level`` of drawn values, along the first axis (the percentile interval).

    Parameters
    ----------
    values
        (draws, ...) as `bootstrap` gives them; NaN is left out.
    level
        Between 0 and 1.

    Returns
    -------
    tuple of two float64 arrays (...)
        Lower and upper end; NaN where no draw is defined.

    Raises
    ------
    ValueError
        ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level: {level}, want a number between 0 and 1")
    tail = (1 - level) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        low, high = np.nanquantile(np.asarray(values, np.float64), [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def calibration(scores: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None, bins: int = 10) -> Calibration:
    """Compare probabilities with how often the label is there.

    Parameters
    ----------
    scores, target, mask
        See the conventions at the top of `facsnet.metrics`; probabilities.
    bins
        Equal parts of [0, 1]; a score of 1 is in the last one.

    Returns
    -------
    Calibration
        With the expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015), NaN where
        nothing is known.

    Raises
    ------
    ValueError, TypeError
        As `confusion`; or a score is no probability, or bins are not 1 to 10,000.
    """
    table = Table(scores, target, mask)
    sums, error = _core.metric_calibration(table.scores, table.target, table.mask, bins)
    count = sums[..., 0]
    with np.errstate(invalid="ignore"):
        found = (count.astype(np.int64), sums[..., 1] / count, sums[..., 2] / count, error)
    return Calibration(*(column[0] for column in found)) if table.flat else Calibration(*found)


def cooccurrence(target: ArrayLike) -> FloatArray:
    """How often one label is there where another is.

    Parameters
    ----------
    target
        (n, k): 1, 0, or NaN for unknown.

    Returns
    -------
    ndarray (k, k), float64
        Row i, column j: the share of rows with label j among those with label i where j is known;
        NaN where there is none.

    Raises
    ------
    ValueError, TypeError
        ``target`` is not (n, k), or an entry is none of 0, 1 and NaN.
    """
    both, given = _core.metric_cooccurrence(np.asarray(target))
    with np.errstate(invalid="ignore"):
        return np.asarray(both / given)
