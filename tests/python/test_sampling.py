"""What an epoch draws of the samples: frames, subjects, labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core

ROWS = 300
rng = np.random.default_rng(0)
SUBJECT = rng.integers(0, 7, ROWS)
LABELS = (rng.random((ROWS, 4)) < [0.5, 0.1, 0.02, 0.0]).astype(np.float32)
LABELS[5, 0] = LABELS[6, 1] = np.nan


def table(**options: Any) -> fn.Samples:
    return fn.Samples.from_arrays(np.zeros((ROWS, 2, 2, 3), np.uint8), LABELS, **{"subject": SUBJECT, **options})


def rows_of(sampling: fn.Sampling, epoch: int = 0, *, seed: int = 0, **options: Any) -> np.ndarray:
    rows = sampling.drawer(table(**options), seed=seed)(epoch)
    assert rows is not None
    return rows


def test_all_by_default() -> None:
    samples = table()
    assert fn.Sampling().is_all
    assert fn.Sampling().drawer(samples, seed=0)(3) is None
    assert samples.draw(fn.Sampling()) is samples


@pytest.mark.parametrize("every", [2, 7, 1000])
@pytest.mark.parametrize("subject", [SUBJECT, None])
def test_one_frame_in_every(every: int, subject: np.ndarray | None) -> None:
    sampling = fn.Sampling(every=every)
    seen = np.zeros(ROWS, int)
    for epoch in range(12 * every if every < 10 else 3):
        rows = rows_of(sampling, epoch, subject=subject)
        assert (np.diff(rows) > 0).all()
        seen[rows] += 1
        for one in np.unique(SUBJECT) if subject is not None else [None]:
            frames = np.flatnonzero(one == SUBJECT) if subject is not None else np.arange(ROWS)
            places = np.flatnonzero(np.isin(frames, rows))
            assert (places // every == np.arange(-(-len(frames) // every))).all(), "one of each run of frames"
    if every < 10:
        assert (seen > 0).all(), "other frames in other epochs"


def test_the_limit_per_subject() -> None:
    sampling = fn.Sampling(per_subject=45)
    counts = np.bincount(SUBJECT)
    assert counts.min() < 45 < counts.max()
    seen = np.zeros(ROWS, int)
    for epoch in range(30):
        rows = rows_of(sampling, epoch)
        assert (np.diff(rows) > 0).all()
        assert (np.bincount(SUBJECT[rows]) == np.minimum(counts, 45)).all()
        seen[rows] += 1
    assert (seen > 0).all()
    short = counts[SUBJECT] <= 45
    assert (seen[short] == 30).all()


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"per_subject": 20}])
def test_balanced(options: dict[str, int]) -> None:
    for epoch in range(4):
        plain = rows_of(fn.Sampling(**options), epoch) if options else np.arange(ROWS)
        rows = rows_of(fn.Sampling(balanced=True, **options), epoch)
        assert len(rows) == len(plain)
        assert np.isin(rows, plain).all()
        assert not LABELS[:, 3].any(), "a label without a positive is no class"
        positive = LABELS[plain] == 1
        members = [set(plain[positive[:, k]]) for k in range(3)] + [set(plain[~positive.any(axis=1)])]
        members = [m for m in members if m]
        sizes = [len(rows) // len(members) + (c < len(rows) % len(members)) for c in range(len(members))]
        taken = np.array([np.isin(rows, list(m)).sum() for m in members])
        assert (taken >= min(sizes)).all(), "each class has its share, and what comes with the others"
        counts = np.bincount(rows, minlength=ROWS)
        # the rows without a positive are of no other class, so they are dealt evenly
        nothing = counts[list(members[-1])]
        assert nothing.max() - nothing.min() <= 1
        assert taken[-1] in sizes


def test_the_remainder_goes_round() -> None:
    labels = np.array([[1, 0], [0, 1], [0, 0], [0, 0]], np.float32)
    counts = [np.bincount(_core.draw_sample(labels, None, 1, 0, True, 0, epoch)[0], minlength=4) for epoch in range(3)]
    assert all(count.sum() == 4 for count in counts)
    assert sum(counts)[:2].tolist() == [4, 4]


def test_balanced_without_a_positive_is_all() -> None:
    rows, count = _core.draw_sample(np.full((9, 2), np.nan), None, 1, 0, True, 3, 1)
    assert count == 9
    assert sorted(rows) == list(range(9))


@pytest.mark.parametrize("sampling", [fn.Sampling(every=3), fn.Sampling(per_subject=5), fn.Sampling(balanced=True)])
def test_drawn_from_the_seed(sampling: fn.Sampling) -> None:
    assert (rows_of(sampling, 2) == rows_of(sampling, 2)).all()
    assert len(rows_of(sampling, 2)) == len(rows_of(sampling, 0))
    assert (rows_of(sampling, 2) != rows_of(sampling, 3)).any()
    assert (rows_of(sampling, 2) != rows_of(sampling, 2, seed=1)).any()


def test_samples_drawn_for_good() -> None:
    samples, sampling = table(), fn.Sampling(every=4, per_subject=3)
    drawn = samples.draw(sampling, seed=5, epoch=2)
    rows = rows_of(sampling, 2, seed=5)
    np.testing.assert_array_equal(drawn.labels, LABELS[rows])
    assert drawn.subjects is not None
    assert list(drawn.subjects) == [str(s) for s in SUBJECT[rows]]
    assert len(drawn) == 3 * 7


@pytest.mark.parametrize("cache", ["none", "auto"])
def test_training_on_what_is_drawn(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    labels = (rng.random((60, 2)) < [0.5, 0.1]).astype(np.float32)
    samples = fn.Samples.from_arrays(images, labels, subject=np.arange(60) // 10)
    sampling = fn.Sampling(every=2, balanced=True)
    steps: list[tuple[np.ndarray, float]] = []
    core = _core.StageTrainer

    class Watched:
        def __init__(self, *row: Any) -> None:
            self.core = core(*row)

        def step(self, x: Any, target: np.ndarray, mask: Any, epoch: float, rows: Any) -> Any:
            steps.append((target.copy(), epoch))
            return self.core.step(x, target, mask, epoch, rows)

    monkeypatch.setattr(_core, "StageTrainer", Watched)
    net = fn.Network("mobilenet_v1", labels=samples.label_names, width=0.25, input_size=32, threads=1)
    stage = fn.Stage("head", 2, 1e-2, sampling=sampling, cache=cache)
    fn.Trainer(net, stages=[stage], batch_size=8, progress=False, seed=4).fit(samples, None)
    assert [epoch for _, epoch in steps] == [0.125, 0.375, 0.625, 0.875, 1.125, 1.375, 1.625, 1.875]
    for epoch in range(2):
        shown = np.concatenate([target for target, at in steps if int(at) == epoch])
        wanted = samples.labels[sampling.drawer(samples, seed=4)(epoch)]
        assert sorted(map(tuple, shown)) == sorted(map(tuple, wanted))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fn.Sampling(every=0), "every is 0, want at least 1"),
        (lambda: fn.Sampling(per_subject=0), "per_subject is 0, want at least 1"),
        (lambda: table(subject=None).draw(fn.Sampling(per_subject=2)), "per_subject is 2, but subjects are not known"),
        (lambda: _core.draw_sample(LABELS, None, 0, 0, False, 0, 0), "every is 0"),
        (lambda: _core.draw_sample(LABELS, None, 1, -1, False, 0, 0), "per_group -1"),
        (lambda: _core.draw_sample(LABELS[:0], None, 1, 0, False, 0, 0), "there are no samples"),
        (lambda: _core.draw_sample(LABELS[:3], [0, 3, 0], 1, 0, False, 0, 0), "row 1 is of group 3, want 0 to 2"),
        (lambda: _core.draw_sample(LABELS[:3], [0, 0], 1, 0, False, 0, 0), r"groups: shape is \(2,\)"),
        (lambda: _core.draw_epoch(0, 0, 3, 0.5, [0, 3]), "row 1 is 3, want 0 to 2"),
    ],
)
def test_refusals(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_batch_larger_than_the_draw() -> None:
    samples = table()
    net = fn.Network("mobilenet_v1", labels=samples.label_names, width=0.25, input_size=32, threads=1)
    stage = fn.Stage("head", 1, 1e-3, sampling=fn.Sampling(every=10))
    with pytest.raises(ValueError, match="the sampling of stage 'head' draws only 34 samples"):
        fn.Trainer(net, stages=[stage], batch_size=64, progress=False).fit(samples, None)
