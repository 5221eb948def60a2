"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_text", "write_whole"]


def write_whole(path: str | os.PathLike[str], parts: Iterable[bytes | memoryview]) -> None:
    """Writes a file from its parts.

    The bytes go to a temporary file beside the target, reach the disk, and take its name; a failure
    leaves an older file as it was.

    Raises
    ------
    OSError
        The file cannot be written; the error names it.
    """
    place = Path(path)
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(place))
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(8)}.part")
    try:
        # opened here and not by tempfile, so that the kernel applies the user's umask
        with open(temporary, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(problem, OSError):
            raise OSError(problem.errno, problem.strerror, os.fspath(place)) from problem
        raise
    directory = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes text as UTF-8 with its line ends as they are, whole or not at all, as `write_whole`."""
    write_whole(path, [text.encode()])
