"""Data sets: readers of those of the field, and data that ships with the package, faces drawn in C.

Readers want the layouts in which data sets are given out, check that everything is there, and name
all that is wrong in one FormatError. Drawn faces are enough to try everything without a data set,
and to test without anybody's picture; they are no substitute for real ones: a detector trained on
them works on them alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from facsnet import _core
from facsnet._face_tables import read_faces, read_openface, read_pyfeat
from facsnet._read_bosphorus import bosphorus_faces, read_bosphorus
from facsnet._read_bp4d import BP4D_AUS, read_bp4d
from facsnet._read_celeba import celeba_faces, read_celeba
from facsnet._read_ckplus import read_ckplus
from facsnet._read_disfa import DISFA_AUS, DISFA_ERRORS, read_disfa
from facsnet.samples import Samples

__all__ = [
    "ACTION_UNITS",
    "ATTRIBUTES",
    "BP4D_AUS",
    "DISFA_AUS",
    "DISFA_ERRORS",
    "bosphorus_faces",
    "celeba_faces",
    "draw_expression",
    "read_bosphorus",
    "read_bp4d",
    "read_celeba",
    "read_ckplus",
    "read_disfa",
    "read_faces",
    "read_openface",
    "read_pyfeat",
    "render_faces",
    "synthetic_faces",
]

_TASKS = {"action_units": 0, "attributes": 1}

ACTION_UNITS: tuple[str, ...] = _core.face_labels(0)
"""The eight action units of the paper."""

ATTRIBUTES: tuple[str, ...] = _core.face_labels(1)
"""What else varies in a drawn face: the labels of ``task="attributes"``."""


def synthetic_faces(
    n: int, seed: int = 0, *, subjects: int = 27, task: str = "action_units", threads: int | None = None
) -> Samples:
    """Faces with known labels, 224 x 224 RGB.

    Brows, eyes, cheeks, nose, mouth and jaw follow the eight action units of the paper (1, 2, 4, 6, 9,
    12, 25, 26), each at its rate among DISFA's frames; 6 goes with 12, 2 with 1, 4 with 9 and 25 with
    26 more often than by chance. Subjects differ in looks; pose, light and expression differ from
    face to face.

    Parameters
    ----------
    n : int
        How many; 150 kB of memory each.
    seed : int
        0 to 2**64 - 1.
    subjects : int
        How many different people, DISFA's 27 by default; face i shows subject i mod ``subjects``.
    task : {"action_units", "attributes"}
        ``"attributes"``: sixteen other labels at even rates (glasses, gaze, closed eyes, ...), every
        face a subject of its own; the task that the small backbone in the package was trained on.
    threads : int, optional
        1 to 1024, by default one per processor; the faces do not depend on it.

    Returns
    -------
    Samples
        With subjects named ``"S00"``, ``"S01"``, ... The same (seed, subjects, task) gives the same first faces whatever n.

    Raises
    ------
    ValueError
        An argument is out of its range.
    """
    pixels, labels, subject, names = render_faces(n, seed, subjects=subjects, task=task, threads=threads)
    return Samples.from_arrays(pixels, labels, label_names=names, subject=subject)


def render_faces(
    n: int, seed: int = 0, *, subjects: int = 27, task: str = "action_units", threads: int | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], list[str], tuple[str, ...]]:
    """The arrays that `synthetic_faces` makes its samples of.

    Parameters
    ----------
    n, seed, subjects, task, threads
        As of `synthetic_faces`.

    Returns
    -------
    images : uint8 array (n, 224, 224, 3)
    labels : float32 array (n, k)
        0 or 1.
    subjects : list of str
        Who is on each face.
    names : tuple of str
        `ACTION_UNITS` or `ATTRIBUTES`.

    Raises
    ------
    ValueError
        An argument is out of its range.
    """
    if task not in _TASKS:
        raise ValueError(f"task is {task!r}, want 'action_units' or 'attributes'")
    _check_range("seed", seed, 0, 2**64 - 1)
    _check_range("subjects", subjects, 1, 2**31 - 1)
    if threads is not None:
        _check_range("threads", threads, 1, 1024)
    pixels, labels, ids = _core.draw_faces(n, seed, subjects, _TASKS[task], threads or 0)
    names = ACTION_UNITS if task == "action_units" else ATTRIBUTES
    return pixels, labels, [f"S{i:02d}" for i in ids], names


def draw_expression(
    intensities: dict[str, float] | Sequence[float], *, subject: int = 0, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """One face seen from the front with chosen action units: for looking at what a unit does.

    Parameters
    ----------
    intensities : mapping of label to number, or sequence of 8 numbers
        0 (absent) to 1.
    subject : int
        Whose face.
    seed : int

    Returns
    -------
    uint8 array (224, 224, 3)
    """
    if isinstance(intensities, dict):
        unknown = [name for name in intensities if name not in ACTION_UNITS]
        if unknown:
            raise ValueError(f"intensities names {unknown}, want some of {list(ACTION_UNITS)}")
        values = [intensities.get(name, 0.0) for name in ACTION_UNITS]
    else:
        values = [float(v) for v in intensities]
    for name, value in zip(ACTION_UNITS, values, strict=False):
        if not 0 <= value <= 1:
            raise ValueError(f"intensity of {name} is {value}, want 0 to 1")
    _check_range("subject", subject, 0, 2**20 - 1)
    _check_range("seed", seed, 0, 2**64 - 1)
    face: npt.NDArray[np.uint8] = _core.draw_expression(seed, subject, np.asarray(values, np.float64))
    return face


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, want {low} to {high}")
