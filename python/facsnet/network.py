"""Networks: a backbone trained on ImageNet, a head, and their weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet import _core
from facsnet._safetensors import read_safetensors, write_safetensors

__all__ = ["LoadReport", "Network", "NetworkConfig", "Preprocessing"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Preprocessing:
    """How 8-bit RGB pixels become the numbers a network was trained on: (x / 255 - mean) / std."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def scale_and_shift(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        scale = tuple(1.0 / (255.0 * s) for s in self.std)
        shift = tuple(-m / s for m, s in zip(self.mean, self.std, strict=True))
        return scale, shift


@dataclass(frozen=True)
class NetworkConfig:
    """What defines a network, apart from its weights; stored with every model."""

    name: str
    labels: tuple[str, ...]
    width: float = 1.0
    input_size: int = 224
    padding: str = "same"
    activation: str = "relu6"
    epsilon: float = 1e-3
    dropout: float = 0.2
    head: str = "action_units"
    preprocessing: Preprocessing = Preprocessing()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        rows = dict(values)
        rows["labels"] = tuple(rows["labels"])
        p = rows.pop("preprocessing")
        return cls(**rows, preprocessing=Preprocessing(tuple(p["mean"]), tuple(p["std"])))


@dataclass(frozen=True)
class LoadReport:
    """What `Network.load_weights` did: names loaded, missing from the file, unused in it, and settings taken over."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"loaded {len(self.loaded)} tensors, {len(self.missing)} missing, {len(self.unused)} unused"
        for title, names in (("missing", self.missing), ("unused", self.unused), ("settings", self.settings)):
            if names:
                shown = ", ".join(names[:6]) + (f", and {len(names) - 6} more" if len(names) > 6 else "")
                text += f"\n  {title}: {shown}"
        return text


class Network:
    """A backbone with a head.

    Parameters
    ----------
    name : str
        ``"mobilenet_v1"``.
    labels : sequence of str, or int
        Names of the outputs, or how many.
    width : float
        Multiplies every channel count of the backbone.
    input_size : int
        Pixels on a side of the square input.
    head : {"action_units", "classifier"}
        ``"action_units"``: global average pooling, BatchNorm, ReLU, dropout, fully connected, the
        sigmoid being part of the loss. ``"classifier"``: pooling and fully connected, as in the
        ImageNet checkpoints.
    padding : {"same", "symmetric", "keras"}
        Dialect of the checkpoint: TensorFlow and Hugging Face, PyTorch, or Keras.
    activation : {"relu6", "relu"}
    epsilon : float
        Of the backbone's BatchNorm.
    dropout : float
        Of the action-unit head.
    preprocessing : Preprocessing
        How 8-bit pixels are scaled. `load_weights` sets this and the three above from the file.
    threads : int, optional
        Workers; None is every processor the process may use.
    seed : int
        Of the initial weights.

    Raises
    ------
    ValueError
        An argument is out of its range; the message names it and its value.
    """

    def __init__(
        self,
        name: str,
        *,
        labels: Sequence[str] | int,
        width: float = 1.0,
        input_size: int = 224,
        head: str = "action_units",
        padding: str = "same",
        activation: str = "relu6",
        epsilon: float = 1e-3,
        dropout: float = 0.2,
        preprocessing: Preprocessing | None = None,
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        names = _label_names(labels)
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}, want at least 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}, want at least 0")
        self._threads = threads
        self._seed = seed
        self.config = NetworkConfig(
            name,
            names,
            float(width),
            int(input_size),
            padding,
            activation,
            float(epsilon),
            float(dropout),
            head,
            preprocessing or Preprocessing(),
        )
        self._core = self._build()

    @classmethod
    def from_config(cls, config: NetworkConfig, *, threads: int | None = None, seed: int = 0) -> Network:
        """The network that a config describes, with initial weights."""
        return cls(**{**_plain(config), "labels": config.labels}, threads=threads, seed=seed)

    def _build(self) -> _core.Network:
        c = self.config
        core = _core.Network(
            c.name,
            len(c.labels),
            c.width,
            c.input_size,
            c.padding,
            c.activation,
            c.epsilon,
            c.dropout,
            c.head,
            self._threads or 0,
            self._seed,
            os.environ.get("FACS_CPU"),
        )
        core.set_pixels(*c.preprocessing.scale_and_shift())
        return core

    def __repr__(self) -> str:
        c = self.config
        return f"Network({c.name!r}, labels={len(c.labels)}, width={c.width:g}, input_size={c.input_size}, head={c.head!r})"

    # --- running

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.config.labels

    @property
    def input_size(self) -> int:
        return self.config.input_size

    @property
    def threads(self) -> int:
        return self._core.threads

    @property
    def instruction_set(self) -> str:
        """Rung of the kernels in use: ref, generic, blas, avx2, avx512."""
        return self._core.instruction_set

    @property
    def blocks(self) -> list[str]:
        """Names that `unfreeze` takes, from the input to the head."""
        return self._core.block_names()[1:]

    def forward(self, x: npt.ArrayLike, *, training: bool = False, seed: int = 0, step: int = 0) -> FloatArray:
        """Logits of images.

        Parameters
        ----------
        x : array (n, h, w, 3)
            uint8 RGB pixels are scaled as the weights want it; floats are taken as scaled.
        training : bool
            Batch statistics (running ones move) and dropout, drawn from (seed, step).

        Returns
        -------
        float32 array (n, k)
        """
        return self._core.forward(x, training, seed, step)

    __call__ = forward

    def predict(self, x: npt.ArrayLike) -> FloatArray:
        """Probabilities (n, k): the sigmoid of `forward`."""
        return _core.sigmoid(self._core.forward(x))

    def features(self, x: npt.ArrayLike) -> FloatArray:
        """Features (n, c) after global average pooling."""
        return self._core.features(x)

    def head(self, features: npt.ArrayLike) -> FloatArray:
        """Logits (n, k) of features (n, c)."""
        return self._core.head(features)

    def backward(self, dlogits: npt.ArrayLike) -> None:
        """Gradients of all parameters, for the function that the last `forward` computed.

        After an inference forward this runs the images once more, since inference keeps nothing.
        Read the result with `gradients`.
        """
        self._core.backward(dlogits)

    # --- parameters

    def parameters(self) -> dict[str, FloatArray]:
        """Name to array, running statistics included, as views of the network's memory.

        Convolutions are (kh, kw, in, out). Writing into a view changes the network; call
        `touch` afterwards, or use `set_parameters`.
        """
        return {row[0]: row[4] for row in self._core.parameter_rows()}

    def set_parameters(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Copies arrays into parameters by name, all or none."""
        own = self.parameters()
        for name, value in values.items():
            if name not in own:
                raise ValueError(f"parameter {name!r} is not in this network")
            if np.shape(value) != own[name].shape:
                raise ValueError(f"parameter {name!r} has shape {np.shape(value)}, want {own[name].shape}")
        for name, value in values.items():
            own[name][...] = value
        self.touch()

    def touch(self) -> None:
        """Tells the network that parameters were written through a view."""
        self._core.touch()

    def gradients(self) -> dict[str, FloatArray]:
        """Name to gradient of the last `backward` or training step, as read-only views."""
        return self._core.gradients()

    def reset_head(self, *, seed: int = 0) -> None:
        """Draws the head's weights anew."""
        self._core.initialise(seed, "head")

    # --- weights

    def load_weights(self, path: str | os.PathLike[str], *, strict: bool = False) -> LoadReport:
        """Loads a safetensors checkpoint; the head is left alone where its labels differ.

        Names are those of Hugging Face's mobilenet_v1. Padding, activation, epsilon and input
        scaling are set as the file says.

        Parameters
        ----------
        path : path
        strict : bool
            Refuse a file that does not fill every parameter or has others.

        Returns
        -------
        LoadReport
            Names loaded, missing in the file, unused of the file; settings taken over.

        Raises
        ------
        FormatError
            The file is not what safetensors wants, or holds another network; nothing is loaded then.
        """
        tensors, metadata = read_safetensors(path)
        config = _dialect(self.config, metadata)
        own = {row[0]: row[4] for row in self._core.parameter_rows()}
        loaded, unused = _match(Path(path), own, tensors)
        missing = tuple(name for name in own if name not in loaded)
        backbone_missing = [name for name in missing if not _is_head(name)]
        if backbone_missing or not loaded:
            found = next(iter(tensors), "nothing")
            raise _core.FormatError(
                f"{path}: holds another network: {len(backbone_missing)} of its tensors are missing, first "
                f"{(backbone_missing or missing)[0]!r}; the file has {found!r}"
            )
        if strict and (missing or unused):
            raise _core.FormatError(f"{path}: strict loading, but missing {list(missing)[:4]} and unused {unused[:4]}")
        settings = _differences(self.config, config)
        if config != self.config:
            kept = {name: np.array(value) for name, value in own.items() if name not in loaded}
            self.config = config
            self._core = self._build()
            self.set_parameters(kept)
        self.set_parameters(loaded)
        return LoadReport(tuple(loaded), missing, tuple(unused), settings)

    def state_dict(self) -> dict[str, npt.NDArray[Any]]:
        """Parameters in the checkpoint's layout: convolutions (out, in, kh, kw), fully connected (out, in)."""
        return {name: _to_checkpoint(name, value) for name, value in self.parameters().items()}

    def load_state_dict(self, tensors: Mapping[str, npt.NDArray[Any]], *, source: str = "state dict") -> None:
        """Sets every parameter from what `state_dict` gave; all or none.

        Raises
        ------
        FormatError
            A tensor is missing, left over or of another shape.
        """
        own = self.parameters()
        loaded, unused = _match(Path(source), own, tensors)
        missing = [name for name in own if name not in loaded]
        if missing or unused:
            raise _core.FormatError(f"{source}: missing {missing[:4]}, unused {unused[:4]}")
        self.set_parameters(loaded)

    def save_weights(
        self, path: str | os.PathLike[str], *, head: bool = True, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Writes the weights as safetensors with Hugging Face's names; the network's config goes along.

        Parameters
        ----------
        path : path
        head : bool
            False leaves the head out: a backbone to start other networks from.
        metadata : mapping of str to str, optional
            Further entries of the file's metadata.
        """
        rows = {"facsnet.network": json.dumps(self.config.to_dict(), sort_keys=True), **(metadata or {})}
        tensors = {name: value for name, value in self.state_dict().items() if head or not _is_head(name)}
        write_safetensors(path, tensors, rows, checksums=True)

    # --- facts

    def plan_bytes(self, *, batch: int, training: bool = False, unfreeze: str = "all") -> int:
        """Bytes of working memory for a batch, before anything is allocated.

        Parameters and optimiser state come on top. ``unfreeze`` is ``"all"`` or a block's name.
        """
        return self._core.plan_bytes(batch, training, self.resolve_block(unfreeze))

    def resolve_block(self, unfreeze: str) -> str:
        """The first block that ``unfreeze`` trains: ``"all"`` is the first of the network."""
        if unfreeze == "all":
            return self.blocks[0]
        if unfreeze not in self.blocks:
            raise ValueError(f"unfreeze is {unfreeze!r}, want 'all' or one of {', '.join(self.blocks)}")
        return unfreeze

    def parameter_count(self) -> int:
        """Parameters that train, running statistics not counted."""
        return sum(row[4] for row in self._core.node_rows())

    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(row[5] for row in self._core.node_rows())

    def summary(self) -> str:
        """Table of layers: output shape, parameters, multiply-accumulates, by block."""
        lines = [f"{'block':<10}{'layer':<46}{'op':<12}{'output':<16}{'parameters':>12}{'MMACs':>9}"]
        for name, op, block, shape, count, macs in self._core.node_rows():
            size = " x ".join(str(s) for s in shape)
            lines.append(f"{block:<10}{name:<46}{op:<12}{size:<16}{count:>12,}{macs / 1e6:>9.2f}")
        lines.append(f"{'':<10}{'total':<74}{self.parameter_count():>12,}{self.macs() / 1e6:>9.2f}")
        return "\n".join(lines)


def _plain(config: NetworkConfig) -> dict[str, Any]:
    return {field: getattr(config, field) for field in config.__dataclass_fields__}


def _label_names(labels: Sequence[str] | int) -> tuple[str, ...]:
    if isinstance(labels, int):
        if labels < 1:
            raise ValueError(f"labels is {labels}, want at least 1")
        return tuple(f"label{i}" for i in range(labels))
    if isinstance(labels, str):
        raise ValueError(f"labels is the string {labels!r}, want a sequence of names")
    names = tuple(str(name) for name in labels)
    if not names:
        raise ValueError("labels is empty, want at least one name")
    if len(set(names)) != len(names):
        raise ValueError(f"labels has a name twice: {sorted(n for n in set(names) if names.count(n) > 1)}")
    return names


def _is_head(name: str) -> bool:
    return name.startswith(("head.", "classifier."))


def _from_checkpoint(value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(out, in, kh, kw) to (kh, kw, in, out), and (out, in) to (1, 1, in, out)."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T[None, None] if value.ndim == 2 else value


def _to_checkpoint(name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if value.ndim == 4 and name.endswith("classifier.weight"):
        return np.ascontiguousarray(value[0, 0].T)
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)


def _match(
    path: Path, own: Mapping[str, FloatArray], tensors: Mapping[str, npt.NDArray[Any]]
) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """What can be loaded, in the network's layout, and the names that cannot."""
    loaded: dict[str, npt.NDArray[Any]] = {}
    unused = []
    for name, stored in tensors.items():
        value = _from_checkpoint(stored)
        if name not in own:
            unused.append(name)
        elif value.shape != own[name].shape:
            if not _is_head(name):
                raise _core.FormatError(
                    f"{path}: tensor {name!r} has shape {stored.shape}, which reads as {value.shape}; want {own[name].shape}"
                )
            unused.append(name)
        elif not np.isfinite(value).all():
            raise _core.FormatError(f"{path}: tensor {name!r} holds numbers that are not finite")
        else:
            loaded[name] = value
    heads = [name for name in own if _is_head(name)]
    if not all(name in loaded for name in heads):
        for name in heads:
            if loaded.pop(name, None) is not None:
                unused.append(name)
    return loaded, unused


def _dialect(config: NetworkConfig, metadata: Mapping[str, str]) -> NetworkConfig:
    """The config with what the file says of padding, activation, epsilon and input scaling."""
    if "facsnet.network" in metadata:
        stored = NetworkConfig.from_dict(json.loads(metadata["facsnet.network"]))
        return replace(
            config,
            padding=stored.padding,
            activation=stored.activation,
            epsilon=stored.epsilon,
            preprocessing=stored.preprocessing,
        )
    changes: dict[str, Any] = {}
    paddings = {"tensorflow": "same", "symmetric": "symmetric", "keras": "keras"}
    if metadata.get("padding") in paddings:
        changes["padding"] = paddings[metadata["padding"]]
    if metadata.get("activation") in ("relu", "relu6"):
        changes["activation"] = metadata["activation"]
    if "bn_eps" in metadata:
        changes["epsilon"] = float(metadata["bn_eps"])
    if metadata.get("input") == "rgb/127.5-1":
        changes["preprocessing"] = Preprocessing()
    return replace(config, **changes)


def _differences(before: NetworkConfig, after: NetworkConfig) -> tuple[str, ...]:
    rows = ((field, getattr(before, field), getattr(after, field)) for field in before.__dataclass_fields__)
    return tuple(f"{field} = {new}" for field, old, new in rows if old != new)
