"""Writing PNG files without a library."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["encode_png"]

_LEVEL = 3  # frames of video: 4 % larger than level 6, in a third of its time
_SUB = 1  # filter of the rows: differences from the pixel on the left


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """The bytes of an 8-bit RGB file, from an array (h, w, 3)."""
    height, width = image.shape[:2]
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = _SUB
    rows[:, 1:4] = image[:, 0]
    rows[:, 4:] = (image[:, 1:] - image[:, :-1]).reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), _LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
