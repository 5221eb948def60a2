"""Bosphorus: posed faces, the one action unit of each in its file's name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from facsnet._layout import Findings, choose_aus, label_name, listing, plain_numbers, read_text, root_folder
from facsnet.faces import Face, Faces
from facsnet.samples import Samples

__all__ = ["bosphorus_faces", "read_bosphorus"]

_UNITS = {
    "LFAU": ("9", "10", "12", "12L", "12R", "12LW", "14", "15", "16", "17", "18", "20", "22", "23", "24", "25", "26", "27", "28", "34"),
    "UFAU": ("1", "2", "4", "43", "44"),
}  # fmt: skip
_LABELS = tuple(
    sorted((label_name(unit) for units in _UNITS.values() for unit in units), key=lambda name: (int(name[2:4]), name))
)
_OTHERS = ("N", "E", "CAU", "YR", "PR", "CR", "O", "IGN")
_ENDINGS = (".png", ".bnt", ".lm2", ".lm3")
_NAME = re.compile(r"(bs\d{3})_([A-Z]+)_(.+)_(\d+)")
_COMBINED = re.compile(r"A(\d+(?:LW|L|R)?)", re.IGNORECASE)
_EYES = (
    ("outer left eye corner", "inner left eye corner"),
    ("inner right eye corner", "outer right eye corner"),
)


def read_bosphorus(
    root: str | os.PathLike[str],
    *,
    aus: Iterable[int | str] | None = None,
    classes: Iterable[str] = ("N", "LFAU", "UFAU", "CAU"),
    neutral_absent: bool = True,
) -> Samples:
    """The images of Bosphorus with what their names say of action units.

    Parameters
    ----------
    root : path
        Holds ``bs000/bs000_LFAU_12_0.png`` and so on.
    aus : iterable of int or str, optional
        ``(4, "12L")``; None all units of the data set.
    classes : iterable of str
        Of images that are taken: N (neutral), LFAU, UFAU, CAU (lower, upper, combined units), E
        (expressions), YR, PR, CR (rotations), O (occlusions), IGN (to be passed over). Of the last six
        every unit is unknown.
    neutral_absent : bool
        All units of a neutral face are absent; False: unknown.

    Returns
    -------
    Samples
        A unit that the name does not say is unknown (NaN), not absent. There are no intensities.

    Raises
    ------
    FormatError
        A name, class or code is not of the data set, a file lies in another subject's folder, an
        image is missing or there twice. One message names everything.
    OSError
        There is no such folder.
    ValueError
        There is no such class or unit.
    """
    if isinstance(classes, str):
        raise ValueError(f"classes is {classes!r}, want a list")
    wanted = list(classes)
    unknown = [name for name in wanted if name not in (*_UNITS, *_OTHERS)]
    if unknown:
        raise ValueError(f"classes has {unknown}, want some of {[*_UNITS, *_OTHERS]}")
    names = choose_aus(aus, _LABELS, "Bosphorus")
    place = root_folder(root, "Bosphorus")
    findings = Findings("Bosphorus", place)
    paths, subjects, labels = [], [], []
    for path, subject, kind, code in _images(place, findings):
        present = _present(path, kind, code, findings)
        if kind not in wanted:
            continue
        absent = kind == "N" and neutral_absent
        labels.append([1.0 if name in present else 0.0 if absent else np.nan for name in names])
        paths.append(os.fspath(path))
        subjects.append(subject)
    if not paths and not findings.found:
        findings.add(f"there are no images of the classes {wanted}")
    findings.stop()
    return Samples(label_names=names, labels=labels, paths=paths, subjects=subjects)


def _images(root: Path, findings: Findings) -> list[tuple[Path, str, str, str]]:
    """Path, subject, class and code of every image."""
    found: dict[str, tuple[Path, str, str, str]] = {}
    beside: dict[str, Path] = {}
    for folder in listing(root):
        if not folder.is_dir() or not re.fullmatch(r"bs\d{3}", folder.name):
            findings.add("is not the folder of a subject, bs000 and so on", folder)
            continue
        files = listing(folder)
        if not files:
            findings.add("is empty", folder)
        for path in files:
            match, ending = _NAME.fullmatch(path.stem), path.suffix.lower()
            if not match or ending not in _ENDINGS:
                findings.add("is no name like bs000_LFAU_12_0.png", path)
            elif match[1] != folder.name:
                findings.add(f"is in the folder of {folder.name}", path)
            elif ending != ".png":
                beside[path.stem] = path
            elif path.stem in found:
                findings.add(f"is there twice, as {found[path.stem][0].name} too", path)
            else:
                found[path.stem] = (path, match[1], match[2], match[3])
    for stem, path in sorted(beside.items()):
        if stem not in found:
            findings.add("has no image beside it", path)
    return list(found.values())


def _present(path: Path, kind: str, code: str, findings: Findings) -> set[str]:
    """Labels that a class and code say are there."""
    if kind in _UNITS:
        if code not in _UNITS[kind]:
            findings.add(f"{kind} has no code {code}", path)
            return set()
        return {label_name(code)}
    if kind not in _OTHERS:
        findings.add(f"there is no class {kind}", path)
    if kind != "CAU":
        return set()
    units = _COMBINED.findall(code)
    if not units or _COMBINED.sub("", code):
        findings.add(f"CAU has the code {code}, want units such as A12A25", path)
        return set()
    return {label_name(unit) for unit in units}


def bosphorus_faces(root: str | os.PathLike[str]) -> Faces:
    """The eyes out of every ``.lm2`` below a folder: the middles of their corners.

    Raises
    ------
    FormatError
        A file is damaged; one message names everything.
    OSError, ValueError
        There is no such folder, or no file with both eyes in it.
    """
    place = root_folder(root, "Bosphorus")
    findings = Findings("Bosphorus", place)
    entries = []
    for path in sorted(place.rglob("*.lm2")):
        points = _landmarks(path, findings)
        if all(corner in points for eye in _EYES for corner in eye):
            eyes = [tuple(np.mean([points[corner] for corner in eye], axis=0).tolist()) for eye in _EYES]
            eyes.sort()
            entries.append((os.fspath(path), None, Face(eyes=(eyes[0], eyes[1]))))
    findings.stop()
    return Faces("bosphorus", entries)


def _landmarks(path: Path, findings: Findings) -> dict[str, tuple[float, float]]:
    """Points by the names of a file: a comment, "N landmarks", labels, N lines "x y"."""
    text = read_text(path, findings)
    lines = [line.strip() for line in (text or "").splitlines() if line.strip() and not line.startswith("#")]
    match = re.match(r"(\d+)\s+landmarks", lines[0]) if lines else None
    if not match:
        if text is not None:
            findings.add("has no line like '22 landmarks'", path)
        return {}
    count = int(match[1])
    rest = [line for line in lines[1:] if line.casefold().rstrip(":") not in ("labels", "2d image coordinates")]
    if len(rest) != 2 * count:
        findings.add(f"has {len(rest)} lines of labels and points, want {2 * count}", path)
        return {}
    points = {}
    for label, line in zip(rest[:count], rest[count:], strict=True):
        found = plain_numbers(line)
        if found is None or len(found) != 2 or not np.isfinite(found).all():
            findings.add(f"point of {label!r:.40} is {line!r:.40}, want x and y", path)
            return {}
        points[label.casefold()] = (float(found[0]), float(found[1]))
    return points
