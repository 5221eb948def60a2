"""Networks of full width against PyTorch modules with the names of the public checkpoints, in double.

Runs where PyTorch is installed; tests/golden covers it elsewhere.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet._dialects import NETWORKS, dialects_of

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install .[test-peers]")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from peers import NETWORKS as PEERS
from peers import check_features, images, relative
from torch_draws import clear_corners, randomise, settle
from torch_networks import twin

LABELS = 5


def scaled(network: fn.Network, x: np.ndarray) -> torch.Tensor:
    """Pixels as the network's checkpoint wants them, in float32."""
    mean, std = np.array(network.config.preprocessing.mean), np.array(network.config.preprocessing.std)
    return torch.tensor(((x / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)


def drawn(name: str, x: torch.Tensor, seed: int, **options: object) -> torch.nn.Module:
    model = twin(name, LABELS, dropout=0.0, **options)
    randomise(model, seed)
    settle(model, x, seed)
    return model


def saved(model: torch.nn.Module, path: Path) -> Path:
    torch.save(model.state_dict(), path)
    return path


@pytest.mark.parametrize("name", PEERS)
def test_features(name: str, tmp_path: Path) -> None:
    """At 224 and an odd size, of a checkpoint that PyTorch wrote; settings are those of its dialect."""
    head = "action_units" if name == "vgg19" else "classifier"
    networks = [fn.Network(name, labels=LABELS, head=head, input_size=size, epsilon=0.5) for size in (224, 161)]
    model = drawn(name, scaled(networks[0], images(4, 97, 1)), 1, head=head)
    path = saved(model, tmp_path / "weights.pth")
    model = model.eval().double()
    for network in networks:
        report = network.load_weights(path, strict=True)
        assert report.layout == dialects_of(name)[0].layout
        x = images(2, network.input_size, 2)
        with torch.no_grad():
            features = model.features(scaled(network, x).double())
            logits = getattr(model, model.last)(features)
        check_features(network.features(x), features.numpy())
        assert relative(network.forward(x), logits.numpy()) < 1e-4


@pytest.mark.parametrize("name", PEERS)
def test_training_step(name: str, tmp_path: Path) -> None:
    """Batch statistics, no dropout: every gradient to 1e-3 of the largest number in its tensor, statistics to 1e-4.

    That norm means something because no activation is near a corner of a ReLU (`clear_corners`): ours are
    within 4e-4, PyTorch's own float32 within 4e-4 too. As drawn, one number in millions falls to the other
    side of a corner, and both are off by up to 2e-1.
    """
    n, size = (4, 64) if name == "vgg19" else (6, 97)
    network = fn.Network(name, labels=LABELS, input_size=size, dropout=0.0)
    x = scaled(network, images(n, size, 3))
    y = (np.random.default_rng(3).random((n, LABELS)) < 0.4).astype(np.float32)
    model = drawn(name, x, 3)
    before = copy.deepcopy(model.state_dict())
    margin = clear_corners(model.double(), x.double())
    assert margin > 5e-5
    model.float().load_state_dict({k: v for k, v in before.items() if "running" in k}, strict=False)
    network.load_weights(saved(model, tmp_path / "weights.pth"), strict=True)

    model.double().train()
    wanted_logits = model(x.double())
    wanted_loss = torch.nn.functional.binary_cross_entropy_with_logits(wanted_logits, torch.tensor(y).double())
    wanted_loss.backward()
    logits = network.forward(x.permute(0, 2, 3, 1).numpy(), training=True)
    loss, dlogits = fn.losses.bce(logits, y)
    network.backward(dlogits)

    assert relative(logits, wanted_logits.detach().numpy()) < 1e-4
    assert loss == pytest.approx(wanted_loss.item(), rel=1e-5)
    gradients = network.gradients()
    wanted = {k: p.grad.numpy() for k, p in model.named_parameters()}
    assert set(gradients) == set(wanted)
    largest = {key: np.abs(value).max() for key, value in wanted.items()}
    for key, value in wanted.items():
        found, scale = gradients[key], largest[key]
        found = found.transpose(3, 2, 0, 1) if value.ndim == 4 else found[0, 0].T if value.ndim == 2 else found
        if scale < 1e-9 * max(largest.values()):  # a bias that the next BatchNorm takes away
            scale = largest[key.removesuffix("bias") + "weight"]
        assert np.abs(found - value).max() < 1e-3 * scale, key
    own = network.parameters()
    statistics = {k: b.numpy() for k, b in model.named_buffers() if "running" in k}
    assert statistics
    for key, value in statistics.items():
        assert not np.array_equal(own[key], before[key].numpy())
        assert relative(own[key], value) < 1e-4, key


@pytest.mark.parametrize("head", ["action_units", "classifier"])
@pytest.mark.parametrize("name", NETWORKS)
def test_state_dicts_go_back(name: str, head: str) -> None:
    """Every network's state dict loads strictly into the module of its names, and gives the same there."""
    network = fn.Network(name, labels=LABELS, width=0.35, input_size=70, head=head, seed=4)
    rng = np.random.default_rng(4)
    for parameter, value in network.parameters().items():
        if value.ndim == 1 and not parameter.endswith("weight"):
            value += rng.uniform(0.0, 0.3, value.shape).astype(np.float32)
    network.touch()
    model = twin(name, LABELS, width=0.35, head=head, size=70)
    state = network.state_dict(layout=dialects_of(name)[0].layout)
    assert set(state) == {k for k in model.state_dict() if not k.endswith("num_batches_tracked")}
    model.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=True)
    x = images(2, 70, 4)
    with torch.no_grad():
        logits = model.double().eval()(scaled(network, x).double()).numpy()
    assert relative(network.forward(x), logits) < 1e-4


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("padding", ["same", "symmetric", "keras"])
@pytest.mark.parametrize("size", [64, 97])
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_options(name: str, size: int, padding: str, activation: str) -> None:
    options = {"width": 0.35, "padding": padding, "activation": activation, "epsilon": 2e-3}
    network = fn.Network(name, labels=LABELS, input_size=size, **options)
    model = drawn(name, scaled(network, images(4, size, 5)), 5, **options)
    network.load_state_dict({k: v.numpy() for k, v in model.state_dict().items() if "batches" not in k})
    x = images(2, size, 6)
    with torch.no_grad():
        features = model.eval().double().features(scaled(network, x).double()).numpy()
    check_features(network.features(x), features)
