"""Values that PyTorch computed in double for small networks (tools/make_golden.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NETWORKS = ["mobilenet_v1_same", "mobilenet_v1_symmetric"]
OPTIMISERS = {
    "adam": (fn.Optimiser("adam"), 1e-4),
    "adamw": (fn.Optimiser("adamw", weight_decay=0.05), 1e-4),
    "sgd": (fn.Optimiser("sgd", nesterov=True), 1e-4),
}


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest wanted number."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def make(name: str) -> tuple[fn.Network, dict[str, np.ndarray]]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = dict(file)
    golden["x"] = golden["x"].astype(np.float32)
    size = golden["x"].shape[1]
    network = fn.Network(
        "mobilenet_v1",
        labels=golden["y"].shape[1],
        width=0.0625,
        input_size=size,
        padding=name.rsplit("_", 1)[1],
        dropout=0.0,
        threads=2,
    )
    network.load_state_dict({k.removeprefix("state."): v for k, v in golden.items() if k.startswith("state.")})
    return network, golden


@pytest.mark.parametrize("name", NETWORKS)
def test_inference(name: str) -> None:
    network, golden = make(name)
    assert relative(network.features(golden["x"]), golden["features"]) < 1e-5
    assert relative(network.forward(golden["x"]), golden["logits"]) < 1e-5


@pytest.mark.parametrize("rung", ["ref", "generic", "avx2", "avx512"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_step(name: str, rung: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACS_CPU", rung)
    try:
        network, golden = make(name)
    except ValueError as problem:
        pytest.skip(str(problem))
    logits = network.forward(golden["x"], training=True)
    assert relative(logits, golden["train.logits"]) < 1e-4
    loss, dlogits = fn.losses.bce(logits, golden["y"])
    assert abs(loss - golden["train.loss"]) < 1e-5
    network.backward(dlogits)
    gradients = network.gradients()
    compared = 0
    for key, wanted in golden.items():
        if not key.startswith("gradient."):
            continue
        found = gradients[key.removeprefix("gradient.")]
        if wanted.ndim == 4:
            found = found.transpose(3, 2, 0, 1)
        elif wanted.ndim == 2:
            found = found[0, 0].T
        assert relative(found, wanted) < 1e-4, key
        compared += 1
    assert compared == len(gradients)
    for key, wanted in golden.items():
        if key.startswith("after."):
            assert relative(network.parameters()[key.removeprefix("after.")], wanted) < 1e-5, key


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
    # float32 rounding grows from step to step
    np.testing.assert_allclose(losses, golden[f"{kind}.losses"], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["bce", "pr", "pr_micro", "lsep"])
def test_losses(name: str) -> None:
    with np.load(GOLDEN / "losses.npz") as file:
        golden = dict(file)
    kind, _, micro = name.partition("_")
    loss = fn.Loss(kind, average="micro" if micro else "macro", epsilon=1e-12)
    value, gradient = loss(golden["logits"], golden["target"], golden["mask"])
    assert abs(value - golden[f"{name}.value"]) < 1e-6
    np.testing.assert_allclose(gradient, golden[f"{name}.gradient"], atol=1e-6)
