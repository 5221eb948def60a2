"""MobileNet-v1 against PyTorch eager, channels_last: inference and full fine-tuning, batch 64, float32.

Outputs and gradients are compared first. Rounds alternate between the two, with a probe of the
machine (a large matrix product) before each; rounds with a slow probe are dropped. Prints medians
and the median of the per-round ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import facsnet as fn
from facsnet import _core

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from torch_reference import MobileNetV1, load

LABELS = 16


def probe() -> float:
    """GFLOP/s of a matrix product."""
    a = torch.ones(1024, 1024)
    start = time.perf_counter()
    for _ in range(5):
        a @ a
    return 5 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def alternate(title: str, ours: Callable[[], object], theirs: Callable[[], object], images: int, rounds: int) -> None:
    rows = []
    ours(), theirs()
    for _ in range(rounds):
        speed = probe()
        times = []
        for run in (ours, theirs):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        rows.append((speed, *times))
    best = max(row[0] for row in rows)
    kept = [row for row in rows if row[0] > 0.8 * best]
    ratios = sorted(row[2] / row[1] for row in kept)
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    print(
        f"{title:<12} ours {images / statistics.median(r[1] for r in kept):7.1f} img/s, PyTorch {images / statistics.median(r[2] for r in kept):7.1f} img/s, "
        f"ratio {statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}], {len(kept)} of {rounds} rounds, probe {best:.0f} GFLOP/s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    network = fn.Network("mobilenet_v1", labels=LABELS, dropout=0.0, threads=o.threads, seed=1)
    model = MobileNetV1(LABELS, dropout=0.0)
    load(model, network.state_dict())
    model = model.to(memory_format=torch.channels_last)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(o.batch, 224, 224, 3)).astype(np.float32)
    y = (rng.random((o.batch, LABELS)) < 0.2).astype(np.float32)
    xt = torch.tensor(x).permute(0, 3, 1, 2)  # channels_last memory without a copy
    yt = torch.tensor(y)
    print(f"instruction set {network.instruction_set}, {o.threads} threads, torch {torch.__version__}")

    model.eval()
    with torch.inference_mode():
        print(f"largest relative difference of logits {relative(network.forward(x), model(xt).numpy()):.1e}")
    # fresh running statistics first: the training forward moves them on both sides
    model.train()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(xt), yt)
    loss.backward()
    logits = network.forward(x, training=True)
    value, dlogits = fn.losses.bce(logits, y)
    network.backward(dlogits)
    ours = network.gradients()["mobilenet_v1.layer.5.convolution.weight"][0, 0].T
    wanted = model.mobilenet_v1.layer[5].convolution.weight.grad[:, :, 0, 0].numpy()
    print(
        f"loss {value:.6f} and {loss.item():.6f}, largest relative difference of a middle gradient {relative(ours, wanted):.1e}"
    )

    def infer_torch() -> None:
        model.eval()
        with torch.inference_mode():
            model(xt)

    alternate("inference", lambda: network.forward(x), infer_torch, o.batch, o.rounds)

    optimiser = torch.optim.Adam(model.parameters(), lr=1e-5)
    trainer = _core.StageTrainer(
        network._core,
        "stem",
        False,
        False,
        1e-5,
        fn.Loss("bce")._specification(),
        fn.Optimiser().row(),
        fn.Schedule().row(1),
        None,
        o.batch,
        0,
    )
    mask = np.ones_like(y)

    def train_torch() -> None:
        model.train()
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.binary_cross_entropy_with_logits(model(xt), yt).backward()
        optimiser.step()

    alternate("fine-tuning", lambda: trainer.step(x, y, mask, 0.0), train_torch, o.batch, max(o.rounds // 2, 5))


if __name__ == "__main__":
    main()
