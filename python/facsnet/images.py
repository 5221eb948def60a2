"""Image files and arrays: reading, resizing, cropping and the variants used in training.

Images are arrays of shape (height, width, 3), dtype uint8, channels red, green, blue.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facsnet import _core

__all__ = ["augment_image", "crop_image", "decode_image", "read_image", "resize_image"]


def read_image(path: str | os.PathLike[str], size: int | None = None) -> NDArray[np.uint8]:
    """Read a JPEG, PNG or BMP file.

    Grey images become three equal channels, an alpha channel is dropped, samples of 16 bits keep
    their high byte. The orientation tag of a camera is not applied. Truncated and damaged files are
    refused rather than filled with grey: the markers and Huffman codes of a JPEG, the checksums of a
    PNG and the sizes of a BMP are verified before anything is decoded. Of a progressive JPEG only
    the markers are verified. A JPEG has no checksum, so a few wrong bits in it can go unseen.

    Parameters
    ----------
    path
        The file.
    size
        Side in pixels of a square the image is resized to, as by `resize_image`; by default the
        image keeps its size.

    Returns
    -------
    ndarray of shape (height, width, 3), dtype uint8
        Red, green and blue.

    Raises
    ------
    OSError
        The file cannot be read (`FileNotFoundError` where it is missing).
    FormatError
        The file is not a JPEG, PNG or BMP image, is truncated or damaged, uses a variant that is
        not supported (arithmetic-coded or 12-bit JPEG, compressed BMP), has a side above 32768 or
        more than 100 million pixels. The message names file and reason.
    ValueError
        `size` is not between 1 and 32768.
    """
    pixels: NDArray[np.uint8] = _core.read_image(path, size)
    return pixels


def decode_image(
    data: bytes | bytearray | memoryview, size: int | None = None, *, name: str = "<bytes>"
) -> NDArray[np.uint8]:
    """Decode the bytes of a JPEG, PNG or BMP file.

    Parameters
    ----------
    data
        The whole file.
    size
        Side of a square to resize to; by default the image keeps its size.
    name
        What error messages call the image.

    Returns
    -------
    ndarray of shape (height, width, 3), dtype uint8
        Red, green and blue.

    Raises
    ------
    FormatError, ValueError
        As `read_image`.
    """
    pixels: NDArray[np.uint8] = _core.decode_image(data, size, name)
    return pixels


def resize_image(image: ArrayLike, height: int, width: int) -> NDArray[np.uint8]:
    """Resize with the antialiased bilinear filter; the aspect may change.

    In a reduction every pixel counts, so fine patterns turn grey instead of into moire. The result
    is that of Pillow's ``Image.resize((width, height), Image.Resampling.BILINEAR)``, bit for bit up
    to Pillow 12; later versions sometimes work in another order, which moves samples by one level.

    Parameters
    ----------
    image : array of shape (h, w, 3), dtype uint8
        The image.
    height, width
        Size of the result, 1 to 32768.

    Returns
    -------
    ndarray of shape (height, width, 3), dtype uint8
        The resized image.

    Raises
    ------
    ValueError
        Wrong shape, or a size out of range.
    TypeError
        Pixels of another dtype than uint8.
    """
    pixels: NDArray[np.uint8] = _core.resize_image(image, height, width)
    return pixels


def crop_image(image: ArrayLike, height: int, width: int) -> NDArray[np.uint8]:
    """Cut the centre out of an image, without scaling.

    Parameters
    ----------
    image : array of shape (h, w, 3), dtype uint8
        The image.
    height, width
        Size of the part kept; an odd margin leaves its extra pixel below or to the right.

    Returns
    -------
    ndarray of shape (height, width, 3), dtype uint8
        The centre, copied.

    Raises
    ------
    ValueError
        Wrong shape, or the image is smaller than the part.
    TypeError
        Pixels of another dtype than uint8.
    """
    pixels: NDArray[np.uint8] = _core.crop_image(image, height, width)
    return pixels


def augment_image(
    image: ArrayLike,
    size: int,
    *,
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    flip: bool = False,
    angle: float = 0.0,
    brightness: float = 1.0,
    contrast: float = 1.0,
) -> NDArray[np.uint8]:
    """Make one given variant of an image, as training makes random ones.

    The steps in their order: cut out `crop` and resize it to a square, rotate, mirror, multiply by
    `brightness`, stretch by `contrast`. With the defaults the result equals
    ``resize_image(image, size, size)``.

    Parameters
    ----------
    image : array of shape (h, w, 3), dtype uint8
        The image.
    size
        Side of the result in pixels.
    crop
        Left edge, top edge, width and height of the part kept, as fractions of the image's width
        and height.
    flip
        Mirror left and right. Labels of one side of the face (left or right action units) would
        have to change places; plain action units do not.
    angle
        Degrees, counter-clockwise, about the centre; what turns into view repeats the edge.
    brightness
        Factor on every sample, 0 or more.
    contrast
        Factor on the distance from the mean grey of the image, 0 or more.

    Returns
    -------
    ndarray of shape (size, size, 3), dtype uint8
        The variant.

    Raises
    ------
    ValueError
        Wrong shape, a crop that leaves the image, a negative or infinite factor.
    TypeError
        Pixels of another dtype than uint8.
    """
    pixels: NDArray[np.uint8] = _core.augment_image(
        image, size, crop=tuple(crop), flip=flip, angle=angle, brightness=brightness, contrast=contrast
    )
    return pixels
