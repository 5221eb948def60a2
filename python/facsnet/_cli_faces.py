"""Command line: facsnet frames, and the options that say where faces are."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from facsnet.datasets import read_faces
from facsnet.faces import Alignment, FaceSource, align_faces
from facsnet.frames import extract_frames
from facsnet.samples import Samples
from facsnet.yunet import YuNet

__all__ = ["add_face_options", "add_frames", "align_samples", "face_source"]

AddCommand = Callable[[str, str, Callable[[argparse.Namespace], None]], argparse.ArgumentParser]


def add_frames(add_command: AddCommand) -> None:
    parser = add_command("frames", "extract the frames of videos, or the faces on them, once", _frames)
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write; videos it has already are not read again"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the squares; 0 keeps the frames as they are")
    parser.add_argument("--files", action="store_true", help="a PNG file per frame instead of one packed file")
    add_face_options(parser)
    parser.add_argument("--align", choices=["eyes", "box"], help="how faces are cut out (None: by the eyes)")


def add_face_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--faces", type=Path, help="where faces are: a table of OpenFace, py-feat or CelebA, or of your own"
    )
    group.add_argument(
        "--find", nargs="?", const="yunet", metavar="ONNX", help="find faces with YuNet, fetched once or from this file"
    )


def face_source(options: argparse.Namespace) -> FaceSource | None:
    """What --faces or --find name; None where neither is given."""
    if options.faces is not None:
        return read_faces(options.faces)
    if options.find is not None:
        return YuNet(None if options.find == "yunet" else options.find)
    return None


def align_samples(samples: Samples, options: argparse.Namespace, alignment: Alignment, file: Path) -> Samples:
    """The faces of samples that --faces or --find say, kept in a file; the samples as they are where neither is given.

    Samples without a face are left out, and counted.
    """
    faces = face_source(options)
    if faces is None:
        return samples
    found = align_faces(samples, faces, alignment, out=file, missing="skip")
    if len(found) < len(samples):
        print(f"{len(samples) - len(found)} of {len(samples)} images are left out: there is no face of them")
    return found


def _frames(options: argparse.Namespace) -> None:
    faces = face_source(options)
    if faces is None and options.align is not None:
        raise ValueError("--align wants --faces or --find, which say where faces are")
    alignment = None
    if faces is not None:
        if options.size < 1:
            raise ValueError(f"--size is {options.size}, faces want a size")
        alignment = Alignment(options.align or "eyes", options.size)
    store = extract_frames(
        options.videos,
        options.out,
        size=options.size or None,
        packed=not options.files,
        faces=faces,
        alignment=alignment,
    )
    for path in options.videos:
        video = store.videos[path.stem]
        absent = f", {len(video.absent)} without a face" if video.absent else ""
        print(f"{video.source}: {video.frames} frames{absent}")
    print(store)
