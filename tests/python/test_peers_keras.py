"""Networks against keras.applications: files that Keras writes, features, and weights given back to Keras.

Runs where Keras and h5py are installed, with PyTorch as its backend unless KERAS_BACKEND says otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import check_features, images, relative

import facsnet as fn

os.environ.setdefault("KERAS_BACKEND", "torch")
WHY = "Keras or its backend is not installed: pip install .[test-peers]"
h5py = pytest.importorskip("h5py", reason=WHY)
if os.environ["KERAS_BACKEND"] == "torch":
    pytest.importorskip("torch", reason=WHY)
keras = pytest.importorskip("keras", reason=WHY)

APPLICATIONS = {
    "mobilenet_v1": ("mobilenet", "MobileNet"),
    "mobilenet_v2": ("mobilenet_v2", "MobileNetV2"),
    "densenet121": ("densenet", "DenseNet121"),
    "densenet201": ("densenet", "DenseNet201"),
    "vgg19": ("vgg19", "VGG19"),
}
# width, and how Keras is told
NARROW: dict[str, tuple[float, dict[str, float]]] = {
    "mobilenet_v1": (0.25, {"alpha": 0.25}),
    "mobilenet_v2": (0.35, {"alpha": 0.35}),
    "densenet121": (1.0, {}),
    "vgg19": (1.0, {}),
}
LABELS = 5

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def make(name: str, size: int, **options: Any) -> keras.Model:
    """The model of keras.applications, without weights; features unless include_top is asked for."""
    module, function = APPLICATIONS[name]
    options = {"include_top": False, "pooling": "avg", **options}
    return getattr(getattr(keras.applications, module), function)(weights=None, input_shape=(size, size, 3), **options)


def scaled(name: str, x: np.ndarray) -> np.ndarray:
    """Pixels as Keras' own function scales them."""
    return getattr(keras.applications, APPLICATIONS[name][0]).preprocess_input(x.astype(np.float32))


def run(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def randomise(model: keras.Model, x: np.ndarray, seed: int) -> None:
    """No weight at a neutral value; running statistics near those of x."""
    rng = np.random.default_rng(seed)

    def drawn(layer: keras.Layer, variable: keras.Variable) -> np.ndarray:
        shape, kind = tuple(variable.shape), variable.name
        if "kernel" in kind:
            inputs = np.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:-1])
            return rng.normal(0, np.sqrt(2 / inputs), shape)
        if kind == "bias":
            return rng.uniform(-0.3, 0.3, shape)
        if kind == "beta":
            return rng.uniform(0.3, 1.0, shape) * rng.choice((-1, 1, 1, 1, 1), shape)
        return rng.uniform(0.5, 1.0, shape)

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in model.layers:
        layer.set_weights([drawn(layer, variable) for variable in layer.weights])
    for layer in norms:
        layer.momentum = 0.0
    model(x, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        gamma, beta, mean, variance = layer.get_weights()
        mean, variance = (v * rng.uniform(0.8, 1.25, v.shape) for v in (mean, variance))
        layer.set_weights([gamma, beta, mean, variance])


@pytest.mark.parametrize("name", APPLICATIONS)
def test_features(name: str, tmp_path: Path) -> None:
    """At 224 from a legacy file and at an odd size from .weights.h5; settings are those of Keras."""
    model = make(name, 224)
    randomise(model, scaled(name, images(2, 224, 1)), 1)
    odd = make(name, 97)
    odd.set_weights(model.get_weights())
    model.save(tmp_path / "model.h5")
    odd.save_weights(tmp_path / "model.weights.h5")
    for each, size, file in ((model, 224, "model.h5"), (odd, 97, "model.weights.h5")):
        network = fn.Network(name, labels=LABELS, input_size=size, epsilon=0.5)
        report = network.load_weights(tmp_path / file)
        assert report.layout == "keras" and not report.unused
        assert all(missing.startswith("head.") for missing in report.missing)
        x = images(2, size, 2)
        check_features(network.features(x), run(each, scaled(name, x)))


@pytest.mark.parametrize("name", NARROW)
def test_classifier(name: str, tmp_path: Path) -> None:
    """Logits of small images, by a network that is made from the file alone."""
    width, options = NARROW[name]
    model = make(name, 64, include_top=True, pooling=None, classes=LABELS, classifier_activation=None, **options)
    randomise(model, scaled(name, images(2, 64, 3)), 3)
    model.save(tmp_path / "model.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    model.save_weights(tmp_path / "nameless.weights.h5")
    with h5py.File(tmp_path / "nameless.weights.h5", "r+") as file:  # as Keras 3.0 to 3.5 write them
        for layer in file["layers"].values():
            layer["vars"].attrs.pop("name", None)
    x = images(2, 64, 4)
    wanted = run(model, scaled(name, x))
    for file in ("model.h5", "model.weights.h5", "nameless.weights.h5"):
        network = fn.load_weights(tmp_path / file, input_size=64)
        assert (network.config.name, network.config.width, network.config.head) == (name, width, "classifier")
        assert relative(network.forward(x), wanted) < 1e-4


@pytest.mark.parametrize("name", NARROW)
def test_state_dicts_go_back(name: str) -> None:
    """`layout="keras"` set into Keras' model by layer name."""
    width, options = NARROW[name]
    model = make(name, 64, **options)
    settings = {"mobilenet_v1": "keras", "mobilenet_v2": "same"}
    network = fn.Network(
        name,
        labels=LABELS,
        width=width,
        input_size=64,
        padding=settings.get(name),
        epsilon={"densenet121": 1.001e-5}.get(name, 1e-3),
        seed=5,
    )
    rng = np.random.default_rng(5)
    for parameter, value in network.parameters().items():
        if value.ndim == 1 and not parameter.endswith("weight"):
            value += rng.uniform(0.0, 0.3, value.shape).astype(np.float32)
    network.touch()
    state = network.state_dict(layout="keras", head=False)
    for layer in model.layers:
        kernel = "depthwise_kernel" if isinstance(layer, keras.layers.DepthwiseConv2D) else "kernel"
        names = [kernel if "kernel" in v.name else v.name for v in layer.weights]
        layer.set_weights([state.pop(f"{layer.name}/{variable}") for variable in names])
    assert not state
    x = scaled(name, images(2, 64, 6))
    # Keras' VGG reads blue, green, red, which is in its kernels: floats go to ours in red, green, blue
    assert relative(network.features(x[..., ::-1] if name == "vgg19" else x), run(model, x)) < 1e-4
