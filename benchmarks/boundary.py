"""Fine-tuning the last blocks: steps from images against steps from activations kept at the boundary.

The ways alternate in one process, on the same weights and images. What reading, resizing and varying
images costs is not in the figures of any of them.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import facsnet as fn
from facsnet import _core

JOBS = {
    "mobilenet_v1": "block12",
    "mobilenet_v2": "block14",
    "densenet121": "denseblock4",
    "densenet201": "denseblock4",
}
LABELS, IMAGES = 12, 192


def trainer(network: fn.Network, block: str, cached: bool, batch: int) -> _core.StageTrainer:
    row = (fn.Loss("bce")._specification(), fn.Optimiser().row(), fn.Schedule().row(1))
    return _core.StageTrainer(network._core, block, cached, False, 1e-5, *row, None, batch, 0)


def measure(name: str, block: str, o: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    network = fn.Network(name, labels=LABELS, threads=o.threads, seed=1)
    images = rng.integers(0, 256, (IMAGES, 224, 224, 3), dtype=np.uint8)
    # statistics that fit random weights: without, numbers grow from layer to layer, their gradients
    # get too small for normal floats, and those are slow
    for i in range(30):
        network.forward(images[4 * i : 4 * i + 4], training=True)
    target = (rng.random((IMAGES, LABELS)) < 0.3).astype(np.float32)
    mask = np.ones_like(target)
    halves, floats = (network._core.below(images, block, bfloat16) for bfloat16 in (True, False))
    ways = {"images": images, "bfloat16": halves, "float32": floats}
    trainers = {way: trainer(network, block, way != "images", o.batch) for way in ways}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for i in range(o.rounds + 1):
        for way, values in ways.items():
            rows = rng.permutation(IMAGES)[: o.batch]
            x, chosen = (images[rows], None) if way == "images" else (values, rows)
            start = time.perf_counter()
            trainers[way].step(x, target[rows], mask[rows], 0.0, chosen)
            if i:
                seconds[way].append(time.perf_counter() - start)
    found = {way: np.array(rows) for way, rows in seconds.items()}
    ratios = [
        f"{way} {np.median(found['images'] / found[way]):.2f} "
        f"[{', '.join(f'{q:.2f}' for q in np.percentile(found['images'] / found[way], [10, 90]))}]"
        for way in ("bfloat16", "float32")
    ]
    print(
        f"{name:<13}{block:<13}"
        + "  ".join(f"{way} {np.median(rows) * 1e3:.0f} ms" for way, rows in found.items())
        + f"  ratio {', '.join(ratios)}  {halves.nbytes / IMAGES / 1024:.0f} KiB an image",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(JOBS), help="of " + ", ".join(JOBS))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    for name in o.networks:
        measure(name, JOBS[name], o)


if __name__ == "__main__":
    main()
