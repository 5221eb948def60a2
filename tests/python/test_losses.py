"""Losses on arrays, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core

ONE = np.ones((1, 1), np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def twin(name: str, f: np.ndarray, y: np.ndarray, m: np.ndarray) -> float:
    """The definitions, in double."""
    p = sigmoid(f)
    if name == "bce":
        values = -(y * np.log(p) + (1 - y) * np.log(1 - p))
        return float((values * m).sum() / m.sum()) if m.any() else 0.0
    if name == "lsep":
        total = 0.0
        for row in range(len(f)):
            known = m[row] == 1
            positive, negative = f[row][known & (y[row] == 1)], f[row][known & (y[row] == 0)]
            total += np.log1p(np.exp(negative[:, None] - positive[None]).sum())
        return total / len(f)
    axis = None if name == "pr_micro" else 0
    tp, predicted, actual = ((v * m).sum(axis=axis) for v in (y * p, p, y))
    has = np.atleast_1d(actual > 0)
    if not has.any():
        return 0.0
    ratio = np.atleast_1d(tp) ** 2 / (np.atleast_1d(predicted) * np.maximum(np.atleast_1d(actual), 1))
    return float(1 - ratio[has].mean())


def ours(name: str):
    kind, _, micro = name.partition("_")
    return fn.Loss(kind, average="micro" if micro else "macro", epsilon=1e-12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["bce", "lsep", "pr", "pr_micro"])
def test_value_and_gradient(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    f = rng.normal(scale=2, size=(n, k))
    y = (rng.random((n, k)) < 0.3).astype(float)
    m = (rng.random((n, k)) < 0.8).astype(float)
    if seed == 5:
        m[:] = 0
    value, gradient = ours(name)(f, y, m)
    assert value == pytest.approx(twin(name, f, y, m), abs=2e-6)
    for index in np.ndindex(n, k):
        step = np.zeros((n, k))
        step[index] = 1e-5
        numeric = (twin(name, f + step, y, m) - twin(name, f - step, y, m)) / 2e-5
        assert gradient[index] == pytest.approx(numeric, abs=2e-6)


def test_unknown_is_masked() -> None:
    f = np.array([[1.0, -2.0], [0.5, 3.0]])
    y = np.array([[1, np.nan], [0, 1]])
    mask = np.array([[1, 0], [1, 1]])
    for loss in (fn.losses.bce, fn.losses.pr, fn.losses.lsep):
        a, b = loss(f, y), loss(f, np.nan_to_num(y), mask)
        assert a[0] == b[0]
        assert (a[1] == b[1]).all()
        assert a[1][0, 1] == 0


@pytest.mark.parametrize("wrong", [5, -1, 0.5, np.nan])
@pytest.mark.parametrize("entry", [(0, 0), (0, 1)])
def test_a_mask_is_checked_where_targets_are_unknown(wrong: float, entry: tuple[int, int]) -> None:
    f, y, mask = np.zeros((2, 2)), np.array([[1, np.nan], [0, 1]]), np.ones((2, 2))
    mask[entry] = wrong
    for loss in (fn.losses.bce, fn.losses.pr, fn.losses.lsep):
        with pytest.raises(ValueError, match=rf"mask: entry \(0, {entry[1]}\) is neither 0 nor 1"):
            loss(f, y, mask)
    with pytest.raises(ValueError, match=r"mask: shape is \(2,\)"):
        fn.losses.bce(f, y, mask[1])


def test_extreme_logits_stay_finite() -> None:
    f = np.array([[1e4, -1e4, 80.0], [-1e4, 1e4, -80.0]])
    y = np.array([[0, 1, 0], [0, 1, 1]])
    for loss in (fn.losses.bce, fn.losses.pr, fn.losses.lsep):
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
        (lambda: _core.loss(("pr", np.inf, 1e-7, False, None, None), ONE, ONE, None), "bce_weight is inf"),
        (lambda: _core.loss(("pr", -1, 1e-7, False, None, None), ONE, ONE, None), "bce_weight is -1"),
        (lambda: _core.loss(("pr", 0, np.nan, False, None, None), ONE, ONE, None), "epsilon is nan"),
        (lambda: _core.loss(("pr", 0, np.inf, False, None, None), ONE, ONE, None), "epsilon is inf"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], epsilon=1e-50), "epsilon is 0"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], bce_weight=1e39), "bce_weight is inf"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], average="mean"), "average is 'mean'"),
        (lambda: fn.losses.pr([[1.0]], [[1.0]], epsilon=0), "epsilon"),
        (lambda: fn.losses.lsep(np.zeros((0, 3)), np.zeros((0, 3))), "want no 0"),
        (lambda: fn.Loss("mse"), "loss is 'mse'"),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
