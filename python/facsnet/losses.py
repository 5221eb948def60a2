"""Multi-label losses: value and gradient on arrays, and their options for training.

Every loss takes a mask, because data sets code different labels and unknown is not negative.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from facsnet import _core

__all__ = ["NAMES", "Loss", "asl", "bce", "focal", "lsep", "pr", "resolve", "soft_f1", "tversky", "zlpr"]

FloatArray = npt.NDArray[np.float32]
NAMES = ("bce", "weighted_bce", "focal", "asl", "lsep", "zlpr", "pr", "soft_f1", "tversky")
"""Names of losses."""

# options that one loss alone has, with their defaults
_OWN: dict[str, dict[str, Any]] = {
    "focal": {"gamma": 2.0, "alpha": 0.25},
    "asl": {"gamma_positive": 1.0, "gamma_negative": 4.0, "margin": 0.05},
    "soft_f1": {"true_negatives": False},
    "tversky": {"alpha": 0.3, "beta": 0.7},
}
# the kernels of losses with another name, and what they set there
_KERNELS: dict[str, tuple[str, dict[str, float]]] = {
    "weighted_bce": ("bce", {}),
    "focal": ("asymmetric", {}),
    "asl": ("asymmetric", {"alpha": 1, "beta": 1}),
    "soft_f1": ("tversky", {"alpha": 0.5, "beta": 0.5}),
}
_OF_KERNELS = ("alpha", "beta", "gamma_positive", "gamma_negative", "margin", "true_negatives")
_FACTORS = ("bce_weight", "alpha", "beta", "gamma", "gamma_positive", "gamma_negative", "margin")


@dataclass(frozen=True)
class Loss:
    """A loss and its options.

    Attributes
    ----------
    name : str
        One of `NAMES`: a function of this module, or ``"weighted_bce"``, which is bce whose class
        weights are set from the training labels.
    bce_weight : float
        For pr, soft_f1 and tversky: how much bce is added. It keeps the gradient alive while no
        positive is found.
    average : {"macro", "micro"}
        For pr, soft_f1 and tversky: soft counts per label, or over all labels together.
    epsilon : float
        For pr, soft_f1 and tversky: added to denominators.
    class_weight, pos_weight : array-like (k,), optional
        For bce: factors of each label's loss, and of its positives, 0 or more; kept as tuples.
    alpha, beta, gamma, gamma_positive, gamma_negative, margin, true_negatives : float, bool, optional
        Of the function with that name. None is its default, and stays None in a loss without that
        option.

    Raises
    ------
    ValueError
        An option is none of these, negative or not finite, or belongs to another loss; ``epsilon`` is
        0, ``margin`` 1 or more, ``alpha`` of focal more than 1, both of ``alpha`` and ``beta`` 0.
    """

    name: str = "bce"
    bce_weight: float = 0.0
    average: Literal["macro", "micro"] = "macro"
    epsilon: float = 1e-7
    class_weight: Any = None
    pos_weight: Any = None
    _: KW_ONLY
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    gamma_positive: float | None = None
    gamma_negative: float | None = None
    margin: float | None = None
    true_negatives: bool | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"loss is {self.name!r}, want one of {', '.join(NAMES)}")
        self._complete()
        if self.average not in ("macro", "micro"):
            raise ValueError(f"average is {self.average!r}, want 'macro' or 'micro'")
        for name in _FACTORS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}, want a number of at least 0")
        if not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon is {self.epsilon}, want a number of more than 0")
        if self.margin is not None and self.margin >= 1:
            raise ValueError(f"margin is {self.margin}, want a number below 1")
        if self.name == "focal" and self.alpha is not None and self.alpha > 1:
            raise ValueError(f"alpha is {self.alpha}, want a number of at most 1")
        if self.alpha == self.beta == 0:
            raise ValueError("alpha and beta are 0, want one of them to be more")
        for name in ("class_weight", "pos_weight"):
            object.__setattr__(self, name, _factors(name, getattr(self, name)))

    def _complete(self) -> None:
        """Sets the defaults of this loss's own options and refuses those of others."""
        own = _OWN.get(self.name, {})
        for name in {name for options in _OWN.values() for name in options}:
            if getattr(self, name) is None:
                object.__setattr__(self, name, own.get(name))
            elif name not in own:
                owners = ", ".join(loss for loss, options in _OWN.items() if name in options)
                raise ValueError(f"{name} is an option of {owners}, not of {self.name}")

    def _specification(self) -> tuple[Any, ...]:
        """The loss as the core reads it: its kernel, the common options, those of the kernel."""
        kernel, own = _KERNELS.get(self.name, (self.name, {}))
        values = {name: own.get(name, getattr(self, name) or 0) for name in _OF_KERNELS}
        if self.name == "focal":
            values["beta"] = 1 - values["alpha"]
            values["gamma_positive"] = values["gamma_negative"] = self.gamma
        weights = (self.class_weight, self.pos_weight)
        return (kernel, self.bce_weight, self.epsilon, self.average == "micro", *weights, tuple(values.values()))

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
        return replace(self, class_weight=weights)


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


def focal(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> tuple[float, FloatArray]:
    """Focal loss: binary cross-entropy with entries that are already right turned down.

    -alpha (1 - p)^gamma log p on positives, -(1 - alpha) p^gamma log(1 - p) on negatives (Lin et
    al., ICCV 2017, equation 5), summed over the known labels, mean over samples. It helps where most
    entries are easy negatives.

    Parameters
    ----------
    logits, target, mask
        As in `bce`.
    gamma : float
        0 or more; 0 is a weighted bce.
    alpha : float
        Factor of the positives, 0 to 1; the negatives have 1 - alpha.

    Returns and raises as `bce`.
    """
    return Loss("focal", gamma=gamma, alpha=alpha)(logits, target, mask)


def asl(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    *,
    gamma_positive: float = 1.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> tuple[float, FloatArray]:
    """Asymmetric loss: the focal loss with negatives turned down more than positives.

    With s = max(p - margin, 0): -(1 - p)^gamma_positive log p on positives,
    -s^gamma_negative log(1 - s) on negatives (Ridnik et al., ICCV 2021, arXiv 2009.14119), summed
    over the known labels, mean over samples. It helps with many labels that are rarely positive and
    with positives that the labels miss: negatives of p up to the margin do not count at all.
    Probabilities come out high, so fit thresholds.

    Parameters
    ----------
    logits, target, mask
        As in `bce`.
    gamma_positive, gamma_negative : float
        Exponents, 0 or more.
    margin : float
        At least 0, below 1.

    Returns and raises as `bce`.
    """
    loss = Loss("asl", gamma_positive=gamma_positive, gamma_negative=gamma_negative, margin=margin)
    return loss(logits, target, mask)


def zlpr(logits: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> tuple[float, FloatArray]:
    """Zero-bounded log-sum-exp pairwise loss, mean over samples.

    log(1 + sum over negatives of exp(f)) + log(1 + sum over positives of exp(-f)) per sample (Su et
    al., 2022, arXiv 2208.02955). It ranks as `lsep` does and keeps 0 between positives and negatives,
    so that samples without an active AU teach too and a logit of 0 is a meaningful threshold.

    Parameters, returns and raises as `bce`.
    """
    return Loss("zlpr")(logits, target, mask)


def soft_f1(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    *,
    true_negatives: bool = False,
    average: Literal["macro", "micro"] = "macro",
    bce_weight: float = 0.0,
    epsilon: float = 1e-7,
) -> tuple[float, FloatArray]:
    """1 - soft F1 over the batch.

    With TP = sum y p, FP = sum (1 - y) p and FN = sum y (1 - p): 1 - 2 TP / (2 TP + FP + FN) per
    label, averaged as in `pr`. It helps where F1 is what counts and batches are large enough to hold
    positives of every label; where positives score far below negatives its gradient outlives that of
    `pr`.

    Parameters
    ----------
    logits, target, mask, average, bce_weight, epsilon
        As in `pr`.
    true_negatives : bool
        The double form: F1 of the negatives, 2 TN / (2 TN + FN + FP), is in the mean too, for labels
        that have a negative.

    Returns and raises as `pr`.
    """
    return Loss("soft_f1", bce_weight, average, epsilon, true_negatives=true_negatives)(logits, target, mask)


def tversky(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    average: Literal["macro", "micro"] = "macro",
    bce_weight: float = 0.0,
    epsilon: float = 1e-7,
) -> tuple[float, FloatArray]:
    """1 - Tversky's index of soft counts over the batch.

    1 - TP / (TP + alpha FP + beta FN) per label, averaged as in `pr` (Salehi et al., MLMI 2017,
    equation 3). It helps where a missed AU costs more than a false alarm (beta above alpha), or less;
    with 0.5 and 0.5 it is `soft_f1`.

    Parameters
    ----------
    logits, target, mask, average, bce_weight, epsilon
        As in `pr`.
    alpha, beta : float
        What a false positive and a false negative weigh, 0 or more, not both 0. The defaults are the
        paper's best.

    Returns and raises as `pr`.
    """
    return Loss("tversky", bce_weight, average, epsilon, alpha=alpha, beta=beta)(logits, target, mask)
