"""Scores of multi-label detectors: F1, average precision, ROC AUC, curves and thresholds.

Every function takes the scores and targets of a whole set, never of one batch: F1, average precision
and AUC of batches do not average to those of the set. `Scores` collects batches.

Conventions
-----------
scores
    (n, k) numbers, taken as float32, higher meaning more likely: probabilities or logits. 1-D arrays
    of length n are one label, and results lose the axis of labels too.
target
    As `scores`, 1 where the label is present, 0 where it is absent, NaN where that is unknown.
mask
    As `scores`, True (1) where an entry counts; by default all do. Unknown targets never count.
threshold
    A label is predicted where its score is at least the threshold, both taken as float32: one
    number, or one per label.

What is undefined is NaN, never 0. Without a known positive, recall, F1, average precision, AUC and
the fitted threshold are undefined; without a negative AUC; without a prediction precision; without a
known target accuracy. `macro_mean` leaves such labels out and names them. F1 is 0 where there are
positives and none is found.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facsnet import _core
from facsnet._metric_table import Table
from facsnet._studies import Calibration, bootstrap, calibration, cooccurrence, interval

__all__ = [
    "Calibration",
    "Confusion",
    "PRCurve",
    "Scores",
    "UndefinedScoreWarning",
    "accuracy",
    "average_precision",
    "bootstrap",
    "calibration",
    "confusion",
    "cooccurrence",
    "f1",
    "fit_thresholds",
    "interval",
    "macro_mean",
    "pr_curve",
    "precision",
    "recall",
    "roc_auc",
]

FloatArray = NDArray[np.float64]


class UndefinedScoreWarning(UserWarning):
    """A measure is undefined for some label; the message names it."""


class Confusion(NamedTuple):
    """Counts per label, each int64 of shape (k,), or () for 1-D scores."""

    true_positive: NDArray[np.int64]
    false_positive: NDArray[np.int64]
    false_negative: NDArray[np.int64]
    true_negative: NDArray[np.int64]

    @property
    def positives(self) -> NDArray[np.int64]:
        """Known targets that are 1."""
        return np.asarray(self.true_positive + self.false_negative)

    @property
    def known(self) -> NDArray[np.int64]:
        """Known targets that count, 1 or 0."""
        return np.asarray(self.positives + self.false_positive + self.true_negative)


class PRCurve(NamedTuple):
    """A precision-recall curve, float64.

    `precision[i]` and `recall[i]` hold when every score of at least `thresholds[i]` is predicted;
    thresholds are the distinct scores, rising. One last point, precision 1 and recall 0, has no
    threshold, as in scikit-learn.
    """

    precision: FloatArray
    recall: FloatArray
    thresholds: FloatArray


def confusion(
    scores: ArrayLike, target: ArrayLike, *, threshold: ArrayLike = 0.5, mask: ArrayLike | None = None
) -> Confusion:
    """Count true and false positives and negatives per label.

    Parameters
    ----------
    scores, target, mask, threshold
        See the conventions at the top of `facsnet.metrics`.

    Returns
    -------
    Confusion
        Four int64 arrays of shape (k,); its `known` and `positives` are the support.

    Raises
    ------
    ValueError
        Shapes differ, a score that counts is NaN or infinite, a target is none of 0, 1 and NaN, a
        threshold is NaN. The message names argument, row and label.
    TypeError
        An array does not hold numbers.
    """
    table = Table(scores, target, mask)
    counts = table.count(threshold)
    return Confusion(*(column.reshape(()) if table.flat else column for column in counts.T.copy()))


def precision(
    scores: ArrayLike, target: ArrayLike, *, threshold: ArrayLike = 0.5, mask: ArrayLike | None = None
) -> FloatArray:
    """Part of the predictions that is right, TP / (TP + FP); NaN where nothing is predicted.

    Parameters and errors are those of `confusion`; returns float64 of shape (k,).
    """
    return Table(scores, target, mask).rate("precision", threshold)


def recall(
    scores: ArrayLike, target: ArrayLike, *, threshold: ArrayLike = 0.5, mask: ArrayLike | None = None
) -> FloatArray:
    """Part of the positives that is found, TP / (TP + FN); NaN without a positive.

    Parameters and errors are those of `confusion`; returns float64 of shape (k,).
    """
    return Table(scores, target, mask).rate("recall", threshold)


def f1(
    scores: ArrayLike, target: ArrayLike, *, threshold: ArrayLike = 0.5, mask: ArrayLike | None = None
) -> FloatArray:
    """Harmonic mean of precision and recall per label, 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    scores, target, mask, threshold
        See the conventions at the top of `facsnet.metrics`.

    Returns
    -------
    ndarray of shape (k,), dtype float64
        0 where there are positives and none is found, NaN where there is no positive.

    Raises
    ------
    ValueError, TypeError
        As `confusion`.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([[0.9, 0.2], [0.6, 0.4], [0.1, 0.3]])
    >>> target = np.array([[1, 0], [0, 0], [0, np.nan]])
    >>> f1(scores, target)
    array([0.66666667,        nan])
    """
    return Table(scores, target, mask).rate("f1", threshold)


def accuracy(
    scores: ArrayLike, target: ArrayLike, *, threshold: ArrayLike = 0.5, mask: ArrayLike | None = None
) -> FloatArray:
    """Part of the known entries that is right, (TP + TN) / known; NaN where nothing is known.

    Says little for rare labels: predicting nothing is right wherever the label is absent.
    Parameters and errors are those of `confusion`; returns float64 of shape (k,).
    """
    return Table(scores, target, mask).rate("accuracy", threshold)


def average_precision(scores: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None) -> FloatArray:
    """Area under the precision-recall curve as a sum of steps.

    The sum over the distinct scores, from the highest down, of the precision there times the recall
    gained there; equal scores form one step, nothing is interpolated. This is what scikit-learn's
    `average_precision_score` computes.

    Parameters
    ----------
    scores, target, mask
        See the conventions at the top of `facsnet.metrics`.

    Returns
    -------
    ndarray of shape (k,), dtype float64
        NaN without a positive.

    Raises
    ------
    ValueError, TypeError
        As `confusion`.
    """
    return Table(scores, target, mask).rank("average_precision")


def roc_auc(scores: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None) -> FloatArray:
    """Chance that a positive scores above a negative, ties counting half.

    The area under the receiver operating characteristic.

    Parameters
    ----------
    scores, target, mask
        See the conventions at the top of `facsnet.metrics`.

    Returns
    -------
    ndarray of shape (k,), dtype float64
        NaN without a positive or without a negative.

    Raises
    ------
    ValueError, TypeError
        As `confusion`.
    """
    return Table(scores, target, mask).rank("roc_auc")


def pr_curve(scores: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None) -> PRCurve | list[PRCurve]:
    """Precision and recall at every distinct score.

    Parameters
    ----------
    scores, target, mask
        See the conventions at the top of `facsnet.metrics`.

    Returns
    -------
    list of PRCurve, one per label, or one PRCurve for 1-D scores
        Each is a triple (precision, recall, thresholds) with s + 1, s + 1 and s entries for s
        distinct scores. Recall is NaN without a positive.

    Raises
    ------
    ValueError, TypeError
        As `confusion`.
    """
    table = Table(scores, target, mask)
    curves = [PRCurve(*arrays) for arrays in _core.metric_pr_curve(table.scores, table.target, table.mask)]
    return curves[0] if table.flat else curves


def fit_thresholds(
    scores: ArrayLike,
    target: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    shrinkage: float = 0.0,
    names: Sequence[str] | None = None,
) -> FloatArray:
    """Find the threshold of best F1 per label.

    Fit on data held out of training (the validation part), and never on the data that is scored
    with the thresholds: F1 would be too good, the more so the rarer the label.

    Parameters
    ----------
    scores, target, mask
        See the conventions at the top of `facsnet.metrics`.
    shrinkage
        Draws each threshold towards the median over the labels: a label with n positives keeps the
        weight n / (n + shrinkage) of its own, since what a few positives choose is mostly chance.
        0 keeps the thresholds of best F1. On CK+ 5 gains 0.6 points of F1 on held-out subjects.
    names
        The k labels, for the warning.

    Returns
    -------
    ndarray of shape (k,), dtype float64
        Float32 numbers: the middle of the interval of thresholds that reach the best F1, which is a
        midpoint between two neighbouring scores, or the lowest score where predicting everything is
        best. Of several such intervals the widest is taken, then the highest. Without a positive
        0.5, with shrinkage the median.

    Warns
    -----
    UndefinedScoreWarning
        Names the labels without a positive.

    Raises
    ------
    ValueError, TypeError
        As `confusion`.
    """
    table = Table(scores, target, mask)
    thresholds = table.rank("best_threshold")
    substitute = "the median" if shrinkage and not np.isnan(thresholds).all() else "0.5"
    _warn_undefined(f"threshold (no positive, {substitute} is taken)", thresholds, names)
    if shrinkage:
        positives = confusion(scores, target, mask=mask).positives
        shrunk = _core.metric_shrink_thresholds(np.atleast_1d(thresholds), np.atleast_1d(positives), shrinkage)
        thresholds = table.shaped(shrunk)
    return np.asarray(np.where(np.isnan(thresholds), 0.5, thresholds))


def macro_mean(values: ArrayLike, names: Sequence[str] | None = None) -> float:
    """Mean over the labels for which a measure is defined.

    Parameters
    ----------
    values
        (k,) values, NaN where undefined.
    names
        The k labels, for the warning; by default their positions.

    Returns
    -------
    float
        NaN where every value is.

    Warns
    -----
    UndefinedScoreWarning
        Names the labels left out.

    Raises
    ------
    ValueError
        `values` is not 1-D, or `names` has another length.
    """
    array = np.asarray(values)
    mean: float = _core.metric_macro_mean(array)
    _warn_undefined("score (left out of the mean)", array, names)
    return mean


def _warn_undefined(what: str, values: NDArray[np.generic], names: Sequence[str] | None) -> None:
    """Warns in the name of the caller of the public function."""
    flat = np.atleast_1d(values)
    if names is not None and len(names) != len(flat):
        raise ValueError(f"names: has {len(names)} entries, want {len(flat)}")
    undefined = np.flatnonzero(np.isnan(flat.astype(np.float64))).tolist()
    if undefined:
        labels = ", ".join(f"label {i}" if names is None else str(names[i]) for i in undefined)
        warnings.warn(f"undefined {what}: {labels}", UndefinedScoreWarning, stacklevel=3)


@dataclass
class Scores:
    """Scores and targets of a whole set, collected batch by batch.

    Parameters
    ----------
    label_names
        The k labels.

    Examples
    --------
    >>> collected = Scores(["AU01", "AU12"])
    >>> collected.add([[0.9, 0.2]], [[1, 0]])
    >>> collected.add([[0.3, 0.8]], [[0, 1]])
    >>> f1(collected.scores, collected.target)
    array([1., 1.])
    """

    label_names: Sequence[str]
    _batches: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=list, repr=False)

    def add(self, scores: ArrayLike, target: ArrayLike, *, mask: ArrayLike | None = None) -> None:
        """Append a batch; the arrays are copied.

        Parameters
        ----------
        scores, target, mask
            (b, k) arrays as in the conventions of `facsnet.metrics`; where the mask is 0 the target
            is kept as unknown.

        Raises
        ------
        ValueError, TypeError
            As `confusion`, with rows counted within the batch; nothing is appended then.
        """
        Table(scores, target, mask).count(0.5)
        values, known = np.array(scores, np.float32), np.array(target, np.float32)
        wanted = (len(values), len(self.label_names))
        if values.shape != wanted:
            raise ValueError(f"scores: shape is {values.shape}, want {wanted}")
        if mask is not None:
            known[np.asarray(mask) == 0] = np.nan
        self._batches.append((values, known))

    def __len__(self) -> int:
        return sum(len(scores) for scores, _ in self._batches)

    @property
    def scores(self) -> NDArray[np.float32]:
        """All scores so far, (n, k) float32, in the order they were added."""
        return self._joined(0)

    @property
    def target(self) -> NDArray[np.float32]:
        """All targets so far, (n, k) float32, NaN where unknown or masked."""
        return self._joined(1)

    def _joined(self, which: int) -> NDArray[np.float32]:
        empty = np.empty((0, len(self.label_names)), np.float32)
        return np.concatenate([empty, *(batch[which] for batch in self._batches)])
