"""Safetensors files: strict reading, safe writing.

The format: eight bytes of header length, a JSON table of name to dtype, shape and byte range, then
one buffer that the ranges cover without holes or overlaps. Foreign files are read with suspicion:
nothing is believed that the sizes do not confirm.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._files import write_whole

__all__ = ["read_safetensors", "write_safetensors"]

_HEADER_LIMIT = 100_000_000
_CHECKSUMS = "facsnet.crc32"
_METADATA_CHECKSUMS = "facsnet.metadata_crc32"
_ALIGNMENT = 8

# BF16 has no NumPy dtype: it is read as 16-bit patterns and widened to float32.
_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name != "BF16"}


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Reads a safetensors file without copying: arrays are read-only views of the mapped file.

    Parameters
    ----------
    path : path

    Returns
    -------
    tensors : dict of str to array
        In the order of the buffer; BF16 comes as float32 and what the file does not align as an
        aligned array (copies both).
    metadata : dict of str to str
        Without the checksums of `write_safetensors`, which are verified where there are any.

    Raises
    ------
    OSError
        The file cannot be read.
    FormatError
        It is not what the format wants; the message names file, tensor, found and wanted.
    """
    name = os.fspath(path)
    with open(path, "rb", opener=_open_without_waiting) as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise FormatError(f"{name}: {size} bytes, a safetensors file has at least 8")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if data[8:9] != b"{":
        raise FormatError(f"{name}: the header does not begin with '{{': not a safetensors file")
    length = int.from_bytes(data[:8], "little")
    if length > _HEADER_LIMIT:
        raise FormatError(f"{name}: the header claims {length} bytes, the limit is {_HEADER_LIMIT}")
    if 8 + length > size:
        raise FormatError(f"{name}: the header claims {length} bytes, the file has {size - 8} behind the length")
    table = _parse_header(name, data[8 : 8 + length])
    metadata = _check_metadata(name, table.pop("__metadata__", {}))
    rows = [_check_row(name, tensor, row) for tensor, row in table.items()]
    rows.sort(key=lambda row: row[3:])
    _check_cover(name, rows, size - 8 - length)
    base = 8 + length
    if _CHECKSUMS in metadata:
        buffer = memoryview(data)[base:]
        contents = {row[0]: buffer[row[3] : row[4]] for row in rows}
        _verify(name, "tensor", contents, metadata.pop(_CHECKSUMS))
    if _METADATA_CHECKSUMS in metadata:
        sums = metadata.pop(_METADATA_CHECKSUMS)
        _verify(name, "metadata", {key: text.encode() for key, text in metadata.items()}, sums)
    return {row[0]: _view(name, data, base, *row) for row in rows}, metadata


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a pipe as well, to refuse it for its size of nothing instead of waiting for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _parse_header(name: str, header: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise FormatError(f"{name}: the header has {key!r:.80} twice")
        return table

    def constant(text: str) -> NoReturn:
        raise FormatError(f"{name}: the header holds {text}")

    try:
        table = json.loads(header.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except FormatError:
        raise
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"{name}: the header is not JSON: {problem}") from None
    if not isinstance(table, dict):
        raise FormatError(f"{name}: the header is not a table")
    return table


def _check_metadata(name: str, metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(_is_text(k) and _is_text(v) for k, v in metadata.items()):
        raise FormatError(f"{name}: __metadata__ is not a table of strings")
    return metadata


def _is_text(value: Any) -> bool:
    """Whether value is a string that UTF-8 can hold: JSON can escape half a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _check_row(name: str, tensor: str, row: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    if not _is_text(tensor):
        raise FormatError(f"{name}: tensor {tensor!r:.80}: its name is not text")
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{name}: tensor {tensor!r:.80}: want dtype, shape and data_offsets, found {row!r:.80}")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"{name}: tensor {tensor!r:.80}: dtype {dtype!r:.40} is not known")
    if not isinstance(shape, list) or len(shape) > 32 or not all(_is_count(n) for n in shape):
        raise FormatError(f"{name}: tensor {tensor!r:.80}: shape {shape!r:.80} is not a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(n) for n in offsets):
        raise FormatError(f"{name}: tensor {tensor!r:.80}: data_offsets {offsets!r:.80} are not two byte offsets")
    # NumPy refuses what would not fit in memory even where another side of 0 makes it empty
    if math.prod(max(side, 1) for side in shape) * _DTYPES[dtype].itemsize >= 1 << 63:
        raise FormatError(f"{name}: tensor {tensor!r:.80}: shape {shape!r:.80} is too large")
    wanted = math.prod(shape) * _DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != wanted:
        raise FormatError(
            f"{name}: tensor {tensor!r:.80}: {offsets[1] - offsets[0]} bytes, its shape {shape} of {dtype} wants {wanted}"
        )
    return tensor, dtype, tuple(shape), offsets[0], offsets[1]


def _check_cover(name: str, rows: list[tuple[str, str, tuple[int, ...], int, int]], size: int) -> None:
    end = 0
    for tensor, _, _, start, stop in rows:
        if start != end:
            raise FormatError(
                f"{name}: tensor {tensor!r:.80} starts at byte {start}, want {end}: the buffer has a {'hole' if start > end else 'overlap'}"
            )
        end = stop
    if end != size:
        raise FormatError(f"{name}: the tensors cover {end} bytes, the buffer has {size}")


def _view(
    name: str, data: mmap.mmap, base: int, tensor: str, dtype: str, shape: tuple[int, ...], start: int, stop: int
) -> npt.NDArray[Any]:
    kind = _DTYPES[dtype]
    array = np.frombuffer(data, kind, (stop - start) // kind.itemsize, base + start).reshape(shape)
    if dtype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise FormatError(f"{name}: tensor {tensor!r:.80}: a byte of BOOL is {array.view(np.uint8).max()}, want 0 or 1")
    if dtype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif not array.flags.aligned:
        array = array.copy()
    array.setflags(write=False)
    return array


def _verify(name: str, what: str, contents: Mapping[str, bytes | memoryview], table: str) -> None:
    try:
        sums = json.loads(table)
        damaged = [key for key, content in contents.items() if sums[key] != zlib.crc32(content)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FormatError(f"{name}: the table of checksums is damaged") from None
    if damaged:
        raise FormatError(f"{name}: {what} {damaged[0]!r:.80} is damaged: its checksum does not fit")


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    *,
    checksums: bool = False,
) -> None:
    """Writes a safetensors file, whole or not at all.

    As `write_whole`. Equal input, in equal order, gives equal bytes.

    Parameters
    ----------
    path : path
    tensors : mapping of str to array
    metadata : mapping of str to str, optional
    checksums : bool
        Store a CRC-32 per tensor and entry of metadata, which `read_safetensors` verifies.

    Raises
    ------
    OSError
        The file cannot be written; the error names it.
    ValueError
        A dtype the format lacks, a name or an entry of metadata that is not text or is reserved.
    """
    # not ascontiguousarray, which gives a scalar a side of 1
    arrays = {name: _little(name, np.asarray(value, order="C")) for name, value in tensors.items()}
    rows = dict(metadata or {})
    for key, text in rows.items():
        if not _is_text(key) or not _is_text(text):
            raise ValueError(f"metadata {key!r:.80} is {text!r:.80}, want text")
        if key in (_CHECKSUMS, _METADATA_CHECKSUMS):
            raise ValueError(f"metadata {key!r} is reserved: ask for checksums=True")
    if checksums and rows:
        rows[_METADATA_CHECKSUMS] = json.dumps({key: zlib.crc32(text.encode()) for key, text in rows.items()})
    if checksums:
        rows[_CHECKSUMS] = json.dumps({name: zlib.crc32(_bytes(value)) for name, value in arrays.items()})
    header: dict[str, Any] = {"__metadata__": rows} if rows else {}
    offset = 0
    for name, value in arrays.items():
        header[name] = {
            "dtype": _NAMES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + value.nbytes],
        }
        offset += value.nbytes
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    if len(encoded) > _HEADER_LIMIT:
        raise ValueError(f"names and metadata take {len(encoded)} bytes, the limit is {_HEADER_LIMIT}")
    write_whole(path, (len(encoded).to_bytes(8, "little"), encoded, *map(_bytes, arrays.values())))


def _little(name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array in the byte order of the file, where the format knows its name and dtype."""
    if not _is_text(name) or name == "__metadata__":
        raise ValueError(f"tensor {name!r:.80}: the name is reserved or not text")
    dtype = value.dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise ValueError(f"tensor {name!r:.80}: dtype {value.dtype} cannot be stored")
    return value.astype(dtype, copy=False)


def _bytes(value: npt.NDArray[Any]) -> memoryview:
    return value.reshape(-1).view(np.uint8).data
