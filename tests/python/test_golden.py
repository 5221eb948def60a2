"""Values that PyTorch computed in double for small networks (tools/make_golden.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RUNGS = ["ref", "generic", "avx2", "avx512"]
# network, width, padding, epsilon: the rows of tools/make_golden.py
NETWORKS = {
    "mobilenet_v1_same": ("mobilenet_v1", 1 / 16, "same", 1e-3),
    "mobilenet_v1_symmetric": ("mobilenet_v1", 1 / 16, "symmetric", 1e-3),
    "mobilenet_v2_same": ("mobilenet_v2", 1 / 32, "same", 1e-3),
    "mobilenet_v2_symmetric": ("mobilenet_v2", 1 / 32, "symmetric", 1e-5),
    "densenet121": ("densenet121", 1 / 16, "symmetric", 1e-5),
    "vgg19": ("vgg19", 1 / 32, "symmetric", 1e-5),
    "vgg19_bn": ("vgg19_bn", 1 / 32, "symmetric", 1e-5),
}
OPTIMISERS = {
    "adam": (fn.Optimiser("adam"), 1e-4),
    "adamw": (fn.Optimiser("adamw", weight_decay=0.05), 1e-4),
    "sgd": (fn.Optimiser("sgd", nesterov=True), 1e-4),
}


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest wanted number."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def group(golden: dict[str, np.ndarray], prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of a prefix: one by one, or as one run of numbers with the names in order."""
    if f"{prefix}.names" not in golden:
        return {k.removeprefix(f"{prefix}."): v for k, v in golden.items() if k.startswith(f"{prefix}.")}
    names = [str(name) for name in golden[f"{prefix}.names"]]
    ends = np.cumsum([np.prod(shapes[name], dtype=int) for name in names])
    assert ends[-1] == golden[f"{prefix}.values"].size
    parts = np.split(golden[f"{prefix}.values"], ends[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}


def make(name: str, rung: str | None = None) -> tuple[fn.Network, dict[str, np.ndarray]]:
    """The network with its state, and the file; x is as the network reads it."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = dict(file)
    x = golden["x"]
    golden["x"] = x.astype(np.float32) / (8 if x.dtype == np.int8 else 1)
    backbone, width, padding, epsilon = NETWORKS[name]
    with pytest.MonkeyPatch.context() as patch:
        if rung is not None:
            patch.setenv("FACS_CPU", rung)
        try:
            network = fn.Network(
                backbone,
                labels=golden["y"].shape[1],
                width=width,
                input_size=x.shape[1],
                padding=padding,
                epsilon=epsilon,
                dropout=0.0,
                threads=2,
            )
        except ValueError as problem:
            pytest.skip(str(problem))
    network.load_state_dict(group(golden, "state", {k: v.shape for k, v in network.state_dict().items()}))
    return network, golden


def as_torch(value: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A gradient (kh, kw, in, out) as PyTorch lays it out."""
    if wanted.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value[0, 0].T if wanted.ndim == 2 else value


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_inference(name: str, rung: str) -> None:
    network, golden = make(name, rung)
    assert relative(network.features(golden["x"]), golden["features"]) < 1e-5
    assert relative(network.forward(golden["x"]), golden["logits"]) < 1e-5


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_step(name: str, rung: str) -> None:
    """Every gradient, relative to the largest number of its tensor.

    A bias that the next BatchNorm takes away has no gradient but rounding; that is held to the
    gradient of its layer's weight.
    """
    network, golden = make(name, rung)
    logits = network.forward(golden["x"], training=True)
    assert relative(logits, golden["train.logits"]) < 1e-4
    loss, dlogits = fn.losses.bce(logits, golden["y"])
    assert abs(loss - golden["train.loss"]) < 1e-5
    network.backward(dlogits)
    gradients = network.gradients()
    shapes = {k: v.shape for k, v in network.state_dict().items()}
    wanted = group(golden, "gradient", shapes)
    assert set(wanted) == set(gradients)
    largest = {key: np.abs(value).max() for key, value in wanted.items()}
    for key, value in wanted.items():
        found, scale = as_torch(gradients[key], value), largest[key]
        if scale < 1e-9 * max(largest.values()):
            scale = largest[key.removesuffix("bias") + "weight"]
        assert np.abs(found - value).max() < 1e-4 * scale, key
    for key, value in group(golden, "after", shapes).items():
        assert relative(network.parameters()[key], value) < 1e-5, key


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_ten_steps(kind: str) -> None:
    network, golden = make("mobilenet_v1_same")
    optimiser, rate = OPTIMISERS[kind]
    y = golden["y"]
    trainer = _core.StageTrainer(
        network._core,
        "stem",
        False,
        False,
        rate,
        fn.Loss("bce")._specification(),
        optimiser.row(),
        fn.Schedule().row(1),
        None,
        len(y),
        0,
    )
    losses = [trainer.step(golden["x"], y, np.ones_like(y), 0.0)[0] for _ in range(10)]
    wanted = golden[f"{kind}.losses"]
    np.testing.assert_allclose(losses[:2], wanted[:2], rtol=1e-5)
    # later an activation that lies on a corner of ReLU6 may fall to the other side, which moves a loss by up to 0.7 %
    np.testing.assert_allclose(losses, wanted, rtol=1e-2)


@pytest.mark.parametrize("name", ["bce", "pr", "pr_micro", "lsep"])
def test_losses(name: str) -> None:
    with np.load(GOLDEN / "losses.npz") as file:
        golden = dict(file)
    kind, _, micro = name.partition("_")
    loss = fn.Loss(kind, average="micro" if micro else "macro", epsilon=1e-12)
    value, gradient = loss(golden["logits"], golden["target"], golden["mask"])
    assert abs(value - golden[f"{name}.value"]) < 1e-6
    np.testing.assert_allclose(gradient, golden[f"{name}.gradient"], atol=1e-6)
