"""The faces that are drawn: labels, repeatability, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

import facsnet as fn
from facsnet.datasets import ACTION_UNITS, ATTRIBUTES, draw_expression, render_faces, synthetic_faces


def test_samples() -> None:
    samples = synthetic_faces(30, seed=4, subjects=9)
    assert isinstance(samples, fn.Samples)
    assert len(samples) == 30
    assert np.asarray(samples.images).shape == (30, 224, 224, 3)
    assert np.asarray(samples.images).dtype == np.uint8
    assert samples.label_names == ACTION_UNITS == ("AU01", "AU02", "AU04", "AU06", "AU09", "AU12", "AU25", "AU26")
    assert set(np.unique(samples.labels)) == {0.0, 1.0}
    assert len(set(samples.subjects)) == 9
    assert samples.subjects[0] == samples.subjects[9] != samples.subjects[1]


def test_faces_depend_on_seed_and_index_alone() -> None:
    ten, five = synthetic_faces(10, seed=4, threads=1), synthetic_faces(5, seed=4, threads=3)
    np.testing.assert_array_equal(np.asarray(ten.images)[:5], np.asarray(five.images))
    np.testing.assert_array_equal(ten.labels[:5], five.labels)
    assert not np.array_equal(np.asarray(synthetic_faces(5, seed=5).images), np.asarray(five.images))


@pytest.mark.parametrize("threads", [2, 7, None])
def test_threads_do_not_matter(threads: int | None) -> None:
    one = synthetic_faces(12, seed=6, threads=1)
    many = synthetic_faces(12, seed=6, threads=threads)
    np.testing.assert_array_equal(np.asarray(one.images), np.asarray(many.images))
    np.testing.assert_array_equal(one.labels, many.labels)


def test_attributes() -> None:
    samples = synthetic_faces(150, seed=4, task="attributes")
    assert samples.label_names == ATTRIBUTES
    assert len(ATTRIBUTES) >= 12
    assert not set(ATTRIBUTES) & set(ACTION_UNITS)
    rates = samples.labels.mean(axis=0)
    # every label has positives and negatives enough to be learnt
    assert rates.min() > 0.05
    assert rates.max() < 0.75


def test_arrays() -> None:
    images, labels, subjects, names = render_faces(7, 4, subjects=3)
    samples = synthetic_faces(7, seed=4, subjects=3)
    np.testing.assert_array_equal(images, np.asarray(samples.images))
    np.testing.assert_array_equal(labels, samples.labels)
    assert labels.dtype == np.float32
    assert subjects == ["S00", "S01", "S02", "S00", "S01", "S02", "S00"]
    assert names == ACTION_UNITS


def test_subjects_can_be_split() -> None:
    train, test = synthetic_faces(40, seed=4, subjects=8).split_by_subject(test=0.25, seed=0)
    assert len(train) == 30
    assert len(test) == 10
    assert not set(train.subjects) & set(test.subjects)


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_each_unit_is_seen(unit: str) -> None:
    neutral, moved = draw_expression({}, subject=2), draw_expression({unit: 0.8}, subject=2)
    assert neutral.shape == (224, 224, 3)
    assert neutral.dtype == np.uint8
    differs = np.abs(neutral.astype(int) - moved).max(axis=2) > 12
    assert differs.sum() > 100
    rows = np.flatnonzero(differs.any(axis=1))
    if unit in ("AU01", "AU02", "AU04"):
        assert rows.max() < 125  # above the tip of the nose
    elif unit in ("AU12", "AU25", "AU26"):
        assert rows.min() > 100  # below the eyes
    sequence = [0.8 * (name == unit) for name in ACTION_UNITS]
    np.testing.assert_array_equal(moved, draw_expression(sequence, subject=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": -1}, "n is -1"),
        ({"subjects": 0}, "subjects is 0"),
        ({"subjects": 2**40}, "subjects is 1099511627776"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": -2}, "threads is -2"),
        ({"threads": 100000}, "threads is 100000"),
        ({"task": "smiles"}, "task is 'smiles'"),
    ],
)
def test_refusals(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_faces(**{"n": 3, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [2.5, "3", None])
def test_wrong_types(n: object) -> None:
    with pytest.raises(TypeError):
        synthetic_faces(n)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("intensities", "message"),
    [
        ({"AU05": 1.0}, "AU05"),
        ({"AU01": 5.0}, "AU01 is 5"),
        ({"AU01": float("nan")}, "AU01 is nan"),
        ([1.0, 0.0], r"shape is \(2,\)"),
    ],
)
def test_expression_refusals(intensities: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_expression(intensities)  # type: ignore[arg-type]


def test_expression_names_subject_and_seed() -> None:
    with pytest.raises(ValueError, match="subject is -1"):
        draw_expression({}, subject=-1)
    with pytest.raises(ValueError, match="seed is -3"):
        draw_expression({}, seed=-3)
