"""How public checkpoints name and lay out the parameters of each network, and what they were trained with.

A network's own names are those of one dialect, the first of its rows here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet.config import IMAGENET, Preprocessing

__all__ = ["NETWORKS", "Dialect", "Parameter", "dialect_named", "dialects_of"]

Array = npt.NDArray[Any]

# Keras' VGG subtracts these from 0..255 in the order blue, green, red.
_CAFFE = Preprocessing((123.68 / 255, 116.779 / 255, 103.939 / 255), (1 / 255, 1 / 255, 1 / 255))

_TORCH = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
_KERAS = {
    "weight": "kernel",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a network: its own name, what it is, where, and its shape (kh, kw, in, out) or (c,)."""

    name: str
    kind: str
    block: str
    groups: int
    shape: tuple[int, ...]

    @property
    def node(self) -> str:
        """The layer's name."""
        return self.name.rpartition(".")[0]

    @property
    def is_head(self) -> bool:
        return self.block == "head"


@dataclass(frozen=True)
class Dialect:
    """Names, layout and training settings of one family of checkpoints of one network.

    Attributes
    ----------
    layout : str
        ``"torchvision"``, ``"huggingface"``, ``"timm"`` or ``"keras"``.
    rename : callable
        A layer's own name to the file's.
    keras : bool
        Keras' variable names and (kh, kw, in, out) arrays instead of PyTorch's (out, in, kh, kw).
    padding, activation, epsilon, preprocessing
        What such checkpoints were trained with.
    bgr : bool
        The first layer reads blue, green, red.
    convolutional : frozenset of str
        Layers of the classifier (own names) that are stored as convolutions, not as matrices.
    """

    layout: str
    rename: Callable[[str], str]
    padding: str
    activation: str
    epsilon: float
    preprocessing: Preprocessing
    keras: bool = False
    bgr: bool = False
    convolutional: frozenset[str] = frozenset()

    def name_of(self, parameter: Parameter) -> str:
        """The parameter's name in the file."""
        if self.keras:
            suffix = (
                "depthwise_kernel" if parameter.kind == "weight" and parameter.groups > 1 else _KERAS[parameter.kind]
            )
            return f"{self.rename(parameter.node)}/{suffix}"
        return f"{self.rename(parameter.node)}.{_TORCH[parameter.kind]}"

    def to_own(self, value: Array, parameter: Parameter) -> Array | None:
        """The file's array in the network's layout; None where the shapes do not fit."""
        if parameter.kind == "weight":
            kh, kw, ci, co = parameter.shape
            if value.ndim == 2 and value.size == kh * kw * ci * co:
                value = value.reshape(kh, kw, ci, co) if self.keras else value.reshape(co, ci, kh, kw)
            if value.ndim != 4:
                return None
            if not self.keras:
                value = value.transpose(2, 3, 1, 0)
            elif parameter.groups > 1:
                value = value.transpose(0, 1, 3, 2)
            if self.bgr and ci == 3:
                value = value[:, :, ::-1]
        return value if value.shape == parameter.shape else None

    def from_own(self, value: Array, parameter: Parameter) -> Array:
        """The network's array as the file stores it."""
        if parameter.kind == "weight":
            kh, kw, ci, co = parameter.shape
            if self.bgr and ci == 3:
                value = value[:, :, ::-1]
            if not self.keras:
                value = value.transpose(3, 2, 0, 1)
            elif parameter.groups > 1:
                value = value.transpose(0, 1, 3, 2)
            if parameter.is_head and parameter.node not in self.convolutional:
                value = value.reshape(kh * kw * ci, co) if self.keras else value.reshape(co, ci * kh * kw)
        return np.ascontiguousarray(value)


def _own(node: str) -> str:
    return node


# --- MobileNet-v1; own names "mobilenet_v1.conv_stem.convolution", "mobilenet_v1.layer.3.normalization"

_TIMM_STAGES_V1 = (1, 2, 2, 6, 2)


def _place(index: int, stages: tuple[int, ...]) -> str:
    """ "stage.position" of a block counted over all stages."""
    for stage, length in enumerate(stages):
        if index < length:
            return f"{stage}.{index}"
        index -= length
    raise IndexError(index)


def _v1_pair(node: str) -> tuple[int, bool, bool] | None:
    """(pair, is pointwise, is BatchNorm) of a layer; None for the stem and the head."""
    match = re.fullmatch(r"mobilenet_v1\.layer\.(\d+)\.(convolution|normalization)", node)
    if match is None:
        return None
    return int(match[1]) // 2, int(match[1]) % 2 == 1, match[2] == "normalization"


def _v1_keras(node: str) -> str:
    pair = _v1_pair(node)
    if pair is not None:
        return f"conv_{'pw' if pair[1] else 'dw'}_{pair[0] + 1}{'_bn' if pair[2] else ''}"
    names = {
        "mobilenet_v1.conv_stem.convolution": "conv1",
        "mobilenet_v1.conv_stem.normalization": "conv1_bn",
        "classifier": "conv_preds",
    }
    return names.get(node, node)


def _v1_timm(node: str) -> str:
    pair = _v1_pair(node)
    if pair is not None:
        part = f"bn{2 if pair[1] else 1}" if pair[2] else f"conv_{'pw' if pair[1] else 'dw'}"
        return f"blocks.{_place(pair[0], _TIMM_STAGES_V1)}.{part}"
    names = {"mobilenet_v1.conv_stem.convolution": "conv_stem", "mobilenet_v1.conv_stem.normalization": "bn1"}
    return names.get(node, node)


# --- MobileNet-v2; own names "features.0.0", "features.2.conv.1.0", "features.18.1", "classifier.1"

_TIMM_STAGES_V2 = (1, 2, 3, 4, 3, 3, 1)


def _v2_layer(node: str) -> tuple[int, str, bool] | None:
    """(block from 1, expand | depthwise | project, is BatchNorm) of a layer of a residual block."""
    match = re.fullmatch(r"features\.(\d+)\.conv\.(\d)(?:\.(\d))?", node)
    if match is None:
        return None
    block, part = int(match[1]), int(match[2])
    roles = ("depthwise",) if block == 1 else ("expand", "depthwise")
    if match[3] is not None:
        return block, roles[part], match[3] == "1"
    return block, "project", part == len(roles) + 1


def _v2_ends(node: str, names: tuple[str, ...]) -> str:
    own = ("features.0.0", "features.0.1", "features.18.0", "features.18.1", "classifier.1")
    return dict(zip(own, names, strict=True)).get(node, node)


def _v2_keras(node: str) -> str:
    layer = _v2_layer(node)
    if layer is None:
        return _v2_ends(node, ("Conv1", "bn_Conv1", "Conv_1", "Conv_1_bn", "predictions"))
    block, role, is_norm = layer
    prefix = "expanded_conv" if block == 1 else f"block_{block - 1}"
    return f"{prefix}_{role}{'_BN' if is_norm else ''}"


def _v2_timm(node: str) -> str:
    layer = _v2_layer(node)
    if layer is None:
        return _v2_ends(node, ("conv_stem", "bn1", "conv_head", "bn2", "classifier"))
    block, role, is_norm = layer
    # the first block has no expansion, and so names its layers as timm's depthwise-separable block does
    roles = ("depthwise", "project") if block == 1 else ("expand", "depthwise", "project")
    convs = ("conv_dw", "conv_pw") if block == 1 else ("conv_pw", "conv_dw", "conv_pwl")
    position = roles.index(role)
    part = f"bn{position + 1}" if is_norm else convs[position]
    return f"blocks.{_place(block - 1, _TIMM_STAGES_V2)}.{part}"


def _v2_huggingface(node: str) -> str:
    layer = _v2_layer(node)
    if layer is None:
        stem, last = "mobilenet_v2.conv_stem.first_conv", "mobilenet_v2.conv_1x1"
        kinds = ("convolution", "normalization")
        return _v2_ends(node, (*(f"{stem}.{k}" for k in kinds), *(f"{last}.{k}" for k in kinds), "classifier"))
    block, role, is_norm = layer
    prefix = "conv_stem" if block == 1 else f"layer.{block - 2}"
    part = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}[role]
    return f"mobilenet_v2.{prefix}.{part}.{'normalization' if is_norm else 'convolution'}"


# --- DenseNet; own names "features.conv0", "features.denseblock1.denselayer2.norm1", "features.transition1.conv"


def _densenet_keras(node: str) -> str:
    match = re.fullmatch(r"features\.denseblock(\d)\.denselayer(\d+)\.(norm|conv)(\d)", node)
    if match is not None:
        block, layer, kind, which = int(match[1]), match[2], match[3], int(match[4])
        part = f"{which - 1}_bn" if kind == "norm" else f"{which}_conv"
        return f"conv{block + 1}_block{layer}_{part}"
    match = re.fullmatch(r"features\.transition(\d)\.(norm|conv)", node)
    if match is not None:
        return f"pool{int(match[1]) + 1}_{'bn' if match[2] == 'norm' else 'conv'}"
    names = {
        "features.conv0": "conv1_conv",
        "features.norm0": "conv1_bn",
        "features.norm5": "bn",
        "classifier": "predictions",
    }
    return names.get(node, node)


# --- VGG-19; own names "features.0", "classifier.3"

_VGG_CONVOLUTIONS = {0: (1, 1), 2: (1, 2), 5: (2, 1), 7: (2, 2)} | {
    first + 2 * i: (block, i + 1) for block, first in ((3, 10), (4, 19), (5, 28)) for i in range(4)
}


def _vgg_keras(node: str) -> str:
    names = {"classifier.0": "fc1", "classifier.3": "fc2", "classifier.6": "predictions"}
    match = re.fullmatch(r"features\.(\d+)", node)
    if match is None:
        return names.get(node, node)
    block, position = _VGG_CONVOLUTIONS[int(match[1])]
    return f"block{block}_conv{position}"


def _vgg_timm(node: str) -> str:
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    return names.get(node, node)


_HALF = Preprocessing()
_MOBILENET_V1 = (
    Dialect("huggingface", _own, "same", "relu6", 1e-3, _HALF),
    Dialect("keras", _v1_keras, "keras", "relu6", 1e-3, _HALF, keras=True, convolutional=frozenset({"classifier"})),
    Dialect("timm", _v1_timm, "symmetric", "relu6", 1e-5, _HALF),
)
_MOBILENET_V2 = (
    Dialect("torchvision", _own, "symmetric", "relu6", 1e-5, IMAGENET),
    Dialect("keras", _v2_keras, "same", "relu6", 1e-3, _HALF, keras=True),
    Dialect("timm", _v2_timm, "symmetric", "relu6", 1e-5, IMAGENET),
    Dialect("huggingface", _v2_huggingface, "same", "relu6", 1e-3, _HALF),
)
_DENSENET = (
    Dialect("torchvision", _own, "symmetric", "relu", 1e-5, IMAGENET),
    Dialect("keras", _densenet_keras, "symmetric", "relu", 1.001e-5, IMAGENET, keras=True),
)
_VGG = (
    Dialect("torchvision", _own, "symmetric", "relu", 1e-5, IMAGENET),
    Dialect("keras", _vgg_keras, "symmetric", "relu", 1e-5, _CAFFE, keras=True, bgr=True),
    Dialect(
        "timm",
        _vgg_timm,
        "symmetric",
        "relu",
        1e-5,
        IMAGENET,
        convolutional=frozenset({"classifier.0", "classifier.3"}),
    ),
)
_VGG_BN = (_VGG[0], _VGG[2])

_DIALECTS = {
    "mobilenet_v1": _MOBILENET_V1,
    "mobilenet_v2": _MOBILENET_V2,
    "densenet121": _DENSENET,
    "densenet169": _DENSENET,
    "densenet201": _DENSENET,
    "vgg19": _VGG,
    "vgg19_bn": _VGG_BN,
}


NETWORKS = tuple(_DIALECTS)
"""Names of the networks."""


def dialects_of(network: str) -> tuple[Dialect, ...]:
    """The dialects of a network's checkpoints, its own first; none for a network that is not known."""
    return _DIALECTS.get(network, ())


def dialect_named(network: str, layout: str) -> Dialect:
    """The dialect of a layout; ValueError names the ones there are."""
    for dialect in dialects_of(network):
        if dialect.layout == layout:
            return dialect
    known = ", ".join(dialect.layout for dialect in dialects_of(network))
    raise ValueError(f"layout is {layout!r}, {network} has {known}")
