"""Choosing the images a report shows, and making them small."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facsnet.images import read_image, resize_image

__all__ = ["choose_faces", "choose_mistakes", "data_uri", "thumbnail"]

_SIDE = 192


def choose_faces(target: NDArray[np.float32], subjects: Sequence[Any] | None, count: int) -> list[int]:
    """Rows that show as many labels and subjects as possible, whatever was predicted for them.

    Takes the label shown least so far, of equals the rarest, and of the rows with it (of new
    subjects where there are any) the middle one. Rows without any label come last.
    """
    positive = target == 1
    shown = np.zeros(target.shape[1])
    rarest = [int(label) for label in np.argsort(positive.sum(axis=0), kind="stable") if positive[:, label].any()]
    chosen: list[int] = []
    while len(chosen) < min(count, len(target)):
        label = min(rarest, key=lambda one: shown[one]) if rarest else None
        rows = [i for i in range(len(target)) if i not in chosen and (label is None or positive[i, label])]
        if not rows and label is not None:
            rarest.remove(label)
            continue
        if subjects is not None:
            seen = {subjects[i] for i in chosen}
            rows = [i for i in rows if subjects[i] not in seen] or rows
        row = rows[len(rows) // 2]
        chosen.append(row)
        shown += positive[row]
    return chosen


def choose_mistakes(
    scores: NDArray[np.float32], target: NDArray[np.float32], thresholds: NDArray[np.float64], count: int
) -> list[tuple[int, int]]:
    """(row, label) of the wrong predictions furthest from their threshold, one per row and label."""
    span = np.where(scores >= thresholds, 1 - thresholds, thresholds)
    margin = np.abs(scores - thresholds) / np.maximum(span, 1e-6)
    wrong = ~np.isnan(target) & ((scores >= thresholds) != (target == 1))
    order = np.argsort(np.where(wrong, -margin, np.inf), axis=None, kind="stable")[: int(wrong.sum())]
    chosen: list[tuple[int, int]] = []
    for at in order:
        row, label = divmod(int(at), target.shape[1])
        if len(chosen) < count and all(row != r and label != k for r, k in chosen):
            chosen.append((row, label))
    return chosen


def thumbnail(image: Any) -> NDArray[np.uint8] | None:
    """An image or image file as networks see it, whole and square, but small; None where a file cannot be read."""
    if isinstance(image, (str, os.PathLike)):
        try:
            return read_image(image, size=_SIDE)
        except (OSError, ValueError):
            return None
    return resize_image(image, _SIDE, _SIDE)


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """A JPEG as a data: address."""
    import matplotlib.image

    stream = io.BytesIO()
    matplotlib.image.imsave(stream, pixels, format="jpeg", pil_kwargs={"quality": 85})
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
