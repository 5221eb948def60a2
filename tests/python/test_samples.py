"""Tables of samples and their splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import facsnet as fn
from facsnet.samples import check_disjoint


def table(n: int = 40, subjects: int = 10) -> fn.Samples:
    rng = np.random.default_rng(0)
    labels = (rng.random((n, 2)) < 0.4).astype(float)
    labels[3, 1] = np.nan
    return fn.Samples.from_arrays(
        [f"{i}.png" for i in range(n)],
        labels,
        label_names=["AU01", "AU12"],
        subject=[f"S{i % subjects}" for i in range(n)],
    )


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,subject,AU01,AU02,note\na.png,007,1,,x\nb.png,008,0,1,y\n")
    s = fn.Samples.from_csv(tmp_path / "labels.csv")
    assert s.label_names == ("AU01", "AU02")
    assert s.paths == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert list(s.subjects) == ["007", "008"]
    assert np.isnan(s.labels[0, 1])
    assert s[0].labels["AU01"] == 1
    assert fn.Samples.from_csv(tmp_path / "labels.csv", root="/else", labels=["AU02"]).paths[0] == "/else/a.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("image,AU01\n", "no rows"),
        ("image,AU01\na.png,2\n", r"AU01.*row 0 is 2"),
        ("image,AU01\na.png,yes\n", r"AU01.*row 0 is 'yes'"),
        ("image,AU01\na.png,0.5\n", "0.5"),
        ("picture,AU01\na.png,1\n", "no column 'image'"),
        ("image,smile\na.png,3\n", "looks like a label"),
        ("image,fold,smile\na.png,1,\n", "looks like a label"),
        ("image,AU01,AU01\na.png,1,0\n", "'AU01' is there twice"),
        ("image,AU01, AU01\na.png,1,0\n", "'AU01' is there twice"),
        ("image|AU01\na.png|1\n", r"no column.*'image\|AU01'"),
        ("image,AU01,AU02\na.png,1,0,1\nb.png,0,1,0\n", "more fields than the header"),
        ("image,AU01\na.png,1\nb.png,0,1\n", "not a CSV table"),
        ("image,AU01\na.png,0.999999999\n", "0.999999999"),
        ("image,AU01\na.png,inf\n", "row 0 is inf"),
        ("image,subject,AU01\na.png,,1\n", "column 'subject' is empty in row 0"),
        ("image,AU01\n,1\n", "column 'image' is empty in row 0"),
    ],
)
def test_broken_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        fn.Samples.from_csv(path, fold="fold" if "fold" in text else None)
    assert str(path) in str(caught.value)


def test_csv_without_action_units(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,subject,fold,smile,age,glasses,note\na,1,0,1,30,,x\nb,0,1,,1,0,y\n")
    assert fn.Samples.from_csv(path, fold="fold").label_names == ("smile", "glasses")
    path.write_text("image,success,AU01\na,1,0\n")
    assert fn.Samples.from_csv(path).label_names == ("AU01",)


def test_text_columns_stay_as_written(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,subject,AU01\n001,NA,NA\n1e3,nan,nan\nNone,007,\n")
    s = fn.Samples.from_csv(path, root="/x")
    assert s.paths == ("/x/001", "/x/1e3", "/x/None")
    assert list(s.subjects) == ["NA", "nan", "007"]
    assert np.isnan(s.labels).all()


@pytest.mark.parametrize(
    "text",
    [
        "image, subject, fold, AU01, AU02\n a.png, s, 0, 1, NA\nb.png , s , 1, , 0\n",
        '"image", "subject", "fold", "AU01", "AU02"\n"a.png", "s", "0", "1", ""\n"b.png", "s ", " 1", "", "0"\n',
        "\ufeffimage;subject;fold;AU01;AU02\na.png;s;0;1;NA\nb.png;s;1;;0\n",
        "image\tsubject\tfold\tAU01\tAU02\na.png\t s\t0\t1\tNA\nb.png\ts\t1\t\t0\n",
    ],
)
def test_spaces_and_separators(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    s = fn.Samples.from_csv(path, fold="fold")
    assert s.label_names == ("AU01", "AU02")
    assert s.paths == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert list(s.subjects) == ["s", "s"]
    assert list(s.folds_column) == ["0", "1"]
    np.testing.assert_array_equal(s.labels, [[1, np.nan], [np.nan, 0]])


def test_one_subject_is_one_name() -> None:
    frame = pd.DataFrame({"image": [" a", "b"], "subject": ["s", " s "], "AU01": [0, 1]})
    s = fn.Samples.from_frame(frame)
    assert list(s.subjects) == ["s", "s"]
    assert s.paths == (" a", "b")
    assert list(fn.Samples.from_arrays(["a", "b"], [[0], [1]], subject=["s ", "s"]).subjects) == ["s", "s"]


@pytest.mark.parametrize("name", ["Subject", " SUBJECT "])
def test_subjects_of_another_spelling_are_not_passed_over(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"image": ["a"], name: ["007"], "AU01": [1]})
    with pytest.raises(ValueError, match=f"no column 'subject', but {name!r}: .*subject="):
        fn.Samples.from_frame(frame)
    assert list(fn.Samples.from_frame(frame, subject=name).subjects) == ["007"]
    assert fn.Samples.from_frame(frame, subject=None).subjects is None
    frame.to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(ValueError, match=f"labels.csv: .*no column 'subject', but {name.strip()!r}"):
        fn.Samples.from_csv(tmp_path / "labels.csv")
    assert list(fn.Samples.from_csv(tmp_path / "labels.csv", subject=name.strip()).subjects) == ["007"]


def test_intensity(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,AU01_c,AU02_c,AU01_r\na,1,0,3.5\nb,0,1,\n")
    s = fn.Samples.from_csv(path, labels=["AU01_c", "AU02_c"], intensity={"AU01_c": "AU01_r"})
    np.testing.assert_array_equal(s.intensity, [[3.5, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(s[[1, 0]].select_labels(["AU01_c"]).intensity, [[np.nan], [3.5]])
    np.testing.assert_array_equal(fn.Samples.concatenate([s[1:], s[:1]]).intensity, s.intensity[::-1])
    for columns, message in (({"AU09": "AU01_r"}, "AU09"), ({"AU01_c": "AU09_r"}, "no column 'AU09_r'")):
        with pytest.raises(ValueError, match=message):
            fn.Samples.from_csv(path, labels=["AU01_c"], intensity=columns)
    for wrong, message in (([[-1]], "row 0, label 0 is -1"), ([[np.inf]], "inf"), ([[1, 2]], r"shape \(1, 2\)")):
        with pytest.raises(ValueError, match=message):
            fn.Samples.from_arrays(["a"], [[1]], intensity=wrong)


def test_missing_csv_and_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fn.Samples.from_csv(tmp_path / "no.csv")
    with pytest.raises(FileNotFoundError, match="40 of 40"):
        table().check()
    (tmp_path / "a").touch()
    present, absent = str(tmp_path / "a"), str(tmp_path / "b")
    fn.Samples.from_arrays([present], [[1]]).check()
    with pytest.raises(FileNotFoundError, match=f"1 of 2 images do not exist, first .*{absent}"):
        fn.Samples.from_arrays([present, absent], [[1], [0]]).check()


def test_frame_round_trip() -> None:
    s = table()
    again = fn.Samples.from_frame(s.to_frame())
    assert again.paths == s.paths
    np.testing.assert_array_equal(again.labels, s.labels)
    with pytest.warns(UserWarning, match="more than once"):
        fn.Samples.from_frame(pd.DataFrame({"image": ["a", "a"], "AU01": [0, 1]}))


def test_arrays() -> None:
    images = np.zeros((3, 8, 9, 3), np.uint8)
    s = fn.Samples.from_arrays(images, [[0], [1], [np.nan]])
    assert s.label_names == ("label0",)
    assert s.prevalence()[0] == 0.5
    assert "3 samples" in s.summary()
    with pytest.raises(ValueError, match="float64"):
        fn.Samples.from_arrays(images.astype(float), [[0], [1], [0]])
    with pytest.raises(ValueError, match="images has 3 entries"):
        fn.Samples.from_arrays(images, [[0], [1]])
    for nothing in ([], np.zeros((0, 1))):
        with pytest.raises(ValueError, match="no samples"):
            fn.Samples.from_arrays([], nothing)
    for missing in (None, float("nan"), " "):
        with pytest.raises(ValueError, match="subject is empty in row 1"):
            fn.Samples.from_arrays(["a", "b"], [[0], [1]], subject=["x", missing])
    with pytest.warns(UserWarning, match="1 images.*first 'a'"):
        fn.Samples.from_arrays(np.array(["a", "a"]), [[0], [1]])
    with pytest.raises(ValueError, match="want a list of names"):
        fn.Samples.from_arrays(["a"], [[0]], label_names="A")
    with pytest.raises(ValueError, match=r"images\[1\] is a str"):
        fn.Samples.from_arrays([images[0], "a.png"], [[0], [1]])


PIXELS = np.zeros((2, 8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("images", "paths", "message"),
    [
        (None, None, "neither paths nor images"),
        (PIXELS, ["a", "b"], "both paths and images"),
        (PIXELS[:, :0], None, r"images.*\(2, 0, 9, 3\)"),
        (PIXELS[:, :, :0], None, r"images.*\(2, 8, 0, 3\)"),
        ([PIXELS[0], PIXELS[0, :0]], None, r"images\[1\].*\(0, 9, 3\)"),
        (PIXELS.astype(float), None, "float64"),
        ([PIXELS[0], "a"], None, r"images\[1\] is a str"),
        (PIXELS[:1], None, "images has 1 entries"),
        (None, ["a"], "paths has 1 entries"),
    ],
)
def test_images_are_checked_when_the_table_is_made(images: object, paths: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fn.Samples(label_names=["AU01"], labels=[[0], [1]], images=images, paths=paths)


def test_indexing() -> None:
    s = table()
    assert len(s[5:10]) == 5
    assert s[[3, 1]].paths == ("3.png", "1.png")
    assert len(s[s.labels[:, 0] == 1]) == int(s.labels[:, 0].sum())
    with pytest.raises(IndexError):
        s[40]
    assert len(s[[]]) == 0
    for wrong in ([0.9], [[0, 1]], True, "3"):
        with pytest.raises(TypeError, match="want an integer"):
            s[wrong]


def test_tables_do_not_change() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    labels = np.zeros((2, 1), np.float32)
    subjects = np.array(["x", "y"], object)
    s = fn.Samples.from_arrays(images, labels, subject=subjects, fold=subjects)
    for array in (s.labels, s.images, s.subjects, s.folds_column):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    images[0], labels[0], subjects[0] = 1, 1, "z"  # the caller's own stay writeable
    assert s.labels[0, 0] == 0
    assert s.subjects[0] == "x"
    assert np.shares_memory(s.select_labels(["label0"]).images, images)


def test_notebook_table_shows_names_as_text() -> None:
    shown = fn.Samples.from_arrays(["a"], [[1]], label_names=["<script>"])._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_plot() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3), dtype=np.uint8)
    s = fn.Samples.from_arrays(images, [[1, 1], [0, 1], [0, 0], [1, 0], [0, 0]], label_names=["AU01", "AU12"])
    figure = s.plot(4, columns=3)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == ["AU01 AU12", "AU12", "none", "AU01"]
    np.testing.assert_array_equal(shown[2].images[0].get_array(), images[2])
    pyplot.close(figure)
    with pytest.raises(ValueError, match="n is 0"):
        s.plot(0)


def test_labels() -> None:
    s = table()
    assert s.select_labels(["AU12"]).labels.shape == (40, 1)
    with pytest.raises(ValueError, match="AU99"):
        s.select_labels(["AU99"])
    most = int(np.nansum(s.labels, axis=0).max())
    assert len(s.labels_with(min_positives=most)) >= 1
    assert s.labels_with(min_positives=most + 1) == []
    joined = fn.Samples.concatenate([s[:3], s[10:12]])
    assert joined.paths == ("0.png", "1.png", "2.png", "10.png", "11.png")
    assert list(joined.subjects) == ["S0", "S1", "S2", "S0", "S1"]
    bare = fn.Samples.from_arrays(s.paths, s.labels, label_names=s.label_names)
    with pytest.raises(ValueError, match="some parts have subjects"):
        fn.Samples.concatenate([s, bare])


def test_split_by_subject() -> None:
    train, test = table().split_by_subject(test=0.33, seed=0)
    assert not set(train.subjects) & set(test.subjects)
    assert len(set(test.subjects)) == 3
    assert len(train) + len(test) == 40
    again = table().split_by_subject(test=0.33, seed=0)
    assert again[1].paths == test.paths
    assert table().split_by_subject(test=0.33, seed=5)[1].paths != test.paths


def test_folds_follow_the_written_rule() -> None:
    s = table(60, 11)
    names = sorted(set(s.subjects))
    order = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    tested: list[str] = []
    for fold, (train, test) in enumerate(s.folds(3, by="subject", seed=0)):
        assert set(test.subjects) == {name for i, name in enumerate(order) if i % 3 == fold}
        rest = [name for i, name in enumerate(order) if i % 3 != fold]
        inner, valid = train.inner_split(every=5)
        assert set(valid.subjects) == set(rest[::5])
        assert set(inner.subjects) == set(rest) - set(rest[::5])
        tested += test.paths
    assert sorted(tested) == sorted(s.paths)


def test_folds_of_real_faces(shared_data: Path) -> None:
    s = fn.Samples.from_csv(shared_data / "ckplus" / "labels.csv")
    s.check()
    assert len(s.labels_with(min_positives=60)) == 16
    names = np.array(sorted(set(s.subjects)))
    order = names[np.random.default_rng(0).permutation(len(names))]
    for fold, (train, test) in enumerate(s.folds(3, by="subject", seed=0)):
        rest = order[np.arange(len(order)) % 3 != fold]
        inner, valid = train.inner_split(every=5)
        assert set(valid.subjects) == set(rest[::5])
        assert set(test.subjects) == set(order[fold::3])
        assert len(inner) + len(valid) + len(test) == len(s)
        check_disjoint(inner, valid)
        check_disjoint(train, test)


def test_other_folds() -> None:
    s = table()
    with pytest.warns(UserWarning, match="one subject on both sides"):
        parts = s.folds(4, by="sample")
    assert sorted(p for _, test in parts for p in test.paths) == sorted(s.paths)
    by_column = fn.Samples.from_arrays(s.paths, s.labels, label_names=s.label_names, fold=[i % 2 for i in range(40)])
    assert [len(test) for _, test in by_column.folds(2, by="fold")] == [20, 20]
    eleven = fn.Samples.from_arrays(s.paths[:11], s.labels[:11], fold=range(11))
    assert [test.folds_column[0] for _, test in eleven.folds(11, by="fold")] == [str(i) for i in range(11)]
    leaking = fn.Samples.from_arrays(["a", "b"], [[0], [1]], subject=["x", "x"], fold=[0, 1])
    with pytest.raises(ValueError, match=r"both sides.*'x'"):
        leaking.folds(2, by="fold")
    for k, message in ((1, "k is 1"), (99, "only 10 subjects")):
        with pytest.raises(ValueError, match=message):
            s.folds(k)
    with pytest.raises(ValueError, match="no fold column"):
        s.folds(2, by="fold")
    with pytest.raises(ValueError, match="by is 'age'"):
        s.folds(2, by="age")


def test_inner_split_without_subjects() -> None:
    s = fn.Samples.from_arrays([f"{i}" for i in range(20)], np.zeros((20, 1)))
    inner, valid = s.inner_split(every=4)
    assert (len(inner), len(valid)) == (15, 5)
    with pytest.raises(ValueError, match="subjects are not known"):
        s.split_by_subject()


def test_disjoint() -> None:
    s = table()
    check_disjoint(*s.split_by_subject())
    with pytest.raises(ValueError, match=r"1 subjects are on both sides.*S3"):
        check_disjoint(s[[3]], s[[13]])
    bare = fn.Samples.from_arrays(["a", "b"], np.zeros((2, 1)))
    with pytest.raises(ValueError, match="images are on both sides"):
        check_disjoint(bare, bare)
