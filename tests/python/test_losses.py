"""Losses on arrays, against plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core

ONE = np.ones((1, 1), np.float32)
NONE = (0, 0, 0, 0, 0, False)
ALL = (fn.losses.bce, fn.losses.focal, fn.losses.asl, fn.losses.lsep, fn.losses.zlpr, fn.losses.pr, fn.losses.soft_f1, fn.losses.tversky)  # fmt: skip


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def entries(name: str, f: np.ndarray, y: np.ndarray, m: np.ndarray) -> float:
    """Losses that are a sum over entries."""
    p = sigmoid(f)
    if name == "bce":
        values = -(y * np.log(p) + (1 - y) * np.log(1 - p))
        return float((values * m).sum() / m.sum()) if m.any() else 0.0
    if name == "focal":
        values = -(0.3 * y * (1 - p) ** 1.5 * np.log(p) + 0.7 * (1 - y) * p**1.5 * np.log(1 - p))
    else:
        s = np.maximum(p - 0.1, 0)
        values = -(y * (1 - p) ** 0.5 * np.log(p) + (1 - y) * s**3 * np.log(1 - s))
    return float((values * m).sum() / len(f))


def ranks(name: str, f: np.ndarray, y: np.ndarray, m: np.ndarray) -> float:
    """Losses that compare the logits of one image."""
    total = 0.0
    for row in range(len(f)):
        known = m[row] == 1
        positive, negative = f[row][known & (y[row] == 1)], f[row][known & (y[row] == 0)]
        if name == "lsep":
            total += np.log1p(np.exp(negative[:, None] - positive[None]).sum())
        else:
            total += np.log1p(np.exp(negative).sum()) + np.log1p(np.exp(-positive).sum())
    return total / len(f)


def counts(name: str, f: np.ndarray, y: np.ndarray, m: np.ndarray) -> float:
    """Losses of soft counts."""
    p, axis = sigmoid(f), None if name.endswith("micro") else 0
    tp, fp, fn_, tn = (
        np.atleast_1d((v * m).sum(axis=axis)) for v in (y * p, (1 - y) * p, y * (1 - p), (1 - y) * (1 - p))
    )
    positive, negative = (np.atleast_1d((v * m).sum(axis=axis)) > 0 for v in (y, 1 - y))
    with np.errstate(invalid="ignore"):
        if name.startswith("pr"):
            parts = (tp / (tp + fp) * tp / (tp + fn_))[positive]
        elif name.startswith("tversky"):
            parts = (tp / (tp + 0.2 * fp + 0.6 * fn_))[positive]
        else:
            parts = (2 * tp / (2 * tp + fp + fn_))[positive]
            if "double" in name:
                parts = np.concatenate([parts, (2 * tn / (2 * tn + fn_ + fp))[negative]])
    return float(1 - parts.mean()) if len(parts) else 0.0


OF_COUNTS = {"epsilon": 1e-12}
MICRO = {**OF_COUNTS, "average": "micro"}
CASES = {
    "bce": (entries, fn.Loss("bce")),
    "focal": (entries, fn.Loss("focal", gamma=1.5, alpha=0.3)),
    "asl": (entries, fn.Loss("asl", gamma_positive=0.5, gamma_negative=3, margin=0.1)),
    "lsep": (ranks, fn.Loss("lsep")),
    "zlpr": (ranks, fn.Loss("zlpr")),
    "pr": (counts, fn.Loss("pr", **OF_COUNTS)),
    "pr_micro": (counts, fn.Loss("pr", **MICRO)),
    "soft_f1": (counts, fn.Loss("soft_f1", **OF_COUNTS)),
    "soft_f1_double": (counts, fn.Loss("soft_f1", true_negatives=True, **OF_COUNTS)),
    "soft_f1_double_micro": (counts, fn.Loss("soft_f1", true_negatives=True, **MICRO)),
    "tversky": (counts, fn.Loss("tversky", alpha=0.2, beta=0.6, **OF_COUNTS)),
    "tversky_micro": (counts, fn.Loss("tversky", alpha=0.2, beta=0.6, **MICRO)),
}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    f = rng.normal(scale=2, size=(n, k))
    y = (rng.random((n, k)) < 0.3).astype(float)
    m = (rng.random((n, k)) < 0.8).astype(float)
    if seed == 5:
        m[:] = 0
    twin, loss = CASES[name]
    value, gradient = loss(f, y, m)
    assert value == pytest.approx(twin(name, f, y, m), abs=2e-6, rel=1e-6)
    for index in np.ndindex(n, k):
        step = np.zeros((n, k))
        step[index] = 1e-5
        numeric = (twin(name, f + step, y, m) - twin(name, f - step, y, m)) / 2e-5
        assert gradient[index] == pytest.approx(numeric, abs=2e-6)


@pytest.mark.parametrize("name", [name for name in fn.losses.NAMES if name != "weighted_bce"])
def test_the_functions_are_the_losses(name: str) -> None:
    f, y = np.array([[0.5, -1.0], [2.0, 0.1]]), np.array([[1, 0], [0, 1]])
    a, b = getattr(fn.losses, name)(f, y), fn.Loss(name)(f, y)
    assert a[0] == b[0]
    assert (a[1] == b[1]).all()


def test_losses_that_contain_another() -> None:
    rng = np.random.default_rng(0)
    f, y = rng.normal(size=(9, 4)), (rng.random((9, 4)) < 0.4) * 1.0
    bce = fn.losses.bce(f, y)[0]
    assert fn.losses.focal(f, y, gamma=0, alpha=0.5)[0] == pytest.approx(4 / 2 * bce, rel=1e-6)
    assert fn.losses.asl(f, y, gamma_positive=0, gamma_negative=0, margin=0)[0] == pytest.approx(4 * bce, rel=1e-6)
    focal, asl = fn.losses.focal(f, y, alpha=0.5), fn.losses.asl(f, y, gamma_positive=2, gamma_negative=2, margin=0)
    np.testing.assert_allclose(2 * focal[1], asl[1], rtol=1e-6)
    f1, halves = fn.losses.soft_f1(f, y), fn.losses.tversky(f, y, alpha=0.5, beta=0.5)
    assert f1[0] == halves[0]
    for loss in (fn.losses.pr, fn.losses.soft_f1, fn.losses.tversky):
        assert loss(f, y, bce_weight=0.3)[0] == pytest.approx(loss(f, y)[0] + 0.3 * bce, rel=1e-6)


def test_what_a_label_without_a_positive_teaches() -> None:
    f, y = np.array([[0.5, -1.0], [2.0, 0.1]]), np.array([[1, 0], [0, 0]])
    assert not fn.losses.soft_f1(f, y)[1][:, 1].any()
    assert (fn.losses.soft_f1(f, y, true_negatives=True)[1][:, 1] > 0).all()
    assert not fn.losses.lsep(f, y)[1][1].any()
    assert (fn.losses.zlpr(f, y)[1][1] > 0).all()


def test_the_gradient_of_soft_f1_outlives_that_of_pr() -> None:
    f, y = np.array([[-8.0], [2.0], [2.0], [-8.0]]), np.array([[1], [0], [0], [1]])
    assert fn.losses.soft_f1(f, y)[1][0, 0] < 100 * fn.losses.pr(f, y)[1][0, 0] < 0


def test_negatives_within_the_margin_do_not_count() -> None:
    f = np.log(np.array([[0.04 / 0.96, 0.06 / 0.94]]))
    _, gradient = fn.losses.asl(f, np.zeros((1, 2)), gamma_negative=1)
    assert gradient[0, 0] == 0
    assert gradient[0, 1] > 0


def test_unknown_is_masked() -> None:
    f = np.array([[1.0, -2.0], [0.5, 3.0]])
    y = np.array([[1, np.nan], [0, 1]])
    mask = np.array([[1, 0], [1, 1]])
    for loss in ALL:
        a, b = loss(f, y), loss(f, np.nan_to_num(y), mask)
        assert a[0] == b[0]
        assert (a[1] == b[1]).all()
        assert a[1][0, 1] == 0


@pytest.mark.parametrize("wrong", [5, -1, 0.5, np.nan])
@pytest.mark.parametrize("entry", [(0, 0), (0, 1)])
def test_a_mask_is_checked_where_targets_are_unknown(wrong: float, entry: tuple[int, int]) -> None:
    f, y, mask = np.zeros((2, 2)), np.array([[1, np.nan], [0, 1]]), np.ones((2, 2))
    mask[entry] = wrong
    for loss in ALL:
        with pytest.raises(ValueError, match=rf"mask: entry \(0, {entry[1]}\) is neither 0 nor 1"):
            loss(f, y, mask)
    with pytest.raises(ValueError, match=r"mask: shape is \(2,\)"):
        fn.losses.bce(f, y, mask[1])


EXTREME = [
    *ALL,
    fn.Loss("soft_f1", true_negatives=True),
    fn.Loss("tversky", alpha=1.0, beta=0.0),
    fn.Loss("asl", gamma_positive=0.0, gamma_negative=0.0, margin=0.0),
    fn.Loss("asl", gamma_negative=0.5, margin=0.0),
    fn.Loss("asl", gamma_negative=0.5, margin=1e-30),
    fn.Loss("focal", gamma=0.0),
    fn.Loss("focal", gamma=0.2),
]


@pytest.mark.parametrize("loss", EXTREME)
@pytest.mark.parametrize("size", [17.0, 80.0, 720.0, 745.0, 1e4, 3e38])
def test_extreme_logits_stay_finite(loss: Any, size: float) -> None:
    f = np.array([[size, -size, 80.0], [-size, size, -80.0], [size, -size, -size]])
    for y in (np.array([[0, 1, 0], [0, 1, 1], [0, 0, 0]]), np.zeros((3, 3)), np.ones((3, 3)), f > 0):
        if size == 3e38 and loss not in (fn.losses.pr, fn.losses.soft_f1, fn.losses.tversky):
            continue  # the value itself is beyond float32
        value, gradient = loss(f, y)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_weights() -> None:
    f, y = np.array([[0.3, -1.0]]), np.array([[1.0, 0.0]])
    plain = -np.log(sigmoid(0.3)), -np.log(1 - sigmoid(-1.0))
    value, _ = fn.losses.bce(f, y, class_weight=[2, 3], pos_weight=[5, 7])
    assert value == pytest.approx((2 * 5 * plain[0] + 3 * plain[1]) / 2, abs=1e-6)
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 1]], float)
    weights = fn.Loss("weighted_bce").fitted(labels).class_weight
    np.testing.assert_allclose(weights, [4 / 3, 2 / 3], rtol=1e-6)
    assert np.sum(weights) == pytest.approx(2)


def test_losses_compare_by_their_options() -> None:
    weights = np.array([1.0, 2.0], np.float32)
    one, same = fn.Loss("bce", class_weight=weights), fn.Loss("bce", class_weight=[1, 2])
    assert one == same
    assert hash(one) == hash(same)
    assert one != fn.Loss("bce", class_weight=[1, 3])
    assert one != fn.Loss("bce", pos_weight=[1, 2])
    assert one != fn.Loss("bce")
    weights[0] = 5  # the caller's own stay writeable
    assert one == same
    labels = np.array([[1, 0], [0, 1]])
    assert fn.Loss("weighted_bce").fitted(labels) == fn.Loss("weighted_bce").fitted(labels)


def test_inputs_are_not_changed() -> None:
    f, y = np.ones((2, 2), np.float32), np.ones((2, 2), np.float32)
    fn.losses.pr(f, y)
    assert (f == 1).all()
    assert (y == 1).all()


def core(**options: float) -> tuple[Any, ...]:
    names = ("alpha", "beta", "gamma_positive", "gamma_negative", "margin")
    return ("asymmetric", 0, 1e-7, False, None, None, (*(options.get(name, 0.0) for name in names), False))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fn.losses.bce([1.0], [1.0]), "logits: shape"),
        (lambda: fn.losses.bce([[1.0]], [[1.0, 0.0]]), r"target: shape is \(1, 2\), want \(1, 1\)"),
        (lambda: fn.losses.bce([[np.inf]], [[1.0]]), r"logits: entry \(0, 0\) is not finite"),
        (lambda: fn.losses.bce([[1.0]], [[0.5]]), r"target: entry \(0, 0\) is neither 0 nor 1"),
        (lambda: fn.losses.bce([[1.0]], [[1.0]], [[0.5]]), "mask"),
        (lambda: fn.losses.bce([[1.0]], [[1.0]], class_weight=[1, 2]), "class_weight"),
        (lambda: fn.losses.bce([[1.0]], [[1.0]], pos_weight=[-1]), "pos_weight"),
        (lambda: fn.Loss(class_weight=[1, np.nan]), "class_weight: label 1 is nan, want a number of at least 0"),
        (lambda: fn.Loss(class_weight=[-1]), "class_weight: label 0 is -1"),
        (lambda: fn.Loss(pos_weight=[1, 1, np.inf]), "pos_weight: label 2 is inf"),
        (lambda: fn.Loss(pos_weight=[[1]]), r"pos_weight: shape is \(1, 1\), want \(k,\)"),
        (lambda: fn.Loss("pr", bce_weight=np.inf), "bce_weight is inf"),
        (lambda: fn.Loss("pr", bce_weight=np.nan), "bce_weight is nan"),
        (lambda: fn.Loss("pr", bce_weight=-1), "bce_weight is -1"),
        (lambda: fn.Loss("pr", epsilon=0), "epsilon is 0"),
        (lambda: fn.Loss("pr", epsilon=-1e-7), "epsilon is -1e-07"),
        (lambda: fn.Loss("pr", epsilon=np.nan), "epsilon is nan"),
        (lambda: fn.Loss("pr", epsilon=np.inf), "epsilon is inf"),
        (lambda: _core.loss(("pr", np.inf, 1e-7, False, None, None, NONE), ONE, ONE, None), "bce_weight is inf"),
        (lambda: _core.loss(("pr", -1, 1e-7, False, None, None, NONE), ONE, ONE, None), "bce_weight is -1"),
        (lambda: _core.loss(("pr", 0, np.nan, False, None, None, NONE), ONE, ONE, None), "epsilon is nan"),
        (lambda: _core.loss(("pr", 0, np.inf, False, None, None, NONE), ONE, ONE, None), "epsilon is inf"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], epsilon=1e-50), "epsilon is 0"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], bce_weight=1e39), "bce_weight is inf"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], average="mean"), "average is 'mean'"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], epsilon=0), "epsilon"),
        (lambda: fn.losses.lsep(np.zeros((0, 3)), np.zeros((0, 3))), "want no 0"),
        (lambda: fn.Loss("mse"), "loss is 'mse'"),
        (lambda: _core.loss(("mse", 0, 1e-7, False, None, None, NONE), ONE, ONE, None), "'mse'"),
        (lambda: _core.loss(core(alpha=-1), ONE, ONE, None), "alpha is -1"),
        (lambda: _core.loss(core(beta=np.inf), ONE, ONE, None), "beta is inf"),
        (lambda: _core.loss(core(gamma_positive=np.nan), ONE, ONE, None), "gamma_positive is nan"),
        (lambda: _core.loss(core(gamma_negative=-0.5), ONE, ONE, None), "gamma_negative is -0.5"),
        (lambda: _core.loss(core(margin=1), ONE, ONE, None), "margin is 1, want a number below 1"),
        (lambda: fn.losses.focal([[1.0]], [[1.0]], gamma=-1), "gamma is -1"),
        (lambda: fn.losses.focal([[1.0]], [[1.0]], alpha=1.5), "alpha is 1.5, want a number of at most 1"),
        (lambda: fn.losses.asl([[1.0]], [[1.0]], margin=1), "margin is 1, want a number below 1"),
        (lambda: fn.losses.asl([[1.0]], [[1.0]], gamma_positive=np.nan), "gamma_positive is nan"),
        (lambda: fn.losses.asl([[1.0]], [[1.0]], gamma_negative=np.inf), "gamma_negative is inf"),
        (lambda: fn.losses.tversky([[1.0]], [[1.0]], beta=-1), "beta is -1"),
        (lambda: fn.losses.tversky([[1.0]], [[1.0]], alpha=0, beta=0), "alpha and beta are 0"),
        (lambda: fn.Loss("bce", gamma=2), "gamma is an option of focal, not of bce"),
        (lambda: fn.Loss("soft_f1", alpha=0.5), "alpha is an option of focal, tversky, not of soft_f1"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
