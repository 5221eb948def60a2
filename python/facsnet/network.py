"""Networks: a backbone trained on ImageNet, a head, and their weights."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet import _core, weights
from facsnet._device import check_device, plugin_of
from facsnet._dialects import NETWORKS, Parameter, dialects_of
from facsnet._safetensors import write_safetensors
from facsnet.config import NetworkConfig, Preprocessing
from facsnet.weights import Checkpoint, LoadReport, read_checkpoint

__all__ = ["LoadReport", "Network", "NetworkConfig", "Preprocessing", "load_weights"]

FloatArray = npt.NDArray[np.float32]

# What forward takes; a DeviceArray stands for arrays of other libraries on the GPU too.
Images = npt.ArrayLike | _core.DeviceArray

DTYPES = ("float32", "bfloat16")
MEMORIES = ("normal", "low")

# A network that is not known is refused by the core, which lists those that are.
_UNKNOWN = dialects_of("mobilenet_v1")[0]


class Network:
    """A backbone with a head.

    Parameters
    ----------
    name : str
        ``"mobilenet_v1"``, ``"mobilenet_v2"``, ``"densenet121"``, ``"densenet169"``,
        ``"densenet201"``, ``"vgg19"`` or ``"vgg19_bn"``.
    labels : sequence of str, or int
        Names of the outputs, or how many.
    width : float
        Multiplies every channel count of the backbone (for MobileNet-v2 rounded as in its paper).
    input_size : int
        Pixels on a side of the square input.
    head : {"action_units", "classifier"}
        ``"action_units"``: global average pooling, BatchNorm, ReLU, dropout, fully connected, the
        sigmoid being part of the loss. ``"classifier"``: that of the ImageNet checkpoints.
    padding : {"same", "symmetric", "keras"}, optional
        Of convolutions with a stride: as TensorFlow and Hugging Face, PyTorch, or Keras'
        MobileNet-v1.
    activation : {"relu6", "relu"}, optional
    epsilon : float, optional
        Of the backbone's BatchNorm.
    dropout : float
        Of the head.
    preprocessing : Preprocessing, optional
        How 8-bit pixels are scaled. This and the three above are by default those of the
        network's best-known checkpoint, and `load_weights` sets them from the file.
    threads : int, optional
        Workers, at most 256; None is every processor the process may use.
    seed : int
        Of the initial weights.
    dtype : {"float32", "bfloat16"}
        What activations and their gradients are kept as up to the pooled features; with
        ``"bfloat16"`` they take half the memory, and products are of bfloat16 where the processor
        has them faster than float32 (AMX, AVX512_BF16 of AMD), else of float32. Weights, the optimiser,
        sums over a batch, the head and the loss are float32 either way. It belongs to the process,
        like `threads`, and is not part of a saved model. The dropout inside VGG's ``classifier`` head
        is not there in bfloat16: running that network is a NotImplementedError.
    device : {"cpu", "cuda", "auto"}
        Where it runs: ``"cuda"`` is the first GPU of NVIDIA's (``CUDA_VISIBLE_DEVICES`` chooses), ``"auto"``
        that one where there is one, else the CPU. It belongs to the process, like `threads`. On a GPU
        `parameters` and `gradients` are copies in the host's memory, as of the call.

    Raises
    ------
    ValueError
        An argument is out of its range; the message names it and its value.
    MemoryError
        The machine, or the control group of the process, has no room for the weights.
    DeviceError
        ``device="cuda"`` where there is no GPU, no driver, or no CUDA in this build: the message says which.

    Notes
    -----
    Copies and pickles are networks of their own, with the weights as they were. Threads may share
    a network: calls wait for each other, though not for writes into `parameters`. A `backward`
    differentiates the last `forward`, whichever thread called it.
    """

    def __init__(
        self,
        name: str,
        *,
        labels: Sequence[str] | int,
        width: float = 1.0,
        input_size: int = 224,
        head: str = "action_units",
        padding: str | None = None,
        activation: str | None = None,
        epsilon: float | None = None,
        dropout: float = 0.2,
        preprocessing: Preprocessing | None = None,
        threads: int | None = None,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> None:
        names = _label_names(labels)
        self._threads = None if threads is None else _whole("threads", threads, 1, 256)
        self._seed = _whole("seed", seed, 0, 2**64 - 1)
        self._dtype = check_dtype(dtype)
        self._device = check_device(device)
        usual = next(iter(dialects_of(name)), _UNKNOWN)
        self.config = NetworkConfig(
            name,
            names,
            float(width),
            _whole("input_size", input_size, 1, 4096),
            usual.padding if padding is None else padding,
            usual.activation if activation is None else activation,
            usual.epsilon if epsilon is None else float(epsilon),
            float(dropout),
            head,
            usual.preprocessing if preprocessing is None else preprocessing,
        )
        self._core = self._build(self.config)

    @classmethod
    def from_config(
        cls,
        config: NetworkConfig,
        *,
        threads: int | None = None,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> Network:
        """The network that a config describes, with initial weights."""
        options = {**_plain(config), "labels": config.labels}
        return cls(**options, threads=threads, seed=seed, dtype=dtype, device=device)

    def _build(self, c: NetworkConfig) -> _core.Network:
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
            self._dtype,
            plugin_of(self._device),
        )
        core.set_pixels(*c.preprocessing.scale_and_shift())
        return core

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_core": self.parameters()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._core = self._build(self.config)
        self._write(state["_core"])

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
        """Workers of the CPU; 1 on a GPU."""
        return self._core.threads

    @property
    def dtype(self) -> str:
        """What activations are kept as: float32 or bfloat16."""
        return self._dtype

    @property
    def device(self) -> str:
        """Where it runs: cpu or cuda."""
        return self._core.device

    @property
    def plugin(self) -> str:
        """The shared object of its device, "" on the CPU."""
        return plugin_of(self.device)

    @property
    def instruction_set(self) -> str:
        """Rung of the kernels in use: ref, generic, blas, avx2, avx512; in bfloat16 also avx512_bf16, amx; on a GPU cuda."""
        return self._core.instruction_set

    @property
    def blocks(self) -> list[str]:
        """Names that `unfreeze` takes, from the input to the head."""
        return self._core.block_names()[1:]

    def forward(self, x: Images, *, training: bool = False, seed: int = 0, step: int = 0) -> FloatArray:
        """Logits of images.

        Parameters
        ----------
        x : array (n, h, w, 3)
            uint8 RGB pixels are scaled as the weights want it; floats are taken as scaled. Other
            dtypes are a TypeError. Where the network runs on a GPU also an array there that is
            C-contiguous: what `to_device` gives, or CuPy's, PyTorch's and others' through DLPack or
            ``__cuda_array_interface__``. Those are neither copied nor looked at for what is not finite.
        training : bool
            Batch statistics (running ones move) and dropout, drawn from (seed, step).

        Returns
        -------
        float32 array (n, k)
        """
        return self._core.forward(x, training, seed, step)

    __call__ = forward

    def predict(self, x: Images) -> FloatArray:
        """Probabilities (n, k): the sigmoid of `forward`."""
        return _core.sigmoid(self._core.forward(x))

    def features(self, x: Images) -> FloatArray:
        """Features (n, c) after global average pooling."""
        return self._core.features(x)

    def head(self, features: npt.ArrayLike) -> FloatArray:
        """Logits (n, k) of features (n, c)."""
        return self._core.head(features)

    def backward(self, dlogits: npt.ArrayLike) -> None:
        """Gradients of all parameters, for the function that the last `forward` computed.

        After an inference forward this runs the images once more, since inference keeps nothing:
        x may not have changed since. A forward with ``training=True`` serves for one backward. Read
        the result with `gradients`.

        Parameters
        ----------
        dlogits : array (n, k)
            Gradient of something with respect to the logits.

        Raises
        ------
        ValueError
            There is no forward to differentiate, it was of another number of images, x was written
            to since, or an entry is not finite.
        """
        self._core.backward(dlogits)

    def to_device(self, array: Images) -> Images:
        """An array in the memory of the network's device, for `forward`, `predict` and `features`.

        Parameters
        ----------
        array : uint8, float32 or uint16 array
            uint16 is the bits of bfloat16. What already lies on the GPU is not copied.

        Returns
        -------
        DeviceArray, or on the CPU the array itself
            It has ``shape``, ``dtype``, ``nbytes`` and ``numpy()``, and goes to CuPy, PyTorch and others without
            a copy.

        Raises
        ------
        MemoryError
            The GPU has no room for it.
        """
        return array if self.device == "cpu" else _core.DeviceArray(array, self.plugin)

    # --- parameters

    def parameters(self) -> dict[str, FloatArray]:
        """Name to array, running statistics included, as views of the network's memory.

        Convolutions are (kh, kw, in, out). Writing into a view changes the network; call
        `touch` afterwards, or use `set_parameters`. Views are good until `load_weights` changes
        settings: then they show the memory that the network had before. On a GPU they are the host's
        copy as of this call: ask again after a step, and before writing.
        """
        return {row[0]: row[4] for row in self._core.parameter_rows()}

    def set_parameters(self, values: Mapping[str, npt.ArrayLike]) -> None:
        """Copies arrays into parameters by name, all or none.

        Raises
        ------
        ValueError
            There is no such parameter, or a value is of another shape, no number or not finite.
        """
        own = self.parameters()
        found: dict[str, FloatArray] = {}
        for name, value in values.items():
            if name not in own:
                raise ValueError(f"parameter {name!r} is not in this network")
            try:
                with np.errstate(over="ignore"):
                    found[name] = np.asarray(value).astype(np.float32, casting="same_kind", copy=False)
            except (TypeError, ValueError) as problem:
                raise ValueError(f"parameter {name!r}: {problem}") from None
            if found[name].shape != own[name].shape:
                raise ValueError(f"parameter {name!r} has shape {found[name].shape}, want {own[name].shape}")
            if not np.isfinite(found[name]).all():
                raise ValueError(f"parameter {name!r} has entries that are not finite as float32")
        self._write(found)

    def _write(self, values: Mapping[str, FloatArray]) -> None:
        own = self.parameters()
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

    def load_weights(self, source: str | os.PathLike[str] | Checkpoint, *, strict: bool = False) -> LoadReport:
        """Loads a checkpoint; the head is left alone where its labels differ.

        Safetensors, PyTorch's ``.pth`` and Keras' ``.h5`` are told apart by their content, and the
        names of torchvision, Hugging Face, timm and Keras by the names. Padding, activation, epsilon
        and input scaling are set to what the checkpoint was trained with: as the file or the
        ``config.json`` beside it says, else as is the rule where its names come from. Where that
        changes one of them, views that `parameters` gave before are cut off from the network.

        Parameters
        ----------
        source : path or Checkpoint
            A file, or what `weights.read_checkpoint` made of one.
        strict : bool
            Refuse a file that does not fill every parameter or has others.

        Returns
        -------
        LoadReport
            Names loaded, missing in the file, unused of the file; settings taken over; layout.

        Raises
        ------
        OSError
            The file cannot be read.
        FormatError
            It is damaged, of no known format, or holds another network; nothing is loaded then.
        """
        checkpoint = source if isinstance(source, Checkpoint) else read_checkpoint(source)
        found = weights.match(checkpoint, self.config.name, self._parameter_table())
        if strict and (found.missing or found.unused):
            raise _core.FormatError(
                f"{checkpoint.path}: strict loading, but missing {list(found.missing)[:4]} and unused {found.unused[:4]}"
            )
        config = weights.settings(self.config, checkpoint, found.dialect)
        changed = _differences(self.config, config)
        if config != self.config:
            kept = {name: np.array(value) for name, value in self.parameters().items() if name not in found.loaded}
            try:
                core = self._build(config)
            except ValueError as problem:
                raise _core.FormatError(f"{checkpoint.path}: its settings are not possible: {problem}") from None
            self.config, self._core = config, core
            self._write(kept)
        self.set_parameters(found.loaded)
        return LoadReport(tuple(found.loaded), found.missing, found.unused, changed, found.dialect.layout)

    def checkpoint_width(self, checkpoint: Checkpoint) -> float:
        """The width at which this backbone's checkpoint was trained."""
        return weights.width_of(checkpoint, self.config.name, self._parameter_table())

    def _parameter_table(self) -> list[Parameter]:
        return [Parameter(*row[:4], row[4].shape) for row in self._core.parameter_rows()]

    def state_dict(self, *, layout: str | None = None, head: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Parameters under a checkpoint's names and in its arrangement.

        Parameters
        ----------
        layout : {"torchvision", "huggingface", "timm", "keras"}, optional
            Whose names; None the network's own, which are Hugging Face's for MobileNet-v1 and
            torchvision's for the others. PyTorch's convolutions are (out, in, kh, kw) and its fully
            connected layers (out, in), Keras' (kh, kw, in, out) and (in, out), and its names are
            ``layer/variable``. The action-unit head has its own names in all of them.
        head : bool
            False leaves the head out.

        Raises
        ------
        ValueError
            This network has no such layout.
        """
        rows = [(Parameter(*row[:4], row[4].shape), row[4]) for row in self._core.parameter_rows()]
        return weights.export(self.config.name, layout, rows, head=head)

    def load_state_dict(self, tensors: Mapping[str, npt.NDArray[Any]], *, source: str = "state dict") -> None:
        """Sets every parameter from what `state_dict` gave, in any layout; all or none.

        Raises
        ------
        FormatError
            A tensor is missing, left over or of another shape.
        """
        found = weights.match(Checkpoint(source, tensors), self.config.name, self._parameter_table())
        if found.missing or found.unused:
            raise _core.FormatError(f"{source}: missing {found.missing[:4]}, unused {found.unused[:4]}")
        self.set_parameters(found.loaded)

    def save_weights(
        self,
        path: str | os.PathLike[str],
        *,
        layout: str | None = None,
        head: bool = True,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Writes the weights as safetensors; the network's config goes along as metadata.

        Parameters
        ----------
        path : path
        layout : str, optional
            Whose names, as in `state_dict`: with ``"torchvision"`` the file loads into
            torchvision's model, with ``"huggingface"`` or ``"timm"`` into theirs.
        head : bool
            False leaves the head out: a backbone to start other networks from.
        metadata : mapping of str to str, optional
            Further entries of the file's metadata.
        """
        rows = {"facsnet.network": json.dumps(self.config.to_dict(), sort_keys=True), **(metadata or {})}
        write_safetensors(path, self.state_dict(layout=layout, head=head), rows, checksums=True)

    # --- facts

    def plan_bytes(self, *, batch: int, training: bool = False, unfreeze: str = "all", memory: str = "normal") -> int:
        """Bytes of working memory for a batch, before anything is allocated.

        Inference takes a batch in small parts and wants the same for any size, by threads.
        Parameters and optimiser state come on top. ``unfreeze`` is ``"all"`` or a block's name, and
        ``memory`` that of the `Trainer`; both are of training.

        Raises
        ------
        ValueError
            ``batch`` is less than 1, or there is no such block or ``memory``.
        MemoryError
            The bytes are more than can be counted.
        """
        batch = _whole("batch", batch, 1, 2**63 - 1)
        return self._core.plan_bytes(batch, training, self.resolve_block(unfreeze), check_memory(memory) == "low")

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


def load_weights(
    path: str | os.PathLike[str],
    *,
    labels: Sequence[str] | int | None = None,
    input_size: int = 224,
    threads: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Network:
    """The network that a checkpoint holds, with its weights.

    Which network it is, its width and everything else is read off the file, see
    `Network.load_weights`.

    Parameters
    ----------
    path : path
    labels : sequence of str, or int, optional
        Puts a new action-unit head on the backbone. None keeps the head that the file has.
    input_size, threads, seed, dtype, device
        Of the network, see `Network`.

    Raises
    ------
    OSError, FormatError
        As `Network.load_weights`; also where the file is of no network of this library.
    ValueError
        ``labels`` is None and the file has no head.
    """
    check_device(device)
    checkpoint = read_checkpoint(path)
    probes = {name: Network(name, labels=1, width=1 / 64, input_size=64, head="classifier") for name in NETWORKS}
    known = {name: weights.matching(checkpoint, name, probe._parameter_table()) for name, probe in probes.items()}
    name = max(known, key=lambda n: known[n])
    if not known[name]:
        raise _core.FormatError(f"{checkpoint.path}: not a checkpoint of any of {', '.join(NETWORKS)}")
    width = probes[name].checkpoint_width(checkpoint)
    if not 0 < width <= 8:
        raise _core.FormatError(f"{checkpoint.path}: {width:g} times as wide as {name}, want 0 to 8")
    options: dict[str, Any] = {
        "width": width,
        "input_size": input_size,
        "threads": threads,
        "seed": seed,
        "dtype": dtype,
        "device": device,
    }
    if labels is None:
        options |= weights.head_of(checkpoint, name, probes[name]._parameter_table())
    else:
        options["labels"] = labels
    network = Network(name, **options)
    report = network.load_weights(checkpoint)
    if labels is None and report.missing:
        raise _core.FormatError(
            f"{checkpoint.path}: its head does not fit input_size={input_size}, {report.missing[0]!r} is missing"
        )
    return network


def _plain(config: NetworkConfig) -> dict[str, Any]:
    return {field: getattr(config, field) for field in config.__dataclass_fields__}


def check_dtype(dtype: str) -> str:
    """The same; raises ValueError where there is no such kind of network."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, want {' or '.join(map(repr, DTYPES))}")
    return dtype


def check_memory(memory: str) -> str:
    """The same; raises ValueError where there is no such way to train."""
    if memory not in MEMORIES:
        raise ValueError(f"memory is {memory!r}, want {' or '.join(map(repr, MEMORIES))}")
    return memory


def _whole(name: str, value: int, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}, want an integer") from None
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}, want {low} to {high}")
    return number


def _label_names(labels: Sequence[str] | int) -> tuple[str, ...]:
    if isinstance(labels, int | np.integer):
        return tuple(f"label{i}" for i in range(_whole("labels", labels, 1, 10**6)))
    if isinstance(labels, str):
        raise ValueError(f"labels is the string {labels!r}, want a sequence of names")
    if not isinstance(labels, Iterable):
        raise ValueError(f"labels is {labels!r}, want a sequence of names, or how many")
    names = tuple(str(name) for name in labels)
    if not names:
        raise ValueError("labels is empty, want at least one name")
    if len(set(names)) != len(names):
        raise ValueError(f"labels has a name twice: {sorted(n for n in set(names) if names.count(n) > 1)}")
    return names


def _differences(before: NetworkConfig, after: NetworkConfig) -> tuple[str, ...]:
    rows = ((field, getattr(before, field), getattr(after, field)) for field in before.__dataclass_fields__)
    return tuple(f"{field} = {new}" for field, old, new in rows if old != new)
