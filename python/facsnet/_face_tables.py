"""Tables of OpenFace and py-feat: action units as labels, and where faces are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._frame_store import FrameStore, open_frames
from facsnet._layout import choose_aus
from facsnet._read_bosphorus import bosphorus_faces
from facsnet._read_celeba import celeba_faces
from facsnet._table import read_csv
from facsnet.faces import Face, Faces
from facsnet.samples import Samples

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_faces", "read_openface", "read_pyfeat"]

Numbers = npt.NDArray[np.float64]

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_NAMES = ("input", "image")  # columns of file names, read as text
_LEFT_EYE, _RIGHT_EYE = range(36, 42), range(42, 48)  # of the 68 points, left and right in the image
_EYE_COLUMNS = ("left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")
_BOX_COLUMNS = (("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"), ("x", "y", "width", "height"))


def read_openface(
    path: str | os.PathLike[str],
    *,
    frames: str | os.PathLike[str] | None = None,
    video: str | None = None,
    subject: str | None = None,
    aus: Iterable[int | str] | None = None,
    min_confidence: float = 0.8,
) -> Samples:
    """A video's frames with what OpenFace's FeatureExtraction says of them.

    Such labels are a machine's guesses: good for looking, for comparing and for transfer, no
    ground truth.

    Parameters
    ----------
    path : path
        CSV with the columns frame, confidence, success, AU01_c and AU01_r, and so on.
    frames : path, optional
        Folder of `extract_frames`; None the folder ``frames`` beside the CSV.
    video : str, optional
        The video's file name less its ending; None that of the CSV.
    subject : str, optional
        Who is on it; None the video's name.
    aus : iterable of int or str, optional
        None every unit with a column ``_c``.
    min_confidence : float
        Frames of less, and those without success, are left out.

    Returns
    -------
    Samples
        Labels are the columns ``_c``, intensities those of ``_r``, 0 to 5 (AU28 has none).

    Raises
    ------
    FormatError
        A column is missing, a value is out of its range, a frame is there twice or not in ``frames``; the
        message has file and row, counted from 0 below the header.
    OSError
        A file cannot be read.
    """
    place = Path(path)
    frame = _read(place)
    known = [name.removesuffix("_c") for name in frame.columns if re.fullmatch(r"AU\d+_c", name)]
    _want_columns(place, frame, ["frame", "success", "confidence"])
    if not known:
        raise FormatError(f"{place}: there is no column AU01_c, but {list(frame.columns)[:8]}")
    names = choose_aus(aus, known, "the table")
    numbers = _column(place, frame, "frame", 1, np.inf, whole=True)
    sure = _column(place, frame, "confidence", 0, 1)
    found = _column(place, frame, "success", 0, 1, whole=True)
    present = [_column(place, frame, f"{name}_c", 0, 1, whole=True) for name in names]
    strong = [
        _column(place, frame, f"{name}_r", 0, 5) if f"{name}_r" in frame.columns else np.full(len(frame), np.nan)
        for name in names
    ]
    faces = _column(place, frame, "face_id", 0, np.inf) if "face_id" in frame.columns else np.zeros(len(frame))
    _want_once(place, numbers, faces)
    rows = np.flatnonzero((found == 1) & (sure >= min_confidence))
    rows = rows[np.lexsort((-sure[rows], numbers[rows]))]
    rows = rows[np.unique(numbers[rows], return_index=True)[1]]  # of several faces the surest
    if not len(rows):
        raise FormatError(f"{place}: no frame of {len(frame)} has success and a confidence of {min_confidence}")
    store = place.parent / "frames" if frames is None else Path(frames)
    stem = place.stem if video is None else video
    sources, recipe, kept = _frame_sources(place, store, stem, numbers[rows].astype(int))
    rows = rows[kept]
    return _samples(
        names,
        np.stack(present, axis=1)[rows],
        sources,
        [stem if subject is None else subject] * len(rows),
        recipe,
        np.stack(strong, axis=1)[rows],
    )


def read_pyfeat(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    frames: str | os.PathLike[str] | None = None,
    subject: str | None = None,
    aus: Iterable[int | str] | None = None,
    threshold: float = 0.5,
    min_score: float = 0.0,
) -> Samples:
    """Images or frames with what py-feat says of them; as `read_openface`, no ground truth.

    Parameters
    ----------
    path : path
        CSV with the columns input, and AU01 and so on with a probability each; frame and FaceScore where
        there are any.
    root : path, optional
        Folder that images start from; None the CSV's.
    frames : path, optional
        Folder of `extract_frames`, where inputs are videos (frames from 0, as py-feat counts); None
        the folder ``frames`` beside the CSV.
    subject : str, optional
        Column of subjects; None: unknown of images, of videos their names.
    aus : iterable of int or str, optional
        None every unit with a column.
    threshold : float
        Least probability of a unit that counts as present.
    min_score : float
        Faces with a FaceScore of less are left out; rows without a face are in any case.

    Returns
    -------
    Samples
        Without intensities: probabilities are none.

    Raises
    ------
    FormatError, OSError
        As `read_openface`.
    """
    place = Path(path)
    frame = _read(place, () if subject is None else (subject,))
    known = [name for name in frame.columns if re.fullmatch(r"AU\d+", name)]
    _want_columns(place, frame, ["input"] if subject is None else ["input", subject])
    if not known:
        raise FormatError(f"{place}: there is no column AU01, but {list(frame.columns)[:8]}")
    names = choose_aus(aus, known, "the table")
    chances = np.stack([_column(place, frame, name, 0, 1) for name in names], axis=1)
    score = _column(place, frame, "FaceScore", 0, np.inf) if "FaceScore" in frame.columns else np.ones(len(frame))
    rows = np.flatnonzero(~np.isnan(chances).any(axis=1) & (score >= min_score))
    inputs = [str(name) for name in frame["input"]]
    videos = [Path(name).suffix.lower() not in _IMAGES for name in inputs]
    if any(videos) != all(videos):
        raise FormatError(f"{place}: inputs are images and videos, first {inputs[videos.index(not videos[0])]!r}")
    numbers = np.zeros(len(frame))
    if any(videos):
        _want_columns(place, frame, ["frame"])
        numbers = _column(place, frame, "frame", 0, np.inf, whole=True) + 1
    rows = _surest(rows, [(inputs[row], int(numbers[row])) for row in rows], score)
    if not len(rows):
        raise FormatError(f"{place}: no row of {len(frame)} has a face with a score of {min_score}")
    sources: list[Any] = [os.path.join(place.parent if root is None else root, inputs[row]) for row in rows]
    recipe = None
    if any(videos):
        store = place.parent / "frames" if frames is None else Path(frames)
        sources, recipe, rows = _video_sources(place, store, inputs, numbers, rows)
    people = None if not any(videos) else [Path(inputs[row]).stem for row in rows]
    if subject is not None:
        people = [str(frame[subject].iloc[row]) for row in rows]
    return _samples(names, chances[rows] >= threshold, sources, people, recipe, None)


def read_faces(path: str | os.PathLike[str]) -> Faces:
    """Where faces are, out of a table of OpenFace, py-feat or CelebA, a folder of Bosphorus, or one of your own.

    The eyes are the means of points 36 to 41 and 42 to 47 (of the 68) where a table has those.

    Parameters
    ----------
    path : path
        CSV of OpenFace (of the video or image of the same name) or py-feat; CelebA's
        ``list_landmarks_align_celeba.txt``; a folder with Bosphorus' ``.lm2`` files; or a CSV with the
        column image, perhaps frame (from 1), and either left_eye_x, left_eye_y, right_eye_x, right_eye_y or
        x, y, width, height, in pixels, left and right as seen.

    Returns
    -------
    Faces
        Less the rows that say there is no face.

    Raises
    ------
    FormatError
        The file is none of these, or damaged.
    OSError
        It cannot be read.
    """
    place = Path(path)
    if place.is_dir():
        return bosphorus_faces(place)
    if place.suffix.lower() == ".txt":
        return celeba_faces(place)
    frame = _read(place)
    columns = set(frame.columns)
    eyes, boxes = _eyes(place, frame), _boxes(place, frame)
    if eyes is None and boxes is None:
        raise FormatError(
            f"{place}: want points x_36 to y_47, {', '.join(_EYE_COLUMNS)} or a box, "
            f"there are {list(frame.columns)[:8]}"
        )
    source = "openface" if "confidence" in columns else "pyfeat" if "input" in columns else "table"
    score = np.ones(len(frame))
    for column in {"confidence", "FaceScore", "score"} & columns:
        score = np.nan_to_num(_column(place, frame, column, 0, np.inf))
    if "success" in columns:
        score[_column(place, frame, "success", 0, 1) == 0] = 0
    keys = _keys(place, frame, source)
    entries = [
        (
            *keys[row],
            Face(None if eyes is None else eyes[row], None if boxes is None else boxes[row], float(score[row])),
        )
        for row in range(len(frame))
        if score[row] > 0 and (eyes is None or eyes[row] is not None) and (boxes is None or boxes[row] is not None)
    ]
    if not entries:
        raise FormatError(f"{place}: no row of {len(frame)} has a face")
    return Faces(source, entries)


def _read(path: Path, as_text: Sequence[str] = ()) -> pd.DataFrame:
    try:
        frame = read_csv(path, [*_NAMES, *as_text])
    except ValueError as problem:
        raise FormatError(f"{path}: {problem}") from None
    if not len(frame):
        raise FormatError(f"{path}: the table has no rows")
    return frame


def _want_columns(path: Path, frame: pd.DataFrame, names: Sequence[str]) -> None:
    lacking = [name for name in names if name not in frame.columns]
    if lacking:
        raise FormatError(f"{path}: there is no column {lacking[0]}, but {list(frame.columns)[:8]}")


def _column(path: Path, frame: pd.DataFrame, name: str, least: float, most: float, *, whole: bool = False) -> Numbers:
    """Finite numbers in a range; empty cells are NaN, but not of whole numbers."""
    import pandas as pd

    values = np.asarray(pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64, na_value=np.nan))
    wrong = (values < least) | (values > most) | np.isinf(values) | (np.isnan(values) & frame[name].notna().to_numpy())
    if whole:
        wrong |= np.isnan(values) | (values != np.round(values))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        kind = "a whole number" if whole else "a number"
        limits = ("" if np.isinf(least) else f" from {least:g}") + ("" if np.isinf(most) else f" to {most:g}")
        found = frame[name].iloc[row]
        shown = repr(found) if isinstance(found, str) else f"{found:.10g}"
        raise FormatError(f"{path}: {name} of row {row} is {shown}, want {kind}{limits}")
    return values


def _want_once(path: Path, numbers: Numbers, faces: Numbers) -> None:
    seen: set[tuple[float, float]] = set()
    for row, key in enumerate(zip(numbers.tolist(), faces.tolist(), strict=True)):
        if key in seen:
            raise FormatError(f"{path}: frame {key[0]:g} is there twice, again in row {row}")
        seen.add(key)


def _surest(rows: npt.NDArray[np.int64], keys: Sequence[tuple[str, int]], score: Numbers) -> npt.NDArray[np.int64]:
    best: dict[tuple[str, int], int] = {}
    for row, key in zip(rows.tolist(), keys, strict=True):
        if key not in best or score[row] > score[best[key]]:
            best[key] = row
    return np.array(list(best.values()), np.int64)


def _frame_sources(
    path: Path, folder: Path, video: str, numbers: npt.NDArray[np.int64]
) -> tuple[list[Any], Any, npt.NDArray[np.int64]]:
    """Images or paths of frames, their recipe, and which of the numbers they are of."""
    if not FrameStore.is_at(folder):
        raise FileNotFoundError(
            2, f"{path}: there are no frames of it: make them with facsnet frames", os.fspath(folder)
        )
    store = open_frames(folder)
    if video not in store.videos:
        raise FormatError(f"{path}: {folder} has no frames of {video!r}, but of {list(store.videos)[:5]}")
    beyond = numbers[numbers > store.count(video)]
    if len(beyond):
        raise FormatError(f"{path}: has frame {beyond[0]}, {video} has {store.count(video)}")
    kept = np.flatnonzero(np.isin(numbers, store.frames(video)))
    return store.sources(video, numbers[kept]), store.recipe, kept


def _video_sources(
    path: Path, folder: Path, inputs: Sequence[str], numbers: Numbers, rows: npt.NDArray[np.int64]
) -> tuple[list[Any], Any, npt.NDArray[np.int64]]:
    sources: list[Any] = []
    kept: list[int] = []
    recipe = None
    for video in dict.fromkeys(inputs[row] for row in rows):
        own = np.array([row for row in rows if inputs[row] == video], np.int64)
        found, recipe, there = _frame_sources(path, folder, Path(video).stem, numbers[own].astype(int))
        sources += found
        kept += own[there].tolist()
    return sources, recipe, np.array(kept, np.int64)


def _samples(
    names: Sequence[str],
    labels: npt.NDArray[Any],
    sources: list[Any],
    subjects: list[str] | None,
    recipe: Any,
    intensity: Numbers | None,
) -> Samples:
    as_paths = all(isinstance(source, str) for source in sources)
    return Samples(
        label_names=names,
        labels=labels,
        paths=sources if as_paths else None,
        images=None if as_paths else sources,
        subjects=subjects,
        intensity=intensity,
        recipe=recipe,
    )


def _eyes(path: Path, frame: pd.DataFrame) -> list[Any] | None:
    """Both eyes of every row; None of a row that has none."""
    if {f"{axis}_{i}" for axis in "xy" for i in (*_LEFT_EYE, *_RIGHT_EYE)} <= set(frame.columns):
        points = [
            np.mean([_column(path, frame, f"{axis}_{i}", -np.inf, np.inf) for i in eye], axis=0)
            for eye in (_LEFT_EYE, _RIGHT_EYE)
            for axis in "xy"
        ]
    elif set(_EYE_COLUMNS) <= set(frame.columns):
        points = [_column(path, frame, name, -np.inf, np.inf) for name in _EYE_COLUMNS]
    else:
        return None
    rows = np.stack(points, axis=1)
    return [None if np.isnan(r).any() else ((r[0], r[1]), (r[2], r[3])) for r in rows.tolist()]


def _boxes(path: Path, frame: pd.DataFrame) -> list[Any] | None:
    for columns in _BOX_COLUMNS:
        if set(columns) <= set(frame.columns):
            rows = np.stack([_column(path, frame, name, -np.inf, np.inf) for name in columns], axis=1)
            return [None if np.isnan(row).any() else tuple(row) for row in rows.tolist()]
    return None


def _keys(path: Path, frame: pd.DataFrame, source: str) -> list[tuple[str, int | None]]:
    """Name and frame, from 1, of every row; no frame of images."""
    column = next((name for name in _NAMES if name in frame.columns), None)
    if column is None and source != "openface":
        raise FormatError(f"{path}: there is no column image")
    names = [path.stem] * len(frame) if column is None else [str(name) for name in frame[column]]
    if "frame" not in frame.columns:
        return [(name, None) for name in names]
    numbers = _column(path, frame, "frame", 0, np.inf, whole=True).astype(int) + (source == "pyfeat")
    still = [Path(name).suffix.lower() in _IMAGES for name in names]
    return [(name, None if s else int(n)) for name, s, n in zip(names, still, numbers, strict=True)]
