"""Small data sets in the layouts of the real ones, and one video per call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

DISFA_UNITS = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)


def write(path: Path, text: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text)
    return path


def rewrite(path: Path, pattern: str, new: str) -> None:
    """Replaces the first match in a file."""
    text, count = re.subn(pattern, new, path.read_text(), count=1)
    assert count == 1
    path.write_text(text)


def disfa(root: Path, levels: Mapping[str, np.ndarray]) -> Path:
    """Label files of every subject from intensities (frames, 12)."""
    for subject, table in levels.items():
        folder = root / "ActionUnit_Labels" / subject
        folder.mkdir(parents=True)
        for unit, column in zip(DISFA_UNITS, table.T, strict=True):
            lines = "".join(f"{i},{value}\n" for i, value in enumerate(column.tolist(), 1))
            (folder / f"{subject}_au{unit}.txt").write_text(lines)
    return root


def disfa_levels(subjects: Sequence[str], frames: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {subject: rng.integers(0, 6, (frames, 12)) for subject in subjects}


def celeba(root: Path, count: int = 6, *, identities: bool = True) -> Path:
    names = [f"{i:06d}.jpg" for i in range(1, count + 1)]
    rng = np.random.default_rng(0)
    attributes = " ".join(["Smiling", "Male", *(f"Attribute_{i}" for i in range(38))])
    rows = [f"{name} " + " ".join(f"{v:2d}" for v in rng.choice([-1, 1], 40)) for name in names]
    write(root / "Anno" / "list_attr_celeba.txt", f"{count}\n{attributes} \n" + "\n".join(rows) + "\n")
    write(root / "Eval" / "list_eval_partition.txt", "".join(f"{n} {i * 3 // count}\n" for i, n in enumerate(names)))
    if identities:
        write(root / "Anno" / "identity_CelebA.txt", "".join(f"{n} {2880 + i % 4}\n" for i, n in enumerate(names)))
    points = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    lines = [f"{n}  69 {109 + i}  106 113   77  142   73 152  108  154" for i, n in enumerate(names)]
    write(root / "Anno" / "list_landmarks_align_celeba.txt", f"{count}\n{points} \n" + "\n".join(lines) + "\n")
    for name in names:
        write(root / "Img" / "img_align_celeba" / name)
    return root


CKPLUS = {
    ("S005", "001"): (4, "   9.0000000e+00   0.0000000e+00\n   1.7000000e+01   4.0000000e+00\n"),
    ("S005", "002"): (3, "   1.0000000e+00   3.0000000e+00\n   2.0000000e+00   2.0000000e+00\n"),
    ("S010", "004"): (5, "   1.0000000e+00   5.0000000e+00\n   1.7000000e+01   0.0000000e+00\n"),
    ("S999", "001"): (2, ""),
}


def ckplus(root: Path) -> Path:
    for (subject, sequence), (frames, codes) in CKPLUS.items():
        stem = f"{subject}_{sequence}"
        for frame in range(1, frames + 1):
            write(root / "cohn-kanade-images" / subject / sequence / f"{stem}_{frame:08d}.png")
        write(root / "FACS" / subject / sequence / f"{stem}_{frames:08d}_facs.txt", codes)
        write(root / "cohn-kanade-images" / subject / ".DS_Store")
    return root


LM2 = """# 2D landmarks
4 landmarks
Labels:
Outer left eye corner
Inner left eye corner
Inner right eye corner
Outer right eye corner
2D Image coordinates:
10 20
30 22
50 24
70 20
"""


def bosphorus(root: Path) -> Path:
    images = {
        "bs000": ("N_N_0", "LFAU_12_0", "LFAU_12L_0", "UFAU_4_1", "E_HAPPY_0", "YR_R10_0", "CAU_A12A25_0", "CAU_A26A12LW_0"),
        "bs104": ("N_N_0", "N_N_1", "UFAU_1_0", "LFAU_28_0", "O_EYE_0", "IGN_X_0"),
    }  # fmt: skip
    for subject, names in images.items():
        for name in names:
            write(root / subject / f"{subject}_{name}.png")
            write(root / subject / f"{subject}_{name}.bnt")
            write(root / subject / f"{subject}_{name}.lm2", LM2)
    return root


def bp4d(root: Path) -> Path:
    header = ",".join(str(i) for i in range(100))
    for subject, task, first in (("F001", "T1", 2440), ("F001", "T2", 1), ("M018", "T8", 7)):
        rows = [header]
        for i in range(4):
            codes = ["9"] * 99
            for unit in (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24, 28):
                codes[unit - 1] = str((i + unit) % 2)
            codes[11] = "9" if i == 3 else codes[11]
            rows.append(",".join([str(first + i), *codes]))
        write(root / "AUCoding" / "AU_OCC" / f"{subject}_{task}.csv", "\n".join(rows) + "\n")
        levels = "".join(f"{first + i},{(0, 3, 5, 9)[i]}\n" for i in range(4))
        write(root / "AUCoding" / "AU_INT" / "AU06" / f"{subject}_{task}_AU06.csv", levels)
        for i in range(-1, 6):
            name = f"{first + i:04d}" if first > 9 else f"{first + i:03d}"
            write(root / "2D+3D" / subject / task / f"{name}.jpg")
    return root


def openface(path: Path, frames: int = 5) -> Path:
    """As FeatureExtraction writes it, with a space in front of names; frame 3 failed, 4 is unsure."""
    units = ("AU01", "AU12", "AU28")
    names = ["frame", "face_id", "timestamp", "confidence", "success"]
    names += [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    names += [f"{u}_r" for u in units[:2]] + [f"{u}_c" for u in units]
    rows = [", ".join(names)]
    for i in range(1, frames + 1):
        sure, found = (0.0, 0) if i == 3 else (0.5, 1) if i == 4 else (0.98, 1)
        x = [100.0 + 2 * p + i for p in range(68)]
        y = [50.0 + p for p in range(68)]
        values = [i, 0, 0.05 * i, sure, found, *x, *y, 0.5 * i, 1.25, i % 2, 1, 0]
        rows.append(", ".join(str(v) for v in values))
    return write(path, "\n".join(rows) + "\n")


def pyfeat(path: Path, inputs: Sequence[str], frames: Sequence[int] | None = None) -> Path:
    names = ["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight", "FaceScore"]
    names += [f"{axis}_{i}" for axis in "xy" for i in range(68)]
    names += ["AU01", "AU12", "input", "frame"]
    rows = [",".join(names)]
    for i, name in enumerate(inputs):
        x = [100.0 + 2 * p for p in range(68)]
        values = [10 + i, 20, 100, 120, 0.9, *x, *x, 0.4 + 0.2 * i, 0.7, name, i if frames is None else frames[i]]
        rows.append(",".join(str(v) for v in values))
    return write(path, "\n".join(rows) + "\n")


def video(path: Path, frames: int = 5, *, width: int = 64, height: int = 48) -> Path:
    """A video whose frame i, from 0, is a grey of 40 i with a bright square at (8 i, 8)."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=20)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        stream.options = {"qmin": "1", "qmax": "2"}
        for i in range(frames):
            image = np.full((height, width, 3), 40 * (i % 6), np.uint8)
            image[8:16, 8 * (i % 6) : 8 * (i % 6) + 8] = 250
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
