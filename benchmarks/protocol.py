"""Shared by the benchmarks on real faces: where the data is, how a model is scored, how a table is printed."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import facsnet as fn
from facsnet import _core
from facsnet.loading import logits_of

COLUMNS = ("roc_auc", "average_precision", "f1", "f1_fitted")


def data_folder(name: str) -> Path:
    """The folder of a data set: $FACSNET_DATA, else ../shared/data beside the repository."""
    root = Path(os.environ.get("FACSNET_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))
    if not (root / name).is_dir():
        raise SystemExit(f"{root / name} is not there: set FACSNET_DATA to the folder that holds {name}")
    return root / name


def probabilities(network: fn.Network, samples: fn.Samples, *, flip_average: bool) -> np.ndarray:
    logits = logits_of(network, samples)
    if flip_average:
        logits = (logits + logits_of(network, samples, flip=True)) / 2
    return _core.sigmoid(logits)


def score(
    network: fn.Network, valid: fn.Samples, test: fn.Samples, *, flip_average: bool, shrinkage: float = 0.0
) -> dict[str, np.ndarray]:
    """Per label on the test part: AUC, average precision, accuracy and F1 at 0.5, F1 at thresholds fitted on valid.

    The logits of the plain and the mirrored image are averaged where asked for; shrinkage is that of
    `metrics.fit_thresholds`.
    """
    fitted_on = probabilities(network, valid, flip_average=flip_average)
    thresholds = fn.metrics.fit_thresholds(fitted_on, valid.labels, shrinkage=shrinkage)
    scores = probabilities(network, test, flip_average=flip_average)
    return {
        "roc_auc": fn.metrics.roc_auc(scores, test.labels),
        "average_precision": fn.metrics.average_precision(scores, test.labels),
        "f1": fn.metrics.f1(scores, test.labels, threshold=0.5),
        "f1_fitted": fn.metrics.f1(scores, test.labels, threshold=thresholds),
        "accuracy": fn.metrics.accuracy(scores, test.labels, threshold=0.5),
    }


def mean_over(folds: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Mean over folds, then over labels."""
    folds = list(folds)
    return {name: float(np.nanmean(np.nanmean([f[name] for f in folds], axis=0))) for name in folds[0]}


def print_row(title: str, values: Mapping[str, float], columns: Sequence[str] = COLUMNS) -> None:
    print(f"{title:<28}" + "".join(f"{values[c]:>19.3f}" for c in columns), flush=True)


def print_header(columns: Sequence[str] = COLUMNS) -> None:
    print(f"{'':<28}" + "".join(f"{c:>19}" for c in columns), flush=True)


def save(path: Path | None, results: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n")


class Clock:
    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __str__(self) -> str:
        return f"{time.perf_counter() - self.start:.0f} s"


def common_options(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--losses", nargs="+", default=["bce", "pr", "lsep"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, help="also write the results here")
    return parser
