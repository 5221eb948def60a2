"""PyTorch's checkpoints of torch 0.1.10 to 1.5, which torchvision still publishes: pickles, then bare numbers.

Five pickles follow each other: a number that marks the format, its version, a dict about the machine
that wrote it, what was saved, and the list of the storages' keys. Behind them each storage of the
list is its number of elements, in 8 bytes, and its elements. There is no checksum: a changed bit in
the numbers, in a name or in a stride that still fits cannot be seen. Everything else is: each byte of the
file belongs to a pickle or to one storage, and what the pickles say of a storage is what it has.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._pickle_reader import Loader, Maker, kind_of, read_next_pickle
from facsnet._torch_tensors import PICKLE_LIMIT, Storage, Tensor, Tensors, is_count, shown

__all__ = ["read_legacy"]

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_SIZES = {"short": (2,), "int": (4,), "long": (4, 8)}
_NUMEL = struct.Struct("<q")


def read_legacy(name: str, data: mmap.mmap) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a checkpoint that begins with a pickle.

    Raises
    ------
    FormatError
        It is not what torch.save writes for tensors.
    """
    stream = _Stream(name, data)
    stream.check_head()
    value = stream.pickle(stream.makers, stream.storage)
    stream.find_storages(stream.keys())
    return stream.tensors.of(value)


class _Stream:
    """The file from the next pickle on, and what the pickles before it said."""

    def __init__(self, name: str, data: mmap.mmap) -> None:
        self.name = name
        self.data = data
        self.at = 0
        self.tensors = Tensors(name, len(data), "<", lambda key, _: self.contents[key])
        self.makers: dict[str, Maker | None] = {"torch._utils._rebuild_tensor": self.tensor, **self.tensors.makers}
        self.storages: dict[str, Storage] = {}
        self.views: dict[str, tuple[str, int, Storage]] = {}
        self.contents: dict[str, memoryview] = {}

    def fail(self, message: str) -> NoReturn:
        raise FormatError(f"{self.name}: {message}")

    def pickle(self, makers: Mapping[str, Maker | None], load: Loader) -> Any:
        stop = min(len(self.data), PICKLE_LIMIT)
        value, self.at = read_next_pickle(self.name, self.data, self.at, stop, makers, load)
        return value

    def plain(self) -> Any:
        """The value of a pickle that names nothing and wants nothing."""
        return self.pickle({}, lambda key: self.fail(f"a pickle of plain values wants {kind_of(key)} from outside"))

    def check_head(self) -> None:
        magic = self.plain()
        if type(magic) is not int or magic != _MAGIC:
            self.fail(f"a pickle of {shown(magic)}, want {_MAGIC:#x} first: not a file of torch.save")
        version = self.plain()
        if type(version) is not int or version != _VERSION:
            self.fail(f"the format's version is {shown(version)}, want {_VERSION}")
        machine = self.plain()
        if not isinstance(machine, dict):
            self.fail(f"what wrote it is said by {kind_of(machine)}, want dict")
        version, little, sizes = (machine.get(key) for key in ("protocol_version", "little_endian", "type_sizes"))
        if type(version) is not int or version != _VERSION:
            self.fail(f"protocol_version is {shown(version)}, want {_VERSION}")
        if little is not True:
            found = "False, a big-endian machine wrote it" if little is False else kind_of(little)
            self.fail(f"little_endian is {found}; want True")
        if not isinstance(sizes, dict):
            self.fail(f"type_sizes is {kind_of(sizes)}, want dict")
        for kind, wanted in _SIZES.items():
            if type(sizes.get(kind)) is not int or sizes[kind] not in wanted:
                self.fail(f"type_sizes has {shown(sizes.get(kind))} for {kind!r}, want {' or '.join(map(str, wanted))}")

    # --- what the pickle makes

    def storage(self, key: Any) -> Storage:
        if type(key) is not tuple or len(key) != 6:
            self.fail(
                f"the pickle wants {kind_of(key)} from outside, want ('storage', type, key, location, size, view)"
            )
        storage = self.tensors.storage(key[:5])
        known = self.storages.setdefault(storage.key, storage)
        # torch gives storages without elements one address, whatever they are of
        if storage != known and storage.numel + known.numel:
            self.fail(
                f"storage {storage.key!r:.80} has {storage.numel} elements of {storage.kind}, "
                f"and {known.numel} of {known.kind} before"
            )
        return storage if key[5] is None else self.view(storage, key[5])

    def view(self, storage: Storage, view: Any) -> Storage:
        """A part of a storage, which torch before 0.4 had with a key of its own."""
        where = f"a view of storage {storage.key!r:.80}"
        if type(view) is not tuple or len(view) != 3 or type(view[0]) is not str:
            self.fail(f"{where} is {kind_of(view)}, want (key, offset, size)")
        key, offset, numel = view
        if not (is_count(offset) and is_count(numel)) or offset + numel > storage.numel:
            self.fail(f"{where}: {shown(numel)} elements from {shown(offset)}, it has {storage.numel}")
        part = Storage(storage.kind, key, numel)
        if self.views.setdefault(key, (storage.key, offset, part)) != (storage.key, offset, part):
            self.fail(f"{where} has key {key!r:.80}, as another has")
        return part

    def tensor(self, arguments: tuple[Any, ...]) -> Tensor:
        """A tensor of torch before 0.4, without a flag and hooks."""
        if len(arguments) != 4:
            found = ", ".join(map(kind_of, arguments[:8]))
            self.fail(f"a tensor is made of ({found}), want a storage, offset, shape and strides")
        return self.tensors.tensor((*arguments, False, None))

    # --- what follows the pickles

    def keys(self) -> list[str]:
        """The keys of the storages in the order of the file: those that the pickle wants, each once."""
        keys = self.plain()
        if type(keys) is not list or not all(type(key) is str for key in keys):
            self.fail(f"the storages are listed by {kind_of(keys)}, want a list of strings")
        listed = Counter(keys)
        for key, count in listed.items():
            if count > 1:
                self.fail(f"storage {key!r:.80} is listed {count} times")
            if key not in self.storages:
                self.fail(f"storage {key!r:.80} is listed, and the pickle does not want it")
        for key in self.storages:
            if key not in listed:
                self.fail(f"storage {key!r:.80} is not listed, and the pickle wants it")
            if key in self.views:
                self.fail(f"storage {key!r:.80} has the key of a view")
        return keys

    def find_storages(self, keys: list[str]) -> None:
        data = memoryview(self.data)
        at = self.at
        for key in keys:
            storage, where = self.storages[key], f"storage {key!r:.80}"
            if len(data) - at < _NUMEL.size:
                self.fail(f"{where} begins at byte {at}, the file has {len(data)}: it was cut short")
            (numel,) = _NUMEL.unpack_from(data, at)
            if numel != storage.numel:
                self.fail(f"{where} has {numel} elements at byte {at}, the pickle says {storage.numel}")
            at += _NUMEL.size
            if len(data) - at < storage.size:
                self.fail(f"{where} has {storage.size} bytes from {at}, the file has {len(data)}: it was cut short")
            self.contents[key] = data[at : at + storage.size]
            at += storage.size
        if at != len(data):
            self.fail(f"{len(data) - at} bytes follow the last storage at byte {at}")
        for key, (root, offset, part) in self.views.items():
            start = offset * part.itemsize
            self.contents[key] = self.contents[root][start : start + part.size]
