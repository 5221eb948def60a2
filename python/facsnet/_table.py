"""Reading tables of samples: columns to paths, subjects and labels, each refused by row and name."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "check_images",
    "check_intensity",
    "check_labels",
    "check_names",
    "check_sources",
    "choose_labels",
    "frame_intensity",
    "frame_labels",
    "group_names",
    "join_paths",
    "read_csv",
    "subject_column",
    "texts",
]

FloatArray = npt.NDArray[np.float32]

# Cells of unknown labels. Subjects may have such initials.
_NOTHING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")
_SEPARATORS = ",;\t"  # the first of those that find equally many columns
_LABEL = re.compile(r"AU_?\d+[LR]?$", re.IGNORECASE)


def read_csv(path: str | os.PathLike[str], as_text: Sequence[str]) -> pd.DataFrame:
    """The table of a CSV file, separated by commas, semicolons or tabs; spaces around names and text are dropped.

    Columns in ``as_text`` stay text (007, NA). Raises ValueError where it is empty, no CSV, has a
    column twice or rows longer than the header.
    """
    import pandas as pd

    try:
        separator, header = max(((s, _header(path, s)) for s in _SEPARATORS), key=lambda found: len(found[1]))
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise ValueError(f"column {twice[0]!r} is there twice")
        with warnings.catch_warnings():
            # without index_col, pandas shifts the columns of rows that are longer than the header
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                skipinitialspace=True,
                header=0,
                names=header,
                index_col=False,
                dtype=dict.fromkeys(as_text, str),
                keep_default_na=False,
                na_values={column: list(_NOTHING) for column in header if column not in as_text},
            )
    except pd.errors.EmptyDataError:
        raise ValueError("the table is empty") from None
    except pd.errors.ParserWarning:
        raise ValueError("not a CSV table: rows have more fields than the header") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as problem:
        raise ValueError(f"not a CSV table: {problem}") from None
    for column in set(as_text) & set(header):
        frame[column] = frame[column].str.strip()
    return frame


def _header(path: str | os.PathLike[str], separator: str) -> list[str]:
    import pandas as pd

    options = {"sep": separator, "skipinitialspace": True, "keep_default_na": False, "dtype": str}
    return [str(name).strip() for name in pd.read_csv(path, header=None, nrows=1, **options).iloc[0]]


def check_names(names: Sequence[str], what: str) -> list[str]:
    """The names as a list; a lone string is refused instead of being read letter by letter."""
    if isinstance(names, str):
        raise ValueError(f"{what} is {names!r}, want a list of names")
    return list(names)


def choose_labels(frame: pd.DataFrame, others: Iterable[str | None]) -> list[str]:
    """Columns named AU and a number; where there is none, those of 0, 1 and nothing, less ``others``."""
    names = [str(column) for column in frame.columns if _LABEL.match(str(column))]
    if not names:
        numbers = frame.select_dtypes(["number", "bool"])
        binary = (numbers.isna() | numbers.isin([0, 1])).all() & numbers.notna().any()
        names = [str(column) for column in numbers.columns[binary] if column not in set(others)]
    if not names:
        raise ValueError(
            f"no column looks like a label (AU and a number, or 0 and 1); name them with labels=, "
            f"there are {list(frame.columns)[:12]}"
        )
    return names


def texts(values: Iterable[Any], what: str) -> list[str]:
    """The values as text; an empty one (None, NaN, blank) raises ValueError by its row."""
    found = []
    for row, value in enumerate(values):
        text = "" if value is None or value != value else str(value)
        if not text.strip():
            raise ValueError(f"{what} is empty in row {row}")
        found.append(text)
    return found


def group_names(values: Iterable[Any], what: str) -> list[str]:
    """As `texts`, less the spaces around, which would make two subjects of one."""
    return [text.strip() for text in texts(values, what)]


def subject_column(columns: Iterable[Any]) -> str | None:
    """The default column of subjects, None where there is none.

    One of another spelling raises ValueError: passing it over would split by image.
    """
    alike = [name for name in columns if str(name).strip().casefold() == "subject"]
    if alike and "subject" not in alike:
        raise ValueError(f"there is no column 'subject', but {alike[0]!r}: name it with subject=")
    return "subject" if alike else None


def join_paths(root: str | os.PathLike[str] | None, paths: Sequence[str]) -> list[str]:
    """The paths under root, with a warning where one is there more than once."""
    joined = [p if root is None else os.path.join(root, p) for p in paths]
    repeated = len(joined) - len(set(joined))
    if repeated:
        seen: set[str] = set()
        first = next(p for p in joined if p in seen or seen.add(p))  # type: ignore[func-returns-value]
        warnings.warn(f"{repeated} images are in the table more than once, first {first!r}", stacklevel=3)
    return joined


def frame_labels(frame: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Columns of labels (n, k), empty as NaN; text raises ValueError by row and column."""
    return np.stack([_numbers(frame, name, "label", "0, 1 or nothing") for name in names], axis=1)


def frame_intensity(frame: pd.DataFrame, names: Sequence[str], columns: Mapping[str, str]) -> npt.NDArray[np.float64]:
    """Intensities (n, k) from the column of each label, NaN for labels without one."""
    values = np.full((len(frame), len(names)), np.nan)
    for name, column in columns.items():
        if name not in names:
            raise ValueError(f"intensity names {name!r}, the labels are {list(names)}")
        values[:, list(names).index(name)] = _numbers(frame, column, "intensity", "a number or nothing")
    return values


def _numbers(frame: pd.DataFrame, name: str, what: str, wanted: str) -> npt.NDArray[np.float64]:
    import pandas as pd

    values = pd.to_numeric(frame[name], errors="coerce")
    text = values.isna() & frame[name].notna()
    if text.any():
        row = int(np.flatnonzero(text.to_numpy())[0])
        raise ValueError(f"{what} {name!r} of row {row} is {frame[name].iloc[row]!r}, want {wanted}")
    return np.asarray(values.to_numpy(np.float64, na_value=np.nan))


def check_labels(labels: npt.ArrayLike, names: Sequence[str]) -> FloatArray:
    """Labels (n, k) as float32; ValueError names the row and label that is not 0, 1 or NaN."""
    values = np.asarray(labels, dtype=np.float64)
    if not names:
        raise ValueError("label_names is empty")
    if len(set(names)) != len(names):
        raise ValueError(f"label_names has a name twice: {list(names)}")
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ValueError(f"labels has shape {values.shape}, want (n, {len(names)})")
    wrong = ~(np.isnan(values) | (values == 0) | (values == 1))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"label {names[column]!r} of row {row} is {values[row, column]:.10g}, want 0, 1 or NaN (unknown)"
        )
    return values.astype(np.float32)


def check_intensity(intensity: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """A read-only float32 copy of intensities, 0 or more, or NaN."""
    values = np.array(intensity, dtype=np.float32)
    if values.shape != shape:
        raise ValueError(f"intensity has shape {values.shape}, the labels have {shape}")
    wrong = (values < 0) | np.isinf(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"intensity of row {row}, label {column} is {values[row, column]:g}, want 0 or more, or NaN (unknown)"
        )
    values.setflags(write=False)
    return values


def check_sources(images: Any, paths: Sequence[str] | None) -> None:
    """Refuses images beside paths, neither of them, and what `check_images` does."""
    if (images is None) == (paths is None):
        found = "neither paths nor" if images is None else "both paths and"
        raise ValueError(f"there are {found} images, want one of them")
    if images is not None:
        check_images(images)


def check_images(images: Any) -> None:
    """Refuses what is not uint8 (n, h, w, 3) or a sequence of uint8 (h, w, 3), or has no pixels."""
    if isinstance(images, np.ndarray):
        if not _are_pixels(images, 4):
            raise ValueError(
                f"images is a {images.dtype} array of shape {images.shape}, want uint8 (n, h, w, 3) with pixels"
            )
        return
    for i, image in enumerate(images):
        if not isinstance(image, np.ndarray) or not _are_pixels(image, 3):
            found = (
                f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            )
            raise ValueError(f"images[{i}] is a {found}, want uint8 (h, w, 3) with pixels")


def _are_pixels(array: npt.NDArray[Any], ndim: int) -> bool:
    return array.dtype == np.uint8 and array.ndim == ndim and array.shape[-1] == 3 and 0 not in array.shape[-3:]
