"""What a detector is given to look at: arrays or files, as pixels of its size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet._recipe import Cutter
from facsnet._table import check_images
from facsnet.images import read_image, resize_image

__all__ = ["Images", "listed", "pixels_of", "read_all"]

Images = npt.ArrayLike | Iterable[npt.ArrayLike] | Iterable[str | os.PathLike[str]]


def listed(values: Any, what: str) -> list[Any]:
    """An iterable as a list; a lone path is refused instead of being read letter by letter."""
    if isinstance(values, (str, os.PathLike)):
        raise ValueError(f"{what} is one path ({os.fspath(values)!r}), want a sequence of paths")
    found = list(values)
    if not found:
        raise ValueError(f"{what}: the list is empty")
    return found


def pixels_of(images: Images, size: int, cutter: Cutter | None = None) -> npt.NDArray[np.uint8]:
    """Images (n, size, size, 3) of a uint8 array (n, h, w, 3), or of uint8 arrays (h, w, 3) or files; of their faces with a cutter."""
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images: {images.dtype} array of shape {images.shape}, want uint8 (n, h, w, 3)")
        if len(images) and images.shape[1:3] == (size, size) and cutter is None:
            return images
    found = listed(images, "images")
    if cutter is not None:
        return np.stack([cutter(image, row) for row, image in enumerate(found)])
    if all(isinstance(path, (str, os.PathLike)) for path in found):
        return np.stack([read_image(path, size=size) for path in found])
    check_images(found)
    return np.stack([resize_image(image, size, size) for image in found])


def read_all(
    paths: Sequence[str], size: int, cutter: Cutter | None = None, first: int = 0
) -> tuple[list[npt.NDArray[np.uint8]], list[str]]:
    """The images, or faces, that can be read, and per path why it cannot ("" where it can); paths are rows from ``first``."""
    pixels, errors = [], []
    for row, path in enumerate(paths, first):
        try:
            pixels.append(read_image(path, size=size) if cutter is None else cutter(path, row))
            errors.append("")
        except (OSError, ValueError) as problem:
            errors.append(str(problem))
    return pixels, errors
