"""The functions of facsnet.images in NumPy and Pillow, by their definitions."""

from __future__ import annotations

import io
import math
import operator

import numpy as np
from PIL import Image, UnidentifiedImageError

MOST = 32768
BITS = 22  # of the weights, as in Pillow


def pixels(image):
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"pixels are {image.dtype}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image has shape {image.shape}")
    return image.astype(np.int64)


def side(value):
    if not 1 <= operator.index(value) <= MOST:
        raise ValueError(f"side is {value}")
    return value


def decode(data):
    try:
        with Image.open(io.BytesIO(data)) as image:
            # In two steps where alpha would otherwise be composited.
            return np.asarray(image.convert("RGBA").convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as problem:
        raise ValueError(str(problem)) from None


def levels(x):
    """To the nearest of 0 to 255, halves up."""
    return np.clip(np.floor(np.asarray(x) + 0.5), 0, 255)


def filter_matrix(inputs, outputs, start=0.0, share=1.0):
    """(outputs, inputs) weights of the triangle filter, as wide as the reduction, in units of 2^-22."""
    length = min(share * inputs, inputs - start * inputs)
    scale = length / outputs
    support = max(scale, 1.0)
    matrix = np.zeros((outputs, inputs), np.int64)
    for i in range(outputs):
        centre = start * inputs + (i + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(inputs, int(centre + support + 0.5))
        weights = [max(0.0, 1 - abs((j - centre + 0.5) * (1 / support))) for j in range(first, last)]
        matrix[i, first:last] = [int(0.5 + w / sum(weights) * 2**BITS) for w in weights]
    return matrix


def resize(image, height, width, box=(0.0, 0.0, 1.0, 1.0)):
    """Columns, then rows, each rounded to levels."""
    image = pixels(image)
    columns = filter_matrix(image.shape[1], side(width), box[0], box[2])
    rows = filter_matrix(image.shape[0], side(height), box[1], box[3])
    narrow = np.minimum((np.einsum("ox,yxc->yoc", columns, image) + 2 ** (BITS - 1)) >> BITS, 255)
    out = (np.einsum("oy,yxc->oxc", rows, narrow) + 2 ** (BITS - 1)) >> BITS
    return np.minimum(out, 255).astype(np.uint8)


def crop(image, height, width):
    image = pixels(image)
    top, left = image.shape[0] - side(height), image.shape[1] - side(width)
    if top < 0 or left < 0:
        raise ValueError("the image is smaller than the part")
    return image[top // 2 :, left // 2 :][:height, :width].astype(np.uint8)


def rotate(image, degrees):
    """Counter-clockwise about the centre, bilinear, edges repeated; not rounded."""
    size, angle = len(image), math.radians(degrees)
    centre = (size - 1) / 2
    y, x = np.mgrid[:size, :size] - centre
    # 2^-32 is what the core keeps of a coordinate; it makes quarter turns exact.
    x, y = (
        np.round(np.clip(v + centre, 0, size - 1) * 2**32) / 2**32
        for v in (math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y)
    )
    x0, y0 = x.astype(int), y.astype(int)
    x1, y1 = np.minimum(x0 + 1, size - 1), np.minimum(y0 + 1, size - 1)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def augment(image, size, *, crop=(0.0, 0.0, 1.0, 1.0), flip=False, angle=0.0, brightness=1.0, contrast=1.0):
    x, y, width, height = crop
    inside = 0 <= x < 1 and 0 <= y < 1 and width > 0 and height > 0
    if not (inside and x + width <= 1 + 1e-9 and y + height <= 1 + 1e-9):
        raise ValueError(f"crop is {crop}")
    if not (math.isfinite(angle) and 0 <= brightness < math.inf and 0 <= contrast < math.inf):
        raise ValueError("a factor or the angle is out of its range")
    out = resize(image, size, size, crop)
    if angle:
        out = levels(rotate(out, angle))
    if flip:
        out = out[:, ::-1]
    out = levels(out * float(brightness))
    grey = (out @ [0.299, 0.587, 0.114]).mean()
    return levels(grey + contrast * (out - grey)).astype(np.uint8) if contrast != 1 else out.astype(np.uint8)


def align(image, size, points, targets):
    """The part that takes points to targets, both (x0, y0, x1, y1), by complex numbers: z -> w z + s."""
    image = pixels(image).astype(float)
    p, q = (complex(*points[:2]), complex(*points[2:])), (complex(*targets[:2]), complex(*targets[2:]))
    w = (p[1] - p[0]) / (q[1] - q[0])
    reach = max(1.0, abs(w))
    columns, rows = np.arange(-size - 4, image.shape[1] + size + 4), np.arange(-size - 4, image.shape[0] + size + 4)
    edged = image[np.clip(rows, 0, image.shape[0] - 1)][:, np.clip(columns, 0, image.shape[1] - 1)]
    out = np.empty((size, size, 3), np.uint8)
    for y in range(size):
        for x in range(size):
            z = w * (complex(x, y) - q[0]) + p[0]
            across = np.maximum(0, reach - abs(columns - z.real))
            down = np.maximum(0, reach - abs(rows - z.imag))
            out[y, x] = levels(np.einsum("y,x,yxk->k", down, across, edged) / (down.sum() * across.sum()))
    return out
