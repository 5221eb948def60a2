"""facsnet.metrics against the NumPy twin and scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import twin_metrics as twin

from facsnet import metrics

# Sums of at most a few hundred doubles: a few units in the last place.
TOLERANCE = 1e-13

NAN = np.nan
RATES = ["precision", "recall", "f1", "accuracy"]


def random_case(seed):
    """Scores with ties, unknown targets and a mask; some labels all 1, all 0, all unknown, rare."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 300)), 7
    scores = rng.random((n, k))
    scores[:, 1] = np.round(scores[:, 1], 1)
    scores[:, 2] = 0.25
    scores[:, 5] = rng.normal(0, 10, n)
    target = (rng.random((n, k)) < [0.5, 0.3, 0.4, 1.1, -1, 0.02, 0.5]).astype(np.float64)
    target[:, 6] = NAN
    target[rng.random((n, k)) < 0.1] = NAN
    mask = rng.random((n, k)) < 0.8 if seed % 2 else None
    return scores.astype(np.float32), target, mask


def columns(scores, target, mask):
    for i in range(scores.shape[1]):
        yield i, *twin.known(scores[:, i], target[:, i], None if mask is None else mask[:, i])


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE, atol=0)


@pytest.mark.parametrize("seed", range(40))
def test_twin(seed):
    scores, target, mask = random_case(seed)
    thresholds = np.random.default_rng(seed).random(scores.shape[1])
    thresholds[1] = 0.5  # equal to scores
    found = {name: getattr(metrics, name)(scores, target, threshold=thresholds, mask=mask) for name in RATES}
    counts = metrics.confusion(scores, target, threshold=thresholds, mask=mask)
    precision_average = metrics.average_precision(scores, target, mask=mask)
    area = metrics.roc_auc(scores, target, mask=mask)
    curves = metrics.pr_curve(scores, target, mask=mask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.UndefinedScoreWarning)
        fitted = metrics.fit_thresholds(scores, target, mask=mask)
    for i, values, positive in columns(scores, target, mask):
        assert tuple(int(count[i]) for count in counts) == twin.counts(values, positive, thresholds[i])
        assert counts.known[i] == len(values)
        assert counts.positives[i] == positive.sum()
        for name, wanted in twin.rates(values, positive, thresholds[i]).items():
            close(found[name][i], wanted)
        close(precision_average[i], twin.average_precision(values, positive))
        close(area[i], twin.roc_auc(values, positive))
        for one, other in zip(curves[i], twin.pr_curve(values, positive), strict=True):
            close(one, other)
        wanted = twin.best_threshold(values, positive)
        assert fitted[i] == (0.5 if np.isnan(wanted) else wanted)


@pytest.mark.parametrize("seed", range(40))
def test_scikit_learn(seed):
    theirs = pytest.importorskip("sklearn.metrics")
    scores, target, mask = random_case(seed)
    found = {name: getattr(metrics, name)(scores, target, mask=mask) for name in RATES}
    precision_average = metrics.average_precision(scores, target, mask=mask)
    area = metrics.roc_auc(scores, target, mask=mask)
    curves = metrics.pr_curve(scores, target, mask=mask)
    for i, values, positive in columns(scores, target, mask):
        predicted = values >= 0.5
        if len(values):
            close(found["accuracy"][i], theirs.accuracy_score(positive, predicted))
        if predicted.any():
            close(found["precision"][i], theirs.precision_score(positive, predicted))
        if positive.any():
            close(found["recall"][i], theirs.recall_score(positive, predicted))
            close(found["f1"][i], theirs.f1_score(positive, predicted))
            close(precision_average[i], theirs.average_precision_score(positive, values))
            for one, other in zip(curves[i], theirs.precision_recall_curve(positive, values), strict=True):
                close(one, other)
        if positive.any() and not positive.all():
            close(area[i], theirs.roc_auc_score(positive, values))


@pytest.mark.parametrize("seed", range(20))
def test_fitted_threshold_reaches_the_best_f1(seed):
    rng = np.random.default_rng(seed)
    scores, target = rng.normal(size=200).astype(np.float32), rng.random(200) < 0.2
    precision, recall, _ = metrics.pr_curve(scores, target)
    with np.errstate(invalid="ignore"):
        best = np.nanmax(2 * precision * recall / (precision + recall))
    close(metrics.f1(scores, target, threshold=metrics.fit_thresholds(scores, target)), best)


def test_fitted_threshold_is_the_middle_of_the_best_interval():
    assert metrics.fit_thresholds([0.0, 0.25, 0.75, 1.0], [0, 0, 1, 1]) == 0.5
    assert metrics.fit_thresholds([0.5, 0.75], [1, 1]) == 0.5
    # F1 is 1/2 from the score 1 down, and still after the four at 0.25: thresholds in (0, 1] reach it.
    scores, target = [1] + [0.25] * 4 + [0] * 8, [1] + [1, 0, 0, 0] + [1] + [0] * 7
    assert metrics.fit_thresholds(scores, target) == 0.5
    # F1 is 2/3 for thresholds in (0.875, 1] and in (0, 0.5], the wider one.
    assert metrics.fit_thresholds([1, 0.875, 0.75, 0.5, 0], [1, 0, 0, 1, 0]) == 0.25


def test_a_score_equal_to_its_threshold_is_predicted():
    decimals = np.arange(1, 100) / 100
    assert metrics.f1([0.7], [1], threshold=0.7) == 1
    for value in decimals:
        assert metrics.recall([value], [1], threshold=value) == 1
    assert (metrics.recall(decimals[None], np.ones((1, 99)), threshold=decimals) == 1).all()


def test_neighbouring_floats_are_told_apart():
    for low in np.float32([0.3, np.nextafter(np.float32(0.3), np.float32(1))]):  # one of them is even
        high = np.nextafter(low, np.float32(1))
        threshold = metrics.fit_thresholds([low, high], [0, 1])
        assert low < threshold <= high
        assert metrics.f1([low, high], [0, 1], threshold=threshold) == 1


@pytest.mark.parametrize("shrinkage", [0, 3])
def test_fitted_thresholds_compare_alike_in_both_precisions(shrinkage):
    scores = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    target = np.random.default_rng(1).random((50, 3)) < 0.4
    fitted = metrics.fit_thresholds(scores, target, shrinkage=shrinkage)
    assert fitted.dtype == np.float64
    np.testing.assert_array_equal(fitted, fitted.astype(np.float32))


def test_both_zeros_are_one_score():
    assert metrics.roc_auc(np.float32([-0.0, 0.0]), [0, 1]) == 0.5
    assert metrics.pr_curve(np.float32([-0.0, 0.0]), [0, 1]).thresholds.tolist() == [0]


def test_undefined_is_nan_and_zero_is_zero():
    scores = np.array([[0.1, 0.9, 0.9, 0.9], [0.2, 0.8, 0.8, 0.8]])
    target = np.array([[1, 0, 1, NAN], [0, 0, 1, NAN]])
    np.testing.assert_array_equal(metrics.f1(scores, target), [0, NAN, 1, NAN])
    np.testing.assert_array_equal(metrics.precision(scores, target), [NAN, 0, 1, NAN])
    np.testing.assert_array_equal(metrics.recall(scores, target), [0, NAN, 1, NAN])
    np.testing.assert_array_equal(metrics.accuracy(scores, target), [0.5, 0, 1, NAN])
    np.testing.assert_array_equal(metrics.average_precision(scores, target), [0.5, NAN, 1, NAN])
    np.testing.assert_array_equal(metrics.roc_auc(scores, target), [0, NAN, NAN, NAN])


def test_empty_set():
    empty = np.empty((0, 2))
    for name in [*RATES, "average_precision", "roc_auc"]:
        np.testing.assert_array_equal(getattr(metrics, name)(empty, empty), [NAN, NAN])
    precision, recall, thresholds = metrics.pr_curve(empty, empty)[0]
    assert precision.tolist() == [1]
    assert np.isnan(recall).all()
    assert thresholds.size == 0
    assert metrics.f1(np.empty((3, 0)), np.empty((3, 0))).shape == (0,)


def test_one_label_as_1d():
    scores, target = [0.9, 0.6, 0.1], [1, 0, 0]
    column = np.array(scores)[:, None], np.array(target)[:, None]
    for name in [*RATES, "average_precision", "roc_auc", "fit_thresholds"]:
        one, many = getattr(metrics, name)(scores, target), getattr(metrics, name)(*column)
        assert one.shape == ()
        assert many.shape == (1,)
        assert one == many[0]
    curve, curves = metrics.pr_curve(scores, target), metrics.pr_curve(*column)
    assert len(curves) == 1
    for one, many in zip(curve, curves[0], strict=True):
        np.testing.assert_array_equal(one, many)
    assert [int(c) for c in metrics.confusion(scores, target)] == [1, 1, 0, 1]


def test_masked_entries_do_not_matter():
    scores, target = np.array([[NAN], [0.9], [0.1]]), np.array([[1], [1], [0.0]])
    mask = np.array([[False], [True], [True]])
    assert metrics.roc_auc(scores, target, mask=mask) == 1
    assert metrics.roc_auc(scores, np.array([[NAN], [1], [0]])) == 1


def test_macro_mean_names_what_is_undefined():
    with pytest.warns(metrics.UndefinedScoreWarning, match="AU02, AU09$"):
        assert metrics.macro_mean([0.5, NAN, 1.0, NAN], ["AU01", "AU02", "AU04", "AU09"]) == 0.75
    with pytest.warns(metrics.UndefinedScoreWarning, match="label 0$"):
        assert np.isnan(metrics.macro_mean([NAN]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.macro_mean([0.25, 0.75]) == 0.5


def test_shrunk_thresholds():
    scores = [[0.0, 0.9, 0.2], [1.0, 0.1, 0.4], [0.75, 0.3, 0.6]]
    target = [[0, 1, 0], [1, 0, 0], [1, 0, 0]]
    with pytest.warns(metrics.UndefinedScoreWarning, match=r"the median is taken.*C"):
        fitted = metrics.fit_thresholds(scores, target, shrinkage=2, names="ABC")
    own, median = np.array([0.375, 0.6]), (0.375 + 0.6) / 2
    np.testing.assert_allclose(fitted, [own[0] / 2 + median / 2, own[1] / 3 + median * 2 / 3, median], rtol=1e-7)
    assert metrics.fit_thresholds([0.0, 1.0], [0, 1], shrinkage=5) == 0.5  # one label is its own median
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="shrinkage is"):
            metrics.fit_thresholds([0.0, 1.0], [0, 1], shrinkage=wrong)


def test_fit_thresholds_names_labels_without_a_positive():
    with pytest.warns(metrics.UndefinedScoreWarning, match="no positive.*: AU02$"):
        fitted = metrics.fit_thresholds([[0.0, 0.9], [1.0, 0.9]], [[0, 0], [1, 0]], names=["AU01", "AU02"])
    assert fitted.tolist() == [0.5, 0.5]


def test_collected_batches_equal_the_whole():
    scores, target, _ = random_case(3)
    mask = np.random.default_rng(0).random(scores.shape) < 0.5
    collected = metrics.Scores([f"AU{i}" for i in range(7)])
    for at in range(0, len(scores), 16):
        rows = slice(at, at + 16)
        collected.add(scores[rows], target[rows], mask=mask[rows])
    assert len(collected) == len(scores)
    found = metrics.average_precision(collected.scores, collected.target)
    np.testing.assert_array_equal(found, metrics.average_precision(scores, target, mask=mask))
    assert metrics.Scores(["AU1"]).scores.shape == (0, 1)


def test_a_refused_batch_leaves_nothing():
    collected = metrics.Scores(["AU01"])
    with pytest.raises(ValueError, match=r"scores: shape is \(1, 2\), want \(1, 1\)"):
        collected.add([[0.1, 0.2]], [[0, 1]])
    with pytest.raises(ValueError, match="target: row 0, label 0 is 2"):
        collected.add([[0.1]], [[2]])
    assert len(collected) == 0


GOOD = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
BITS = np.array([[0, 1], [1, 0], [NAN, 1]])


def changed(array, row, label, value):
    copy = np.array(array, np.float64)
    copy[row, label] = value
    return copy


@pytest.mark.parametrize("name", [*RATES, "average_precision", "roc_auc", "pr_curve", "fit_thresholds", "confusion"])
@pytest.mark.parametrize(
    ("scores", "target", "mask", "error", "message"),
    [
        (changed(GOOD, 1, 1, NAN), BITS, None, ValueError, "scores: row 1, label 1 is nan, want a finite number"),
        (changed(GOOD, 0, 1, np.inf), BITS, None, ValueError, "scores: row 0, label 1 is inf"),
        (GOOD, changed(BITS, 2, 1, 0.5), None, ValueError, "target: row 2, label 1 is 0.5, want 0, 1 or NaN"),
        (GOOD, BITS, changed(np.ones((3, 2)), 1, 0, 2), ValueError, "mask: row 1, label 0 is 2, want 0 or 1"),
        (GOOD, BITS[:2], None, ValueError, r"target: shape is \(2, 2\), want \(3, 2\)"),
        (GOOD, BITS, np.ones(3), ValueError, r"mask: shape is \(3,\), want \(3, 2\)"),
        (GOOD[None], BITS[None], None, ValueError, r"scores: shape is \(1, 3, 2\), want \(n, k\) or \(n,\)"),
        (GOOD.astype(str), BITS, None, TypeError, "scores: dtype <U"),
        (GOOD, BITS.astype(complex), None, TypeError, "target: dtype complex"),
    ],
)
def test_wrong_calls(name, scores, target, mask, error, message):
    with pytest.raises(error, match=message):
        getattr(metrics, name)(scores, target, mask=mask)


@pytest.mark.parametrize(
    ("threshold", "error", "message"),
    [
        ([0.5, 0.5, 0.5], ValueError, r"threshold: shape is \(3,\), want \(2,\)"),
        ([0.5, NAN], ValueError, "threshold: label 1 is nan"),
        ("0.5", TypeError, "threshold: dtype <U3"),
        (None, TypeError, "threshold: dtype object"),
    ],
)
def test_wrong_thresholds(threshold, error, message):
    with pytest.raises(error, match=message):
        metrics.f1(GOOD, BITS, threshold=threshold)


def test_wrong_names():
    with pytest.raises(ValueError, match="names: has 1 entries, want 2"):
        metrics.macro_mean([0.1, 0.2], ["AU01"])
    with pytest.raises(ValueError, match=r"values: shape is \(1, 2\)"):
        metrics.macro_mean([[0.1, 0.2]])


def test_arrays_of_any_layout():
    scores, target, _ = random_case(4)
    wanted = metrics.average_precision(scores, target)
    np.testing.assert_array_equal(
        metrics.average_precision(np.asfortranarray(scores), target[::1].astype(np.float32)), wanted
    )
    order = np.random.default_rng(1).permutation(len(scores))
    np.testing.assert_array_equal(metrics.average_precision(scores[order], target[order]), wanted)
