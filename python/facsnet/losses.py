"""Multi-label losses: value and gradient on arrays, and their options for training.

Every loss takes a mask, because data sets code different labels and unknown is not negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facsnet import _core

__all__ = ["Loss", "bce", "lsep", "pr", "resolve"]

FloatArray = npt.NDArray[np.float32]
_NAMES = ("bce", "weighted_bce", "lsep", "pr")


@dataclass(frozen=True)
class Loss:
    """A loss and its options.

    Attributes
    ----------
    name : {"bce", "weighted_bce", "lsep", "pr"}
        ``"weighted_bce"`` is bce whose class weights are set from the training labels.
    bce_weight : float
        For pr: how much bce is added. It keeps the gradient alive while no positive is found.
    average : {"macro", "micro"}
        For pr: soft counts per label, or over all labels together.
    epsilon : float
        For pr: added to both denominators.
    class_weight, pos_weight : array-like (k,), optional
        For bce: factors of each label's loss, and of its positives, 0 or more; kept as tuples.

    Raises
    ------
    ValueError
        An option is none of these, negative or not finite, or ``epsilon`` is 0.
    """

    name: str = "bce"
    bce_weight: float = 0.0
    average: Literal["macro", "micro"] = "macro"
    epsilon: float = 1e-7
    class_weight: Any = None
    pos_weight: Any = None

    def __post_init__(self) -> None:
        if self.name not in _NAMES:
            raise ValueError(f"loss is {self.name!r}, want one of {', '.join(_NAMES)}")
        if self.average not in ("macro", "micro"):
            raise ValueError(f"average is {self.average!r}, want 'macro' or 'micro'")
        if not 0 <= self.bce_weight < math.inf:
            raise ValueError(f"bce_weight is {self.bce_weight}, want a number of at least 0")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon is {self.epsilon}, want a number of more than 0")
        for name in ("class_weight", "pos_weight"):
            object.__setattr__(self, name, _factors(name, getattr(self, name)))

    def _specification(self) -> tuple[str, float, float, bool, Any, Any]:
        kind = "bce" if self.name == "weighted_bce" else self.name
        return (kind, self.bce_weight, self.epsilon, self.average == "micro", self.class_weight, self.pos_weight)

    def __call__(
        self, logits: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None
    ) -> tuple[float, FloatArray]:
        """Value and gradient, as the functions of this module."""
        known, mask = _known(target, mask)
        value, dlogits = _core.loss(self._specification(), np.asarray(logits), known, mask)
        return value, dlogits

    def fitted(self, labels: npt.ArrayLike) -> Loss:
        """The loss with what it takes from the training labels (n, k; NaN is unknown).

        For ``weighted_bce`` the class weights are those of the AU literature,
        w_k = K (1/r_k) / sum_j (1/r_j), with r_k the rate of label k, over the K labels that have a
        positive; the others get 1. Other losses are unchanged.
        """
        if self.name != "weighted_bce" or self.class_weight is not None:
            return self
        values = np.asarray(labels, np.float64)
        positives = np.nansum(values, axis=0)
        shown = positives > 0
        inverse = (~np.isnan(values)).sum(axis=0)[shown] / positives[shown]
        weights = np.ones(values.shape[1], np.float32)
        weights[shown] = inverse * (len(inverse) / inverse.sum())
        return Loss("weighted_bce", self.bce_weight, self.average, self.epsilon, weights, self.pos_weight)


def resolve(loss: str | Loss) -> Loss:
    """A `Loss` from its name or itself; ``"pr"`` by name comes with 0.1 bce, which it needs to start."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss is {type(loss).__name__}, want a name or a Loss")
    return Loss(loss, bce_weight=0.1 if loss == "pr" else 0.0)


def _known(target: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[Any, Any]:
    """Target and mask where NaN is unknown too; what the core refuses stays as it is."""
    values = np.asarray(target)
    if values.dtype.kind != "f" or not np.isnan(values).any():
        return values, mask
    known = ~np.isnan(values)
    if mask is None:
        return np.where(known, values, 0), known
    given = np.asarray(mask)
    if given.shape == values.shape:
        given = np.where(known | ((given != 0) & (given != 1)), given, 0)
    return np.where(known, values, 0), given


def _factors(name: str, values: npt.ArrayLike | None) -> tuple[float, ...] | None:
    """Factors per label as a tuple, which compares and hashes by value."""
    if values is None:
        return None
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: shape is {array.shape}, want (k,)")
    for label, value in enumerate(array):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}: label {label} is {value:g}, want a number of at least 0")
    return tuple(array.tolist())


def bce(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    *,
    class_weight: npt.ArrayLike | None = None,
    pos_weight: npt.ArrayLike | None = None,
) -> tuple[float, FloatArray]:
    """Binary cross-entropy, mean over the known entries.

    Parameters
    ----------
    logits : array-like (n, k)
        Scores before the sigmoid.
    target : array-like (n, k)
        0 or 1; NaN is unknown.
    mask : array-like (n, k), optional
        1 where the label is known, 0 where it is not.
    class_weight, pos_weight : array-like (k,), optional
        Factors of each label's loss, and of its positives.

    Returns
    -------
    loss : float
    dlogits : float32 array (n, k)
        Its gradient.

    Raises
    ------
    ValueError
        A shape does not fit, a logit or factor is not finite, a known target or an entry of the mask
        is neither 0 nor 1.
    """
    return Loss("bce", class_weight=class_weight, pos_weight=pos_weight)(logits, target, mask)


def lsep(logits: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> tuple[float, FloatArray]:
    """Log-sum-exp pairwise loss, mean over samples.

    log(1 + sum over negatives v and positives u of exp(f_v - f_u)) per sample (Li, Song and Luo,
    CVPR 2017). It only ranks: a sample without a positive or without a negative gives no
    gradient, and 0.5 is no meaningful threshold, so fit thresholds on held-out subjects.

    Parameters and returns as `bce`.
    """
    return Loss("lsep")(logits, target, mask)


def pr(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    *,
    average: Literal["macro", "micro"] = "macro",
    bce_weight: float = 0.0,
    epsilon: float = 1e-7,
) -> tuple[float, FloatArray]:
    """1 - soft precision x soft recall over the batch.

    With p = sigmoid(logits), TP = sum y p, precision = TP / sum p and recall = TP / sum y, per
    label and averaged over the labels that have a positive in the batch (``"macro"``), or over
    all labels together (``"micro"``).

    Parameters
    ----------
    logits, target, mask
        As in `bce`.
    average : {"macro", "micro"}
    bce_weight : float
        How much binary cross-entropy is added.
    epsilon : float
        Added to both denominators.

    Returns
    -------
    loss : float
        0 where no label has a positive.
    dlogits : float32 array (n, k)
    """
    return Loss("pr", bce_weight=bce_weight, average=average, epsilon=epsilon)(logits, target, mask)
