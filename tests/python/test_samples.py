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
        ("image,smile\na.png,1\n", "looks like a label"),
        ("image,subject,AU01\na.png,,1\n", "column 'subject' is empty in row 0"),
        ("image,AU01\n,1\n", "column 'image' is empty in row 0"),
    ],
)
def test_broken_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        fn.Samples.from_csv(path)
    assert str(path) in str(caught.value)


def test_missing_csv_and_images(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fn.Samples.from_csv(tmp_path / "no.csv")
    with pytest.raises(FileNotFoundError, match="40 of 40"):
        table().check_files()


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
    with pytest.raises(ValueError, match="no samples"):
        fn.Samples.from_arrays([], np.zeros((0, 1)))
    with pytest.raises(ValueError, match=r"images\[1\] is a str"):
        fn.Samples.from_arrays([images[0], "a.png"], [[0], [1]])


def test_indexing() -> None:
    s = table()
    assert len(s[5:10]) == 5
    assert s[[3, 1]].paths == ("3.png", "1.png")
    assert len(s[s.labels[:, 0] == 1]) == int(s.labels[:, 0].sum())
    with pytest.raises(IndexError):
        s[40]
    with pytest.raises(ValueError, match="read-only"):
        s.labels[0, 0] = 1


def test_labels() -> None:
    s = table()
    assert s.select_labels(["AU12"]).labels.shape == (40, 1)
    with pytest.raises(ValueError, match="AU99"):
        s.select_labels(["AU99"])
    most = int(np.nansum(s.labels, axis=0).max())
    assert len(s.labels_with(min_positives=most)) >= 1
    assert s.labels_with(min_positives=most + 1) == []
    assert len(fn.Samples.concatenate([s[:3], s[10:12]])) == 5


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


def test_other_folds() -> None:
    s = table()
    with pytest.warns(UserWarning, match="one subject on both sides"):
        parts = s.folds(4, by="sample")
    assert sorted(p for _, test in parts for p in test.paths) == sorted(s.paths)
    by_column = fn.Samples.from_arrays(s.paths, s.labels, label_names=s.label_names, fold=[i % 2 for i in range(40)])
    assert [len(test) for _, test in by_column.folds(2, by="fold")] == [20, 20]
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
