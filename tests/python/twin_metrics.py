"""The measures of facsnet.metrics in plain NumPy, for one label, by their definitions."""

from __future__ import annotations

import numpy as np


def known(scores, target, mask=None):
    """Scores (float32) and booleans of the entries that count."""
    keep = ~np.isnan(target) if mask is None else ~np.isnan(target) & (np.asarray(mask) != 0)
    return np.asarray(scores, np.float32)[keep], target[keep] == 1


def counts(scores, positive, threshold):
    predicted = scores >= np.float32(threshold)
    return (
        int((predicted & positive).sum()),
        int((predicted & ~positive).sum()),
        int((~predicted & positive).sum()),
        int((~predicted & ~positive).sum()),
    )


def rates(scores, positive, threshold):
    tp, fp, fn, tn = counts(scores, positive, threshold)
    nan = float("nan")
    return {
        "precision": tp / (tp + fp) if tp + fp else nan,
        "recall": tp / (tp + fn) if tp + fn else nan,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fn else nan,
        "accuracy": (tp + tn) / len(scores) if len(scores) else nan,
    }


def pr_curve(scores, positive):
    thresholds = np.unique(scores)
    points = [rates(scores, positive, t) for t in thresholds]
    precision = [p["precision"] for p in points] + [1.0]
    recall = [p["recall"] for p in points] + [0.0 if positive.any() else np.nan]
    return np.array(precision), np.array(recall), thresholds.astype(np.float64)


def average_precision(scores, positive):
    precision, recall, _ = pr_curve(scores, positive)
    return -np.sum(np.diff(recall) * precision[:-1]) if positive.any() else np.nan


def roc_auc(scores, positive):
    above, below = scores[positive][:, None], scores[~positive][None, :]
    if not above.size or not below.size:
        return np.nan
    return np.mean((above > below) + 0.5 * (above == below))


def best_threshold(scores, positive):
    """The widest interval between distinct scores on which F1 is best, its middle."""
    if not positive.any():
        return np.nan
    levels = np.unique(scores)[::-1].astype(np.float64)
    tally = [counts(scores, positive, level) for level in levels]
    values = [tp / (2 * tp + fp + fn) for tp, fp, fn, _ in tally]
    best, intervals, first = max(values), [], None
    for i, value in enumerate(values):
        first = i if value == best and first is None else first
        ends = i + 1 == len(values) or values[i + 1] != best
        if first is not None and ends:
            intervals.append((levels[min(i + 1, len(levels) - 1)], levels[first]))
            first = None
    low, high = max(intervals, key=lambda ends: (ends[1] - ends[0], ends[1]))
    middle = np.float32(low + (high - low) / 2)
    return float(middle if middle > low else high)


def resampled(measure, scores, positive, subject, weights, threshold):
    """A measure of the rows of subjects, each as often as weights says; equal to repeating the rows."""
    rows = np.repeat(np.arange(len(scores)), weights[subject])
    values, present = scores[rows], positive[rows]
    if measure == "f1":
        return rates(values, present, threshold)["f1"]
    return {"average_precision": average_precision, "roc_auc": roc_auc}[measure](values, present)


def calibration(scores, positive, bins):
    """Rows of (count, mean score, share of positives) per bin, and the expected calibration error."""
    wide = scores.astype(np.float64)
    place = np.minimum(np.floor(wide * bins), bins - 1)
    rows, error = [], 0.0
    for b in range(bins):
        inside = place == b
        score, share = (wide[inside].mean(), positive[inside].mean()) if inside.any() else (np.nan, np.nan)
        rows.append((inside.sum(), score, share))
        error += inside.sum() * abs(score - share) if inside.any() else 0.0
    return np.array(rows, np.float64), error / len(scores) if len(scores) else np.nan


def cooccurrence(target):
    k = target.shape[1]
    share = np.full((k, k), np.nan)
    for i in range(k):
        for j in range(k):
            there = target[(target[:, i] == 1) & ~np.isnan(target[:, j]), j]
            share[i, j] = there.mean() if len(there) else np.nan
    return share
