"""Videos to frames, once, in bounded memory, and resumable."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet._core import FormatError
from facsnet._frame_store import FrameStore, StoreWriter, open_frames
from facsnet.faces import Alignment, Faces, FaceSource, cut_named, find_face, source_name
from facsnet.images import resize_image

__all__ = ["FrameStore", "extract_frames", "open_frames", "video_frames"]


def extract_frames(
    videos: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    size: int | None = 224,
    packed: bool = True,
    faces: FaceSource | None = None,
    alignment: Alignment | None = None,
    progress: bool | None = None,
) -> FrameStore:
    """Stores the frames of videos in a folder, with a manifest that has a hash of each.

    One frame is in memory at a time. A video is entered in the manifest when all of it is written: run
    again after a break, those that are entered are not read again.

    Parameters
    ----------
    videos : iterable of path
        Whatever FFmpeg reads; file names without their endings must differ. Takes
        ``pip install facsnet[video]``.
    out : path
        Folder, made where it is not there.
    size : int, optional
        Frames are resized to this square, the aspect may change; None keeps them, in single files.
        Of faces the recipe says the size.
    packed : bool
        One file ``frames.npy``, which is mapped and not loaded; else ``VIDEO/000001.png`` and so on.
    faces : Faces or callable, optional
        Cut the face out of every frame: a table, frames from 1, as of `read_faces`, or a finder such as
        `YuNet`. Frames without a face are not stored, and listed in the manifest.
    alignment : Alignment, optional
        How; None: by the eyes, 224 x 224.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    FrameStore

    Raises
    ------
    ModuleNotFoundError
        PyAV is not installed.
    FormatError
        A file is no video, is damaged, or has no frames.
    OSError
        A file cannot be read or written.
    ValueError
        An argument is out of its range, two videos have one name, or the folder has frames of other
        settings or of another file of the same name.
    """
    paths = [Path(path) for path in _listed(videos)]
    if size is not None and not 1 <= size <= 4096:
        raise ValueError(f"size is {size}, want 1 to 4096, or None")
    recipe = None
    if faces is not None:
        if not isinstance(faces, Faces) and not callable(faces):
            raise ValueError("faces is a sequence, want a table or a finder: rows of it say nothing of frames")
        recipe = (alignment or Alignment()).from_source(source_name(faces))
        size = recipe.size
    elif alignment is not None:
        raise ValueError("alignment wants faces=, which says where they are")
    if packed and size is None:
        raise ValueError("size is None, but packed frames have one size")
    writer = StoreWriter(Path(out), packed=packed, size=size, recipe=recipe)
    try:
        for path in paths:
            if not _known(writer, path):
                writer.add(path, _images(path, size, faces, recipe, progress))
    finally:
        writer.close()
    return open_frames(out)


def video_frames(path: str | os.PathLike[str]) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames of a video one after the other, RGB (h, w, 3).

    Raises
    ------
    ModuleNotFoundError, FormatError, OSError
        As `extract_frames`.
    """
    av = _pyav()
    name = os.fspath(path)
    count = 0
    try:
        with av.open(name) as container:
            if not container.streams.video:
                raise FormatError(f"{name}: has no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                count += 1
                yield frame.to_ndarray(format="rgb24")
    except av.error.InvalidDataError as problem:
        raise FormatError(f"{name}: damaged after frame {count}: {problem.strerror}") from None
    if not count:
        raise FormatError(f"{name}: has no frames")


def _pyav() -> Any:
    try:
        import av
    except ModuleNotFoundError as problem:
        raise ModuleNotFoundError("reading videos takes PyAV: pip install facsnet[video]", name="av") from problem
    return av


def _listed(videos: Iterable[str | os.PathLike[str]]) -> list[str]:
    if isinstance(videos, (str, os.PathLike)):
        raise ValueError(f"videos is one path ({os.fspath(videos)!r}), want a list")
    paths = [os.fspath(path) for path in videos]
    if not paths:
        raise ValueError("videos: the list is empty")
    named: dict[str, str] = {}
    for path in paths:
        first = named.setdefault(Path(path).stem, path)
        if first != path:
            raise ValueError(f"videos: {first} and {path} have one name, which names their frames")
    return paths


def _known(writer: StoreWriter, path: Path) -> bool:
    """Whether a video is entered; ValueError where another file of its name is."""
    bytes_now = path.stat().st_size
    video = writer.videos.get(path.stem)
    if video is None:
        return False
    if (video.source, video.bytes) != (path.name, bytes_now):
        raise ValueError(
            f"{path}: {writer.folder} has frames of {video.source} with {video.bytes} bytes, "
            f"this file has {bytes_now}: choose another folder"
        )
    return True


def _images(
    path: Path, size: int | None, faces: FaceSource | None, recipe: Alignment | None, progress: bool | None
) -> Iterator[npt.NDArray[np.uint8] | None]:
    from tqdm.auto import tqdm

    hidden = None if progress is None else not progress
    for number, image in enumerate(tqdm(video_frames(path), desc=path.name, leave=False, disable=hidden), 1):
        if faces is None or recipe is None:
            yield image if size is None else resize_image(image, size, size)
            continue
        face = find_face(faces, number - 1, os.fspath(path), image, number)
        yield None if face is None else cut_named(recipe, image, face, f"{path}, frame {number}")
