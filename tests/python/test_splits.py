"""Stratified and named folds: every label spread over whole subjects, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import facsnet as fn
from facsnet._stratify import deal_groups, group_counts
from facsnet.samples import check_disjoint


def faces(subjects: int = 30, labels: int = 6, *, seed: int = 0, names: list[str] | None = None) -> fn.Samples:
    """5 to 40 samples a subject; how often each shows a label differs much, and some labels are rare."""
    rng = np.random.default_rng(seed)
    names = names or [f"S{i:02d}" for i in range(subjects)]
    counts = rng.integers(5, 41, len(names))
    rates = np.geomspace(0.02, 0.4, labels)
    shows = [rng.random((n, labels)) < np.clip(rates * rng.gamma(0.6, 2.0, labels), 0, 1) for n in counts]
    values = np.concatenate(shows).astype(float)
    values[rng.random(values.shape) < 0.05] = np.nan
    subject = np.repeat(names, counts)
    return fn.Samples.from_arrays([f"{i}.png" for i in range(len(values))], values, subject=subject)


def unevenness(samples: fn.Samples, parts: list[fn.Samples]) -> float:
    """Mean over labels and parts of how far the share of positives is from the share of subjects."""
    whole, everyone = np.nansum(samples.labels, axis=0), len(set(samples.subjects))
    off = [np.nansum(p.labels, axis=0) / whole - len(set(p.subjects)) / everyone for p in parts]
    return float(np.abs(off).mean())


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_stratified_folds_cover_everyone_once(k: int) -> None:
    s = faces()
    folds = s.folds(k, by="subject", stratify=True, seed=1)
    assert sorted(p for _, test in folds for p in test.paths) == sorted(s.paths)
    sizes = sorted(len(set(test.subjects)) for _, test in folds)
    assert sizes == sorted(len(range(i, 30, k)) for i in range(k))
    for train, test in folds:
        check_disjoint(train, test)
        assert len(train) + len(test) == len(s)


def test_stratified_folds_are_more_even() -> None:
    better = 0
    for seed in range(20):
        s = faces(seed=seed)
        plain, even = (
            unevenness(s, [test for _, test in s.folds(3, stratify=stratify, seed=seed)]) for stratify in (False, True)
        )
        better += even < 0.6 * plain
    assert better >= 18


def test_stratified_folds_depend_on_the_seed_alone() -> None:
    s = faces()
    shuffled = s[np.random.default_rng(1).permutation(len(s))]
    for seed in (0, 3):
        one = [set(test.subjects) for _, test in s.folds(3, stratify=True, seed=seed)]
        assert one == [set(test.subjects) for _, test in shuffled.folds(3, stratify=True, seed=seed)]
    assert one != [set(test.subjects) for _, test in s.folds(3, stratify=True, seed=4)]


def test_a_label_of_few_subjects_is_in_every_fold() -> None:
    labels = np.zeros((90, 2))
    labels[[3, 33, 63], 0] = 1  # three of nine subjects, one positive each
    labels[::2, 1] = 1
    s = fn.Samples.from_arrays([str(i) for i in range(90)], labels, subject=[f"S{i // 10}" for i in range(90)])
    for seed in range(10):
        assert [np.nansum(test.labels[:, 0]) for _, test in s.folds(3, stratify=True, seed=seed)] == [1, 1, 1]


def test_stratified_split_and_inner_split() -> None:
    plain, even = [], []
    for seed in range(12):
        s = faces(seed=seed)
        for stratify, found in ((False, plain), (True, even)):
            train, test = s.split_by_subject(test=0.33, stratify=stratify, seed=seed)
            assert len(set(test.subjects)) == 10
            inner, valid = train.inner_split(every=5, stratify=stratify)
            assert len(set(valid.subjects)) == 4
            check_disjoint(inner, valid)
            check_disjoint(train, test)
            found.append((unevenness(s, [test]), unevenness(train, [valid])))
    assert (np.mean(even, axis=0) < 0.7 * np.mean(plain, axis=0)).all()


def test_counts_of_groups() -> None:
    labels = np.array([[1, 0], [np.nan, 1], [1, 1]], np.float32)
    np.testing.assert_array_equal(group_counts(["b", "a", "b"], ["a", "b"], labels), [[0, 1, 1], [2, 1, 2]])


def test_groups_by_hand() -> None:
    # the rare label 1 first: groups 1 and 2 go apart; of label 0 the first fold then wants 5, the second 4
    counts = np.array([[5, 0, 10], [0, 1, 10], [1, 1, 30], [4, 0, 10]])
    assert deal_groups(counts, (2, 2)).tolist() == [0, 0, 1, 1]
    assert deal_groups(np.array([[0, 9], [0, 1], [0, 8]]), (1, 2)).tolist() == [1, 1, 0]


def everyone() -> list[str]:
    return [name for fold in fn.DISFA_FOLDS for name in fold]


def test_folds_of_disfa() -> None:
    assert [len(fold) for fold in fn.DISFA_FOLDS] == [9, 9, 9]
    numbers = [*range(1, 14), 16, 17, 18, 21, *range(23, 33)]
    assert sorted(everyone()) == [f"SN{n:03d}" for n in numbers]
    s = faces(names=sorted(everyone()))
    for (train, test), wanted in zip(s.folds("disfa"), fn.DISFA_FOLDS, strict=True):
        assert set(test.subjects) == set(wanted)
        assert len(train) + len(test) == len(s)
        check_disjoint(train, test)
        inner, valid = train.inner_split(every=5)
        assert len(set(valid.subjects)) == 4
        check_disjoint(inner, valid)


def test_folds_of_disfa_are_refused() -> None:
    s = faces(names=[*everyone(), "SN033"])
    with pytest.raises(ValueError, match=r"'disfa' do not have 1 of the subjects: \['SN033'\]"):
        s.folds("disfa")
    with pytest.raises(ValueError, match="fold 2 of 'disfa' has 0 of the 18"):
        faces(names=[*fn.DISFA_FOLDS[0], *fn.DISFA_FOLDS[2]]).folds("disfa")
    with pytest.raises(ValueError, match="fold 1 of 'disfa' has 9 of the 9"):
        faces(names=list(fn.DISFA_FOLDS[0])).folds("disfa")
    with pytest.raises(ValueError, match="k is 'bp4d', want a number or one of"):
        s.folds("bp4d")
    for wrong in ({"by": "sample"}, {"stratify": True}):
        with pytest.raises(ValueError, match="folds are fixed"):
            s.folds("disfa", **wrong)


def test_stratify_wants_subjects() -> None:
    s = faces()
    bare = fn.Samples.from_arrays(s.paths, s.labels)
    for call in (lambda: bare.folds(3, stratify=True), lambda: bare.inner_split(stratify=True)):
        with pytest.raises(ValueError, match="subjects are not known"):
            call()
    with pytest.raises(ValueError, match="stratify wants by='subject', by is 'sample'"):
        s.folds(3, by="sample", stratify=True)
