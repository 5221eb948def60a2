"""Readers of data sets, on small trees in the real layouts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import trees

import facsnet as fn
from facsnet.datasets import BP4D_AUS, DISFA_AUS, DISFA_ERRORS, bosphorus_faces, celeba_faces

TABLE_1 = {"AU01": 6506, "AU02": 5644, "AU04": 19933, "AU06": 10327, "AU09": 5473, "AU12": 16851, "AU25": 36247, "AU26": 11533}  # fmt: skip
SUBJECTS = sorted(name for fold in fn.DISFA_FOLDS for name in fold)


@pytest.fixture(scope="module")
def whole_disfa(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Label files of all 27 subjects with the counts of the paper's Table 1."""
    lengths = [4844 if subject == "SN010" else 4845 for subject in SUBJECTS]
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 2, (sum(lengths), 12), dtype=np.int8)
    for name, count in TABLE_1.items():
        rows = rng.choice(len(levels), count, replace=False)
        levels[rows, DISFA_AUS.index(name)] = rng.integers(2, 6, count)
    parts = np.split(levels, np.cumsum(lengths)[:-1])
    tables = dict(zip(SUBJECTS, parts, strict=True))
    return trees.disfa(tmp_path_factory.mktemp("disfa"), tables), tables


def test_disfa_has_the_counts_of_table_1(whole_disfa: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, tables = whole_disfa
    s = fn.read_disfa(root, extract=False)
    assert len(s) == 130_814
    assert s.label_names == DISFA_AUS
    counts = dict(zip(s.label_names, np.nansum(s.labels, axis=0).astype(int).tolist(), strict=True))
    assert {name: counts[name] for name in TABLE_1} == TABLE_1
    np.testing.assert_array_equal(s.intensity, np.concatenate([tables[subject] for subject in SUBJECTS]))
    assert [(s.subjects == subject).sum() for subject in ("SN001", "SN010")] == [4845, 4844]
    assert s.paths[4845].endswith(os.path.join("Frames_left", "LeftVideoSN002_comp", "000001.png"))
    for (_, test), fold in zip(s.folds("disfa"), fn.DISFA_FOLDS, strict=True):
        assert set(test.subjects) == set(fold)
    assert [set(test.subjects) for _, test in s.folds(3, by="fold")] == [set(fold) for fold in fn.DISFA_FOLDS]


def test_disfa_without_annotation_errors(whole_disfa: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, tables = whole_disfa
    s = fn.read_disfa(root, positive=1, camera="right", aus=(12, "AU25", "4"), drop_errors=True, extract=False)
    assert s.label_names == ("AU12", "AU25", "AU04")
    dropped = sum(last - first + 1 for spans in DISFA_ERRORS.values() for first, last in spans)
    assert len(s) == 130_814 - dropped
    own = s[s.subjects == "SN002"]
    assert len(own) == 4845 - 27
    assert [os.path.basename(p) for p in own.paths[798:800]] == ["000799.png", "000827.png"]
    kept = np.delete(tables["SN002"], np.s_[799:826], axis=0)[:, [6, 10, 2]]
    np.testing.assert_array_equal(own.intensity, kept)
    np.testing.assert_array_equal(own.labels, kept >= 1)
    assert "RightVideoSN002_comp" in own.paths[0]


def test_part_of_disfa(tmp_path: Path) -> None:
    levels = trees.disfa_levels(["SN001", "SN032"])
    root = trees.disfa(tmp_path, levels)
    s = fn.read_disfa(root, complete=False, extract=False)
    assert list(s.subjects) == ["SN001"] * 6 + ["SN032"] * 6
    assert list(s.folds_column) == ["1"] * 12
    np.testing.assert_array_equal(s.labels, np.concatenate(list(levels.values())) >= 2)
    (root / "ActionUnit_Labels" / "SN001" / "SN001_au5.txt").unlink()
    assert len(fn.read_disfa(root, complete=False, extract=False, aus=[1, 2])) == 12


def test_celeba(tmp_path: Path) -> None:
    root = trees.celeba(tmp_path, 6)
    s = fn.read_celeba(root)
    assert len(s.label_names) == 40
    assert set(np.unique(s.labels)) == {0.0, 1.0}
    lines = (root / "Anno" / "list_attr_celeba.txt").read_text().splitlines()
    assert s.labels[2].tolist() == [float(int(v) > 0) for v in lines[4].split()[1:]]
    assert list(s.folds_column) == ["train", "train", "valid", "valid", "test", "test"]
    assert list(s.subjects) == ["2880", "2881", "2882", "2883", "2880", "2881"]
    s.check()
    valid = fn.read_celeba(root, attributes=["Male", "Smiling"], part="valid")
    assert valid.label_names == ("Male", "Smiling")
    assert [os.path.basename(p) for p in valid.paths] == ["000003.jpg", "000004.jpg"]
    assert fn.read_celeba(trees.celeba(tmp_path / "b", 3, identities=False)).subjects is None
    face = celeba_faces(root / "Anno" / "list_landmarks_align_celeba.txt").of(s.paths[1])
    assert face.eyes == ((69.0, 110.0), (106.0, 113.0))


def test_celeba_as_it_is_given_out(shared_data: Path) -> None:
    s = fn.read_celeba(shared_data / "celeba")
    s.check()
    assert len(s) == 10_000
    assert [(s.folds_column == part).sum() for part in ("train", "valid", "test")] == [8000, 1000, 1000]
    assert 0.4 < s.prevalence()[s.label_names.index("Smiling")] < 0.6


def test_ckplus(tmp_path: Path) -> None:
    s = fn.read_ckplus(trees.ckplus(tmp_path))
    assert s.label_names == ("AU01", "AU02", "AU09", "AU17")
    assert [os.path.basename(p) for p in s.paths][:2] == ["S005_001_00000004.png", "S005_002_00000003.png"]
    assert list(s.subjects) == ["S005", "S005", "S010", "S999"]
    np.testing.assert_array_equal(s.labels, [[0, 0, 1, 1], [1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(s.intensity, [[0, 0, np.nan, 4], [3, 2, 0, 0], [5, 0, 0, np.nan], [0, 0, 0, 0]])
    more = fn.read_ckplus(tmp_path, aus=[17], last=1, neutral=True)
    assert [os.path.basename(p) for p in more.paths][:2] == ["S005_001_00000001.png", "S005_001_00000004.png"]
    assert more.labels[:, 0].tolist() == [0, 1, 0, 0, 0, 1, 0, 0]
    two = fn.read_ckplus(tmp_path, last=2)
    assert len(two) == 8
    assert (two.labels[0] == two.labels[1]).all()


def test_bosphorus(tmp_path: Path) -> None:
    root = trees.bosphorus(tmp_path)
    s = fn.read_bosphorus(root)
    rows = {os.path.basename(p).removesuffix(".png"): s[i].labels for i, p in enumerate(s.paths)}
    assert len(rows) == len(s) == 10
    smile = rows["bs000_LFAU_12_0"]
    assert smile["AU12"] == 1
    assert all(np.isnan(v) for name, v in smile.items() if name != "AU12")
    assert rows["bs000_LFAU_12L_0"]["AU12L"] == 1 and np.isnan(rows["bs000_LFAU_12L_0"]["AU12"])
    both = rows["bs000_CAU_A12A25_0"]
    assert both["AU12"] == both["AU25"] == 1 and np.isnan(both["AU26"])
    assert rows["bs000_CAU_A26A12LW_0"]["AU12LW"] == 1
    assert set(rows["bs104_N_N_1"].values()) == {0.0}
    assert s.intensity is None
    blank = fn.read_bosphorus(root, classes=["N", "E", "YR"], neutral_absent=False)
    assert len(blank) == 5 and np.isnan(blank.labels).all()
    assert fn.read_bosphorus(root, aus=[4, "12l"]).label_names == ("AU04", "AU12L")
    faces = bosphorus_faces(root)
    assert faces.of(s.paths[0]).eyes == ((20.0, 21.0), (60.0, 22.0))


def test_bp4d(tmp_path: Path) -> None:
    root = trees.bp4d(tmp_path)
    s = fn.read_bp4d(root, complete=False)
    assert s.label_names == BP4D_AUS
    assert [os.path.relpath(p, root / "2D+3D") for p in s.paths[:5]] == [
        *(f"F001/T1/{n}.jpg" for n in range(2440, 2444)),
        "F001/T2/001.jpg",
    ]
    assert list(s.subjects) == ["F001"] * 8 + ["M018"] * 4
    assert s.labels[0].tolist() == [float(int(au[2:]) % 2) for au in BP4D_AUS]
    assert np.isnan(s.labels[3, BP4D_AUS.index("AU12")]) and np.isnan(s.labels).sum() == 3
    np.testing.assert_array_equal(s.intensity[:4, BP4D_AUS.index("AU06")], [0, 3, 5, np.nan])
    assert np.isnan(s.intensity[:, BP4D_AUS.index("AU12")]).all()
    every = fn.read_bp4d(root, aus=None, complete=False)
    assert every.label_names == (*BP4D_AUS, "AU28")


def test_openface(tmp_path: Path) -> None:
    path = trees.openface(tmp_path / "clip.csv")
    with pytest.raises(FileNotFoundError, match="facsnet frames"):
        fn.read_openface(path)
    pytest.importorskip("av")
    fn.extract_frames([trees.video(tmp_path / "clip.avi")], tmp_path / "frames", size=32)
    s = fn.read_openface(path)
    assert s.label_names == ("AU01", "AU12", "AU28")
    np.testing.assert_array_equal(s.labels, [[1, 1, 0], [0, 1, 0], [1, 1, 0]])  # frames 1, 2 and 5
    np.testing.assert_array_equal(s.intensity, [[0.5, 1.25, np.nan], [1, 1.25, np.nan], [2.5, 1.25, np.nan]])
    assert list(s.subjects) == ["clip"] * 3
    stored = fn.open_frames(tmp_path / "frames").images()
    assert all((s.images[row] == stored[frame - 1]).all() for row, frame in enumerate((1, 2, 5)))
    assert len(fn.read_openface(path, min_confidence=0.4, subject="P1", aus=[12])) == 4
    path.write_text(path.read_text().replace("\n5, 0,", "\n6, 0,"))
    with pytest.raises(fn.FormatError, match=r"clip.csv: has frame 6, clip has 5"):
        fn.read_openface(path)


def test_pyfeat(tmp_path: Path) -> None:
    path = trees.pyfeat(tmp_path / "table.csv", ["a.jpg", "b.jpg", "b.jpg"], [0, 1, 1])
    text = path.read_text().replace(",0.9,", ",0.95,", 1)
    path.write_text(text)
    s = fn.read_pyfeat(path)
    assert s.label_names == ("AU01", "AU12")
    assert s.paths == (str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"))  # two faces on b.jpg: the first, as sure
    np.testing.assert_array_equal(s.labels, [[0, 1], [1, 1]])
    assert s.subjects is None and s.intensity is None
    assert fn.read_pyfeat(path, root="/x", threshold=0.65, subject="input").subjects[1] == "b.jpg"
    assert len(fn.read_pyfeat(path, min_score=0.92)) == 1


def test_pyfeat_of_a_video(tmp_path: Path) -> None:
    pytest.importorskip("av")
    fn.extract_frames([trees.video(tmp_path / "clip.avi")], tmp_path / "frames", size=32)
    s = fn.read_pyfeat(trees.pyfeat(tmp_path / "table.csv", ["clip.avi"] * 3, [0, 2, 4]))
    stored = fn.open_frames(tmp_path / "frames").images()
    assert all((s.images[row] == stored[frame]).all() for row, frame in enumerate((0, 2, 4)))
    assert list(s.subjects) == ["clip"] * 3


def test_names_of_units(tmp_path: Path) -> None:
    root = trees.disfa(tmp_path, trees.disfa_levels(["SN001"]))
    for aus, message in (
        ([99], r"aus has \['AU99'\], DISFA has"),
        (["brow"], "aus has 'brow'"),
        ("AU01", "aus is 'AU01', want a list"),
        ([1, "AU1"], "aus has AU01 twice"),
        ([], "aus is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            fn.read_disfa(root, aus=aus, complete=False)
