"""Samples on their way to another process: pixels that lie in mapped files go by their place."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from facsnet.samples import Samples

__all__ = ["MappedImages", "open_images", "place_of", "send_images"]


class Place(NamedTuple):
    """Where the bytes of an array are."""

    file: str
    offset: int


def place_of(image: npt.NDArray[Any]) -> Place | None:
    """The file and offset of an array that is a contiguous part of a mapped file; None of any other."""
    base: Any = image
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    # a view of a memmap may have the mmap object as its base, and not the memmap
    while isinstance(base, np.memmap) and isinstance(base.base, np.ndarray):
        base = base.base
    if base is None or base.filename is None or not image.flags.c_contiguous:
        return None
    start = image.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return Place(os.fspath(base.filename), int(base.offset + start))


class MappedImages(NamedTuple):
    """Images as their places and shapes."""

    places: list[Place]
    shapes: list[tuple[int, ...]]

    def open(self) -> list[npt.NDArray[np.uint8]]:
        """The images, mapped again and read-only."""
        files = {place.file: np.memmap(place.file, np.uint8, "r") for place in self.places}
        return [
            np.asarray(files[place.file][place.offset : place.offset + int(np.prod(shape))]).reshape(shape)
            for place, shape in zip(self.places, self.shapes, strict=True)
        ]


def send_images(samples: Samples) -> Samples:
    """The same samples, but mapped images as `MappedImages`: for pickling alone."""
    images: Sequence[Any] | None = samples.images
    if images is None or not len(images):
        return samples
    places = [place_of(image) for image in images]
    if any(place is None for place in places):
        return samples
    sent = copy.copy(samples)
    sent.images = MappedImages([place for place in places if place], [image.shape for image in images])
    return sent


def open_images(samples: Samples) -> Samples:
    """What `send_images` was given."""
    if not isinstance(samples.images, MappedImages):
        return samples
    opened = copy.copy(samples)
    opened.images = samples.images.open()
    return opened
