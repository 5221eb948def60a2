"""Activations of images, kept in memory or in a file that is gone with them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet import _core

__all__ = ["Cache", "byte_count", "byte_text"]

# bfloat16 lies in NumPy as its bits.
_STORED: dict[str, np.dtype[Any]] = {"bfloat16": np.dtype(np.uint16), "float32": np.dtype(np.float32)}
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def byte_count(limit: int | str) -> int:
    """Bytes of a number or of text such as ``"4 GB"`` or ``"512 MiB"``.

    Raises
    ------
    ValueError
        It is neither, or less than 0.
    """
    if isinstance(limit, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b?\s*", limit.lower())
        if found is not None and (found[2] or not found[3]):
            return int(float(found[1]) * (_BINARY if found[3] else _UNITS)[found[2]])
    elif isinstance(limit, int | np.integer) and not isinstance(limit, bool) and limit >= 0:
        return int(limit)
    raise ValueError(f"cache_limit is {limit!r}, want a number of bytes or text such as '4 GB'")


def byte_text(count: int) -> str:
    """Bytes as people write them: ``"3.2 GB"``."""
    for unit, size in (("GB", 1000**3), ("MB", 1000**2), ("kB", 1000)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


class Cache:
    """Rows of one shape, as float32 or as the bits of bfloat16.

    Parameters
    ----------
    rows : int
    shape : tuple of int
        Of a row.
    dtype : {"bfloat16", "float32"}
    limit : int, optional
        Bytes that may lie in memory; more lie in a mapped file, which has no name and ends with
        this object or the process. None is half of the memory that is free.
    folder : path, optional
        Where the file lies; None the system's temporary folder.

    Raises
    ------
    OSError
        The folder has no room for the file.

    Attributes
    ----------
    values : array (rows, *shape)
        float32, or uint16 for bfloat16.
    place : str
        ``"in memory"`` or where the file lies.
    """

    def __init__(
        self,
        rows: int,
        shape: tuple[int, ...],
        *,
        dtype: str,
        limit: int | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        stored = _STORED[dtype]
        self.dtype, self.bytes = dtype, rows * int(np.prod(shape)) * stored.itemsize
        most = _core.available_memory() // 2 if limit is None else limit
        self.is_mapped = self.bytes > most
        self.values: npt.NDArray[Any]
        if self.is_mapped:
            where = os.fspath(folder) if folder is not None else tempfile.gettempdir()
            self.values = self._mapped((rows, *shape), stored, where)
            self.place = f"in a temporary file in {where}"
        else:
            self.values = np.empty((rows, *shape), stored)
            self.place = "in memory"

    def _mapped(self, shape: tuple[int, ...], stored: np.dtype[Any], folder: str) -> npt.NDArray[Any]:
        free = shutil.disk_usage(folder).free
        if free < self.bytes:
            raise OSError(
                f"cache: {byte_text(self.bytes)} of activations are more than the {byte_text(free)} free in {folder}: "
                "choose another cache_folder, cache_dtype='bfloat16' or cache='none'"
            )
        with tempfile.TemporaryFile(dir=folder, prefix="facsnet-") as file:
            # claims the room now: a disk that fills up later would end the process
            if hasattr(os, "posix_fallocate"):
                with contextlib.suppress(NotImplementedError):
                    os.posix_fallocate(file.fileno(), 0, self.bytes)
            return np.asarray(np.memmap(file, stored, "r+" if os.fstat(file.fileno()).st_size else "w+", shape=shape))

    def expect(self, rows: npt.NDArray[np.int64]) -> None:
        """Has rows of a file read ahead."""
        if self.is_mapped:
            _core.expect_rows(self.values, rows)
