"""CelebA: 202,599 faces with forty attributes, in three parts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facsnet._layout import Findings, child_folder, plain_numbers, read_text, root_folder
from facsnet.faces import Face, Faces
from facsnet.samples import Samples

__all__ = ["celeba_faces", "read_celeba"]

_PARTS = ("train", "valid", "test")
_ATTRIBUTES = 40
_POINTS = ("lefteye_x", "lefteye_y", "righteye_x", "righteye_y")


def read_celeba(
    root: str | os.PathLike[str], *, attributes: Sequence[str] | None = None, part: str | None = None
) -> Samples:
    """The aligned faces of CelebA with their attributes.

    Parameters
    ----------
    root : path
        Holds ``Img/img_align_celeba``, ``Anno/list_attr_celeba.txt``, ``Eval/list_eval_partition.txt`` and,
        which gives the subjects, ``Anno/identity_CelebA.txt``.
    attributes : sequence of str, optional
        ``"Smiling"`` and ``"Mouth_Slightly_Open"`` are the nearest to AU12 and AU25; None all forty.
    part : {"train", "valid", "test"}, optional
        One of the authors' parts, which share no person; None all.

    Returns
    -------
    Samples
        With the part as the fold column. Labels are 1 or 0; they are known to be noisy.

    Raises
    ------
    FormatError
        Images, rows or attributes are missing, there twice, or damaged; one message names everything.
    OSError
        There is no such folder.
    ValueError
        There is no such attribute or part.
    """
    if part not in (None, *_PARTS):
        raise ValueError(f"part is {part!r}, want one of {list(_PARTS)}")
    place = root_folder(root, "CelebA")
    findings = Findings("CelebA", place)
    names, images, values = _attributes(place, findings)
    parts = _by_image(place / "Eval" / "list_eval_partition.txt", images, findings, most=2)
    identities = place / "Anno" / "identity_CelebA.txt"
    subjects = _by_image(identities, images, findings) if identities.is_file() else None
    paths = _paths(place, images, findings)
    findings.stop()
    samples = Samples(
        label_names=names,
        labels=values > 0,
        paths=paths,
        subjects=None if subjects is None else [str(subject) for subject in subjects],
        folds=[_PARTS[number] for number in parts],
    )
    if part is not None:
        samples = samples[samples.folds_column == part]
    return samples if attributes is None else samples.select_labels(attributes)


def _attributes(root: Path, findings: Findings) -> tuple[list[str], list[str], npt.NDArray[np.int64]]:
    path = root / "Anno" / "list_attr_celeba.txt"
    names, images, values = _counted(path, findings)
    if len(names) != _ATTRIBUTES or len(set(names)) != len(names):
        findings.add(f"line 2 has {len(set(names))} names of attributes, want {_ATTRIBUTES}", path)
    wrong = np.argwhere((values != 1) & (values != -1))
    if len(wrong):
        row, column = wrong[0]
        findings.add(f"line {row + 3}: {names[column]} is {values[row, column]:g}, want -1 or 1", path)
    findings.stop()
    return names, images, values.astype(np.int64)


def _counted(path: Path, findings: Findings) -> tuple[list[str], list[str], npt.NDArray[np.float64]]:
    """Column names, image names and numbers of a file that begins with a count and a line of names."""
    text = read_text(path, findings)
    lines = [] if text is None else text.splitlines()
    if len(lines) < 3:
        if text is not None:
            findings.add(f"has {len(lines)} lines, want a count, names and rows", path)
        findings.stop()
    names, rows = lines[1].split(), [line.split() for line in lines[2:] if line.strip()]
    if lines[0].strip() != str(len(rows)):
        findings.add(f"line 1 counts {lines[0].strip()!r:.40} images, there are {len(rows)}", path)
    images = _images(rows, path, findings, first_line=3)
    for number, row in enumerate(rows, 3):
        if len(row) != len(names) + 1:
            findings.add(f"line {number} has {len(row) - 1} values, want {len(names)}", path)
    findings.stop()
    values = plain_numbers(" ".join([value for row in rows for value in row[1:]]))
    if values is None:
        for number, row in enumerate(rows, 3):
            wrong = [value for value in row[1:] if plain_numbers(value) is None]
            if wrong:
                findings.add(f"line {number}: {wrong[0]!r:.40} is no number", path)
        findings.stop()
    assert values is not None
    return names, images, values.reshape(len(rows), len(names))


def _images(rows: Sequence[Sequence[str]], path: Path, findings: Findings, *, first_line: int) -> list[str]:
    seen: set[str] = set()
    for number, row in enumerate(rows, first_line):
        if row[0] in seen:
            findings.add(f"line {number}: {row[0]} is there twice", path)
        seen.add(row[0])
    return [row[0] for row in rows]


def _by_image(path: Path, images: Sequence[str], findings: Findings, *, most: int | None = None) -> list[int]:
    """The number of every image, out of a file of lines ``name number``."""
    text = read_text(path, findings)
    rows = [line.split() for line in (text or "").splitlines() if line.strip()]
    found: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        good = len(row) == 2 and row[1].isascii() and row[1].isdecimal()
        if not good or (most is not None and int(row[1]) > most):
            wanted = "a name and a number" + ("" if most is None else f" from 0 to {most}")
            findings.add(f"line {number} is {' '.join(row)!r:.60}, want {wanted}", path)
            return [0] * len(images)
        if row[0] in found:
            findings.add(f"line {number}: {row[0]} is there twice", path)
        found[row[0]] = int(row[1])
    missing = [name for name in images if name not in found]
    if missing and text is not None:
        findings.add(f"{len(missing)} images of list_attr_celeba.txt are missing, first {missing[0]}", path)
    known = set(images)
    surplus = [name for name in found if name not in known]
    if surplus:
        findings.add(f"{len(surplus)} images are not in list_attr_celeba.txt, first {surplus[0]}", path)
    return [found.get(name, 0) for name in images]


def _paths(root: Path, images: Sequence[str], findings: Findings) -> list[str]:
    pictures = child_folder(root, "Img")
    folder = None if pictures is None else child_folder(pictures, "img_align_celeba")
    if folder is None:
        findings.add("there is no folder Img/img_align_celeba")
        return []
    there = set(os.listdir(folder))
    missing = [name for name in images if name not in there]
    if missing:
        findings.add(f"{len(missing)} of {len(images)} images are missing, first {missing[0]}", folder)
    return [os.path.join(folder, name) for name in images]


def celeba_faces(path: str | os.PathLike[str]) -> Faces:
    """The eyes of ``list_landmarks_align_celeba.txt`` or ``list_landmarks_celeba.txt``.

    Raises
    ------
    FormatError, OSError
        As `read_celeba`.
    """
    place = Path(path)
    findings = Findings("CelebA's landmarks", place.parent)
    names, images, values = _counted(place, findings)
    lacking = [name for name in _POINTS if name not in names]
    if lacking:
        findings.add(f"line 2 has no {lacking[0]}", place)
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        findings.add(f"line {row + 3}: {names[column]} is {values[row, column]:g}, want a number of pixels", place)
    findings.stop()
    points = values[:, [names.index(name) for name in _POINTS]]
    # left and right are of the image there; sorted all the same, since faces are upright
    return Faces("celeba", ((name, None, Face(eyes=_ordered(row))) for name, row in zip(images, points, strict=True)))


def _ordered(row: npt.NDArray[np.float64]) -> tuple[tuple[float, float], tuple[float, float]]:
    a, b = (float(row[0]), float(row[1])), (float(row[2]), float(row[3]))
    return (a, b) if a[0] <= b[0] else (b, a)
