"""Copies a shared object under a name of its own.

The dynamic linker takes two libraries of one SONAME for the same library. A private copy of
OpenBLAS under the wheel's SONAME would become whichever copy another package loaded first, and
setting our thread count would set theirs. So the SONAME in the copy is replaced.
"""

from __future__ import annotations

import struct
from pathlib import Path

_DYNAMIC, _LOAD = 2, 1
_STRTAB, _SONAME = 5, 14


def copy_private(source: Path, target: Path) -> None:
    """Copies `source` to `target`, whose file name becomes the SONAME.

    Only little-endian 64-bit ELF; the new name may not be longer than the old one. Raises
    ValueError where either does not hold.
    """
    image = bytearray(source.read_bytes())
    start, size = _soname(image, source)
    name = target.name.encode()
    if len(name) > size:
        raise ValueError(f"{target.name} is longer than the SONAME in {source} ({size} characters)")
    image[start : start + size] = name.ljust(size, b"\0")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a process may have the old one mapped
    target.write_bytes(image)
    target.chmod(0o755)


def _soname(image: bytearray, source: Path) -> tuple[int, int]:
    """Offset and length of the SONAME in the file."""
    if image[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{source} is not a little-endian 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", image, 32)
    entry_size, count = struct.unpack_from("<HH", image, 54)
    segments = []
    for i in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", image, table + i * entry_size)
        segments.append((kind, offset, address, length))
    entries: dict[int, int] = {}
    for kind, offset, _, length in segments:
        if kind == _DYNAMIC:
            for tag, value in struct.iter_unpack("<qQ", image[offset : offset + length]):
                entries.setdefault(tag, value)
    if _SONAME not in entries or _STRTAB not in entries:
        raise ValueError(f"{source} has no SONAME")
    for kind, offset, address, length in segments:
        if kind == _LOAD and address <= entries[_STRTAB] < address + length:
            start = entries[_STRTAB] - address + offset + entries[_SONAME]
            return start, image.index(b"\0", start) - start
    raise ValueError(f"{source}: the string table is in no segment")
