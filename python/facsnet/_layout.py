"""What readers of data sets share: findings told at once, folders in any case, tables of numbers by line."""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError

__all__ = [
    "Findings",
    "child_folder",
    "choose_aus",
    "label_name",
    "listing",
    "number_rows",
    "numbered_rows",
    "plain_numbers",
    "read_text",
    "root_folder",
]

_SHOWN = 20


class Findings:
    """What is wrong with a data set, collected so that one error tells all of it.

    Parameters
    ----------
    what : str
        What messages call the data set.
    root : Path
        Messages name files from here.
    """

    def __init__(self, what: str, root: Path) -> None:
        self.what, self.root = what, root
        self.found: list[str] = []

    def add(self, text: str, path: Path | None = None) -> None:
        self.found.append(text if path is None else f"{self._name(path)}: {text}")

    def stop(self) -> None:
        """Raises FormatError where anything was found."""
        if not self.found:
            return
        shown = self.found[:_SHOWN]
        if len(self.found) > _SHOWN:
            shown.append(f"and {len(self.found) - _SHOWN} more")
        if len(self.found) == 1:
            raise FormatError(f"{self.what} at {self.root}: {shown[0]}")
        lines = "".join(f"\n- {line}" for line in shown)
        raise FormatError(f"{self.what} at {self.root}: {len(self.found)} things are wrong:{lines}")

    def _name(self, path: Path) -> str:
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return os.fspath(path)


def root_folder(root: str | os.PathLike[str], what: str) -> Path:
    """The folder of a data set; FileNotFoundError where it is none."""
    path = Path(root)
    if not path.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"{what}: there is no such folder", os.fspath(root))
    return path


def child_folder(root: Path, *names: str) -> Path | None:
    """The first of these folders in root, in any case of letters; None where there is none."""
    there = {entry.name.casefold(): entry for entry in sorted(root.iterdir()) if entry.is_dir()}
    found = [there[name.casefold()] for name in names if name.casefold() in there]
    return found[0] if found else None


def listing(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name; hidden files and those that systems leave behind do not count."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name.casefold() != "thumbs.db")


def read_text(path: Path, findings: Findings) -> str | None:
    """The text of a file, without a byte order mark; None, and a finding, where there is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        findings.add("is not text", path)
        return None
    except OSError as problem:
        findings.add(f"cannot be read: {problem.strerror}", path)
        return None
    if not text.strip():
        findings.add("is empty", path)
        return None
    if "\0" in text:
        findings.add("is not text: it holds zero bytes", path)
        return None
    return text


def number_rows(
    path: Path, findings: Findings, *, columns: int, separator: str = ","
) -> npt.NDArray[np.float64] | None:
    """The numbers (n, columns) of a file without a header; None, and a finding by line, where it is another.

    ``separator`` is a comma or a space; spaces around numbers do not count, blank lines neither.
    """
    text = read_text(path, findings)
    if text is None:
        return None
    values = _fast(text, columns, separator)
    if values is not None:
        return values
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split() if separator == " " else line.split(separator)
        if len(fields) != columns:
            findings.add(f"line {number} is {line.strip()!r:.60}, want {columns} numbers", path)
            return None
        values = plain_numbers(" ".join(fields))
        if values is None or len(values) != columns:
            findings.add(f"line {number} is {line.strip()!r:.60}, want {columns} numbers", path)
            return None
        rows.append(values)
    return np.stack(rows)


def _fast(text: str, columns: int, separator: str) -> npt.NDArray[np.float64] | None:
    """All numbers at once, where every line has as many fields as there are columns."""
    lines = text.rstrip().splitlines()
    if separator != " ":
        if any(line.count(separator) != columns - 1 for line in lines):
            return None
        lines = [line.replace(separator, " ") for line in lines]
    if any(len(line.split()) != columns for line in lines):
        return None
    values = plain_numbers(" ".join(lines))
    return None if values is None or values.size != len(lines) * columns else values.reshape(-1, columns)


def plain_numbers(text: str) -> npt.NDArray[np.float64] | None:
    """All numbers of a text, separated by white space; None where something is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # of what is no number
        try:
            return np.fromstring(text, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def numbered_rows(path: Path, findings: Findings, *, most: int) -> npt.NDArray[np.float64] | None:
    """The second column of lines ``frame,value``: frames 1, 2, 3, ..., values whole numbers from 0 to ``most``."""
    rows = number_rows(path, findings, columns=2)
    if rows is None:
        return None
    frames, values = rows[:, 0], rows[:, 1]
    wanted = np.arange(1, len(frames) + 1)
    if (frames != wanted).any():
        findings.add(_frame_fault(frames), path)
        return None
    wrong = ~np.isin(values, np.arange(most + 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        findings.add(
            f"frame {row + 1} has the intensity {values[row]:.10g}, want a whole number from 0 to {most}", path
        )
        return None
    return values


def _frame_fault(frames: npt.NDArray[np.float64]) -> str:
    """What keeps frames from being 1, 2, 3, ..."""
    at = int(np.flatnonzero(frames != np.arange(1, len(frames) + 1))[0])
    found = f"{frames[at]:.10g}"
    if frames[at] in frames[:at]:
        return f"frame {found} is there twice (line {at + 1})"
    if not frames[at] >= 1 or frames[at] != np.round(frames[at]):
        return f"line {at + 1} has the frame {found}, want 1, 2, 3, ..."
    if at + 1 in frames[at:]:
        return f"frame {found} stands on line {at + 1}, where {at + 1} is wanted: frames are out of order"
    return f"frame {at + 1} is missing (line {at + 1} has frame {found})"


def label_name(au: int | str) -> str:
    """AU04 of 4, "4", "AU4" and "AU04"; AU12L of "12L"."""
    found = re.fullmatch(r"(?:AU_?)?0*(\d+)([A-Z]*)", str(au).strip().upper())
    if not found:
        raise ValueError(f"aus has {au!r}, want numbers of action units")
    return f"AU{int(found[1]):02d}{found[2]}"


def choose_aus(aus: Iterable[int | str] | None, known: Sequence[str], what: str) -> list[str]:
    """Names of the chosen labels, all of ``known`` for None; ValueError for one that there is not, or that is there twice."""
    if aus is None:
        return list(known)
    if isinstance(aus, str):
        raise ValueError(f"aus is {aus!r}, want a list of action units")
    names = [label_name(au) for au in aus]
    if not names:
        raise ValueError("aus is empty")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"aus has {unknown}, {what} has {list(known)}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"aus has {twice[0]} twice")
    return names
