"""CK+: sequences from a neutral face to a peak, with action units of the peak."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from facsnet._layout import Findings, child_folder, choose_aus, label_name, listing, number_rows, root_folder
from facsnet.samples import Samples

__all__ = ["read_ckplus"]

# of the 593 sequences of CK+ some show units that hardly any other shows
_SEQUENCE = re.compile(r"(S\d{3})_(\d{3})_(\d{8})")


def read_ckplus(
    root: str | os.PathLike[str],
    *,
    aus: Iterable[int | str] | None = None,
    last: int = 1,
    neutral: bool = False,
) -> Samples:
    """The peaks of CK+ with their action units.

    Parameters
    ----------
    root : path
        Holds ``cohn-kanade-images/S005/001/S005_001_00000001.png`` and so on, and
        ``FACS/S005/001/S005_001_00000011_facs.txt``.
    aus : iterable of int or str, optional
        None every unit that is coded in some sequence.
    last : int
        So many last frames of every sequence share the peak's label; more than a few are wrong.
    neutral : bool
        Take the first frame of every sequence too, as a face without any unit.

    Returns
    -------
    Samples
        Units that are not listed are absent, since everything was coded. Intensities are 1 to 5, 0 where
        a unit is absent, and NaN where it was coded without one. Split by subject: the frames of a
        sequence are alike.

    Raises
    ------
    FormatError
        A sequence has no codes, or codes no sequence; names, frames or codes are damaged or there twice.
        One message names everything.
    OSError
        There is no such folder.
    ValueError
        An argument is out of its range, or a sequence has no more than ``last`` frames.
    """
    if last < 1:
        raise ValueError(f"last is {last}, want at least 1")
    place = root_folder(root, "CK+")
    findings = Findings("CK+", place)
    images = _sequences(place, "cohn-kanade-images", ".png", findings)
    codes = _sequences(place, "FACS", "_facs.txt", findings)
    findings.stop()
    for sequence in sorted(set(images) ^ set(codes)):
        has, lacks = ("images", "codes") if sequence in images else ("codes", "images")
        findings.add(f"sequence {sequence} has {has} and no {lacks}")
    for sequence in sorted(set(images) & set(codes)):
        _check_sequence(sequence, images[sequence], codes[sequence], last + neutral, findings)
    units = {sequence: _units(codes[sequence][-1], findings) for sequence in sorted(codes)}
    findings.stop()
    known = sorted({unit for found in units.values() for unit in found}, key=lambda name: (int(name[2:4]), name))
    names = choose_aus(aus, known, "CK+")
    return _assemble(images, units, names, last, neutral)


def _sequences(root: Path, name: str, ending: str, findings: Findings) -> dict[str, list[Path]]:
    """Files of every sequence, such as S005_001, in order."""
    top = child_folder(root, name)
    if top is None:
        findings.add(f"there is no folder {name}")
        return {}
    found: dict[str, list[Path]] = {}
    for subject in listing(top):
        for sequence in listing(subject) if subject.is_dir() else ():
            for path in listing(sequence) if sequence.is_dir() else ():
                match = _SEQUENCE.fullmatch(path.name.removesuffix(ending))
                if not match or not path.name.endswith(ending):
                    findings.add(f"is no name like S005_001_00000011{ending}", path)
                elif (match[1], match[2]) != (subject.name, sequence.name):
                    findings.add(f"is in the folder of {subject.name}/{sequence.name}", path)
                else:
                    found.setdefault(f"{match[1]}_{match[2]}", []).append(path)
    if not found:
        findings.add("holds no sequences", top)
    return found


def _check_sequence(sequence: str, images: list[Path], codes: list[Path], least: int, findings: Findings) -> None:
    if len(codes) > 1:
        findings.add(f"sequence {sequence} has {len(codes)} files of codes")
    numbers = [int(path.stem[-8:]) for path in images]
    gaps = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if gaps:
        findings.add(f"sequence {sequence}: {len(gaps)} frames are missing, first {gaps[0]}")
    peak = int(_SEQUENCE.match(codes[-1].name)[3])  # type: ignore[index]
    if peak != numbers[-1]:
        findings.add(f"sequence {sequence}: codes are of frame {peak}, its last image is {numbers[-1]}")
    if len(images) < least:
        findings.add(f"sequence {sequence}: has {len(images)} frames, want {least} or more")


def _units(path: Path, findings: Findings) -> dict[str, float]:
    """Intensity of every coded unit, NaN where there is none; a file without lines has no unit."""
    if not path.read_bytes().strip():
        return {}
    rows = number_rows(path, findings, columns=2, separator=" ")
    found: dict[str, float] = {}
    for unit, level in () if rows is None else rows:
        if unit != np.round(unit) or not 1 <= unit <= 99:
            findings.add(f"action unit {unit:g}, want a number from 1 to 99", path)
        elif level not in range(6):
            findings.add(f"action unit {unit:g} has the intensity {level:g}, want 0 to 5", path)
        elif label_name(int(unit)) in found:
            findings.add(f"action unit {unit:g} is there twice", path)
        else:
            found[label_name(int(unit))] = float(level) if level else np.nan
    return found


def _assemble(
    images: dict[str, list[Path]], units: dict[str, dict[str, float]], names: list[str], last: int, neutral: bool
) -> Samples:
    paths, subjects, labels, levels = [], [], [], []
    for sequence, found in units.items():
        peak = [float(name in found) for name in names]
        strength = [found.get(name, 0.0) for name in names]
        chosen = [(path, peak, strength) for path in images[sequence][-last:]]
        if neutral:
            nothing = [0.0] * len(names)
            chosen.insert(0, (images[sequence][0], nothing, nothing))
        for path, label, level in chosen:
            paths.append(os.fspath(path))
            subjects.append(sequence[:4])
            labels.append(label)
            levels.append(level)
    return Samples(label_names=names, labels=labels, paths=paths, subjects=subjects, intensity=levels)
