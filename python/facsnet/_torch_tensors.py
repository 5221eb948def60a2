"""The tensors of a PyTorch checkpoint, made of what its pickle says about them and of the bytes of its storages.

Several tensors can share a storage, each with an offset, a shape and strides; nothing of that is
believed that the sizes do not confirm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._pickle_reader import Global, Maker, kind_of

__all__ = ["PICKLE_LIMIT", "Storage", "Tensor", "Tensors", "is_count", "shown"]

PICKLE_LIMIT = 1 << 26
_RANK_LIMIT = 32
# Views can share bytes, so that a file can hold more than its size; how much more is limited.
_GROWTH = 4
_ALLOWANCE = 1 << 24

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_MODULE = "module."

# BFloat16 has no NumPy dtype: it is read as 16-bit patterns and widened to float32.
_STORAGES = {
    "torch.DoubleStorage": "f8",
    "torch.FloatStorage": "f4",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "u2",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage as the pickle describes it: so many elements of a type, under a key."""

    kind: str
    key: str
    numel: int

    @property
    def itemsize(self) -> int:
        return np.dtype(_STORAGES[self.kind]).itemsize

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.numel * self.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor as the pickle describes it; nothing of it is checked yet but the storage's type."""

    storage: Storage
    offset: Any
    shape: Any
    strides: Any


class Tensors:
    """What a file says about tensors, and the tensors.

    Parameters
    ----------
    name : str
        The file, for messages.
    size : int
        Its bytes.
    order : str
        The byte order of its storages, as NumPy writes it.
    read : function
        Gets the key of a storage and whose it is, for messages, gives the storage's bytes.
    """

    def __init__(self, name: str, size: int, order: Literal["<", ">"], read: Callable[[str, str], memoryview]) -> None:
        self.name = name
        self.order = order
        self.read = read
        self.left = _GROWTH * size + _ALLOWANCE
        self.arrays: dict[tuple[Any, ...], npt.NDArray[Any]] = {}
        self.makers: dict[str, Maker | None] = {
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": self.parameter,
            **dict.fromkeys(_STORAGES),
        }

    def fail(self, message: str) -> NoReturn:
        raise FormatError(f"{self.name}: {message}")

    def of(self, value: Any) -> dict[str, npt.NDArray[Any]]:
        """The arrays of the state dict that a pickle made, or of the one in it."""
        return {tensor: self.array(tensor, row) for tensor, row in self.state_dict(value).items()}

    def state_dict(self, value: Any) -> dict[str, Tensor]:
        if not isinstance(value, dict):
            self.fail(f"holds {kind_of(value)}, want a dict of tensors")
        wrapper = next((key for key in _WRAPPERS if isinstance(value.get(key), dict)), None)
        where, wanted = "", f"a tensor, or a dict of tensors at one of {', '.join(map(repr, _WRAPPERS))}"
        if wrapper is not None:
            value, where, wanted = value[wrapper], f" of {wrapper!r}", "a tensor"
        rows: dict[str, Tensor] = {}
        for key, row in value.items():
            if not isinstance(key, str):
                self.fail(f"key {key!r:.80}{where} is not a string")
            if not isinstance(row, Tensor):
                self.fail(f"entry {key!r:.80}{where} is of type {kind_of(row)}, want {wanted}")
            rows[key] = row
        if all(key.startswith(_MODULE) for key in rows):
            return {key.removeprefix(_MODULE): row for key, row in rows.items()}
        return rows

    # --- what the pickle makes

    def storage(self, key: Any) -> Storage:
        if type(key) is not tuple or len(key) != 5 or key[0] != "storage":
            self.fail(f"the pickle wants {kind_of(key)} from outside, want ('storage', type, key, location, size)")
        kind, title, numel = key[1], key[2], key[4]
        if not isinstance(kind, Global) or kind.name not in _STORAGES or type(title) is not str:
            self.fail(f"a storage has type {kind_of(kind)} and key {shown(title)}, want one of {', '.join(_STORAGES)}")
        if not is_count(numel):
            self.fail(f"storage {title!r:.80} has {shown(numel)} elements")
        return Storage(kind.name, title, numel)

    def tensor(self, arguments: tuple[Any, ...]) -> Tensor:
        # torch writes a seventh for views that conjugate or negate when they are read
        if len(arguments) != 6 or not isinstance(arguments[0], Storage):
            found = ", ".join(map(kind_of, arguments[:8]))
            self.fail(f"a tensor is made of ({found}), want a storage, offset, shape, strides, a flag and hooks")
        return Tensor(*arguments[:4])

    def parameter(self, arguments: tuple[Any, ...]) -> Tensor:
        if len(arguments) != 3 or not isinstance(arguments[0], Tensor):
            found = ", ".join(map(kind_of, arguments[:8]))
            self.fail(f"a parameter is made of ({found}), want a tensor, a flag and hooks")
        return arguments[0]

    # --- tensors

    def array(self, tensor: str, row: Tensor) -> npt.NDArray[Any]:
        where = f"tensor {tensor!r:.80}"
        offset, shape, strides = row.offset, row.shape, row.strides
        if not (_is_shape(shape) and _is_shape(strides) and len(shape) == len(strides)):
            self.fail(f"{where}: shape {shown(shape)} and strides {shown(strides)}, want as many sizes of each")
        if not is_count(offset):
            self.fail(f"{where}: offset {shown(offset)} is not a size")
        view = row.storage, offset, shape, strides
        if view not in self.arrays:
            array = self.make(where, *view)
            array.setflags(write=False)
            self.arrays[view] = array
        return self.arrays[view]

    def make(
        self, where: str, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        kind = np.dtype(_STORAGES[storage.kind]).newbyteorder(self.order)
        halves = storage.kind == "torch.BFloat16Storage"
        native = np.dtype(np.float32) if halves else kind.newbyteorder("=")
        content = self.read(storage.key, where)
        if len(content) != storage.size:
            self.fail(
                f"{where}: its storage has {len(content)} bytes, {storage.numel} elements of {storage.kind} "
                f"want {storage.size}"
            )
        # NumPy refuses what would not fit in memory even where another side of 0 makes it empty
        if math.prod(max(side, 1) for side in shape) * native.itemsize >= 1 << 63:
            self.fail(f"{where}: shape {shown(shape)} is too large")
        self.left -= math.prod(shape) * native.itemsize
        if self.left < 0:
            self.fail(f"{where}: with shape {shown(shape)} the tensors have over {_GROWTH} times the file's bytes")
        if 0 in shape:
            return np.zeros(shape, native)
        # the stride of a side of 1 is never taken, and can be any number
        strides = tuple(stride if side > 1 else 0 for side, stride in zip(shape, strides, strict=True))
        last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if last >= storage.numel:
            self.fail(f"{where}: its last element is number {last} of a storage of {storage.numel}")
        steps = [stride * kind.itemsize for stride in strides]
        array: npt.NDArray[Any] = np.ndarray(shape, kind, content, offset * kind.itemsize, steps)
        if native.kind == "b" and (array.view(np.uint8) > 1).any():
            self.fail(f"{where}: a byte of {storage.kind} is {array.view(np.uint8).max()}, want 0 or 1")
        if halves:
            wide = array.astype(np.uint32, order="C")
            wide <<= 16  # an operator that makes a new array makes a scalar of one without sides
            return wide.view(np.float32)
        return np.require(array, native, ["C", "A"])


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _is_shape(value: Any) -> bool:
    return type(value) is tuple and len(value) <= _RANK_LIMIT and all(map(is_count, value))


def shown(value: Any) -> str:
    """The value where it can be said shortly, else what it is."""
    if type(value) is tuple and all(type(side) is int for side in value[:_RANK_LIMIT]):
        return f"{value[:_RANK_LIMIT]!r:.80}"
    return f"{value!r:.80}" if type(value) in (int, str) else kind_of(value)
