"""Where faces are, and cutting them out upright and at one size."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facsnet import _core
from facsnet.images import read_image

if TYPE_CHECKING:
    from facsnet.samples import Samples

__all__ = ["Alignment", "Face", "FaceSource", "Faces", "align_faces", "find_face"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Face:
    """A face in an image; (0, 0) is the centre of the upper left pixel, x to the right, y down.

    Attributes
    ----------
    eyes : ((x, y), (x, y)), or None
        Centres of the eye on the left of the image and of the one on the right.
    box : (x, y, width, height), or None
    score : float
        How sure its finder was; of several faces the surest counts.
    """

    eyes: tuple[Point, Point] | None = None
    box: tuple[float, float, float, float] | None = None
    score: float = 1.0


@dataclass(frozen=True)
class Alignment:
    """The recipe by which faces are cut out; it is stored with samples and models.

    Attributes
    ----------
    method : {"eyes", "box"}
        ``"eyes"``: turned, scaled and shifted so that the eyes lie where the next two numbers say.
        ``"box"``: the square around the box, upright as it is.
    size : int
        Side in pixels of what is cut out.
    eye_distance, eye_height : float
        Distance of the eyes, and how far below the upper edge they lie, as shares of the side. The
        defaults leave room for raised brows and a dropped jaw.
    margin : float
        Of a box: room on every side, as a share of its longer side.
    source : str
        Whose eyes or boxes, ``"openface"`` for instance: finders differ by some pixels. Filled in by
        what cuts.
    """

    method: str = "eyes"
    size: int = 224
    eye_distance: float = 0.34
    eye_height: float = 0.32
    margin: float = 0.15
    source: str = ""

    def __post_init__(self) -> None:
        if self.method not in ("eyes", "box"):
            raise ValueError(f"method is {self.method!r}, want 'eyes' or 'box'")
        if not 8 <= self.size <= 4096:
            raise ValueError(f"size is {self.size}, want 8 to 4096")
        for name, least, most in (("eye_distance", 0.02, 1.0), ("eye_height", 0.0, 1.0), ("margin", -0.4, 4.0)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} is {value}, want {least} to {most}")

    def cut(self, image: npt.ArrayLike, face: Face) -> npt.NDArray[np.uint8]:
        """The face as an array (size, size, 3); beyond the edge of the image its edge repeats.

        Raises
        ------
        ValueError
            The face has no eyes (or box), they are not two finite points, or lie outside of the image.
        """
        points, targets = self._box_points(face) if self.method == "box" else self._eye_points(face)
        cut: npt.NDArray[np.uint8] = _core.align_image(image, self.size, points, targets)
        return cut

    def from_source(self, source: str) -> Alignment:
        """The same recipe with points of this source."""
        return dataclasses.replace(self, source=source)

    def _eye_points(self, face: Face) -> tuple[Any, Any]:
        if face.eyes is None:
            raise ValueError("the face has no eyes: cut it by its box with Alignment('box')")
        half = self.eye_distance / 2 * self.size
        middle, row = self.size / 2 - 0.5, self.eye_height * self.size - 0.5
        (x0, y0), (x1, y1) = face.eyes
        return (x0, y0, x1, y1), (middle - half, row, middle + half, row)

    def _box_points(self, face: Face) -> tuple[Any, Any]:
        if face.box is None:
            raise ValueError("the face has no box: cut it by its eyes with Alignment('eyes')")
        x, y, width, height = face.box
        if not (width > 0 and height > 0):
            raise ValueError(f"the box is {width:g} x {height:g}, want sides of more than 0")
        half = max(width, height) * (0.5 + self.margin)
        x, y = x + width / 2 - 0.5, y + height / 2 - 0.5
        last = self.size - 0.5
        return (x - half, y - half, x + half, y + half), (-0.5, -0.5, last, last)


class Faces:
    """A table of faces: at most one per image, or per frame of a video.

    Parameters
    ----------
    source : str
        Who found them.
    entries : iterable of (name, frame, Face)
        The image's or video's name as its table gives it, the frame from 1 (None: an image). Of
        several faces with the same name and frame the one of the highest score counts.

    Raises
    ------
    ValueError
        There are no entries.
    """

    def __init__(self, source: str, entries: Iterable[tuple[str, int | None, Face]]) -> None:
        self.source = source
        self._faces: dict[tuple[str, int | None], Face] = {}
        for name, frame, face in entries:
            known = self._faces.get((name, frame))
            if known is None or face.score > known.score:
                self._faces[name, frame] = face
        if not self._faces:
            raise ValueError("the table has no faces")
        self._by_stem: dict[str, set[str]] = {}
        for name, _ in self._faces:
            self._by_stem.setdefault(_stem(name), set()).add(name)

    def __len__(self) -> int:
        return len(self._faces)

    def __repr__(self) -> str:
        return f"<Faces: {len(self)} of {len({name for name, _ in self._faces})} images or videos, by {self.source}>"

    def of(self, path: str | os.PathLike[str], frame: int | None = None) -> Face | None:
        """The face of an image, or of a video's frame; None where the table has none.

        The name may be the table's own, or another path to a file of the same name less its ending;
        ``VIDEO/000012.png``, a frame that was extracted to a file, is frame 12 of the video.

        Raises
        ------
        ValueError
            Several names of the table fit.
        """
        name = os.fspath(path)
        if (name, frame) in self._faces:
            return self._faces[name, frame]
        extracted = PurePath(name)
        if frame is None and extracted.stem.isdecimal() and _stem(extracted.parent.name) in self._by_stem:
            return self.of(extracted.parent.name, int(extracted.stem))
        names = self._by_stem.get(_stem(name), set())
        if len(names) > 1:
            names = {n for n in names if _ends_alike(n, name)}
            if len(names) > 1:
                raise ValueError(f"{name}: the table of faces has {sorted(names)[:3]}, one of which is wanted")
        return self._faces.get((next(iter(names)), frame)) if names else None


FaceSource = Faces | Sequence[Face | None] | Callable[[npt.NDArray[np.uint8]], Face | None]
"""A table; a face per image; or what finds the face in an array (h, w, 3), such as `YuNet`."""


def _stem(name: str) -> str:
    return PurePath(name).stem.casefold()


def _ends_alike(name: str, path: str) -> bool:
    """Whether the last folders of a path are those of the name."""
    parts, wanted = PurePath(path).with_suffix("").parts, PurePath(name).with_suffix("").parts
    return parts[-len(wanted) :] == wanted or wanted[-len(parts) :] == parts


def source_name(faces: FaceSource) -> str:
    """What a recipe calls a source."""
    return str(getattr(faces, "source", "given"))


def find_face(
    faces: FaceSource, row: int, name: str | None, image: npt.NDArray[np.uint8], frame: int | None = None
) -> Face | None:
    """The face of one image out of a table (by name), a sequence (by row) or a finder (by pixels)."""
    if isinstance(faces, Faces):
        if name is None:
            raise ValueError("faces is a table, but the images have no names: give a sequence with a face per image")
        return faces.of(name, frame)
    return faces(image) if callable(faces) else faces[row]


def align_faces(
    samples: Samples,
    faces: FaceSource,
    alignment: Alignment | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    missing: str = "raise",
    progress: bool | None = None,
) -> Samples:
    """The samples with their faces cut out, and the recipe, which a model trained on them stores.

    Parameters
    ----------
    samples : Samples
        Of whole images, which have no recipe yet.
    faces : Faces, sequence of Face or None, or callable
        Where the faces are: a table as of `read_faces`, one per sample, or a finder such as `YuNet`.
    alignment : Alignment, optional
        None: by the eyes, 224 x 224.
    out : path, optional
        File to write the faces to, in NumPy's format, from which they are then read as they are
        wanted; None keeps them in memory, 150 kB each.
    missing : {"raise", "skip"}
        What is done with samples without a face.
    progress : bool, optional
        Show a bar.

    Raises
    ------
    ValueError
        The samples have a recipe, a face is missing or cannot be cut; the message names the image.
    OSError
        An image cannot be read, or the file not written.
    """
    recipe = (alignment or Alignment()).from_source(source_name(faces))
    if samples.recipe is not None:
        raise ValueError(f"samples: their faces are cut out already, by {samples.recipe}")
    if missing not in ("raise", "skip"):
        raise ValueError(f"missing is {missing!r}, want 'raise' or 'skip'")
    if not isinstance(faces, Faces) and not callable(faces) and len(faces) != len(samples):
        raise ValueError(f"faces has {len(faces)} entries, samples {len(samples)}")
    kept: list[int] = []
    with _Stack(len(samples), recipe.size, out) as stack:
        for row in _bar(range(len(samples)), progress):
            name = None if samples.paths is None else samples.paths[row]
            image = samples.images[row] if name is None else read_image(name)
            called = f"row {row}" if name is None else name
            face = find_face(faces, row, name, image)
            if face is None:
                if missing == "raise":
                    raise ValueError(f"{called}: {recipe.source} has no face of it; missing='skip' leaves it out")
                continue
            stack.add(cut_named(recipe, image, face, called))
            kept.append(row)
        if not kept:
            raise ValueError(f"{recipe.source} has a face of none of the {len(samples)} samples")
        images = stack.finish()
    return samples.with_images(images, rows=kept, recipe=recipe)


def cut_named(recipe: Alignment, image: npt.NDArray[np.uint8], face: Face, name: str) -> npt.NDArray[np.uint8]:
    """As `Alignment.cut`; what it refuses is told with the name of the image."""
    try:
        return recipe.cut(image, face)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None


def _bar(rows: range, progress: bool | None) -> Iterable[int]:
    from tqdm.auto import tqdm

    bar: Iterable[int] = tqdm(rows, desc="faces", leave=False, disable=None if progress is None else not progress)
    return bar


class _Stack:
    """Images of one size, one after the other, in memory or in a file that gets its name when it is whole."""

    def __init__(self, most: int, size: int, out: str | os.PathLike[str] | None) -> None:
        self.shape, self.count = (most, size, size, 3), 0
        self.out = None if out is None else Path(out)
        self.part = None if self.out is None else self.out.with_name(f".{self.out.name}.part")
        self.file: Any = None
        self.images: npt.NDArray[np.uint8] = np.empty((0, size, size, 3), np.uint8)

    def __enter__(self) -> _Stack:
        if self.part is None:
            self.images = np.empty(self.shape, np.uint8)
        else:
            self.file = open(self.part, "wb")
            self.file.write(npy_header(self.shape))
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self.file is not None:
            self.file.close()
        if kind is not None and self.part is not None:
            self.part.unlink(missing_ok=True)

    def add(self, image: npt.NDArray[np.uint8]) -> None:
        if self.file is None:
            self.images[self.count] = image
        else:
            self.file.write(image.data)
        self.count += 1

    def finish(self) -> npt.NDArray[np.uint8]:
        if self.out is None or self.part is None:
            return self.images[: self.count]
        self.file.seek(0)
        self.file.write(npy_header((self.count, *self.shape[1:])))
        self.file.flush()
        os.fsync(self.file.fileno())
        os.replace(self.part, self.out)
        mapped: npt.NDArray[np.uint8] = np.load(self.out, mmap_mode="r")
        return mapped


NPY_HEADER = 128
"""Bytes of `npy_header`."""


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of a file of uint8 in NumPy's format 1.0, always of the same length."""
    fields = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    room = NPY_HEADER - 10
    if len(fields) >= room or not all(math.isfinite(n) for n in shape):
        raise ValueError(f"the shape {shape} does not fit")
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + fields.ljust(room - 1) + b"\n"
