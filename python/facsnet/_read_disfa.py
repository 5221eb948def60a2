"""DISFA: 27 subjects, a video each, twelve action units with intensities per frame."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet._frame_store import FrameStore, open_frames
from facsnet._layout import Findings, child_folder, choose_aus, listing, numbered_rows, root_folder
from facsnet.faces import Alignment
from facsnet.frames import extract_frames
from facsnet.samples import DISFA_FOLDS, Samples

__all__ = ["DISFA_AUS", "DISFA_ERRORS", "read_disfa"]

DISFA_AUS: tuple[str, ...] = tuple(f"AU{au:02d}" for au in (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26))
"""The twelve action units that DISFA codes."""

# fmt: off
DISFA_ERRORS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "SN001": ((398, 420), (3190, 3243)),
    "SN002": ((800, 826),),
    "SN004": ((4541, 4555),),
    "SN006": ((1349, 1405),),
    "SN009": ((1736, 1808), (1851, 1885)),
    "SN011": ((4529, 4533), (4830, 4845)),
    "SN021": ((574, 616), (985, 1164), (1190, 1205), (1305, 1338), (1665, 1710), (1862, 2477), (2554, 4657), (4710, 4722)),
    "SN023": ((1021, 1049), (3378, 3557), (3584, 3668), (4547, 4621), (4741, 4772), (4825, 4845)),
    "SN025": ((4596, 4662), (4816, 4835)),
    "SN027": ((3461, 3494), (4738, 4785)),
    "SN028": ((1875, 1885), (4571, 4690)),
    "SN029": ((4090, 4543),),
    "SN030": ((939, 962), (1406, 1422), (2100, 2132), (2893, 2955)),
}
# fmt: on
"""Frames with annotation errors that some papers leave out: first and last of every interval, from 1."""

_FOLD_OF = {subject: str(i + 1) for i, fold in enumerate(DISFA_FOLDS) for subject in fold}
_LENGTH, _LENGTHS = 4845, {"SN010": 4844}
_CAMERAS = {"left": "Videos_LeftCamera", "right": "Videos_RightCamera"}


def read_disfa(
    root: str | os.PathLike[str],
    *,
    positive: float = 2,
    camera: str = "left",
    aus: Iterable[int | str] | None = None,
    drop_errors: bool = False,
    frames: str | os.PathLike[str] | None = None,
    extract: bool = True,
    complete: bool = True,
    progress: bool | None = None,
) -> Samples:
    """The frames of DISFA with their action units.

    Parameters
    ----------
    root : path
        Holds ``ActionUnit_Labels/SN001/SN001_au1.txt`` and so on, and ``Videos_LeftCamera``.
    positive : float
        Least intensity, 1 to 5, of a unit that counts as present; the field takes 2.
    camera : {"left", "right"}
    aus : iterable of int or str, optional
        ``(1, 2, 4)`` or ``("AU01", ...)``; None all twelve of `DISFA_AUS`.
    drop_errors : bool
        Leave `DISFA_ERRORS` out.
    frames : path, optional
        Folder of the extracted frames, packed or not, of `extract_frames`; None ``Frames_left`` or
        ``Frames_right`` in ``root``.
    extract : bool
        Extract the videos that this folder lacks, packed, which takes ``pip install facsnet[video]`` and
        20 GB. False leaves videos alone and does not miss them; where there is no such folder, the paths
        are those of frames yet to be extracted to single files.
    complete : bool
        Want all 27 subjects and the published count of frames; False takes a part of the data set.
    progress : bool, optional
        Show bars while extracting.

    Returns
    -------
    Samples
        In the order of subjects and frames, with intensities 0 to 5 and, as the fold column, the
        field's fold 1 to 3. Neighbouring frames are near-duplicates: split by subject, as
        ``samples.folds("disfa")`` does.

    Raises
    ------
    FormatError
        Subjects, files of units or frames are missing, unknown, there twice, or damaged; labels and
        video differ in their count of frames. One message names everything.
    OSError
        There is no such folder.
    ValueError
        An argument is out of its range, or ``frames`` holds faces and lacks those of a video.
    """
    if camera not in _CAMERAS:
        raise ValueError(f"camera is {camera!r}, want one of {sorted(_CAMERAS)}")
    if not 1 <= positive <= 5:
        raise ValueError(f"positive is {positive}, want an intensity from 1 to 5")
    names = choose_aus(aus, DISFA_AUS, "DISFA")
    place = root_folder(root, "DISFA")
    findings = Findings("DISFA", place)
    intensity = _read_labels(place, findings, names, complete)
    store = place / f"Frames_{camera}" if frames is None else Path(frames)
    videos = _find_videos(place, camera, intensity, findings)
    opened = open_frames(store) if FrameStore.is_at(store) else None
    if extract and not videos and opened is None:
        findings.add(
            f"there is neither a folder {_CAMERAS[camera]} nor one of extracted frames, {store.name}; "
            "extract=False reads the labels alone"
        )
    findings.stop()
    lacking = [path for path in videos.values() if opened is None or path.stem not in opened.videos]
    if extract and lacking:
        if opened is not None and opened.recipe is not None:
            raise ValueError(
                f"{store}: holds faces, and none of {len(lacking)} videos, first {lacking[0].name}: "
                "extract them by the same recipe, with extract_frames"
            )
        settings = (224, True) if opened is None else (opened.size, opened.packed)
        opened = extract_frames(lacking, store, size=settings[0], packed=settings[1], progress=progress)
    sources = _Sources(store, opened, videos, camera, findings)
    recipe = None if opened is None else opened.recipe
    return _assemble(intensity, names, positive, drop_errors, sources, recipe, findings)


def _read_labels(
    root: Path, findings: Findings, names: list[str], complete: bool
) -> dict[str, npt.NDArray[np.float32]]:
    """Intensities (frames, k) per subject."""
    folder = child_folder(root, "ActionUnit_Labels")
    if folder is None:
        findings.add("there is no folder ActionUnit_Labels")
        findings.stop()
    assert folder is not None
    found = {}
    for entry in listing(folder):
        if entry.name not in _FOLD_OF:
            findings.add(f"is not one of the 27 subjects, {min(_FOLD_OF)} to {max(_FOLD_OF)}", entry)
        elif not entry.is_dir():
            findings.add("is no folder", entry)
        else:
            found[entry.name] = entry
    missing = sorted(set(_FOLD_OF) - set(found))
    if missing and (complete or not found):
        findings.add(f"{len(missing)} of 27 subjects are missing: {', '.join(missing[:5])}", folder)
    read = {subject: _read_subject(found[subject], findings, names, complete) for subject in sorted(found)}
    return {subject: values for subject, values in read.items() if values is not None}


def _read_subject(folder: Path, findings: Findings, names: list[str], complete: bool) -> npt.NDArray[np.float32] | None:
    files: dict[str, Path] = {}
    for path in listing(folder):
        match = re.fullmatch(rf"{folder.name}_au(\d+)\.txt", path.name, re.IGNORECASE)
        name = f"AU{int(match[1]):02d}" if match else None
        if name not in DISFA_AUS:
            findings.add(f"is not a label file of {folder.name}, want {folder.name}_au1.txt and so on", path)
        elif name in files:
            findings.add(f"is the second file of {name} beside {files[name].name}", path)
        else:
            files[name] = path
    missing = [name for name in (DISFA_AUS if complete else names) if name not in files]
    if missing:
        findings.add(f"label files are missing: {', '.join(missing)}", folder)
    columns = {name: numbered_rows(files[name], findings, most=5) for name in DISFA_AUS if name in files}
    whole = {name: values for name, values in columns.items() if values is not None}
    lengths = {name: len(values) for name, values in whole.items()}
    wanted = _LENGTHS.get(folder.name, _LENGTH) if complete else max(lengths.values(), default=0)
    for name, length in lengths.items():
        if length != wanted:
            findings.add(f"has {length} frames, {'want' if complete else 'other units have'} {wanted}", files[name])
    if set(names) - set(whole) or any(length != wanted for length in lengths.values()):
        return None
    return np.stack([whole[name] for name in names], axis=1).astype(np.float32)


def _find_videos(root: Path, camera: str, subjects: Iterable[str], findings: Findings) -> dict[str, Path]:
    """The video of every subject; empty where the folder of videos is not there."""
    folder = child_folder(root, _CAMERAS[camera])
    if folder is None:
        return {}
    videos: dict[str, Path] = {}
    for path in listing(folder):
        match = re.fullmatch(rf"{camera}video(SN\d{{3}})_comp\.avi", path.name, re.IGNORECASE)
        subject = match[1].upper() if match else None
        if subject not in _FOLD_OF:
            findings.add(f"is not a video of DISFA's {camera} camera", path)
        elif subject in videos:
            findings.add(f"is the second video of {subject} beside {videos[subject].name}", path)
        else:
            videos[subject] = path
    missing = [subject for subject in subjects if subject not in videos]
    if missing:
        findings.add(f"videos of {len(missing)} subjects are missing: {', '.join(missing[:5])}", folder)
    return {subject: path for subject, path in videos.items() if subject in set(subjects)}


def _assemble(
    intensity: Mapping[str, npt.NDArray[np.float32]],
    names: list[str],
    positive: float,
    drop_errors: bool,
    sources_of: Callable[[str, int, npt.NDArray[np.int64]], tuple[list[Any], npt.NDArray[np.int64]]],
    recipe: Alignment | None,
    findings: Findings,
) -> Samples:
    values, subjects, sources = [], [], []
    for subject, rows in intensity.items():
        found, kept = sources_of(subject, len(rows), _kept(subject, len(rows), drop_errors))
        sources += found
        values.append(rows[kept])
        subjects += [subject] * len(kept)
    findings.stop()
    levels = np.concatenate(values)
    packed = bool(sources) and not isinstance(sources[0], str)
    return Samples(
        label_names=names,
        labels=levels >= positive,
        images=sources if packed else None,
        paths=None if packed else sources,
        subjects=subjects,
        folds=[_FOLD_OF[subject] for subject in subjects],
        intensity=levels,
        recipe=recipe,
    )


class _Sources:
    """Where the images of a subject are: stored frames, else paths of frames yet to be extracted."""

    def __init__(
        self, folder: Path, store: FrameStore | None, videos: Mapping[str, Path], camera: str, findings: Findings
    ) -> None:
        self.folder, self.store, self.videos, self.camera, self.findings = folder, store, videos, camera, findings

    def __call__(
        self, subject: str, count: int, kept: npt.NDArray[np.int64]
    ) -> tuple[list[Any], npt.NDArray[np.int64]]:
        """Images of the kept rows, and the rows that they are of: a frame without a face is not stored."""
        video = self._video(subject)
        if self.store is None:
            return [os.fspath(self.folder / video / f"{row + 1:06d}.png") for row in kept], kept
        found = self.store.count(video)
        if found != count:
            self.findings.add(f"the video of {subject} has {found} frames, its labels {count}", self.folder)
            return [], kept
        kept = np.intersect1d(kept, self.store.frames(video) - 1)
        return self.store.sources(video, kept + 1), kept

    def _video(self, subject: str) -> str:
        """The name of a subject's video; its usual one where the store has none of it."""
        if subject in self.videos:
            return self.videos[subject].stem
        usual = f"{self.camera.capitalize()}Video{subject}_comp"
        stored = () if self.store is None else self.store.videos
        return next((name for name in stored if name.casefold() == usual.casefold()), usual)


def _kept(subject: str, count: int, drop_errors: bool) -> npt.NDArray[np.int64]:
    """Rows, from 0, less the published errors."""
    kept = np.ones(count, bool)
    for first, last in DISFA_ERRORS.get(subject, ()) if drop_errors else ():
        kept[first - 1 : last] = False
    return np.flatnonzero(kept)
