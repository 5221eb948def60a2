"""A light finder of faces: YuNet, by OpenCV."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet.faces import Face
from facsnet.pretrained import pretrained

__all__ = ["YuNet"]

_COLUMNS = 15  # box, five points of two numbers, score


class YuNet:
    """Finds the surest face of an image with its eyes: for `align_faces`, `extract_frames` and predictions.

    Takes ``pip install facsnet[face]``. One object may not be used by several threads at once.

    Parameters
    ----------
    path : path, optional
        The network, ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo; None fetches it once
        (230 kB, MIT licence) with `pretrained`.
    least_score : float
        Faces of less, 0 to 1, do not count.
    longest_side : int
        Larger images are searched at this size; smaller ones as they are.

    Raises
    ------
    ModuleNotFoundError
        OpenCV is not installed.
    OSError, ValueError
        The network cannot be fetched, is not there or is none.
    """

    source = "yunet"

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, least_score: float = 0.6, longest_side: int = 640
    ) -> None:
        if not 0 < least_score <= 1:
            raise ValueError(f"least_score is {least_score}, want more than 0, to 1")
        if not 32 <= longest_side <= 4096:
            raise ValueError(f"longest_side is {longest_side}, want 32 to 4096")
        try:
            import cv2
        except ModuleNotFoundError as problem:
            raise ModuleNotFoundError("finding faces takes OpenCV: pip install facsnet[face]", name="cv2") from problem
        place = os.fspath(pretrained("yunet") if path is None else path)
        if not os.path.isfile(place):
            raise FileNotFoundError(2, "there is no such network", place)
        self.longest_side = longest_side
        self._cv2: Any = cv2
        try:
            self._network: Any = cv2.FaceDetectorYN.create(place, "", (320, 320), least_score, 0.3, 50)
        except cv2.error as problem:
            raise ValueError(f"{place}: OpenCV does not take it for YuNet: {str(problem).strip()[:200]}") from None

    def __call__(self, image: npt.NDArray[np.uint8]) -> Face | None:
        """The surest face of an RGB image (h, w, 3); None where there is none.

        Raises
        ------
        ValueError
            OpenCV cannot run the network: OpenCV 5 wants another file of it than OpenCV 4.
        """
        height, width = image.shape[:2]
        scale = min(1.0, self.longest_side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        searched = np.ascontiguousarray(image[:, :, ::-1])
        if scale < 1:
            searched = self._cv2.resize(searched, size, interpolation=self._cv2.INTER_AREA)
        try:
            self._network.setInputSize(size)
            found = self._network.detect(searched)[1]
        except self._cv2.error as problem:
            version = self._cv2.__version__
            raise ValueError(f"OpenCV {version} cannot run this YuNet: {str(problem).strip()[:200]}") from None
        return None if found is None or not len(found) else _face(found, (width / size[0], height / size[1]))


def _face(rows: npt.NDArray[Any], scale: tuple[float, float]) -> Face:
    """The surest of the rows of YuNet, back in the coordinates of the image."""
    if rows.ndim != 2 or rows.shape[1] != _COLUMNS:
        raise ValueError(f"YuNet gave an array of shape {rows.shape}, want (n, {_COLUMNS})")
    row = np.asarray(rows[np.argmax(rows[:, 14])], np.float64)
    x, y, w, h = (row[:4] * (*scale, *scale)).tolist()
    # points are centres of pixels, which scale about the corner of the image, half a pixel away
    eyes = sorted(tuple(((row[i : i + 2] + 0.5) * scale - 0.5).tolist()) for i in (4, 6))
    return Face(eyes=(eyes[0], eyes[1]), box=(x, y, w, h), score=float(row[14]))
