"""PyTorch checkpoints: the tensors of what torch.save writes, read without torch and without trusting it.

Since torch 1.6 a checkpoint is a zip archive of uncompressed entries in one folder: ``data.pkl`` says
which tensors there are, as a pickle that is interpreted here and not executed, and ``data/0``,
``data/1`` ... hold the numbers, each with a checksum. What older versions write is read by
`read_legacy`, what both have in common by `Tensors`.
"""

from __future__ import annotations

import errno
import io
import mmap
import os
import struct
import zipfile
import zlib
from typing import Any, Literal, NoReturn

import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._pickle_reader import read_pickle
from facsnet._safetensors import _open_without_waiting
from facsnet._torch_legacy import read_legacy
from facsnet._torch_tensors import PICKLE_LIMIT, Tensors

__all__ = ["read_torch"]

_DIRECTORY_LIMIT = 1 << 22
_HEADER = struct.Struct("<4s5H3L2H")
_MAGIC = b"PK\x03\x04"
_LEGACY = b"\x80"
_END_SIZE = 22
_ENCRYPTED = 0x2041


def read_torch(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Reads the tensors of a PyTorch checkpoint, ``.pth`` or ``.pt``, executing nothing.

    The file is a state dict, or a dict with one at ``"state_dict"``, ``"model_state_dict"`` or
    ``"model"``; what stands beside that is left out. torch before 1.6 wrote no checksums: in its files a
    changed bit among the numbers, or in a name, cannot be seen.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to array
        In the order of the state dict; ``"module."`` before every name is taken off. The arrays are
        read-only and contiguous, views of the mapped file where they can be. BFloat16 comes as float32.

    Raises
    ------
    OSError
        The file cannot be read.
    FormatError
        It is not what torch.save writes for tensors; the message names file, tensor, found and wanted.
    """
    name = os.fspath(path)
    with _File(path, opener=_open_without_waiting) as file:
        size = os.fstat(file.fileno()).st_size
        if size < _END_SIZE:
            raise FormatError(f"{name}: {size} bytes, a file of torch.save has at least {_END_SIZE}")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if data[:1] == _LEGACY:
            return read_legacy(name, data)
        _check_format(name, data)
        rows, stop = _directory(name, file)
    _check_script(name, rows)
    archive = _Archive(name, data, rows, stop)
    tensors = Tensors(name, size, archive.byte_order(), lambda key, who: archive.read(f"data/{key}", f"{who}: "))
    return tensors.of(read_pickle(name, archive.pickle(), tensors.makers, tensors.storage))


def _check_format(name: str, data: mmap.mmap) -> None:
    if data[257:262] == b"ustar":
        raise FormatError(f"{name}: a tar archive, torch's first format, which no torch reads safely; want a later one")
    if data[:4] != _MAGIC:
        raise FormatError(f"{name}: begins with {data[:4]!r}, want {_MAGIC!r}: not a file of torch.save")
    if data[-_END_SIZE:][:4] != b"PK\x05\x06" or data[-2:] != b"\0\0":
        raise FormatError(f"{name}: does not end with a zip directory: it was cut short, or something was added")


def _check_script(name: str, rows: list[zipfile.ZipInfo]) -> None:
    titles = [row.orig_filename.partition("/")[2] for row in rows]
    if "constants.pkl" in titles or any(title.startswith("code/") for title in titles):
        raise FormatError(
            f"{name}: a TorchScript archive; want weights: torch.save(torch.jit.load(path).state_dict(), other)"
        )


class _File(io.FileIO):
    """Reads no more at once than a directory needs: zipfile asks for what the archive claims, then makes objects."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"it claims {size} bytes, the limit is {_DIRECTORY_LIMIT}")
        return super().read(size) or b""


def _directory(name: str, file: _File) -> tuple[list[zipfile.ZipInfo], int]:
    """The rows of the zip directory, and where it begins."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, OSError) as problem:
        # EINVAL is a seek to before the file
        if isinstance(problem, OSError) and problem.errno != errno.EINVAL:
            raise
        raise FormatError(f"{name}: the zip directory is damaged: {problem}") from None


class _Archive:
    """The entries of a zip archive, each stored as it is, apart from the others and in one folder."""

    def __init__(self, name: str, data: mmap.mmap, rows: list[zipfile.ZipInfo], stop: int) -> None:
        self.name = name
        self.data = memoryview(data)
        self.root = rows[0].orig_filename.partition("/")[0] + "/" if rows else ""
        self.entries: dict[str, tuple[zipfile.ZipInfo, int]] = {}
        self.verified: dict[str, memoryview] = {}
        end = 0
        for row in sorted(rows, key=lambda row: row.header_offset):
            entry = row.orig_filename
            where = f"entry {entry!r:.80}"
            if entry in self.entries:
                self.fail(f"{where} is there twice")
            if not entry.startswith(self.root):
                self.fail(f"{where} is not in the folder {self.root!r:.80}: not of torch.save")
            if row.header_offset < end:
                self.fail(f"{where} begins at byte {row.header_offset}, within what goes before it")
            start = self.start(where, row, stop)
            end = start + row.compress_size
            if end > stop:
                self.fail(f"{where} ends at byte {end}, the directory begins at {stop}")
            self.entries[entry] = row, start

    def start(self, where: str, row: zipfile.ZipInfo, stop: int) -> int:
        """Where the bytes of an entry begin, behind a header that says what the directory says."""
        at = row.header_offset
        if at + _HEADER.size > stop:
            self.fail(f"{where} begins at byte {at}, the directory at {stop}")
        magic, _, flags, method, *_, length, extra = _HEADER.unpack_from(self.data, at)
        at += _HEADER.size
        wanted = row.orig_filename.encode("utf-8" if row.flag_bits & 0x800 else "cp437")
        if magic != _MAGIC or bytes(self.data[at : at + length]) != wanted:
            self.fail(f"{where}: the header at byte {row.header_offset} is another's")
        if (row.flag_bits | flags) & _ENCRYPTED:
            self.fail(f"{where} is encrypted")
        if row.compress_type or method or row.compress_size != row.file_size:
            self.fail(f"{where} is compressed; want it stored, as torch.save does: zip -0")
        return at + int(length) + int(extra)

    def fail(self, message: str) -> NoReturn:
        raise FormatError(f"{self.name}: {message}")

    def read(self, title: str, who: str = "") -> memoryview:
        """The bytes of an entry of the folder, once their checksum is right; messages begin with who wants them."""
        entry = self.root + title
        if entry not in self.entries:
            self.fail(f"{who}there is no entry {entry!r:.80}, which torch.save writes")
        if entry not in self.verified:
            row, start = self.entries[entry]
            content = self.data[start : start + row.file_size]
            if zlib.crc32(content) != row.CRC:
                self.fail(f"{who}the checksum of {entry!r:.80} does not fit: damaged, or saved without checksums")
            self.verified[entry] = content
        return self.verified[entry]

    def byte_order(self) -> Literal["<", ">"]:
        if f"{self.root}byteorder" not in self.entries:
            return "<"
        text = bytes(self.read("byteorder")[:80])
        if text not in (b"little", b"big"):
            self.fail(f"byteorder is {text!r}, want {b'little'!r} or {b'big'!r}")
        return "<" if text == b"little" else ">"

    def pickle(self) -> bytes:
        content = self.read("data.pkl")
        if len(content) > PICKLE_LIMIT:
            self.fail(f"the pickle has {len(content)} bytes, the limit is {PICKLE_LIMIT}")
        return bytes(content)
