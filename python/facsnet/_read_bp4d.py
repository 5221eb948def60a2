"""BP4D: 41 subjects in eight tasks, action units per frame."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facsnet._layout import Findings, child_folder, choose_aus, label_name, listing, number_rows, root_folder
from facsnet.samples import Samples

__all__ = ["BP4D_AUS", "read_bp4d"]

BP4D_AUS: tuple[str, ...] = tuple(f"AU{au:02d}" for au in (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24))
"""The twelve units that published results are of."""

_SUBJECTS = (*(f"F{i:03d}" for i in range(1, 24)), *(f"M{i:03d}" for i in range(1, 19)))
_TASKS = tuple(f"T{i}" for i in range(1, 9))
_UNKNOWN = 9
_SEQUENCE = re.compile(r"([FM]\d{3})_(T\d+)")

Coded = tuple[npt.NDArray[np.int64], list[str], npt.NDArray[np.float64]]


def read_bp4d(
    root: str | os.PathLike[str],
    *,
    aus: Iterable[int | str] | None = BP4D_AUS,
    complete: bool = True,
) -> Samples:
    """The coded frames of BP4D with their action units.

    Parameters
    ----------
    root : path
        Holds ``AUCoding/AU_OCC/F001_T1.csv`` (a header of 0 and units, then frame and 0, 1, or 9 for
        unknown), the images ``2D+3D/F001/T1/2440.jpg``, and where intensities are wanted
        ``AUCoding/AU_INT/AU06/F001_T1_AU06.csv`` (frame and 0 to 5, or 9).
    aus : iterable of int or str, optional
        None every unit that is coded in some table.
    complete : bool
        Want all 41 subjects in all eight tasks; False takes a part of the data set.

    Returns
    -------
    Samples
        Unknown where 9 is coded. Intensities are NaN for units, and frames, that have none.

    Raises
    ------
    FormatError
        Subjects, tasks, units, frames or images are missing, unknown, there twice, or damaged. One
        message names everything.
    OSError
        There is no such folder.
    ValueError
        There is no such unit.
    """
    place = root_folder(root, "BP4D")
    findings = Findings("BP4D", place)
    coding = child_folder(place, "AUCoding", "AU_Coding") or place
    folder = child_folder(coding, "AU_OCC")
    pictures = child_folder(place, "2D+3D", "Sequences", "BP4D-training")
    if folder is None:
        findings.add("there is no folder AUCoding/AU_OCC")
    if pictures is None:
        findings.add("there is no folder of images 2D+3D")
    findings.stop()
    assert folder is not None and pictures is not None
    tables = _tables(folder, findings, complete)
    findings.stop()
    # tables have columns of units that nobody coded, 9 all the way down
    known = sorted(
        {n for _, names, codes in tables.values() for n, any_ in zip(names, _coded(codes), strict=True) if any_}
    )
    names = choose_aus(aus, known, "BP4D")
    levels = _levels(coding, tables, findings)
    return _assemble(tables, names, levels, pictures, findings)


def _coded(codes: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((~np.isnan(codes)).any(axis=0))


def _tables(folder: Path, findings: Findings, complete: bool) -> dict[str, Coded]:
    """Frames, unit names and codes (frames, units) per sequence, such as F001_T1."""
    found: dict[str, Coded] = {}
    for path in listing(folder):
        match = _SEQUENCE.fullmatch(path.stem)
        if not match or path.suffix.lower() != ".csv":
            findings.add("is no name like F001_T1.csv", path)
        elif match[1] not in _SUBJECTS:
            findings.add("is not of one of the 41 subjects, F001 to F023 and M001 to M018", path)
        elif match[2] not in _TASKS:
            findings.add("is not of one of the tasks T1 to T8", path)
        else:
            table = _occurrence(path, findings)
            if table is not None:
                found[path.stem] = table
    named = {path.stem for path in listing(folder)}
    missing = [f"{s}_{t}" for s in _SUBJECTS for t in _TASKS if f"{s}_{t}" not in named]
    if missing and (complete or not named):
        findings.add(
            f"{len(missing)} of {len(_SUBJECTS) * len(_TASKS)} tables are missing, first {missing[:3]}", folder
        )
    return found


def _occurrence(path: Path, findings: Findings) -> Coded | None:
    try:
        first = path.read_text(encoding="utf-8-sig").split("\n", 1)[0]
    except (OSError, UnicodeDecodeError) as problem:
        findings.add(f"cannot be read: {problem}", path)
        return None
    rows = number_rows(path, findings, columns=first.count(",") + 1)
    if rows is None:
        return None
    units, frames, codes = rows[0, 1:], rows[1:, 0], rows[1:, 1:]
    if not len(units) or not _whole(units).all() or len(set(units)) != len(units) or rows[0, 0] != 0:
        findings.add(f"line 1 is {first.strip()!r:.60}, want 0 and different units from 1 to 99", path)
        return None
    numbers = _frames(frames, path, findings, first_line=2)
    wrong = np.argwhere(~np.isin(codes, (0, 1, _UNKNOWN)))
    if len(wrong):
        row, column = wrong[0]
        findings.add(
            f"frame {frames[row]:g}: action unit {units[column]:g} is {codes[row, column]:g}, want 0, 1 or 9", path
        )
        return None
    if numbers is None:
        return None
    return numbers, [label_name(int(unit)) for unit in units], np.where(codes == _UNKNOWN, np.nan, codes)


def _whole(values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((values == np.round(values)) & (values >= 1) & (values <= 99))


def _frames(
    values: npt.NDArray[np.float64], path: Path, findings: Findings, *, first_line: int
) -> npt.NDArray[np.int64] | None:
    """Frames that rise by one from any first."""
    if not len(values):
        findings.add("has no frames", path)
        return None
    whole = (values == np.round(values)) & (values >= 0) & (values < 2**31)
    if not whole.all():
        at = int(np.flatnonzero(~whole)[0])
        findings.add(f"line {at + first_line} has the frame {values[at]:g}, want a whole number", path)
        return None
    steps = np.diff(values)
    if (steps != 1).any():
        at = int(np.flatnonzero(steps != 1)[0])
        before, found = values[at], values[at + 1]
        kind = "is there twice" if steps[at] == 0 else f"follows {before:g}"
        findings.add(f"line {at + 1 + first_line}: frame {found:g} {kind}, want {before + 1:g}", path)
        return None
    return values.astype(np.int64)


def _levels(coding: Path, tables: dict[str, Coded], findings: Findings) -> dict[tuple[str, str], dict[int, float]]:
    """Intensities by frame, per sequence and unit."""
    folder = child_folder(coding, "AU_INT")
    found: dict[tuple[str, str], dict[int, float]] = {}
    for unit in () if folder is None else listing(folder):
        if not unit.is_dir() or not re.fullmatch(r"AU\d+", unit.name, re.IGNORECASE):
            findings.add("is not the folder of a unit, such as AU06", unit)
            continue
        for path in listing(unit):
            match = re.fullmatch(rf"([FM]\d{{3}}_T\d+)_{unit.name}\.csv", path.name, re.IGNORECASE)
            if not match or match[1] not in tables:
                findings.add(f"is no name like F001_T1_{unit.name}.csv of a sequence in AU_OCC", path)
                continue
            rows = number_rows(path, findings, columns=2)
            if rows is None or _frames(rows[:, 0], path, findings, first_line=1) is None:
                continue
            wrong = ~np.isin(rows[:, 1], (0, 1, 2, 3, 4, 5, _UNKNOWN))
            if wrong.any():
                frame, level = rows[wrong][0]
                findings.add(f"frame {frame:g} has the intensity {level:g}, want 0 to 5, or 9", path)
                continue
            outside = np.setdiff1d(rows[:, 0], tables[match[1]][0])
            if len(outside):
                findings.add(f"{len(outside)} frames are not in {match[1]}.csv, first {outside[0]:g}", path)
                continue
            values = np.where(rows[:, 1] == _UNKNOWN, np.nan, rows[:, 1])
            found[match[1], label_name(unit.name)] = dict(
                zip(rows[:, 0].astype(int).tolist(), values.tolist(), strict=True)
            )
    return found


def _pictures(folder: Path, sequence: str, findings: Findings) -> dict[int, str]:
    """Images of a sequence by their number."""
    subject, task = sequence.split("_")
    place = folder / subject / task
    if not place.is_dir():
        findings.add(f"there is no folder of images of {sequence}", place)
        return {}
    found: dict[int, str] = {}
    for path in listing(place):
        if not path.stem.isdecimal() or path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            findings.add("is not an image named by its frame", path)
        elif int(path.stem) in found:
            findings.add(f"frame {int(path.stem)} is there twice", path)
        else:
            found[int(path.stem)] = os.fspath(path)
    return found


def _assemble(
    tables: dict[str, Coded],
    names: list[str],
    levels: dict[tuple[str, str], dict[int, float]],
    pictures: Path,
    findings: Findings,
) -> Samples:
    paths, subjects, labels, strengths = [], [], [], []
    for sequence, (frames, units, codes) in tables.items():
        lacking = [name for name in names if name not in units]
        if lacking:
            findings.add(f"{sequence}.csv has no column of {', '.join(lacking)}")
            continue
        there = _pictures(pictures, sequence, findings)
        missing = [int(frame) for frame in frames if int(frame) not in there] if there else []
        if missing:
            findings.add(f"{sequence}: images of {len(missing)} coded frames are missing, first {missing[0]}")
        labels.append(codes[:, [units.index(name) for name in names]])
        columns = [levels.get((sequence, name), {}) for name in names]
        strengths.append([[column.get(int(frame), np.nan) for column in columns] for frame in frames])
        paths += [there.get(int(frame), "") for frame in frames]
        subjects += [sequence[:4]] * len(frames)
    findings.stop()
    return Samples(
        label_names=names,
        labels=np.concatenate(labels),
        paths=paths,
        subjects=subjects,
        intensity=np.concatenate([np.array(rows) for rows in strengths]),
    )
