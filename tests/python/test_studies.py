"""Bootstrap over subjects, calibration and co-occurrence against the NumPy twin, and what they are for."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import twin_metrics as twin

import facsnet
from facsnet import _core, metrics

MEASURES = ["f1", "average_precision", "roc_auc"]
NAN = np.nan

# In test_interval_covers_the_truth a positive's score less a negative's is normal: mean 1, variance 2.25.
TRUTH = 0.5 * (1 + math.erf(1 / math.sqrt(2 * 2.25)))


def case(seed, n=120, subjects=7):
    """Scores with ties, unknown targets and a mask; one label has positives in one subject alone."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random((n, 4)), 2).astype(np.float32)
    target = (rng.random((n, 4)) < [0.4, 0.6, 0.5, -1]).astype(np.float64)
    who = rng.integers(0, subjects, n)
    target[:, 1] *= who == 3
    target[rng.random((n, 4)) < 0.1] = NAN
    mask = rng.random((n, 4)) < 0.9 if seed % 2 else None
    return scores, target, np.array([f"S{i}" for i in who]), mask


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("seed", range(4))
def test_bootstrap_twin(measure, seed):
    scores, target, subjects, mask = case(seed)
    names = np.unique(subjects)
    limits = [0.5, 0.3, 0.7, 0.5]
    found = metrics.bootstrap(
        scores, target, subjects, measure=measure, threshold=limits, mask=mask, draws=20, seed=seed, part=2
    )
    weights = _core.metric_bootstrap_draws(len(names), 20, seed, 2)
    index = np.searchsorted(names, subjects)
    for label in range(4):
        keep = ~np.isnan(target[:, label]) & (True if mask is None else mask[:, label])
        values, positive = scores[keep, label], target[keep, label] == 1
        wanted = [twin.resampled(measure, values, positive, index[keep], w, limits[label]) for w in weights]
        np.testing.assert_allclose(found[:, label], wanted, rtol=1e-12)
    assert np.isnan(found[:, 3]).all()
    assert np.isnan(found[:, 1]).any() and not np.isnan(found[:, 1]).all()


def test_draws_are_of_subjects_and_named_by_seed_and_part():
    weights = _core.metric_bootstrap_draws(9, 4000, 5, 1)
    assert (weights.sum(axis=1) == 9).all()
    # each is binomial (9, 1/9): mean 1, variance 8/9; 5 standard errors of the mean are 0.075
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.075
    assert np.abs(weights.var(axis=0) - 8 / 9).max() < 0.15
    for other in (_core.metric_bootstrap_draws(9, 4000, 6, 1), _core.metric_bootstrap_draws(9, 4000, 5, 2)):
        assert (other != weights).any()


def test_rows_of_one_subject_are_drawn_together():
    """A subject's 50 equal frames tell no more than one: the interval stays as wide."""
    rng = np.random.default_rng(0)
    scores, target = rng.random(12).astype(np.float32), (np.arange(12) % 2).astype(np.float64)
    subjects = np.arange(12)
    once = metrics.bootstrap(scores, target, subjects, draws=300)
    often = metrics.bootstrap(np.repeat(scores, 50), np.repeat(target, 50), np.repeat(subjects, 50), draws=300)
    np.testing.assert_array_equal(once, often)
    single = metrics.bootstrap(np.repeat(scores, 50), np.repeat(target, 50), np.arange(600), draws=300)
    assert np.nanstd(single) < 0.4 * np.nanstd(once)


def test_differences_are_paired():
    scores, target, subjects, _ = case(1)
    better = np.where(target == 1, np.minimum(1, scores + 0.05), scores)
    one = metrics.bootstrap(scores, target, subjects, measure="roc_auc", draws=200, seed=3)[:, 0]
    other = metrics.bootstrap(better, target, subjects, measure="roc_auc", draws=200, seed=3)[:, 0]
    assert (other >= one).all() and np.std(other - one) < 0.5 * np.std(one)


def test_interval_covers_the_truth():
    """Of 200 studies with 20 subjects, about 95 in 100 intervals hold the AUC of everybody."""
    rng = np.random.default_rng(2)
    held = 0
    for study in range(200):
        offset = np.repeat(rng.normal(0, 0.5, 20), 30)
        target = (rng.random(600) < 0.3).astype(np.float64)
        scores = rng.normal(0, 1, 600) + target + offset * target
        low, high = metrics.interval(
            metrics.bootstrap(scores, target, np.repeat(np.arange(20), 30), measure="roc_auc", draws=300, seed=study)
        )

        held += bool(low <= TRUTH <= high)
    assert 178 <= held <= 198


def test_interval():
    low, high = metrics.interval(np.arange(101.0), 0.9)
    assert (float(low), float(high)) == pytest.approx((5, 95))
    low, high = metrics.interval([[NAN, 1.0], [NAN, 3.0], [NAN, NAN]], 0.5)
    assert np.isnan(low[0]) and np.isnan(high[0]) and (low[1], high[1]) == (1.5, 2.5)
    with pytest.raises(ValueError, match="level: 95"):
        metrics.interval([1.0], 95)


@pytest.mark.parametrize("bins", [1, 4, 10])
@pytest.mark.parametrize("seed", range(4))
def test_calibration_twin(bins, seed):
    scores, target, _, mask = case(seed)
    scores[:2] = [[0, 1, 0.25, 0.5], [1, 0, 0.75, 0.5]]
    found = metrics.calibration(scores, target, mask=mask, bins=bins)
    for label in range(4):
        values, positive = twin.known(scores[:, label], target[:, label], None if mask is None else mask[:, label])
        rows, error = twin.calibration(values, positive, bins)
        np.testing.assert_allclose(
            np.stack([found.entries[label], found.score[label], found.share[label]], 1), rows, rtol=1e-12
        )
        np.testing.assert_allclose(found.error[label], error, rtol=1e-12)


def test_calibration_of_honest_and_of_boasting_scores():
    rng = np.random.default_rng(0)
    honest = rng.random(20000)
    target = (rng.random(20000) < honest).astype(np.float64)
    # each of 10 bins has 2,000 entries, whose share has a standard error of at most 0.011
    assert metrics.calibration(honest, target).error < 0.02
    boasting = np.where(honest > 0.5, 1.0, 0.0)
    assert abs(metrics.calibration(boasting, target).error - 0.25) < 0.02
    assert np.isnan(metrics.calibration([0.5], [NAN]).error)


@pytest.mark.parametrize("seed", range(4))
def test_cooccurrence_twin(seed):
    _, target, _, _ = case(seed)
    np.testing.assert_array_equal(metrics.cooccurrence(target), twin.cooccurrence(target))


def test_results_do_not_depend_on_the_number_of_threads():
    script = (
        "import numpy as np, sys; from facsnet import metrics; rng = np.random.default_rng(0);"
        "v = metrics.bootstrap(rng.random((500, 2)), rng.random((500, 2)) < 0.3, rng.integers(0, 9, 500),"
        "measure='average_precision', draws=64); sys.stdout.buffer.write(v.tobytes())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            check=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": threads,
                "PYTHONPATH": str(Path(facsnet.__file__).parents[1]),
            },
        ).stdout
        for threads in ("1", "3")
    }
    assert len(answers) == 1 and len(answers.pop()) == 64 * 2 * 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.bootstrap([0.5], [1], ["a", "b"]), r"subjects: shape is \(2,\), want \(1,\)"),
        (lambda: metrics.bootstrap([0.5], [1], ["a"], draws=0), "draws: 0, want at least 1"),
        (lambda: metrics.bootstrap([0.5], [1], ["a"], seed=-1), "seed: -1"),
        (lambda: metrics.bootstrap([0.5], [1], ["a"], part=-1), "part: -1"),
        (lambda: metrics.bootstrap([0.5], [1], ["a"], measure="mean"), "measure"),
        (lambda: metrics.bootstrap([0.5], [1], ["a"], threshold=NAN), "threshold: label 0 is nan"),
        (lambda: metrics.bootstrap([NAN], [1], ["a"]), "scores: row 0, label 0 is nan"),
        (lambda: _core.metric_bootstrap("f1", [[0.5]], [[1.0]], None, [0.5], [1], 1, 1, 0, 0), "subjects: row 0 is 1"),
        (lambda: metrics.calibration([1.5], [1]), "scores: row 0, label 0 is 1.5, want a probability"),
        (lambda: metrics.calibration([0.5], [1], bins=0), "bins: 0, want 1 to 10000"),
        (lambda: metrics.cooccurrence([[2.0]]), "target: row 0, label 0 is 2"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
