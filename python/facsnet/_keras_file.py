"""Keras weight files: the layouts of Keras 1 to 3, read without trusting them.

Two layouts exist. In a **legacy** file (``.h5``) the attribute ``layer_names`` lists the layers in the
network's order, and the group of each has an attribute ``weight_names`` with paths to its arrays; a whole
model has all of that in a group ``model_weights``. The paths of one layer, by who wrote them:

=====================================  =====================================================
Keras 1 (the published VGG)            ``block1_conv1/block1_conv1_W_1:0``
Keras 2                                ``conv1/conv/conv1/conv/kernel:0``, ``conv_dw_1/conv_dw_1/depthwise_kernel:0``
Keras 3.0 to 3.2                       ``conv_dw_1/kernel``
Keras 3.3 and later                    ``conv_dw_1/conv_dw_1/kernel``
the same, in a Sequential              ``dense/sequential/dense/kernel``
a model within a model, Keras 2 and 3  ``densenet121/conv1_conv/kernel``
=====================================  =====================================================

A **.weights.h5** file (Keras 3, and Keras 2 from 2.12 on) names a layer after its class with a counter, and
numbers its arrays: ``layers/conv2d_3/vars/0``. Keras counts in the order of the network, each class for itself.
From 3.6 on an attribute ``name`` of ``vars`` holds the layer's own name.

HDF5 can point out of the file, at itself, and at sizes that nothing backs. Here its library only finds where
things are: a path is followed one hard link at a time, and every array has to lie in the file, whole, as
Keras writes it; the arrays are then views of the mapped file. Headers of objects are checked and their texts
read without the library, which allocates what a text claims to need, up to 4 GiB, and does not end where a
heap of texts stands still or a header continues in itself.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import mmap
import os
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._safetensors import _open_without_waiting

__all__ = ["ordered_layers", "read_keras"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = (1 << 64) - 1
_OBJECT_LIMIT = 100_000
_PIECE_LIMIT = 1_000_000
_NAME_LIMIT = 10_000
_DEPTH_LIMIT = 8
_RANK_LIMIT = 8

# What h5py raises for damage; with an errno where the file cannot be read.
_ERRORS = (OSError, LookupError, RuntimeError, ValueError, TypeError, OverflowError)

# HDF5's numbers: messages in an object header, a flag there, classes of datatypes, the end of a list.
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE = 0x0C, 0x10, 0x11
# These, dataspace, datatype, fill value, layout, time, and nothing.
_WANTED = {_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, 0x01, 0x03, 0x04, 0x05, 0x08, 0x0E, 0x12, 0x00}
_UNWANTED = {
    0x02: "links in HDF5's newer form, as external links are",
    0x06: "links in HDF5's newer form, as external links are",
    0x07: "bytes in another file",
    0x0B: "filters, such as compression",
}
_SHARED = 0x02
_STRING, _VARIABLE = 3, 9
_LAST_FREE = 1

# What a class keeps, in the order in which .weights.h5 numbers it.
_CLASSES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel", "bias"),
}
_VARIABLES = frozenset(variable for variables in _CLASSES.values() for variable in variables)
_KERAS_1 = {"W": "kernel", "b": "bias"}
_CLASSIFIERS = {"fc1000": "predictions", "Logits": "predictions"}
# Keras 2.12 and 2.13 met the layers under another of their model's attributes first.
_LAYERS = ("layers", "_layer_checkpoint_dependencies")


class _Node(NamedTuple):
    """A group or a dataset, and where its header is."""

    item: Any
    address: int


class _Attribute(NamedTuple):
    """One attribute: where its datatype, its dataspace and its value are."""

    name: str
    kind: int
    space: int
    start: int
    stop: int


class _Entry(NamedTuple):
    """One array of the file: where its bytes are."""

    tensor: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


def read_keras(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Reads the weights of a Keras model, ``.h5`` or ``.weights.h5``, without copying.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to array
        ``"layer/variable"`` to a read-only array of float16, float32 or float64 in the file's layout:
        kernels (kh, kw, in, out), depthwise kernels (kh, kw, channels, multiplier), dense kernels
        (in, out). A variable is ``kernel``, ``depthwise_kernel``, ``bias``, ``gamma``, ``beta``,
        ``moving_mean`` or ``moving_variance``. What one layer owns stands together.

        A layer has the name that the newest Keras gives it, whichever wrote the file: ``conv1/bn`` of
        DenseNet is ``conv1_bn``, ``mobl3_conv_3_expand`` and ``bn3_conv_3_bn_expand`` of the published
        MobileNet-v2 are ``block_3_expand`` and ``block_3_expand_BN``, the classifiers ``fc1000`` and
        ``Logits`` are ``predictions``. A model within a model adds nothing to the names of its layers.
        Keras before 3.6 writes no names to ``.weights.h5``: there a layer is called after its class and
        its number among the layers of that class, ``conv2d_3/kernel`` or ``batch_normalization_12/gamma``,
        and `ordered_layers` tells which is which.

    Raises
    ------
    ImportError
        There is no h5py.
    OSError
        The file cannot be read.
    FormatError
        It is not what Keras writes; the message names file, tensor, found and wanted.
    """
    h5py = _import_h5py()
    name = os.fspath(path)
    with open(path, "rb", opener=_open_without_waiting) as file:
        head = file.read(len(_SIGNATURE))
        if head.startswith(b"PK\x03\x04"):
            raise FormatError(
                f'{name}: a zip archive, as .keras files are; want the weights alone: model.save_weights("x.weights.h5")'
            )
        if head != _SIGNATURE:
            raise FormatError(f"{name}: begins with {head!r}, want {_SIGNATURE!r}: not an HDF5 file")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            headers = _Headers(name, data)
            with h5py.File(file, "r") as root:
                entries = _Walk(h5py, headers).entries(root)
        except _ERRORS as problem:
            if isinstance(problem, FormatError) or getattr(problem, "errno", None) is not None:
                raise
            raise FormatError(f"{name}: the HDF5 structure is damaged: {problem}") from None
    _check_cover(name, entries)
    return {entry.tensor: _view(data, entry) for entry in entries}


def ordered_layers(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, list[str]]:
    """Sorts the layers of `read_keras` by class, each class in the order of the network.

    For files whose layers have other names than the network's, or none: its n-th convolution is the
    n-th of ``"conv2d"``, and so on. The order holds for a model that Keras built in the order of its
    layers, as it does all of keras.applications. It does not hold for a model within a model of which
    a part was frozen, in a legacy file without the model's configuration: Keras 2 writes what trains first.

    Parameters
    ----------
    tensors : mapping of str to array
        What `read_keras` returned.

    Returns
    -------
    dict of str to list of str
        Keys ``"conv2d"``, ``"depthwise_conv2d"``, ``"batch_normalization"`` and ``"dense"``, each to
        the names of its layers.

    Raises
    ------
    ValueError
        A layer has the variables of none of these classes.
    """
    layers: dict[str, dict[str, int]] = {}
    for tensor, value in tensors.items():
        layer, _, variable = tensor.rpartition("/")
        layers.setdefault(layer, {})[variable] = value.ndim
    order: dict[str, list[str]] = {kind: [] for kind in _CLASSES}
    for layer, ranks in layers.items():
        if "depthwise_kernel" in ranks:
            kind = "depthwise_conv2d"
        elif ranks.get("kernel") in (2, 4):
            kind = "conv2d" if ranks["kernel"] == 4 else "dense"
        elif {"moving_mean", "moving_variance"} <= ranks.keys():
            kind = "batch_normalization"
        else:
            raise ValueError(f"layer {layer!r} has {', '.join(ranks)}: it is none of {', '.join(_CLASSES)}")
        order[kind].append(layer)
    return order


def _import_h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise ImportError("Keras files are read with h5py: pip install facsnet[keras]") from None


class _Walk:
    """Finds the arrays of one open file."""

    def __init__(self, h5py: Any, headers: _Headers) -> None:
        self.h5py = h5py
        self.headers = headers
        self.fail = headers.fail
        self.size = len(headers.data)
        self.opened = 0
        self.listed: set[int] = set()
        self.layers: dict[str, dict[str, _Entry]] = {}
        self.places: dict[str, str] = {}
        h5t, h5d = h5py.h5t, h5py.h5d
        self.floats = ((h5t.IEEE_F16LE, "<f2"), (h5t.IEEE_F32LE, "<f4"), (h5t.IEEE_F64LE, "<f8"))
        self.storage = {h5d.COMPACT: "in its header", h5d.CHUNKED: "in chunks", h5d.VIRTUAL: "as a virtual dataset"}

    def entries(self, file: Any) -> list[_Entry]:
        """The arrays, what one layer owns side by side."""
        root = _Node(file, self.headers.root)
        names = self.names(root, "layer_names")
        if names is not None:
            self.read_legacy(root, names, {})
        elif "model_weights" in file:
            folder = self.group(root, "model_weights")
            self.read_legacy(folder, self.names(folder, "layer_names") or [], self.read_classes(root))
        elif (inner := self.inner(root)) is not None:
            self.read_counted(inner, 0)
        else:
            self.fail("no attribute layer_names, no group model_weights or layers: want the weights of a Keras model")
        if not self.layers:
            self.fail("none of its layers has weights")
        return [entry for layer in self.layers.values() for entry in layer.values()]

    # --- legacy files

    def read_legacy(self, folder: _Node, layers: list[str], classes: dict[str, str]) -> None:
        for layer in layers:
            group = self.group(folder, layer)
            weights = self.names(group, "weight_names")
            if weights is None:
                self.fail(f"layer {layer!r:.80} has no attribute weight_names")
            for weight in weights:
                self.read_legacy_weight(layer, weight, self.follow(group, weight).item, classes)
        # the weights of a model within a model stand in an order of their own
        order = {layer: position for position, layer in enumerate(classes)}
        self.layers = dict(sorted(self.layers.items(), key=lambda item: order.get(item[0], len(order))))

    def read_legacy_weight(self, layer: str, weight: str, item: Any, classes: dict[str, str]) -> None:
        prefix, _, last = weight.rpartition("/")
        variable = re.sub(r":\d+$", "", last)
        old = re.fullmatch(rf"{re.escape(layer)}_([Wb])(_\d+)?", variable)
        if old is not None:
            variable = _KERAS_1[old[1]]
        own = prefix in ("", layer) or prefix.endswith(f"/{layer}") or re.fullmatch(rf"{re.escape(layer)}_\d+", prefix)
        owner = _layer_name(layer if own else prefix.removeprefix(f"{layer}/"))
        if variable == "kernel" and classes.get(owner) == "DepthwiseConv2D":  # Keras 3 has one word for both
            variable = "depthwise_kernel"
        if variable in _VARIABLES:
            self.add(f"{layer}/{prefix}", owner, variable, item)
        elif not self.is_counter(item):
            self.fail(f"tensor {f'{layer}/{weight}'!r:.200}: want one of {', '.join(sorted(_VARIABLES))}")

    def read_classes(self, root: _Node) -> dict[str, str]:
        """Name to class of the layers of a whole model, in the order of its configuration."""
        text = self.text(root, "model_config")
        if text is None:
            return {}
        try:
            pending = [json.loads(text)]
        except (ValueError, RecursionError) as problem:
            self.fail(f"attribute 'model_config' is not JSON: {problem}")
        classes: dict[str, str] = {}
        while pending:
            node = pending.pop()
            config = node.get("config") if isinstance(node, dict) else None
            layers = config.get("layers") if isinstance(config, dict) else config
            if isinstance(layers, list):
                pending.extend(reversed(layers))
            elif isinstance(config, dict) and isinstance(config.get("name"), str):
                classes.setdefault(_layer_name(config["name"]), str(node.get("class_name")))
        return classes

    # --- .weights.h5

    def inner(self, node: _Node) -> _Node | None:
        """The group of the layers of a model."""
        return next((self.group(node, layers) for layers in _LAYERS if layers in node.item), None)

    def read_counted(self, folder: _Node, depth: int) -> None:
        """Adds the layers of a group, those of models within the model before its own."""
        if depth == _DEPTH_LIMIT:
            self.fail(f"models within models deeper than {_DEPTH_LIMIT}")
        layers = [(layer, self.group(folder, layer)) for layer in sorted(self.children(folder), key=_counter)]
        for _, group in layers:
            inner = self.inner(group)
            if inner is not None:
                self.read_counted(inner, depth + 1)
        for layer, group in layers:
            if "vars" in group.item:
                self.read_numbered(layer, self.group(group, "vars"))

    def read_numbered(self, layer: str, group: _Node) -> None:
        numbers = sorted(self.children(group), key=_counter)
        if not numbers:
            return
        variables = _CLASSES.get(_counter(layer)[0])
        if variables is None:
            self.fail(f"layer {layer!r:.80} has weights: want a layer of {', '.join(_CLASSES)}")
        counts = (4,) if len(variables) == 4 else (1, 2)
        if numbers != [str(i) for i in range(len(numbers))] or len(numbers) not in counts:
            self.fail(
                f"layer {layer!r:.80} has the arrays {', '.join(numbers)!r:.80}, want {' or '.join(map(str, counts))} from 0"
            )
        owner = self.text(group, "name")
        if owner is None:
            owner = layer
        self.check_path(owner)
        for number, variable in zip(numbers, variables, strict=False):
            self.add(group.item.name, _layer_name(owner), variable, self.child(group, number).item)

    # --- arrays

    def add(self, place: str, layer: str, variable: str, item: Any) -> None:
        entry = self.entry(f"{layer}/{variable}", item)
        if self.places.setdefault(layer, place) != place:
            self.fail(f"layer {layer!r:.80} is in {self.places[layer]!r:.200} and in {place!r:.200}")
        if self.layers.setdefault(layer, {}).setdefault(variable, entry) is not entry:
            self.fail(f"tensor {entry.tensor!r:.200} is there twice")

    def entry(self, tensor: str, item: Any) -> _Entry:
        """Where the array is, after a look at everything that HDF5 could do instead of storing it."""
        where = f"tensor {tensor!r:.200}"
        if not isinstance(item, self.h5py.Dataset):
            self.fail(f"{where}: found a {type(item).__name__.lower()}, want a dataset")
        kind = item.id.get_type()
        dtype = next((np.dtype(code) for known, code in self.floats if kind.equal(known)), None)
        if dtype is None:
            self.fail(f"{where}: dtype {item.dtype}, want float16, float32 or float64, little-endian")
        layout = item.id.get_create_plist().get_layout()
        if layout != self.h5py.h5d.CONTIGUOUS:
            self.fail(
                f"{where}: stored {self.storage.get(layout, f'in layout {layout}')}, want one piece, uncompressed"
            )
        shape = item.shape
        if shape is None or len(shape) > _RANK_LIMIT or 0 in shape:
            self.fail(f"{where}: shape {shape}, want 0 to {_RANK_LIMIT} sides of at least 1")
        wanted = math.prod(shape) * dtype.itemsize
        start, stored = item.id.get_offset(), item.id.get_storage_size()
        if start is None or stored != wanted or start + wanted > self.size:
            self.fail(
                f"{where}: shape {shape} wants {wanted} bytes, the file stores {stored} at {start} and has {self.size} in all"
            )
        return _Entry(tensor, dtype, tuple(shape), start, start + wanted)

    def is_counter(self, item: Any) -> bool:
        """Whether the item is an integer array, such as the state of a random generator."""
        return isinstance(item, self.h5py.Dataset) and item.dtype.kind in "iu"

    # --- the way to things

    def check_path(self, path: str) -> None:
        parts = path.split("/")
        if not all(part.isprintable() and part not in ("", ".", "..") for part in parts) or len(path) > 1000:
            self.fail(f"{path!r:.80} is not a name")

    def follow(self, node: _Node, path: str) -> _Node:
        self.check_path(path)
        for part in path.split("/"):
            node = self.child(node, part)
        return node

    def group(self, node: _Node, path: str) -> _Node:
        found = self.follow(node, path)
        if not isinstance(found.item, self.h5py.Group):
            self.fail(f"{path!r:.80}: found a {type(found.item).__name__.lower()}, want a group")
        return found

    def child(self, node: _Node, part: str) -> _Node:
        """What a hard link leads to: the one kind of link that stays in the file and names its target."""
        where = f"{part!r:.80} in {node.item.name!r:.200}"
        if not isinstance(node.item, self.h5py.Group):
            self.fail(f"{where}: its parent is a {type(node.item).__name__.lower()}, want a group")
        if part not in node.item:
            self.fail(f"{where}: found nothing")
        link = node.item.id.links.get_info(part.encode())
        if link.type != self.h5py.h5l.TYPE_HARD:
            kind = "a soft" if link.type == self.h5py.h5l.TYPE_SOFT else "an unknown kind of"
            self.fail(f"{where}: found {kind} link, want the object itself")
        self.opened += 1
        if self.opened > _OBJECT_LIMIT:
            self.fail(f"more than {_OBJECT_LIMIT} objects")
        self.headers.check(where, link.u)
        try:
            return _Node(node.item[part], link.u)
        except _ERRORS as problem:
            if getattr(problem, "errno", None) is not None:
                raise
            self.headers.damaged(f"{where}: {problem}")

    def children(self, node: _Node) -> list[str]:
        """Names in a group that is listed once: where a link leads back, the walk would not end."""
        where = f"group {node.item.name!r:.200}"
        if node.address in self.listed:
            self.fail(f"{where} is in two places")
        self.listed.add(node.address)
        if len(node.item) > _OBJECT_LIMIT:
            self.fail(f"{where} has {len(node.item)} members, the limit is {_OBJECT_LIMIT}")
        return list(node.item)

    # --- attributes

    def text(self, node: _Node, attribute: str) -> str | None:
        there = self.headers.attributes(node.address)
        return self.headers.texts(there[attribute], 0)[0] if attribute in there else None

    def names(self, node: _Node, attribute: str) -> list[str] | None:
        """A list of paths, which Keras cuts into numbered attributes where it is long; None if there is none."""
        there = self.headers.attributes(node.address)
        if attribute in there:
            return self.headers.texts(there[attribute], 1)
        parts = list(itertools.takewhile(there.__contains__, (f"{attribute}{part}" for part in itertools.count())))
        return [name for part in parts for name in self.headers.texts(there[part], 1)] if parts else None


class _Headers:
    """Checks the headers of the objects of a file, and reads the texts there, from its bytes.

    Keras' files are in the oldest of HDF5's formats: version 0 of its superblock, 1 of the rest. The
    library still writes it by default; newer ones are refused.
    """

    def __init__(self, name: str, data: mmap.mmap) -> None:
        self.name = name
        self.data = data
        self.heaps: dict[int, dict[int, tuple[int, int]]] = {}
        self.pieces = 0
        self.taken = 0
        version, widths = self.number(8, 1), self.take(13, 2)
        if version != 0 or widths != b"\x08\x08":
            self.fail(f"HDF5 format {version} with sizes of {list(widths)} bytes, want 0 with 8 and 8, as Keras writes")
        base, driver, self.root = self.number(24, 8), self.number(48, 8), self.number(64, 8)
        if base != 0 or driver != _UNDEFINED:
            self.fail(f"HDF5 base address {base} and driver {driver}, want 0 and none")
        self.check("the root", self.root)
        self.check_free(self.number(88, 8))  # the superblock names the root's heap as well

    def fail(self, message: str) -> NoReturn:
        raise FormatError(f"{self.name}: {message}")

    def damaged(self, message: str) -> NoReturn:
        self.fail(f"the HDF5 structure is damaged: {message}")

    def take(self, start: int, count: int) -> bytes:
        if start + count > len(self.data):
            self.damaged(f"{count} bytes at {start} of {len(self.data)}")
        return self.data[start : start + count]

    def number(self, start: int, width: int) -> int:
        return int.from_bytes(self.take(start, width), "little")

    def check(self, where: str, address: int) -> None:
        """Looks at all that a header says, before the library does as it says."""
        for kind, start, _, flags in self.messages(address):
            if kind not in _WANTED or flags & _SHARED:
                found = _UNWANTED.get(kind, f"a message {kind:#x} with flags {flags:#x}")
                self.fail(f"{where}: found {found}, want groups and arrays as Keras writes them")
            if kind == _SYMBOL_TABLE:
                self.check_free(self.number(start + 8, 8))

    def check_free(self, address: int) -> None:
        """Follows the list of the free places in the heap that has the names of a group."""
        signature, size, free, segment = struct.unpack("<8sQQQ", self.take(address, 32))
        if signature != b"HEAP\0\0\0\0" or segment + size > len(self.data):
            self.damaged(f"no heap of {size} bytes for names at {address}")
        for _ in range(size // 16 + 1):
            if free == _LAST_FREE:
                break
            free = self.number(segment + free, 8)
        else:
            self.damaged(f"the free places of the heap at {address} have no end")

    def messages(self, address: int) -> Iterator[tuple[int, int, int, int]]:
        """(kind, start, size, flags) of what an object header and its continuations hold."""
        version, size = struct.unpack("<B7xI", self.take(address, 12))
        if version != 1:
            self.fail(f"an object header of version {version}, want 1")
        blocks, total = [(address + 16, size)], 0
        for start, size in blocks:
            end = start + size
            total += size
            if end > len(self.data) or total > len(self.data):
                self.damaged(f"an object header at {address} of {total} bytes")
            while end - start >= 8:
                kind, size, flags = struct.unpack("<HHB", self.take(start, 5))
                start += 8
                if start + size > end:
                    self.damaged(f"a message of {size} bytes at {start}")
                if kind == _CONTINUATION:
                    blocks.append((self.number(start, 8), self.number(start + 8, 8)))
                yield kind, start, size, flags
                start += size

    def attributes(self, address: int) -> dict[str, _Attribute]:
        """The attributes of the object with its header at an address, none of them read."""
        found: dict[str, _Attribute] = {}
        for message, start, size, _ in self.messages(address):
            if message != _ATTRIBUTE:
                continue
            version, name_size, type_size, space_size = struct.unpack("<BxHHH", self.take(start, 8))
            if version != 1:
                self.fail(f"an attribute of version {version}, want 1")
            name = self.decode("the name of an attribute", self.take(start + 8, name_size))
            kind = start + 8 + _padded(name_size)
            space = kind + _padded(type_size)
            found[name] = _Attribute(name, kind, space, space + _padded(space_size), start + size)
        return found

    def texts(self, attribute: _Attribute, rank: int) -> list[str]:
        """One text, of rank 0, or a list of them, of rank 1."""
        where = f"attribute {attribute.name!r:.80}"
        version, found = self.take(attribute.space, 2)
        if version != 1 or found != rank:
            self.fail(f"{where}: {found} sides, dataspace of version {version}; want {rank}, version 1")
        count = self.number(attribute.space + 8, 8) if rank == 1 else 1
        if count == 0:  # Keras writes an empty list as one of floats
            return []
        kind, bits, width = struct.unpack("<BBxxI", self.take(attribute.kind, 8))
        is_heaped = kind & 15 == _VARIABLE and bits & 15 == 1 and width == 16
        if not is_heaped and kind & 15 != _STRING:
            self.fail(f"{where}: datatype of class {kind & 15}, want text")
        if count > _NAME_LIMIT or attribute.start + count * width > attribute.stop:
            self.fail(f"{where}: {count} texts of {width} bytes, the file stores {attribute.stop - attribute.start}")
        places = (attribute.start + i * width for i in range(count))
        return [self.decode(where, self.heaped(at) if is_heaped else self.take(at, width)) for at in places]

    def decode(self, where: str, text: bytes) -> str:
        try:
            return text.partition(b"\0")[0].decode()
        except UnicodeDecodeError:
            self.fail(f"{where}: {text!r:.80} is not UTF-8")

    def heaped(self, at: int) -> bytes:
        """A text of variable length; all of them together are not longer than the file."""
        length, heap, index = struct.unpack("<IQI", self.take(at, 16))
        if length == 0:
            return b""
        start, stored = self.heap(heap).get(index, (0, 0))
        self.taken += length
        if length > stored or self.taken > len(self.data):
            self.damaged(f"a text of {length} bytes, its heap stores {stored}")
        return self.take(start, length)

    def heap(self, address: int) -> dict[int, tuple[int, int]]:
        """Place and length of the pieces of a global heap."""
        if address not in self.heaps:
            if self.take(address, 5) != b"GCOL\x01":
                self.damaged(f"no heap of texts at {address}")
            at, end = address + 16, address + self.number(address + 8, 8)
            pieces: dict[int, tuple[int, int]] = {}
            while end - at >= 16 and (index := self.number(at, 2)) != 0:  # piece 0 is the free rest
                length = self.number(at + 8, 8)
                pieces[index] = at + 16, length
                at += 16 + _padded(length)
                self.pieces += 1
                if at > end or self.pieces > _PIECE_LIMIT:
                    self.damaged(f"a piece of {length} bytes in the heap at {address}")
            self.heaps[address] = pieces
        return self.heaps[address]


def _padded(size: int) -> int:
    return -(-size // 8) * 8


def _counter(name: str) -> tuple[str, int]:
    """("conv2d", 3) of "conv2d_3"; the first of a class has no number."""
    match = re.fullmatch(r"(.*?)(?:_([1-9]\d{0,8}))?", name, re.DOTALL)
    assert match is not None
    return match[1], int(match[2] or 0)


def _layer_name(name: str) -> str:
    """The layer's name in the newest Keras."""
    name = name.replace("/", "_")
    match = re.fullmatch(r"(mobl|bn)(\d+)_conv_\2_(bn_)?(expand|depthwise|project)", name)
    if match is not None and (match[1] == "bn") == (match[3] is not None):
        block = "expanded_conv" if match[2] == "0" else f"block_{match[2]}"
        return f"{block}_{match[4]}{'_BN' if match[3] else ''}"
    return _CLASSIFIERS.get(name, name)


def _check_cover(name: str, entries: list[_Entry]) -> None:
    """Refuses arrays that share bytes; so all of them together have no more than the file."""
    ordered = sorted(entries, key=lambda entry: entry.start)
    for first, second in itertools.pairwise(ordered):
        if second.start < first.stop:
            raise FormatError(f"{name}: tensors {first.tensor!r:.200} and {second.tensor!r:.200} share bytes")


def _view(data: mmap.mmap, entry: _Entry) -> npt.NDArray[Any]:
    array = np.frombuffer(data, entry.dtype, math.prod(entry.shape), entry.start).reshape(entry.shape)
    if not array.flags.aligned:
        array = array.copy()
    array.setflags(write=False)
    return array
