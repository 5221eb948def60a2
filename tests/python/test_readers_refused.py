"""Damaged data sets: each kind of damage is refused, and named with its place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trees
from trees import write

import facsnet as fn
from facsnet.datasets import bosphorus_faces, celeba_faces

Damage = Callable[[Path], object]


def edit(name: str, old: str, new: str) -> Damage:
    """Replaces text, once, in a file of the tree."""

    def damage(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return damage


def remove(name: str) -> Damage:
    def damage(root: Path) -> None:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return damage


def put(name: str, text: str | bytes = "x") -> Damage:
    return lambda root: write(root / name, text)


def copy(name: str, to: str) -> Damage:
    def damage(root: Path) -> None:
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, root / to)

    return damage


def move(name: str, to: str) -> Damage:
    def damage(root: Path) -> None:
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        (root / name).rename(root / to)

    return damage


def refused(read: Callable[[], object], message: str) -> None:
    with pytest.raises(fn.FormatError, match=message):
        read()


AU1 = "ActionUnit_Labels/SN001/SN001_au1.txt"
AU4 = "ActionUnit_Labels/SN001/SN001_au4.txt"


@pytest.fixture
def disfa(tmp_path: Path) -> Path:
    levels = {"SN001": np.tile(np.arange(6)[:, None], 12), "SN002": np.zeros((6, 12), int)}
    return trees.disfa(tmp_path, levels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("ActionUnit_Labels"), "no folder ActionUnit_Labels"),
        (put("ActionUnit_Labels/SN033/x"), "ActionUnit_Labels/SN033: is not one of the 27 subjects"),
        (lambda r: [remove(f"ActionUnit_Labels/{s}")(r) for s in ("SN001", "SN002")], "27 of 27 subjects are missing"),
        (put("ActionUnit_Labels/SN003", "x"), "ActionUnit_Labels/SN003: is no folder"),
        (remove(AU4), "ActionUnit_Labels/SN001: label files are missing: AU04"),
        (copy(AU1, "ActionUnit_Labels/SN001/SN001_au3.txt"), "SN001_au3.txt: is not a label file of SN001"),
        (copy(AU1, "ActionUnit_Labels/SN001/SN002_au1.txt"), "SN002_au1.txt: is not a label file of SN001"),
        (copy(AU1, "ActionUnit_Labels/SN001/SN001_au01.txt"), "the second file of AU01 beside SN001_au01.txt"),
        (put(AU1, ""), "SN001_au1.txt: is empty"),
        (put(AU1, b"\xff\xfe\x00"), "SN001_au1.txt: is not text"),
        (put(AU1, b"1,0\n\0\0"), "SN001_au1.txt: is not text: it holds zero bytes"),
        (edit(AU1, "3,2\n", "3 2\n"), "SN001_au1.txt: line 3 is '3 2', want 2 numbers"),
        (edit(AU1, "3,2\n", "3,2,0\n"), "SN001_au1.txt: line 3 is '3,2,0', want 2 numbers"),
        (edit(AU1, "2,1\n3,2\n", "2,1,3\n2\n"), "SN001_au1.txt: line 2 is '2,1,3', want 2 numbers"),
        (edit(AU1, "2,1\n3,2\n", "2,1 3\n,2\n"), "SN001_au1.txt: line 2 is '2,1 3', want 2 numbers"),
        (edit(AU1, "3,2\n", "3,two\n"), "SN001_au1.txt: line 3 is '3,two'"),
        (edit(AU1, "3,2\n", "3,\n"), "SN001_au1.txt: line 3 is '3,'"),
        (edit(AU1, "3,2\n", "3,6\n"), "SN001_au1.txt: frame 3 has the intensity 6, want a whole number from 0 to 5"),
        (edit(AU1, "3,2\n", "3,-1\n"), "frame 3 has the intensity -1"),
        (edit(AU1, "3,2\n", "3,1.5\n"), "frame 3 has the intensity 1.5"),
        (edit(AU1, "3,2\n", "3,nan\n"), "frame 3 has the intensity nan"),
        (edit(AU1, "3,2\n", ""), r"SN001_au1.txt: frame 3 is missing \(line 3 has frame 4\)"),
        (edit(AU1, "3,2\n", "2,2\n"), r"SN001_au1.txt: frame 2 is there twice \(line 3\)"),
        (edit(AU1, "3,2\n4,3\n", "4,3\n3,2\n"), "frame 4 stands on line 3, where 3 is wanted"),
        (edit(AU1, "1,0\n", "0,0\n"), "line 1 has the frame 0, want 1, 2, 3"),
        (edit(AU1, "3,2\n", "inf,2\n"), r"frame 3 is missing \(line 3 has frame inf\)"),
        (edit(AU1, "3,2\n", "nan,2\n"), "line 3 has the frame nan"),
        (edit(AU1, "3,2\n", "3,1_0\n"), "line 3 is '3,1_0'"),
        (edit(AU1, "6,5\n", ""), "SN001_au1.txt: has 5 frames, other units have 6"),
    ],
)  # fmt: skip
def test_damaged_disfa(disfa: Path, damage: Damage, message: str) -> None:
    assert len(fn.read_disfa(disfa, complete=False, extract=False)) == 12
    damage(disfa)
    refused(lambda: fn.read_disfa(disfa, complete=False, extract=False), message)


def test_disfa_without_videos(disfa: Path) -> None:
    refused(
        lambda: fn.read_disfa(disfa, complete=False), "neither a folder Videos_LeftCamera nor one of extracted frames"
    )


def test_incomplete_disfa_tells_everything_at_once(disfa: Path) -> None:
    remove(AU4)(disfa)
    with pytest.raises(fn.FormatError) as caught:
        fn.read_disfa(disfa)
    message = str(caught.value)
    assert f"DISFA at {disfa}: 26 things are wrong:" in message
    assert "25 of 27 subjects are missing: SN003, SN004" in message
    assert "SN001: label files are missing: AU04" in message
    assert "SN002_au1.txt: has 6 frames, want 4845" in message
    assert "more" in message.splitlines()[-1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("Videos_LeftCamera/LeftVideoSN002_comp.avi"), "Videos_LeftCamera: videos of 1 subjects are missing: SN002"),
        (copy("Videos_LeftCamera/LeftVideoSN002_comp.avi", "Videos_LeftCamera/leftVideoSN002_Comp.avi"), "is the second video of SN002"),
        (copy("Videos_LeftCamera/LeftVideoSN002_comp.avi", "Videos_LeftCamera/LeftVideoSN099_comp.avi"), "SN099_comp.avi: is not a video of DISFA's left camera"),
        (copy("Videos_LeftCamera/LeftVideoSN002_comp.avi", "Videos_LeftCamera/RightVideoSN002_comp.avi"), "is not a video of DISFA's left camera"),
        (put("Videos_LeftCamera/LeftVideoSN002_comp.avi", b"no video at all"), "LeftVideoSN002_comp.avi: damaged"),
    ],
)  # fmt: skip
def test_damaged_videos_of_disfa(disfa: Path, damage: Damage, message: str) -> None:
    pytest.importorskip("av")
    for subject in ("SN001", "SN002"):
        trees.video(disfa / "Videos_LeftCamera" / f"LeftVideo{subject}_comp.avi", 6)
    damage(disfa)
    refused(lambda: fn.read_disfa(disfa, complete=False, progress=False), message)


def test_videos_of_disfa(disfa: Path) -> None:
    pytest.importorskip("av")
    trees.video(disfa / "Videos_LeftCamera" / "LeftVideoSN001_comp.avi", 6)
    trees.video(disfa / "Videos_LeftCamera" / "leftVideoSN002_Comp.avi", 6)  # the case varies
    s = fn.read_disfa(disfa, complete=False, progress=False)
    assert s.paths is None and len(s) == 12 and s.images[0].shape == (224, 224, 3)
    stored = fn.open_frames(disfa / "Frames_left")
    assert list(stored.videos) == ["LeftVideoSN001_comp", "leftVideoSN002_Comp"]
    assert (s.images[9] == stored.images()[9]).all()
    shutil.rmtree(disfa / "Videos_LeftCamera")  # once they are extracted, nobody asks for the videos
    again = fn.read_disfa(disfa, complete=False, aus=[12])
    assert (again.images[9] == s.images[9]).all()
    for name in trees.DISFA_UNITS:
        edit(f"ActionUnit_Labels/SN002/SN002_au{name}.txt", "6,0\n", "")(disfa)
    refused(lambda: fn.read_disfa(disfa, complete=False), "the video of SN002 has 6 frames, its labels 5")


def test_stored_frames_of_disfa(disfa: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("av")
    videos = [trees.video(disfa / "Videos_LeftCamera" / f"LeftVideo{s}_comp.avi", 6) for s in ("SN001", "SN002")]
    files = tmp_path_factory.mktemp("files")
    fn.extract_frames(videos[:1], files, size=32, packed=False, progress=False)
    s = fn.read_disfa(disfa, complete=False, frames=files, progress=False)  # goes on as the folder began
    s.check()
    assert s.paths[-1] == str(files / "LeftVideoSN002_comp" / "000006.png")
    faces = tmp_path_factory.mktemp("faces")
    table = fn.Faces("table", [(v.name, i, fn.Face(box=(0, 0, 20, 20))) for v in videos for i in (1, 2, 4, 6)])
    options = {"faces": table, "alignment": fn.Alignment("box", 16), "progress": False}
    fn.extract_frames(videos[:1], faces, **options)
    with pytest.raises(ValueError, match="holds faces, and none of 1 videos, first LeftVideoSN002_comp.avi"):
        fn.read_disfa(disfa, complete=False, frames=faces)
    fn.extract_frames(videos, faces, **options)
    s = fn.read_disfa(disfa, complete=False, frames=faces)
    assert s.recipe == fn.Alignment("box", 16, source="table")
    assert len(s) == 8  # the faces that there are
    np.testing.assert_array_equal(s.intensity[:4, 0], [0, 1, 3, 5])
    assert (s.images[6] == fn.open_frames(faces).images()[6]).all()


ATTRIBUTES, PARTITION, IDENTITY = (
    "Anno/list_attr_celeba.txt",
    "Eval/list_eval_partition.txt",
    "Anno/identity_CelebA.txt",
)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("Img"), "no folder Img/img_align_celeba"),
        (remove(ATTRIBUTES), "list_attr_celeba.txt: cannot be read: No such file"),
        (put(ATTRIBUTES, "6\n"), "list_attr_celeba.txt: has 1 lines"),
        (edit(ATTRIBUTES, "6\n", "7\n"), "line 1 counts '7' images, there are 6"),
        (edit(ATTRIBUTES, "Smiling Male", "Smiling"), "line 3 has 40 values, want 39"),
        (edit(ATTRIBUTES, "Smiling Male", "Male Male"), "line 2 has 39 names of attributes, want 40"),
        (edit(ATTRIBUTES, "000002.jpg", "000001.jpg"), "line 4: 000001.jpg is there twice"),
        (lambda r: trees.rewrite(r / ATTRIBUTES, r"000003.jpg +-?1", "000003.jpg 0"), "line 5: Smiling is 0, want -1 or 1"),
        (edit(ATTRIBUTES, "000003.jpg ", "000003.jpg 1 "), "line 5 has 41 values, want 40"),
        (lambda r: trees.rewrite(r / ATTRIBUTES, r"000003.jpg +-?1", "000003.jpg yes"), "line 5: 'yes' is no number"),
        (remove(PARTITION), "list_eval_partition.txt: cannot be read"),
        (edit(PARTITION, "000004.jpg 1\n", ""), "list_eval_partition.txt: 1 images of .* are missing, first 000004.jpg"),
        (edit(PARTITION, "000004.jpg 1", "000004.jpg 3"), "line 4 is '000004.jpg 3', want a name and a number from 0 to 2"),
        (edit(PARTITION, "000004.jpg 1", "000003.jpg 1"), "line 4: 000003.jpg is there twice"),
        (edit(IDENTITY, "000006.jpg", "000009.jpg"), "1 images are not in list_attr_celeba.txt, first 000009.jpg"),
        (edit(IDENTITY, "000006.jpg 2881", "000006.jpg"), "identity_CelebA.txt: line 6 is '000006.jpg'"),
        (remove("Img/img_align_celeba/000005.jpg"), "img_align_celeba: 1 of 6 images are missing, first 000005.jpg"),
    ],
)  # fmt: skip
def test_damaged_celeba(tmp_path: Path, damage: Damage, message: str) -> None:
    damage(trees.celeba(tmp_path, 6))
    refused(lambda: fn.read_celeba(tmp_path), message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("FACS"), "no folder FACS"),
        (remove("cohn-kanade-images"), "no folder cohn-kanade-images"),
        (remove("FACS/S005/002"), "sequence S005_002 has images and no codes"),
        (remove("cohn-kanade-images/S005/002"), "sequence S005_002 has codes and no images"),
        (put("cohn-kanade-images/S005/001/readme.txt"), "readme.txt: is no name like S005_001_00000011.png"),
        (copy("FACS/S005/001/S005_001_00000004_facs.txt", "FACS/S005/002/S005_001_00000004_facs.txt"), "is in the folder of S005/002"),
        (copy("FACS/S005/001/S005_001_00000004_facs.txt", "FACS/S005/001/S005_001_00000003_facs.txt"), "S005_001 has 2 files of codes"),
        (remove("cohn-kanade-images/S005/001/S005_001_00000002.png"), "S005_001: 1 frames are missing, first 2"),
        (remove("cohn-kanade-images/S005/001/S005_001_00000004.png"), "codes are of frame 4, its last image is 3"),
        (edit("FACS/S005/001/S005_001_00000004_facs.txt", "9.0000000e+00", "9.5"), "action unit 9.5, want a number from 1 to 99"),
        (edit("FACS/S005/001/S005_001_00000004_facs.txt", "4.0000000e+00", "7.0"), "action unit 17 has the intensity 7, want 0 to 5"),
        (edit("FACS/S005/001/S005_001_00000004_facs.txt", "9.0000000e+00", "17"), "action unit 17 is there twice"),
        (edit("FACS/S005/001/S005_001_00000004_facs.txt", "9.0000000e+00", ""), "line 1 is '0.0000000e.00', want 2 numbers"),
    ],
)  # fmt: skip
def test_damaged_ckplus(tmp_path: Path, damage: Damage, message: str) -> None:
    damage(trees.ckplus(tmp_path))
    refused(lambda: fn.read_ckplus(tmp_path), message)


def test_short_sequences_of_ckplus(tmp_path: Path) -> None:
    trees.ckplus(tmp_path)
    refused(lambda: fn.read_ckplus(tmp_path, last=2, neutral=True), "S999_001: has 2 frames, want 3 or more")
    with pytest.raises(ValueError, match="last is 0"):
        fn.read_ckplus(tmp_path, last=0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put("notes/x"), "notes: is not the folder of a subject"),
        (put("readme.txt"), "readme.txt: is not the folder of a subject"),
        (lambda r: (r / "bs001").mkdir(), "bs001: is empty"),
        (put("bs000/bs000_LFAU_12.png"), "bs000_LFAU_12.png: is no name like"),
        (put("bs000/bs000_LFAU_12_1.tif"), "bs000_LFAU_12_1.tif: is no name like"),
        (put("bs000/bs001_LFAU_12_1.png"), "bs001_LFAU_12_1.png: is in the folder of bs000"),
        (put("bs000/bs000_LFAU_12_0.PNG"), "is there twice, as bs000_LFAU_12_0.PNG too"),
        (put("bs000/bs000_LFAU_11_0.png"), "LFAU has no code 11"),
        (put("bs000/bs000_UFAU_12_0.png"), "UFAU has no code 12"),
        (put("bs000/bs000_XFAU_12_0.png"), "there is no class XFAU"),
        (put("bs000/bs000_CAU_A12B25_0.png"), "CAU has the code A12B25, want units such as A12A25"),
        (remove("bs000/bs000_LFAU_12_0.png"), "bs000_LFAU_12_0.lm2: has no image beside it"),
    ],
)
def test_damaged_bosphorus(tmp_path: Path, damage: Damage, message: str) -> None:
    damage(trees.bosphorus(tmp_path))
    refused(lambda: fn.read_bosphorus(tmp_path), message)


OCC = "AUCoding/AU_OCC/F001_T1.csv"
INT = "AUCoding/AU_INT/AU06/F001_T1_AU06.csv"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("AUCoding/AU_OCC"), "no folder AUCoding/AU_OCC"),
        (remove("2D+3D"), "no folder of images"),
        (copy(OCC, "AUCoding/AU_OCC/F024_T1.csv"), "F024_T1.csv: is not of one of the 41 subjects"),
        (copy(OCC, "AUCoding/AU_OCC/F001_T9.csv"), "F001_T9.csv: is not of one of the tasks"),
        (copy(OCC, "AUCoding/AU_OCC/F001.csv"), "F001.csv: is no name like F001_T1.csv"),
        (edit(OCC, "0,1,2,3,", "0,1,2,2,"), "F001_T1.csv: line 1 is '0,1,2,2,"),
        (edit(OCC, "2441,", "2440,"), "line 3: frame 2440 is there twice, want 2441"),
        (edit(OCC, "2441,", "2449,"), "line 3: frame 2449 follows 2440, want 2441"),
        (edit(OCC, "2441,", "2441.5,"), "line 3 has the frame 2441.5"),
        (edit(OCC, "2441,", "2441,0,"), "line 3 is .* want 100 numbers"),
        (edit(OCC, "\n2441,0", "\n2441,2"), "frame 2441: action unit 1 is 2, want 0, 1 or 9"),
        (put(OCC, ",".join(map(str, range(100))) + "\n"), "F001_T1.csv: has no frames"),
        (edit(INT, "2441,3", "2441,6"), "F001_T1_AU06.csv: frame 2441 has the intensity 6, want 0 to 5, or 9"),
        (edit(INT, "2440,0", "2439,0"), "line 2: frame 2441 follows 2439"),
        (edit(INT, "2443,9\n", "2443,9\n2444,0\n"), "1 frames are not in F001_T1.csv, first 2444"),
        (copy(INT, "AUCoding/AU_INT/AU06/F001_T1_AU10.csv"), "F001_T1_AU10.csv: is no name like F001_T1_AU06.csv"),
        (copy(INT, "AUCoding/AU_INT/brow/F001_T1_brow.csv"), "AU_INT/brow: is not the folder of a unit"),
        (remove("2D+3D/F001/T1"), "no folder of images of F001_T1"),
        (remove("2D+3D/F001/T1/2441.jpg"), "F001_T1: images of 1 coded frames are missing, first 2441"),
        (put("2D+3D/F001/T1/02441.jpg"), "frame 2441 is there twice"),
        (put("2D+3D/F001/T1/note.txt"), "note.txt: is not an image named by its frame"),
    ],
)
def test_damaged_bp4d(tmp_path: Path, damage: Damage, message: str) -> None:
    damage(trees.bp4d(tmp_path))
    refused(lambda: fn.read_bp4d(tmp_path, complete=False), message)


def test_incomplete_bp4d(tmp_path: Path) -> None:
    trees.bp4d(tmp_path)
    refused(lambda: fn.read_bp4d(tmp_path), r"325 of 328 tables are missing, first \['F001_T3'")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (put("t.csv", "frame,x\n"), "t.csv: the table has no rows"),
        (put("t.csv", ""), "t.csv: the table is empty"),
        (edit("t.csv", "success", "found"), "there is no column success"),
        (edit("t.csv", "AU01_c, AU12_c, AU28_c", "A, B, C"), "there is no column AU01_c"),
        (edit("t.csv", "\n2, 0,", "\n1, 0,"), "frame 1 is there twice, again in row 1"),
        (edit("t.csv", "\n2, 0,", "\n0, 0,"), "frame of row 1 is 0, want a whole number from 1"),
        (edit("t.csv", "\n2, 0,", "\n2.5, 0,"), "frame of row 1 is 2.5"),
        (edit("t.csv", "1.25, 1, 1, 0", "1.25, 0.5, 1, 0"), "AU01_c of row 0 is 0.5, want a whole number from 0 to 1"),
        (edit("t.csv", "1.25, 1, 1, 0", "7, 1, 1, 0"), "AU12_r of row 0 is 7.*, want a number from 0 to 5"),
        (edit("t.csv", "0.98, 1", "1.98, 1"), "confidence of row 0 is 1.98"),
        (edit("t.csv", "0.98, 1", "high, 1"), "confidence of row 0 is 'high'"),
    ],
)
def test_damaged_openface(tmp_path: Path, damage: Damage, message: str) -> None:
    trees.openface(tmp_path / "t.csv")
    damage(tmp_path)
    refused(lambda: fn.read_openface(tmp_path / "t.csv"), message)


def test_damaged_pyfeat(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for damage, message in (
        (edit("t.csv", "input", "file"), "no column input"),
        (edit("t.csv", "AU01,AU12", "A,B"), "no column AU01"),
        (edit("t.csv", ",0.4,", ",1.4,"), "AU01 of row 0 is 1.4, want a number from 0 to 1"),
        (edit("t.csv", "b.jpg", "b.avi"), "inputs are images and videos"),
    ):
        trees.pyfeat(path, ["a.jpg", "b.jpg"])
        damage(tmp_path)
        refused(lambda: fn.read_pyfeat(path), message)
    trees.pyfeat(path, ["a.jpg"])
    refused(lambda: fn.read_pyfeat(path, min_score=1.0), "no row of 1 has a face")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,left_eye_x\na.png,1\n", "want points x_36 to y_47"),
        ("left_eye_x,left_eye_y,right_eye_x,right_eye_y\n1,2,3,4\n", "no column image"),
        ("image,x,y,width,height\na.png,1,2,three,4\n", "width of row 0 is 'three'"),
        ("image,x,y,width,height\na.png,1,2,,4\n", "no row of 1 has a face"),
        ("image,frame,x,y,width,height\na.avi,-1,2,3,4,5\n", "frame of row 0 is -1"),
    ],
)
def test_damaged_tables_of_faces(tmp_path: Path, text: str, message: str) -> None:
    refused(lambda: fn.read_faces(write(tmp_path / "faces.csv", text)), message)


def test_damaged_landmarks(tmp_path: Path) -> None:
    celeba = trees.celeba(tmp_path / "celeba")
    name = "Anno/list_landmarks_align_celeba.txt"
    edit(name, "righteye_x", "righteye")(celeba)
    refused(lambda: celeba_faces(celeba / name), "line 2 has no righteye_x")
    root = trees.bosphorus(tmp_path / "bosphorus")
    points = "bs000/bs000_N_N_0.lm2"
    for old, new, message in (
        ("4 landmarks", "landmarks", "has no line like '22 landmarks'"),
        ("70 20\n", "", "has 7 lines of labels and points, want 8"),
        ("70 20\n", "70 x\n", "point of 'Outer right eye corner' is '70 x'"),
    ):
        write(root / points, trees.LM2)
        edit(points, old, new)(root)
        refused(lambda: bosphorus_faces(root), f"bs000_N_N_0.lm2: {message}")


def test_every_prefix_of_a_label_file_is_refused(disfa: Path) -> None:
    data = (disfa / AU1).read_bytes()
    for size in range(len(data) - 1):  # without the last line end it says the same
        write(disfa / AU1, data[:size])
        refused(lambda: fn.read_disfa(disfa, complete=False, extract=False), "SN001_au1.txt")


PIECES = (
    b"nan",
    b"inf",
    b"-",
    b"1e400",
    b"9" * 20,
    b",",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\xc2\xb2",
    b"1_0",
    b'"',
    b"",
    b"\t",
)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """Nothing but what readers promise to raise; FileNotFoundError is of frames that nobody extracted."""
    trees.openface(tmp_path / "openface" / "t.csv")
    trees.pyfeat(tmp_path / "pyfeat" / "t.csv", ["a.jpg", "b.jpg"])
    celeba = trees.celeba(tmp_path / "celeba")
    readers: list[tuple[Path, Callable[[], object]]] = [
        (root, lambda read=read, root=root: read(root))
        for read, root in (
            (
                lambda r: fn.read_disfa(r, complete=False),
                trees.disfa(tmp_path / "disfa", trees.disfa_levels(["SN001"])),
            ),
            (fn.read_celeba, celeba),
            (lambda r: celeba_faces(r / "Anno" / "list_landmarks_align_celeba.txt"), celeba),
            (fn.read_ckplus, trees.ckplus(tmp_path / "ckplus")),
            (bosphorus_faces, trees.bosphorus(tmp_path / "bosphorus")),
            (lambda r: fn.read_bp4d(r, complete=False), trees.bp4d(tmp_path / "bp4d")),
            (lambda r: fn.read_openface(r / "t.csv"), tmp_path / "openface"),
            (lambda r: fn.read_faces(r / "t.csv"), tmp_path / "openface"),
            (lambda r: fn.read_pyfeat(r / "t.csv"), tmp_path / "pyfeat"),
        )
    ]
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(200):
        root, read = readers[rng.integers(len(readers))]
        files = sorted(p for p in root.rglob("*") if p.suffix in (".txt", ".csv", ".lm2") and p.stat().st_size)
        path = files[rng.integers(len(files))]
        data = path.read_bytes()
        at = int(rng.integers(len(data) + 1))
        path.write_bytes(data[:at] + PIECES[rng.integers(len(PIECES))] + data[at + int(rng.integers(4)) :])
        try:
            read()
        except (fn.FormatError, FileNotFoundError):
            failed += 1
        path.write_bytes(data)
    assert failed > 80


@pytest.mark.parametrize(
    "read", [fn.read_disfa, fn.read_celeba, fn.read_ckplus, fn.read_bosphorus, fn.read_bp4d, bosphorus_faces]
)
def test_folders_that_are_not_there(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder.*none"):
        read(tmp_path / "none")


@pytest.mark.parametrize(
    ("read", "options", "message"),
    [
        (fn.read_disfa, {"camera": "middle"}, "camera is 'middle'"),
        (fn.read_disfa, {"positive": 0}, "positive is 0"),
        (fn.read_disfa, {"positive": 6}, "positive is 6"),
        (fn.read_celeba, {"part": "dev"}, "part is 'dev'"),
        (fn.read_bosphorus, {"classes": ["FAU"]}, r"classes has \['FAU'\]"),
        (fn.read_bosphorus, {"classes": "N"}, "classes is 'N', want a list"),
        (fn.read_bosphorus, {"aus": [5]}, "AU05"),
    ],
)
def test_wrong_arguments(tmp_path: Path, read: Callable[..., object], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, **options)
