"""Safetensors files: strict reading, safe writing.

The format: eight bytes of header length, a JSON table of name to dtype, shape and byte range, then
one buffer that the ranges cover without holes or overlaps. Foreign files are read with suspicion:
nothing is believed that the sizes do not confirm.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError

__all__ = ["read_safetensors", "write_safetensors"]

_HEADER_LIMIT = 100_000_000
_CHECKSUMS = "facsnet.crc32"
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
        In the order of the buffer; BF16 comes as float32 (a copy).
    metadata : dict of str to str

    Raises
    ------
    OSError
        The file cannot be read.
    FormatError
        It is not what the format wants; the message names file, tensor, found and wanted.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise FormatError(f"{name}: {size} bytes, a safetensors file has at least 8")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
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
    tensors = {row[0]: _view(data, 8 + length, *row[1:]) for row in rows}
    _verify(
        name,
        {row[0]: data[8 + length + row[3] : 8 + length + row[4]] for row in rows} if _CHECKSUMS in metadata else {},
        metadata,
    )
    return tensors, metadata


def _parse_header(name: str, header: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            keys = [key for key, _ in pairs]
            raise FormatError(f"{name}: the header has {next(k for k in keys if keys.count(k) > 1)!r} twice")
        return table

    def constant(text: str) -> NoReturn:
        raise FormatError(f"{name}: the header holds {text}")

    if not header.startswith(b"{"):
        raise FormatError(f"{name}: the header does not begin with '{{': not a safetensors file")
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
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError(f"{name}: __metadata__ is not a table of strings")
    return metadata


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _check_row(name: str, tensor: str, row: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{name}: tensor {tensor!r}: want dtype, shape and data_offsets, found {row!r:.80}")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FormatError(f"{name}: tensor {tensor!r}: dtype {dtype!r:.40} is not known")
    if not isinstance(shape, list) or len(shape) > 32 or not all(_is_count(n) for n in shape):
        raise FormatError(f"{name}: tensor {tensor!r}: shape {shape!r:.80} is not a list of sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(n) for n in offsets):
        raise FormatError(f"{name}: tensor {tensor!r}: data_offsets {offsets!r:.80} are not two byte offsets")
    wanted = math.prod(shape) * _DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != wanted:
        raise FormatError(
            f"{name}: tensor {tensor!r}: {offsets[1] - offsets[0]} bytes, its shape {shape} of {dtype} wants {wanted}"
        )
    return tensor, dtype, tuple(shape), offsets[0], offsets[1]


def _check_cover(name: str, rows: list[tuple[str, str, tuple[int, ...], int, int]], size: int) -> None:
    end = 0
    for tensor, _, _, start, stop in rows:
        if start != end:
            raise FormatError(
                f"{name}: tensor {tensor!r} starts at byte {start}, want {end}: the buffer has a {'hole' if start > end else 'overlap'}"
            )
        end = stop
    if end != size:
        raise FormatError(f"{name}: the tensors cover {end} bytes, the buffer has {size}")


def _view(data: mmap.mmap, base: int, dtype: str, shape: tuple[int, ...], start: int, stop: int) -> npt.NDArray[Any]:
    kind = _DTYPES[dtype]
    array = np.frombuffer(data, kind, (stop - start) // kind.itemsize, base + start).reshape(shape)
    if dtype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _verify(name: str, contents: Mapping[str, bytes], metadata: Mapping[str, str]) -> None:
    if _CHECKSUMS not in metadata:
        return
    try:
        sums = json.loads(metadata[_CHECKSUMS])
        found = {tensor: zlib.crc32(content) for tensor, content in contents.items()}
        damaged = [tensor for tensor in found if sums[tensor] != found[tensor]]
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{name}: the table of checksums is damaged") from None
    if damaged:
        raise FormatError(f"{name}: tensor {damaged[0]!r} is damaged: its checksum does not fit")


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, npt.NDArray[Any]],
    metadata: Mapping[str, str] | None = None,
    *,
    checksums: bool = False,
) -> None:
    """Writes a safetensors file, whole or not at all.

    The bytes go to a temporary file beside the target, reach the disk, and take its name; a
    failure leaves an older file as it was. Equal input gives equal bytes.

    Parameters
    ----------
    path : path
    tensors : mapping of str to array
    metadata : mapping of str to str, optional
    checksums : bool
        Store a CRC-32 per tensor, which `read_safetensors` verifies.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    rows = dict(metadata or {})
    if checksums:
        rows[_CHECKSUMS] = json.dumps({name: zlib.crc32(value.tobytes()) for name, value in arrays.items()})
    header: dict[str, Any] = {"__metadata__": rows} if rows else {}
    offset = 0
    for name, value in arrays.items():
        dtype = value.dtype.newbyteorder("<") if value.dtype.byteorder == ">" else value.dtype
        if dtype not in _NAMES:
            raise ValueError(f"tensor {name!r}: dtype {value.dtype} cannot be stored")
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + value.nbytes],
        }
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    parts = [len(text).to_bytes(8, "little"), text]
    parts += [value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes() for value in arrays.values()]
    _write_whole(Path(path), parts)


def _write_whole(path: Path, parts: list[bytes]) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
