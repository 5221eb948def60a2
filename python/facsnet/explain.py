"""Where a detector looks: what hiding parts of a face does to its scores."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet._inputs import pixels_of
from facsnet.estimator import AUClassifier
from facsnet.network import Network

__all__ = ["occlusion_map"]


def occlusion_map(
    detector: AUClassifier | Network,
    image: npt.NDArray[np.uint8] | str | os.PathLike[str],
    *,
    patch: float = 0.25,
    steps: int = 10,
) -> npt.NDArray[np.float32]:
    """How much each part of an image holds each label up.

    A grey square slides over the image; an entry of the map is the logit of the whole image less that
    with the square there, so that what the label rests on is positive (Zeiler and Fergus, ECCV 2014).
    It shows what the network reacts to, which need not be what a coder looks at.

    Parameters
    ----------
    detector : AUClassifier or Network
    image : uint8 array (h, w, 3), or path
    patch : float
        Side of the square, as a part of the image's.
    steps : int
        Positions along each side, hence ``steps`` squared passes through the network.

    Returns
    -------
    float32 array (k, steps, steps)
        Of the positions of the square, from the upper left.

    Raises
    ------
    ValueError
        ``patch`` is not between 0 and 1, or ``steps`` less than 2.
    OSError, FormatError
        The image cannot be read.
    """
    if not 0 < patch < 1:
        raise ValueError(f"patch is {patch}, want a number between 0 and 1")
    if steps < 2:
        raise ValueError(f"steps is {steps}, want at least 2")
    network = detector.network if isinstance(detector, AUClassifier) else detector
    images: list[Any] = [image]
    whole = pixels_of(images, network.input_size)
    side = max(1, round(patch * network.input_size))
    starts = np.linspace(0, network.input_size - side, steps).round().astype(int)
    hidden = np.repeat(whole, steps, axis=0)
    drops: list[Any] = []
    base = network.forward(whole)
    for top in starts:
        hidden[...] = whole
        for row, left in zip(hidden, starts, strict=True):
            row[top : top + side, left : left + side] = _GREY
        drops.append(base - network.forward(hidden))
    return np.ascontiguousarray(np.stack(drops).transpose(2, 0, 1))


_GREY = 128
