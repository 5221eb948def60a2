"""The job of `benchmarks/ckplus.py --setting torch` in PyTorch, fold by fold: what the same setting gives there.

Same weights, parts, batches, rates and epochs, flips, loss; epoch and thresholds from the inner part.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

import numpy as np
import torch
from protocol import data_folder, mean_over, print_header, print_row, save

import facsnet as fn
from facsnet import _core

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from torch_reference import MobileNetV1, load


def pixels(samples: fn.Samples) -> torch.Tensor:
    x = np.stack([fn.read_image(path, size=224) for path in samples.paths])
    return torch.tensor(x).permute(0, 3, 1, 2)


def scaled(x: torch.Tensor) -> torch.Tensor:
    return (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def autocast(dtype: str) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext() if dtype == "float32" else torch.autocast("cpu", getattr(torch, dtype))


@torch.inference_mode()
def run(function, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([function(scaled(part)).float() for part in x.split(64)])


def area(logits: torch.Tensor, target: np.ndarray) -> float:
    return float(np.nanmean(fn.metrics.roc_auc(torch.sigmoid(logits).numpy(), target)))


def fit(model, forward, train, y, valid, target, epochs, rate, batch, seed) -> None:
    """Trains with flips (train holds plain and mirrored inputs) and restores the best epoch."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate, fused=True)
    best, state = -1.0, None
    for _ in range(epochs):
        model.train()
        if not next(model.mobilenet_v1.parameters()).requires_grad:
            model.mobilenet_v1.eval()
        order = torch.randperm(len(y), generator=generator)
        for rows in order.tensor_split(-(-len(y) // batch)):
            mirrored = torch.rand(len(rows), generator=generator) < 0.5
            x = torch.where(mirrored.reshape(-1, *[1] * (train[0].ndim - 1)), train[1][rows], train[0][rows])
            optimiser.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(forward(x), y[rows]).backward()
            optimiser.step()
        model.eval()
        score = area(valid(), target)
        if score > best:
            best, state = score, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(state)


def score(model, forward, valid, valid_y, test, test_y) -> dict[str, np.ndarray]:
    model.eval()
    on_valid, on_test = (_core.sigmoid(run(forward, x).numpy()) for x in (valid, test))
    thresholds = fn.metrics.fit_thresholds(on_valid, valid_y)
    return {
        "roc_auc": fn.metrics.roc_auc(on_test, test_y),
        "average_precision": fn.metrics.average_precision(on_test, test_y),
        "f1": fn.metrics.f1(on_test, test_y),
        "f1_fitted": fn.metrics.f1(on_test, test_y, threshold=thresholds),
    }


def train_fold(samples: fn.Samples, fold: int, o: argparse.Namespace) -> list[dict[str, np.ndarray]]:
    """Both stages; the scores after each."""
    torch.manual_seed(0)
    train, test = samples.folds(3, by="subject", seed=0)[fold]
    inner, valid = train.inner_split(every=5)
    source = fn.Network("mobilenet_v1", labels=samples.label_names, seed=0)
    source.load_weights(data_folder("weights") / "mobilenet_v1_1.0_224.safetensors")
    model = MobileNetV1(len(samples.label_names))
    load(model, source.state_dict())
    model = model.to(memory_format=torch.channels_last).eval()
    x, v, t = (pixels(part) for part in (inner, valid, test))
    y = torch.tensor(np.array(inner.labels))
    half = autocast(o.dtype)

    def logits(images: torch.Tensor) -> torch.Tensor:
        with half:
            return model(images)

    def features(images: torch.Tensor) -> torch.Tensor:
        with half:
            return model.features(images)

    model.mobilenet_v1.requires_grad_(False)
    versions = [run(features, x).clone(), run(features, x.flip(3)).clone()]
    cached = run(features, v).clone()
    fit(
        model,
        model.head,
        versions,
        y,
        lambda: model.head(cached).detach(),
        valid.labels,
        o.head_epochs,
        1e-3,
        o.batch_size,
        0,
    )
    found = [score(model, logits, v, valid.labels, t, test.labels)]
    model.mobilenet_v1.requires_grad_(True)
    fit(
        model,
        lambda b: logits(scaled(b)).float(),
        [x, x.flip(3)],
        y,
        lambda: run(logits, v),
        valid.labels,
        o.finetune_epochs,
        1e-4,
        o.batch_size,
        0,
    )
    return [*found, score(model, logits, v, valid.labels, t, test.labels)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--head-epochs", type=int, default=40)
    parser.add_argument("--finetune-epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="bfloat16 is autocast")
    parser.add_argument("--json", type=Path)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    samples = fn.Samples.from_csv(data_folder("ckplus") / "labels.csv")
    samples = samples.select_labels(samples.labels_with(min_positives=60))
    print_header()
    results: dict[int, list] = {1: [], 2: []}
    for fold in o.folds:
        start = time.perf_counter()
        for stage, row in enumerate(train_fold(samples, fold, o), start=1):
            results[stage].append(row)
        print(f"  fold {fold}: {time.perf_counter() - start:.0f} s", flush=True)
    for stage, rows in results.items():
        print_row(f"PyTorch, bce, stage {stage}", mean_over(rows))
    save(o.json, {f"bce stage {stage}": mean_over(rows) for stage, rows in results.items()})


if __name__ == "__main__":
    main()
