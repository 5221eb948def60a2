"""Checkpoints: files of any known format to the parameters of a network, and back."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet import _core
from facsnet._dialects import Dialect, Parameter, dialect_named, dialects_of
from facsnet._keras_file import ordered_layers, read_keras
from facsnet._safetensors import _open_without_waiting, read_safetensors
from facsnet._torch_file import read_torch
from facsnet.config import IMAGENET, NetworkConfig, Preprocessing

__all__ = [
    "Checkpoint",
    "LoadReport",
    "Match",
    "export",
    "head_of",
    "match",
    "matching",
    "read_checkpoint",
    "settings",
    "width_of",
]

Array = npt.NDArray[Any]
_CONFIG_LIMIT = 1 << 20
_HALF = Preprocessing()


@dataclass(frozen=True)
class LoadReport:
    """What `Network.load_weights` did: names loaded, missing from the file, unused in it, and settings taken over.

    Loaded and missing are the network's own names, unused the file's; ``layout`` is whose names the
    file has.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    settings: tuple[str, ...] = ()
    layout: str = ""

    def __str__(self) -> str:
        text = f"loaded {len(self.loaded)} tensors, {len(self.missing)} missing, {len(self.unused)} unused"
        text += f", layout {self.layout}" if self.layout else ""
        for title, names in (("missing", self.missing), ("unused", self.unused), ("settings", self.settings)):
            if names:
                shown = ", ".join(names[:6]) + (f", and {len(names) - 6} more" if len(names) > 6 else "")
                text += f"\n  {title}: {shown}"
        return text


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors, by the names it has for them, and what is written beside them."""

    path: str
    tensors: Mapping[str, Array]
    metadata: Mapping[str, str] = field(default_factory=dict)
    keras: bool = False
    neighbours: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads safetensors, PyTorch's formats (.pth) or Keras' HDF5 (.h5), told apart by their first bytes.

    Nothing in the file is executed. Beside safetensors, Hugging Face's and timm's ``config.json`` and
    ``preprocessor_config.json`` are read.

    Raises
    ------
    OSError
        The file cannot be read.
    FormatError
        It is damaged, or of none of these formats.
    ImportError
        It is HDF5, and h5py is not installed.
    """
    name = os.fspath(path)
    with open(path, "rb", opener=_open_without_waiting) as file:
        start = file.read(9)
    # safetensors begin with a length below 2^27, whose low bytes may be anything, and JSON
    is_safetensors = start[4:] == b"\0\0\0\0{"
    if not is_safetensors and start.startswith(b"\x89HDF"):
        return Checkpoint(name, read_keras(path), keras=True)
    if not is_safetensors and start.startswith((b"PK", b"\x80")):
        return Checkpoint(name, {_plain(key): value for key, value in read_torch(path).items()})
    tensors, metadata = read_safetensors(path)
    return Checkpoint(
        name, {_plain(key): value for key, value in tensors.items()}, metadata, neighbours=_neighbours(Path(path))
    )


def _plain(name: str) -> str:
    """The name without DataParallel's prefix, and as torchvision writes DenseNet's since 2017."""
    return re.sub(r"(denselayer\d+\.)(norm|relu|conv)\.(\d\.)", r"\1\2\3", name.removeprefix("module."))


def _neighbours(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("config.json", "preprocessor_config.json"):
        beside = path.with_name(name)
        if not beside.is_file() or beside.stat().st_size > _CONFIG_LIMIT:
            continue
        try:
            table = json.loads(beside.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, OSError):
            warnings.warn(f"{beside}: not read, it is not JSON", stacklevel=4)
            continue
        if isinstance(table, dict):
            found[name] = table
    return found


# --- whose names are these


@dataclass(frozen=True)
class Match:
    """How a checkpoint fills a network: arrays in the network's layout, and what is left over on both sides."""

    dialect: Dialect
    loaded: Mapping[str, Array]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


def match(checkpoint: Checkpoint, network: str, parameters: Sequence[Parameter]) -> Match:
    """Fits a checkpoint to a network's parameters; a classifier of other labels is left out.

    Raises
    ------
    FormatError
        Part of the backbone is missing, a tensor has the wrong shape or is not finite.
    """
    dialect, tensors = _recognise(checkpoint, network, parameters)
    loaded: dict[str, Array] = {}
    used = set()
    for parameter in parameters:
        name = dialect.name_of(parameter)
        if name not in tensors:
            continue
        value = dialect.to_own(tensors[name], parameter)
        if value is None:
            if parameter.is_head:
                continue
            raise _core.FormatError(
                f"{checkpoint.path}: tensor {name!r} has shape {tensors[name].shape}, want {_wanted(dialect, parameter)}"
            )
        if value.dtype.kind not in "fiu":
            raise _core.FormatError(f"{checkpoint.path}: tensor {name!r} holds {value.dtype}, want numbers")
        with np.errstate(over="ignore"):
            value = value.astype(np.float32, copy=False)
        if not np.isfinite(value).all():
            raise _core.FormatError(f"{checkpoint.path}: tensor {name!r} holds numbers that are not finite as float32")
        if parameter.kind == "variance" and (value < 0).any():
            raise _core.FormatError(f"{checkpoint.path}: tensor {name!r} holds variances below 0")
        loaded[parameter.name] = value
        used.add(name)
    heads = [p for p in parameters if p.is_head]
    if not all(p.name in loaded for p in heads):  # half a head is no head
        for p in heads:
            if loaded.pop(p.name, None) is not None:
                used.discard(dialect.name_of(p))
    missing = tuple(p.name for p in parameters if p.name not in loaded)
    lacking = [p for p in parameters if not p.is_head and p.name not in loaded]
    if lacking:
        found = next(iter(checkpoint.tensors), "nothing")
        raise _core.FormatError(
            f"{checkpoint.path}: not a checkpoint of {network}: {len(lacking)} of its tensors are missing, first "
            f"{dialect.name_of(lacking[0])!r}; the file begins with {found!r}"
        )
    unused = tuple(n for n in tensors if n not in used and not n.endswith("num_batches_tracked"))
    return Match(dialect, loaded, missing, unused)


def _wanted(dialect: Dialect, parameter: Parameter) -> tuple[int, ...]:
    return dialect.from_own(np.broadcast_to(np.float32(0), parameter.shape), parameter).shape


def _recognise(
    checkpoint: Checkpoint, network: str, parameters: Sequence[Parameter]
) -> tuple[Dialect, Mapping[str, Array]]:
    """The dialect that knows most of the file's names, with the tensors under those names."""
    tensors = checkpoint.tensors
    known = {d: sum(d.name_of(p) in tensors for p in parameters) for d in dialects_of(network)}
    best = max(known, key=lambda d: known[d])
    keras = next((d for d in dialects_of(network) if d.keras), None)
    complete = all(best.name_of(p) in tensors for p in parameters if not p.is_head)
    if checkpoint.keras and keras is not None and not complete:
        placed = _by_position(tensors, keras, parameters)
        if placed is not None:
            return keras, placed
    return best, tensors


def _by_position(
    tensors: Mapping[str, Array], dialect: Dialect, parameters: Sequence[Parameter]
) -> dict[str, Array] | None:
    """The tensors of a Keras file whose layers are named after their class alone, under the dialect's names.

    The n-th convolution of the file is the network's n-th, and so on; None where there are too few.
    """
    try:
        layers = ordered_layers(dict(tensors))
    except ValueError:
        return None
    names: dict[str, str] = {}
    for node, kind in _layers_of(dialect, parameters):
        if layers[kind]:
            names[layers[kind].pop(0)] = dialect.rename(node)
        elif not node.startswith(_HEAD_NODES):
            return None
    return {
        f"{names.get(layer, layer)}/{variable}": value
        for name, value in tensors.items()
        for layer, _, variable in [name.rpartition("/")]
    }


_HEAD_NODES = ("head.", "classifier")


def _layers_of(dialect: Dialect, parameters: Sequence[Parameter]) -> list[tuple[str, str]]:
    """Layers in the network's order with Keras' name of their class; without the action-unit head."""
    found: dict[str, str] = {}
    for p in parameters:
        if p.node.startswith("head."):
            continue
        if p.kind == "weight":
            flat = p.is_head and p.node not in dialect.convolutional
            found[p.node] = "dense" if flat else "depthwise_conv2d" if p.groups > 1 else "conv2d"
        elif p.kind == "gamma":
            found[p.node] = "batch_normalization"
    return list(found.items())


def matching(checkpoint: Checkpoint, network: str, parameters: Sequence[Parameter]) -> int:
    """How many of the file's tensors are those of a network's backbone; 0 where one of them is missing."""
    dialect, tensors = _recognise(checkpoint, network, parameters)
    backbone = [dialect.name_of(p) for p in parameters if not p.is_head]
    return len(backbone) if all(name in tensors for name in backbone) else 0


# --- what it was trained with


def settings(config: NetworkConfig, checkpoint: Checkpoint, dialect: Dialect) -> NetworkConfig:
    """The config with the checkpoint's padding, activation, epsilon and input scaling.

    What the file says goes before what lies beside it, and that before what its dialect implies.
    """
    if "facsnet.network" in checkpoint.metadata:
        stored = _stored_config(checkpoint)
        return replace(
            config,
            padding=stored.padding,
            activation=stored.activation,
            epsilon=stored.epsilon,
            preprocessing=stored.preprocessing,
        )
    changes: dict[str, Any] = {
        "padding": dialect.padding,
        "activation": dialect.activation,
        "epsilon": dialect.epsilon,
        "preprocessing": dialect.preprocessing,
    }
    changes |= _beside(checkpoint)
    changes |= _inside(checkpoint)
    return replace(config, **changes)


def _stored_config(checkpoint: Checkpoint) -> NetworkConfig:
    """The config that `Network.save_weights` wrote; FormatError where it could not have."""
    try:
        stored = NetworkConfig.from_dict(json.loads(checkpoint.metadata["facsnet.network"]))
        _check_config(stored)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise _core.FormatError(f"{checkpoint.path}: the network's description is damaged: {problem!r:.120}") from None
    return stored


def _check_config(config: NetworkConfig) -> None:
    for name in ("name", "padding", "activation", "head"):
        if not isinstance(getattr(config, name), str):
            raise TypeError(f"{name} is {getattr(config, name)!r}, want text")
    for name in ("width", "epsilon"):
        if not _is_number(getattr(config, name)):
            raise TypeError(f"{name} is {getattr(config, name)!r}, want a number")
    labels = config.labels
    if not labels or not all(isinstance(label, str) for label in labels) or len(set(labels)) < len(labels):
        raise TypeError(f"labels is {labels!r}, want names")
    if not all(map(_is_number, (*config.preprocessing.mean, *config.preprocessing.std))):
        raise TypeError(f"preprocessing is {config.preprocessing!r}, want numbers")


def _beside(checkpoint: Checkpoint) -> dict[str, Any]:
    """Settings from the config files of Hugging Face and timm."""
    changes: dict[str, Any] = {}
    config = checkpoint.neighbours.get("config.json", {})
    pixels = checkpoint.neighbours.get("preprocessor_config.json", {})
    if config.get("model_type") in ("mobilenet_v1", "mobilenet_v2"):
        if isinstance(config.get("tf_padding"), bool):
            changes["padding"] = "same" if config["tf_padding"] else "symmetric"
        if config.get("hidden_act") in ("relu", "relu6"):
            changes["activation"] = config["hidden_act"]
        if _is_number(config.get("layer_norm_eps")):
            changes["epsilon"] = float(config["layer_norm_eps"])
        scaling = _preprocessing(pixels.get("image_mean"), pixels.get("image_std"))
    else:
        trained = config.get("pretrained_cfg")
        scaling = _preprocessing(trained.get("mean"), trained.get("std")) if isinstance(trained, dict) else None
    if scaling is not None:
        changes["preprocessing"] = scaling
    return changes


def _inside(checkpoint: Checkpoint) -> dict[str, Any]:
    """Settings from plain entries of a safetensors file's metadata."""
    metadata = checkpoint.metadata
    changes: dict[str, Any] = {}
    paddings = {"tensorflow": "same", "symmetric": "symmetric", "keras": "keras"}
    if metadata.get("padding") in paddings:
        changes["padding"] = paddings[metadata["padding"]]
    if metadata.get("activation") in ("relu", "relu6"):
        changes["activation"] = metadata["activation"]
    try:
        epsilon = float(metadata["bn_eps"]) if "bn_eps" in metadata else None
    except ValueError:
        raise _core.FormatError(f"{checkpoint.path}: bn_eps is {metadata['bn_eps']!r:.40}, want a number") from None
    if epsilon is not None:
        changes["epsilon"] = epsilon
    scaling = {"rgb/127.5-1": _HALF, "(rgb/255-mean)/std, torchvision mean and std": IMAGENET}.get(
        metadata.get("input", "")
    )
    if scaling is not None:
        changes["preprocessing"] = scaling
    return changes


def _is_number(value: Any) -> bool:
    """A number that float32 has; JSON may hold NaN, infinity and integers of any length."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e38 < value < 1e38


def _preprocessing(mean: Any, std: Any) -> Preprocessing | None:
    for values in (mean, std):
        if not isinstance(values, list) or len(values) != 3 or not all(map(_is_number, values)):
            return None
    if not all(value > 1e-30 for value in std):
        return None
    return Preprocessing(
        (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))
    )


# --- which network is it

# A layer whose output channels tell the width, and how many it has at width 1.
_WIDTH_LAYERS = {
    "mobilenet_v1": ("mobilenet_v1.layer.25.convolution", 1024),
    "mobilenet_v2": ("features.17.conv.2", 320),
    "densenet121": ("features.conv0", 64),
    "densenet169": ("features.conv0", 64),
    "densenet201": ("features.conv0", 64),
    "vgg19": ("features.34", 512),
    "vgg19_bn": ("features.49", 512),
}


def width_of(checkpoint: Checkpoint, network: str, parameters: Sequence[Parameter]) -> float:
    """The width of a checkpoint of a network; 1 where it cannot be told."""
    if "facsnet.network" in checkpoint.metadata:
        stored = _stored_config(checkpoint)
        if stored.name == network:
            return float(stored.width)
    dialect, tensors = _recognise(checkpoint, network, parameters)
    node, channels = _WIDTH_LAYERS[network]
    weight = next(p for p in parameters if p.node == node and p.kind == "weight")
    value = tensors.get(dialect.name_of(weight))
    if value is None or value.ndim != 4:
        return 1.0
    found: int = value.shape[-1 if dialect.keras else 0]
    # channels are rounded; a width has few digits
    short = round(found / channels, 3)
    return short if abs(short * channels - found) <= 0.5 else found / channels


def head_of(checkpoint: Checkpoint, network: str, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Options of the head that a checkpoint has: ``head`` and ``labels``; parameters are those with a classifier."""
    dialect, tensors = _recognise(checkpoint, network, parameters)
    last = {"mobilenet_v2": "classifier.1", "vgg19": "classifier.6", "vgg19_bn": "classifier.6"}.get(
        network, "classifier"
    )
    for head, node in (("action_units", "head.classifier"), ("classifier", last)):
        bias = tensors.get(dialect.name_of(Parameter(f"{node}.bias", "bias", "head", 1, (1,))))
        if bias is not None and bias.ndim == 1 and len(bias):
            return {"head": head, "labels": _labels(checkpoint, len(bias))}
    raise ValueError(f"{checkpoint.path}: it has no head: name the labels of a new one")


def _labels(checkpoint: Checkpoint, count: int) -> int | tuple[str, ...]:
    """The names of a head's outputs where the file has them, else how many."""
    if "facsnet.network" not in checkpoint.metadata:
        return count
    labels = _stored_config(checkpoint).labels
    if len(labels) != count:
        raise _core.FormatError(
            f"{checkpoint.path}: its head has {count} outputs, its description {len(labels)} labels"
        )
    return labels


def export(
    network: str, layout: str | None, rows: Sequence[tuple[Parameter, Array]], *, head: bool
) -> dict[str, Array]:
    """The tensors of a network under the names and in the arrangement of a layout (None: its own)."""
    dialect = dialects_of(network)[0] if layout is None else dialect_named(network, layout)
    return {dialect.name_of(p): dialect.from_own(value, p) for p, value in rows if head or not p.is_head}
