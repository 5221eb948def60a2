"""Checkpoints without a peer: names and layouts of every dialect, recognition, settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from weight_files import frozen, nothing_neutral, small, write

import facsnet as fn
from facsnet._dialects import NETWORKS, dialects_of
from facsnet._safetensors import read_safetensors

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = ((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))

# padding, activation, epsilon, mean and deviation that files of a layout were trained with; one of the file's names
SETTINGS = {
    ("mobilenet_v1", "huggingface"): ("same", "relu6", 1e-3, HALF, "mobilenet_v1.layer.25.normalization.running_var"),
    ("mobilenet_v1", "keras"): ("keras", "relu6", 1e-3, HALF, "conv_dw_13/depthwise_kernel"),
    ("mobilenet_v1", "timm"): ("symmetric", "relu6", 1e-5, HALF, "blocks.4.1.conv_pw.weight"),
    ("mobilenet_v2", "torchvision"): ("symmetric", "relu6", 1e-5, IMAGENET, "features.17.conv.3.running_mean"),
    ("mobilenet_v2", "keras"): ("same", "relu6", 1e-3, HALF, "block_16_project_BN/moving_mean"),
    ("mobilenet_v2", "timm"): ("symmetric", "relu6", 1e-5, IMAGENET, "blocks.6.0.conv_pwl.weight"),
    ("mobilenet_v2", "huggingface"): (
        "same",
        "relu6",
        1e-3,
        HALF,
        "mobilenet_v2.layer.15.reduce_1x1.convolution.weight",
    ),
    ("densenet121", "torchvision"): (
        "symmetric",
        "relu",
        1e-5,
        IMAGENET,
        "features.denseblock4.denselayer16.conv2.weight",
    ),
    ("densenet121", "keras"): ("symmetric", "relu", 1.001e-5, IMAGENET, "conv5_block16_2_conv/kernel"),
    ("densenet169", "torchvision"): (
        "symmetric",
        "relu",
        1e-5,
        IMAGENET,
        "features.denseblock3.denselayer32.norm1.weight",
    ),
    ("densenet169", "keras"): ("symmetric", "relu", 1.001e-5, IMAGENET, "conv4_block32_0_bn/gamma"),
    ("densenet201", "torchvision"): (
        "symmetric",
        "relu",
        1e-5,
        IMAGENET,
        "features.denseblock3.denselayer48.norm2.bias",
    ),
    ("densenet201", "keras"): ("symmetric", "relu", 1.001e-5, IMAGENET, "pool4_bn/beta"),
    ("vgg19", "torchvision"): ("symmetric", "relu", 1e-5, IMAGENET, "features.34.bias"),
    ("vgg19", "keras"): ("symmetric", "relu", 1e-5, CAFFE, "block5_conv4/bias"),
    ("vgg19", "timm"): ("symmetric", "relu", 1e-5, IMAGENET, "features.34.bias"),
    ("vgg19_bn", "torchvision"): ("symmetric", "relu", 1e-5, IMAGENET, "features.50.running_var"),
    ("vgg19_bn", "timm"): ("symmetric", "relu", 1e-5, IMAGENET, "features.50.running_var"),
}
LAYOUTS = list(SETTINGS)


def layout_of(name: str, layout: str, head: str) -> str:
    """The layout that is recognised: timm's VGG differs from torchvision's in the classifier alone."""
    return "torchvision" if name.startswith("vgg") and layout == "timm" and head != "classifier" else layout


# --- there and back


def test_the_table_is_complete() -> None:
    assert {(n, d.layout) for n in NETWORKS for d in dialects_of(n)} == set(SETTINGS)


@pytest.mark.parametrize("head", ["action_units", "classifier"])
@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_round_trip(name: str, layout: str, head: str, tmp_path: Path) -> None:
    network = nothing_neutral(small(name, head=head))
    path = tmp_path / "w.safetensors"
    network.save_weights(path, layout=layout)
    tensors, _ = read_safetensors(path)
    assert SETTINGS[name, layout][4] in tensors
    other = small(name, head=head, seed=2)
    report = other.load_weights(path, strict=True)
    assert report.layout == layout_of(name, layout, head)
    assert frozen(other) == frozen(network)
    for each in (None, layout):
        mine, theirs = network.state_dict(layout=each), other.state_dict(layout=each)
        assert list(mine) == list(theirs)
        assert all(mine[k].tobytes() == theirs[k].tobytes() and mine[k].shape == theirs[k].shape for k in mine)
    other.save_weights(tmp_path / "again.safetensors", layout=layout)
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    third = small(name, head=head, seed=3)
    third.load_state_dict(network.state_dict(layout=layout))
    assert frozen(third) == frozen(network)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'onnx'.*densenet121 has torchvision, keras"):
        small("densenet121").state_dict(layout="onnx")


def test_a_backbone_alone(tmp_path: Path) -> None:
    network = nothing_neutral(small("mobilenet_v2"))
    network.save_weights(tmp_path / "w.safetensors", head=False)
    other = small("mobilenet_v2", labels=7, seed=2)
    before = other.parameters()["head.classifier.weight"].copy()
    report = other.load_weights(tmp_path / "w.safetensors")
    assert not report.unused and all(n.startswith("head.") for n in report.missing)
    assert (other.parameters()["head.classifier.weight"] == before).all()
    with pytest.raises(ValueError, match=r"w\.safetensors: it has no head"):
        fn.load_weights(tmp_path / "w.safetensors", input_size=64)
    assert fn.load_weights(tmp_path / "w.safetensors", labels=4, input_size=64).label_names[3] == "label3"


# --- whose file it is


@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_settings_of_a_dialect(name: str, layout: str, tmp_path: Path) -> None:
    """A file that says nothing but names: padding, activation, epsilon and scaling are what its family has."""
    path = write(tmp_path / "w.safetensors", nothing_neutral(small(name)).state_dict(layout=layout, head=False))
    network = small(name, padding="symmetric", activation="relu", epsilon=0.1, preprocessing=fn.Preprocessing())
    report = network.load_weights(path)
    padding, activation, epsilon, (mean, std), _ = SETTINGS[name, layout]
    c = network.config
    assert report.layout == layout_of(name, layout, "none")
    assert (c.padding, c.activation, c.epsilon) == (padding, activation, epsilon)
    np.testing.assert_allclose([c.preprocessing.mean, c.preprocessing.std], [mean, std])
    assert "epsilon" in " ".join(report.settings)


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("head", ["action_units", "classifier"])
@pytest.mark.parametrize(("name", "layout"), LAYOUTS)
def test_the_network_of_a_file(name: str, layout: str, head: str, described: bool, tmp_path: Path) -> None:
    """Network, width and head are read off the tensors where the file has no description."""
    width = 0.25 if name.startswith("mobilenet") else 0.125
    network = nothing_neutral(small(name, head=head, labels=["a", "b"], width=width))
    path = tmp_path / "w.safetensors"
    if described:
        network.save_weights(path, layout=layout)
    else:
        write(path, network.state_dict(layout=layout))
    found = fn.load_weights(path, input_size=64, threads=1)
    assert (found.config.name, found.config.width, found.config.head) == (name, width, head)
    assert found.label_names == (("a", "b") if described else ("label0", "label1"))
    assert frozen(found) == frozen(network)
    headed = fn.load_weights(path, labels=["x", "y", "z"], input_size=64)
    assert (headed.config.name, headed.config.head, headed.label_names) == (name, "action_units", ("x", "y", "z"))


@pytest.mark.parametrize(
    ("name", "layout", "width"),
    [
        ("mobilenet_v1", "huggingface", 0.25),
        ("mobilenet_v1", "keras", 0.75),
        ("mobilenet_v1", "timm", 1.25),
        ("mobilenet_v1", "huggingface", 1.4),
        ("mobilenet_v2", "keras", 0.35),
        ("mobilenet_v2", "torchvision", 0.5),
        ("mobilenet_v2", "huggingface", 0.75),
        ("mobilenet_v2", "keras", 1.3),
        ("mobilenet_v2", "timm", 1.4),
    ],
)
def test_public_widths(name: str, layout: str, width: float, tmp_path: Path) -> None:
    network = small(name, width=width)
    found = fn.load_weights(write(tmp_path / "w.safetensors", network.state_dict(layout=layout)), input_size=64)
    assert found.config.width == width
    assert frozen(found) == frozen(network)


@pytest.mark.parametrize("width", [0.0834, 0.31])
@pytest.mark.parametrize("name", NETWORKS)
def test_other_widths(name: str, width: float, tmp_path: Path) -> None:
    """The tensors alone tell the width to a few channels, so it is written along."""
    network = small(name, width=width)
    network.save_weights(tmp_path / "w.safetensors")
    found = fn.load_weights(tmp_path / "w.safetensors", input_size=64)
    assert found.config.width == width
    assert frozen(found) == frozen(network)


def test_names_of_old_files(tmp_path: Path) -> None:
    """DataParallel's prefix, DenseNet's names of 2017 and counters of batches."""
    network = nothing_neutral(small("densenet121"))
    state = {}
    for name, value in network.state_dict(layout="torchvision").items():
        for part in ("norm", "conv"):
            if "denselayer" in name:
                name = name.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2.")
        state[f"module.{name}"] = value
    state["module.features.norm0.num_batches_tracked"] = np.array(7)
    assert "module.features.denseblock1.denselayer1.norm.1.weight" in state
    other = small("densenet121", seed=2)
    other.load_weights(write(tmp_path / "w.safetensors", state), strict=True)
    assert frozen(other) == frozen(network)
    assert fn.load_weights(tmp_path / "w.safetensors", input_size=64).config.name == "densenet121"


def test_keras_pads_by_hand_before_depthwise_convolutions_only() -> None:
    """Which matters at odd sizes: (0, 1) gives 16 of 33 pixels, SAME 17."""
    sizes = {}
    for padding in ("same", "keras"):
        network = small("mobilenet_v1", padding=padding, input_size=65)
        shapes = {row[0]: row[3] for row in network._core.node_rows()}
        names = ("mobilenet_v1.conv_stem.convolution", "mobilenet_v1.layer.2.convolution")
        sizes[padding] = [shapes[name][0] for name in names]
    assert sizes == {"same": [33, 17], "keras": [33, 16]}


# --- what lies beside it or is written in it


def beside(folder: Path, config: object, pixels: object = None) -> fn.Network:
    """MobileNet-v2 with the names of Hugging Face, loaded with these files beside it."""
    path = write(folder / "model.safetensors", small("mobilenet_v2").state_dict(layout="huggingface"))
    for name, value in (("config.json", config), ("preprocessor_config.json", pixels)):
        if value is not None:
            (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    network = small("mobilenet_v2")
    network.load_weights(path)
    return network


def test_hugging_face_config(tmp_path: Path) -> None:
    config = {"model_type": "mobilenet_v2", "tf_padding": False, "hidden_act": "relu", "layer_norm_eps": 0.002}
    pixels = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    c = beside(tmp_path, config, pixels).config
    assert (c.padding, c.activation, c.epsilon) == ("symmetric", "relu", 0.002)
    assert c.preprocessing == fn.Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    config |= {"tf_padding": True, "hidden_act": "relu6"}
    c = beside(tmp_path, config).config
    assert (c.padding, c.activation) == ("same", "relu6")


def test_timm_config(tmp_path: Path) -> None:
    c = beside(tmp_path, {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}).config
    assert c.preprocessing == fn.Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (c.padding, c.epsilon) == ("same", 1e-3)


def test_a_config_of_something_else_is_ignored(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"config\.json: not read"):
        assert beside(tmp_path, "{broken").config.padding == "same"
    for config in ([1], {"model_type": "bert", "layer_norm_eps": 0.3}, {"pretrained_cfg": 3}):
        assert beside(tmp_path, config).config.epsilon == 1e-3


@pytest.mark.parametrize("value", [None, True, "0.1", [0.1], {}, "NaN", 1e400, 10**400, -1e400])
@pytest.mark.parametrize("field", ["tf_padding", "hidden_act", "layer_norm_eps", "image_mean", "image_std"])
def test_odd_values_beside_a_file_are_ignored(field: str, value: object, tmp_path: Path) -> None:
    config: dict[str, object] = {"model_type": "mobilenet_v2"}
    pixels: dict[str, object] = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    if field.startswith("image"):
        pixels[field] = [0.5, 0.5, value]
    else:
        config[field] = value
    c = beside(tmp_path, config, pixels).config
    assert (c.activation, c.epsilon) == ("relu6", 1e-3)
    assert c.padding == "same"
    assert c.preprocessing == (fn.Preprocessing() if field.startswith("image") else fn.Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))  # fmt: skip


@pytest.mark.parametrize("value", [0, -1, 1, 7.5])
def test_an_impossible_epsilon_beside_a_file_is_refused(value: float, tmp_path: Path) -> None:
    with pytest.raises(fn.FormatError, match=r"model\.safetensors.*epsilon"):
        beside(tmp_path, {"model_type": "mobilenet_v2", "layer_norm_eps": value})


def test_plain_entries_of_the_metadata(tmp_path: Path) -> None:
    entries = {
        "padding": "symmetric",
        "activation": "relu",
        "bn_eps": "0.002",
        "input": "(rgb/255-mean)/std, torchvision mean and std",
    }
    path = write(tmp_path / "w.safetensors", small("mobilenet_v1").state_dict(), entries)
    network = small("mobilenet_v1")
    network.load_weights(path)
    c = network.config
    assert (c.padding, c.activation, c.epsilon) == ("symmetric", "relu", 0.002)
    assert (c.preprocessing.mean, c.preprocessing.std) == IMAGENET


@pytest.mark.parametrize("first", [b"\x80", b"\x80\x02", b"PK", b"PK\3"])
def test_any_length_of_the_header_is_of_safetensors(first: bytes, tmp_path: Path) -> None:
    """The first bytes are a length, and may look like those of a pickle or of a zip archive."""
    network = nothing_neutral(small("mobilenet_v1"))
    path = tmp_path / "w.safetensors"
    network.save_weights(path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    step = 256 ** len(first)
    wanted = int.from_bytes(first, "little") + step * -(-length // step)
    path.write_bytes(wanted.to_bytes(8, "little") + header.ljust(wanted) + body)
    assert path.read_bytes().startswith(first)
    other = small("mobilenet_v1", seed=2)
    other.load_weights(path, strict=True)
    assert frozen(other) == frozen(network)
