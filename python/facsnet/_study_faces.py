"""The best and the worst face of every label, with what hiding parts of it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facsnet import _gallery
from facsnet._runs import RunKey
from facsnet.estimator import AUClassifier
from facsnet.explain import occlusion_map
from facsnet.images import resize_image

if TYPE_CHECKING:
    from facsnet.crossvalidation import CrossValidation

__all__ = ["best_and_worst", "overlay", "surest"]

# More labels would make the page long and slow.
_MOST_LABELS = 16


def best_and_worst(study: CrossValidation, setting: str) -> list[dict[str, Any]]:
    """Per label its name, and two faces or None; nothing where samples or models are not there."""
    if study.parts is None or study.folder is None:
        return []
    scores, target, limits = study.pooled(setting)
    sizes = [len(study.test(fold).scores) for fold in range(study.folds)]
    if [len(test) for _, test in study.parts] != sizes:
        return []
    faces = _Faces(study, setting, sizes)
    rows = []
    for label, name in enumerate(study.label_names[:_MOST_LABELS]):
        column = (scores[:, label], target[:, label], limits[:, label])
        picked = {kind: surest(*column, right=kind == "best") for kind in ("best", "worst")}
        found = {
            kind: None if row is None else faces.face(row, label, *(float(values[row]) for values in column))
            for kind, row in picked.items()
        }
        if any(found.values()):
            rows.append({"label": name, **found})
    return rows


def surest(
    score: NDArray[np.float32], target: NDArray[np.float32], limit: NDArray[np.float64], *, right: bool
) -> int | None:
    """The row of the surest hit, or of the most confident mistake; None where there is none.

    How sure a prediction is counts from its threshold, as a part of the way to 0 or 1.
    """
    predicted = score >= limit
    margin = np.abs(score - limit) / np.maximum(np.where(predicted, 1 - limit, limit), 1e-6)
    wanted = predicted & (target == 1) if right else ~np.isnan(target) & (predicted != (target == 1))
    if not wanted.any():
        return None
    return int(np.argmax(np.where(wanted, margin, -np.inf)))


class _Faces:
    """Thumbnails and maps; a face that serves several labels goes through the network once."""

    def __init__(self, study: CrossValidation, setting: str, sizes: list[int]) -> None:
        self.study, self.setting, self.sizes = study, setting, sizes
        self.detectors: dict[int, AUClassifier] = {}
        self.maps: dict[int, NDArray[np.float32]] = {}

    def face(self, row: int, label: int, score: float, target: float, limit: float) -> dict[str, Any] | None:
        assert self.study.parts is not None
        fold = int(np.searchsorted(np.cumsum(self.sizes), row, side="right"))
        place = row - sum(self.sizes[:fold])
        sample = self.study.parts[fold][1][place]
        detector = self._detector(fold)
        pixels = _gallery.thumbnail(sample.image)
        if detector is None or pixels is None:
            return None
        if row not in self.maps:
            self.maps[row] = occlusion_map(detector, sample.image)
        name = Path(sample.image).name if isinstance(sample.image, str) else f"fold {fold}, row {place}"
        hit, wanted = score >= limit, target == 1
        return {
            "image": _gallery.data_uri(pixels),
            "map": _gallery.data_uri(overlay(pixels, self.maps[row][label])),
            "name": name if sample.subject is None else f"{name}, subject {sample.subject}",
            "verdict": ("found" if hit else "missed") if wanted else "false alarm",
            "wrong": hit != wanted,
            "percent": f"{100 * score:.0f}",
            "threshold": f"{100 * limit:.0f}",
        }

    def _detector(self, fold: int) -> AUClassifier | None:
        if fold not in self.detectors:
            assert self.study.folder is not None
            key = RunKey(self.setting, self.study.seeds[0], fold)
            path = self.study.folder / f"{key.file_name}.model.safetensors"
            if not path.exists():
                return None
            self.detectors[fold] = AUClassifier.load(path, progress=False)
        return self.detectors[fold]


def overlay(pixels: NDArray[np.uint8], drops: NDArray[np.float32], *, patch: float = 0.25) -> NDArray[np.uint8]:
    """A face in grey under its occlusion map: red where hiding lowers the logit, blue where it raises it.

    A pixel has the mean of the squares that covered it; colours are as strong as the largest of them.
    """
    side = len(pixels)
    square = max(1, round(patch * side))
    starts = np.linspace(0, side - square, len(drops)).round().astype(int)
    total, count = np.zeros((side, side)), np.zeros((side, side))
    for i, top in enumerate(starts):
        for j, left in enumerate(starts):
            total[top : top + square, left : left + square] += drops[i, j]
            count[top : top + square, left : left + square] += 1
    heat = total / np.maximum(count, 1)
    heat /= max(float(np.abs(heat).max()), 1e-6)
    # a small copy enlarged again has no edges of squares
    levels = (128 + 127 * heat).astype(np.uint8)
    coarse = resize_image(np.stack([levels] * 3, axis=2), 24, 24)
    smooth = resize_image(coarse, side, side)[..., :1].astype(np.float64) / 127 - 128 / 127
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2) * 0.75 + 55
    colour = np.where(smooth > 0, [214, 40, 40], [43, 108, 176])
    strength = 0.85 * np.abs(smooth)
    return np.asarray(np.clip(grey * (1 - strength) + colour * strength, 0, 255), np.uint8)
