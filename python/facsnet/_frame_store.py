"""A folder of frames out of videos: single files or one packed file, and a manifest with a hash of each."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._plain import from_plain, to_plain
from facsnet._png import encode_png
from facsnet.faces import NPY_HEADER, Alignment, npy_header

__all__ = ["FrameStore", "StoredVideo", "open_frames"]

_MANIFEST, _PACKED, _FORMAT, _VERSION = "manifest.jsonl", "frames.npy", "facsnet.frames", 1


@dataclass(frozen=True)
class _Head:
    """The first line of a manifest."""

    format: str
    version: int
    packed: bool
    size: int | None
    recipe: Alignment | None

    def __post_init__(self) -> None:
        if (self.format, self.version) != (_FORMAT, _VERSION):
            raise ValueError(f"format is {self.format} {self.version}, this library knows {_FORMAT} {_VERSION}")
        if self.packed and self.size is None:
            raise ValueError("packed frames have no size")


@dataclass(frozen=True)
class StoredVideo:
    """A line of a manifest: one whole video.

    Attributes
    ----------
    video : str
        File name of the video less its ending.
    source : str
        File name.
    bytes : int
        Of the video's file.
    frames : int
        Of the video.
    absent : tuple of int
        Frames, from 1, that are not stored, since no face was found on them.
    digests : str
        16 hexadecimal digits per stored frame: BLAKE2b of its pixels where frames are packed, else of
        its file.
    """

    video: str
    source: str
    bytes: int
    frames: int
    absent: tuple[int, ...]
    digests: str

    def __post_init__(self) -> None:
        absent = set(self.absent)
        if self.frames < 0 or len(absent) != len(self.absent) or not all(1 <= n <= self.frames for n in absent):
            raise ValueError(f"absent are {list(self.absent)[:5]}, want different ones of {self.frames} frames")
        if len(self.digests) != 16 * self.stored:
            raise ValueError(f"{len(self.digests)} digits of hashes, want 16 for each of {self.stored} frames")

    @property
    def stored(self) -> int:
        return self.frames - len(self.absent)

    def digest(self, index: int) -> str:
        """Of the stored frame with this index, from 0."""
        return self.digests[16 * index : 16 * (index + 1)]


class FrameStore:
    """The frames of a folder that `facsnet.extract_frames` made.

    Attributes
    ----------
    folder : Path
    packed : bool
        Whether frames are rows of one file, read as they are wanted; else files ``VIDEO/000001.png``.
    size : int or None
        Side in pixels; None: as in the video.
    recipe : Alignment or None
        How faces were cut out of the frames.
    videos : mapping of str to StoredVideo
        By name, in the order in which they were stored.
    """

    def __init__(self, folder: Path, head: _Head, videos: Sequence[StoredVideo]) -> None:
        self.folder, self.packed, self.size, self.recipe = folder, head.packed, head.size, head.recipe
        self.videos: Mapping[str, StoredVideo] = {video.video: video for video in videos}
        self._images: npt.NDArray[np.uint8] | None = None

    @staticmethod
    def is_at(folder: Path) -> bool:
        return (folder / _MANIFEST).is_file()

    def __repr__(self) -> str:
        kind = "packed" if self.packed else "files"
        return f"<FrameStore: {self.stored} frames of {len(self.videos)} videos, {kind}, in {self.folder}>"

    @property
    def stored(self) -> int:
        return sum(video.stored for video in self.videos.values())

    def count(self, video: str) -> int:
        """Frames of a video, stored or not; 0 where there is no such video."""
        return self.videos[video].frames if video in self.videos else 0

    def frames(self, video: str) -> npt.NDArray[np.int64]:
        """Numbers, from 1, of the stored frames."""
        found = self.videos[video]
        return np.setdiff1d(np.arange(1, found.frames + 1), found.absent)

    def images(self) -> npt.NDArray[np.uint8]:
        """All packed frames (n, size, size, 3), mapped and read-only, in the order of `videos`.

        Raises
        ------
        FormatError
            The file is shorter than the manifest says.
        """
        if self._images is None:
            assert self.size is not None
            path, shape = self.folder / _PACKED, (self.stored, self.size, self.size, 3)
            want, found = NPY_HEADER + int(np.prod(shape)), path.stat().st_size
            if found < want:
                raise FormatError(f"{path}: has {found} bytes, the manifest wants {want}")
            self._images = np.asarray(np.memmap(path, np.uint8, "r", NPY_HEADER, shape))
        return self._images

    def sources(self, video: str, frames: Iterable[int] | None = None) -> list[Any]:
        """Arrays, or paths where frames are single files, of a video's frames (None: all that are stored).

        Raises
        ------
        KeyError
            There is no such video.
        ValueError
            A frame is not stored.
        """
        there = self.frames(video)
        wanted = there if frames is None else np.asarray(list(frames), np.int64)
        lacking = np.setdiff1d(wanted, there)
        if len(lacking):
            raise ValueError(f"{self.folder}: frame {lacking[0]} of {video} is not stored")
        if not self.packed:
            return [os.fspath(_file(self.folder, video, frame)) for frame in wanted]
        images, first = self.images(), self._first(video)
        return [images[first + row] for row in np.searchsorted(there, wanted)]

    def _first(self, video: str) -> int:
        names = list(self.videos)
        return sum(self.videos[name].stored for name in names[: names.index(video)])

    def verify(self) -> None:
        """Reads every frame; raises FormatError that names the first whose hash is another, OSError for one that is gone."""
        for name, video in self.videos.items():
            for index, (frame, source) in enumerate(zip(self.frames(name), self.sources(name), strict=True)):
                data = source.tobytes() if self.packed else Path(source).read_bytes()
                if digest_of(data) != video.digest(index):
                    raise FormatError(f"{self.folder}: frame {frame} of {name} is not what was stored")


def digest_of(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _file(folder: Path, video: str, frame: int) -> Path:
    return folder / video / f"{frame:06d}.png"


def open_frames(folder: str | os.PathLike[str]) -> FrameStore:
    """Opens what `extract_frames` made.

    A last line that is not whole, of a run that was cut off, does not count.

    Raises
    ------
    FileNotFoundError
        There is no manifest.
    FormatError
        The manifest is damaged; the message has the line.
    """
    place = Path(folder)
    head, videos, _ = _read_manifest(place)
    return FrameStore(place, head, videos)


def _read_manifest(folder: Path) -> tuple[_Head, list[StoredVideo], int]:
    """Head, videos, and the bytes of the lines that are whole."""
    path = folder / _MANIFEST
    lines = path.read_bytes().split(b"\n")
    whole = lines[:-1]  # what follows the last line end is a line cut off, or nothing
    if not whole:
        raise FormatError(f"{path}: is empty")
    videos: list[StoredVideo] = []
    head: _Head | None = None
    for number, line in enumerate(whole, 1):
        try:
            row = json.loads(line)
            if head is None:
                head = from_plain(_Head, row, "head")
            else:
                videos.append(from_plain(StoredVideo, row, "video"))
        except (ValueError, RecursionError) as problem:
            raise FormatError(f"{path}: line {number} is damaged: {problem}") from None
    twice = [name for name, count in Counter(video.video for video in videos).items() if count > 1]
    if twice:
        raise FormatError(f"{path}: {twice[0]} is there twice")
    assert head is not None
    return head, videos, sum(len(line) + 1 for line in whole)


class StoreWriter:
    """Adds videos to a folder, each whole or not at all; one writer at a time.

    Parameters
    ----------
    folder : Path
        Made where it is not there; gone on with where it has a manifest of the same settings.
    packed, size, recipe
        As of `FrameStore`.

    Raises
    ------
    ValueError
        The folder has frames of other settings.
    BlockingIOError
        Another process writes into it.
    """

    def __init__(self, folder: Path, *, packed: bool, size: int | None, recipe: Alignment | None) -> None:
        self.folder, self.head = folder, _Head(_FORMAT, _VERSION, packed, size, recipe)
        folder.mkdir(parents=True, exist_ok=True)
        self.manifest = open(folder / _MANIFEST, "a+b")  # noqa: SIM115 - closed by close
        try:
            self._lock()
            self._take_up()
        except BaseException:
            self.manifest.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self.manifest, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise BlockingIOError(problem.errno, "another process extracts into it", os.fspath(self.folder)) from None

    def _take_up(self) -> None:
        self.videos: dict[str, StoredVideo] = {}
        if not (self.folder / _MANIFEST).read_bytes().count(b"\n"):
            self.manifest.truncate(0)
            self._append(self.head)
            return
        found, videos, whole = _read_manifest(self.folder)
        for field in dataclasses.fields(_Head):
            there, asked = getattr(found, field.name), getattr(self.head, field.name)
            if there != asked:
                raise ValueError(
                    f"{self.folder}: its frames have {field.name} {there}, asked is {asked}: choose another folder"
                )
        self.manifest.truncate(whole)
        self.videos = {video.video: video for video in videos}

    def _append(self, row: Any) -> None:
        self.manifest.write(json.dumps(to_plain(row)).encode() + b"\n")
        self.manifest.flush()
        os.fsync(self.manifest.fileno())

    def close(self) -> None:
        self.manifest.close()

    def add(self, source: Path, frames: Iterable[npt.NDArray[np.uint8] | None]) -> StoredVideo:
        """Stores a video's frames as they come; None is a frame without a face."""
        stored = sum(video.stored for video in self.videos.values())
        kind = _PackedSink if self.head.packed else _FileSink
        digests: list[str] = []
        absent: list[int] = []
        number = 0
        with kind(self.folder, source.stem, self.head.size, stored) as sink:
            for number, image in enumerate(frames, 1):
                if image is None:
                    absent.append(number)
                else:
                    digests.append(sink.add(number, image))
            sink.finish()
        video = StoredVideo(source.stem, source.name, source.stat().st_size, number, tuple(absent), "".join(digests))
        self._append(video)
        self.videos[video.video] = video
        return video


class _PackedSink:
    """Rows at the end of the packed file."""

    def __init__(self, folder: Path, video: str, size: int | None, stored: int) -> None:
        assert size is not None
        self.shape, self.stored = (size, size, 3), stored
        path, end = folder / _PACKED, NPY_HEADER + stored * int(np.prod(self.shape))
        path.touch()
        if stored and path.stat().st_size < end:
            raise FormatError(f"{path}: has {path.stat().st_size} bytes, the manifest wants {end}")
        self.file = open(path, "r+b")  # noqa: SIM115 - closed by __exit__
        # rows beyond the manifest are of a video that was cut off
        self.file.truncate(end)
        self.file.seek(end)

    def __enter__(self) -> _PackedSink:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def add(self, number: int, image: npt.NDArray[np.uint8]) -> str:
        if image.shape != self.shape:
            raise ValueError(f"frame {number} has shape {image.shape}, want {self.shape}")
        self.file.write(image.data)
        self.stored += 1
        return digest_of(image.data)

    def finish(self) -> None:
        """After this the rows are on the disk, and NumPy's header counts them."""
        self.file.seek(0)
        self.file.write(npy_header((self.stored, *self.shape)))
        self.file.flush()
        os.fsync(self.file.fileno())


class _FileSink:
    """One PNG file per frame."""

    def __init__(self, folder: Path, video: str, size: int | None, stored: int) -> None:
        del size, stored
        self.folder, self.video = folder, video
        (folder / video).mkdir(exist_ok=True)

    def __enter__(self) -> _FileSink:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def add(self, number: int, image: npt.NDArray[np.uint8]) -> str:
        data = encode_png(image)
        _file(self.folder, self.video, number).write_bytes(data)
        return digest_of(data)

    def finish(self) -> None:
        """The manifest calls a video whole only when its files are on the disk."""
        for path in (self.folder / self.video).iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
