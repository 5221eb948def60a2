"""Does the loader outpace the network? Images per second of reading, resizing and varying, against inference and training.

The loader runs alone, in all threads; then inference in batches, and an epoch of fine-tuning with the loader's share of
its time as the history gives it. Files are CelebA's aligned faces ($FACSNET_DATA/celeba, JPEG of 178 x 218).
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from protocol import data_folder

import facsnet as fn
from facsnet.loading import make_loader

VARIATIONS = {
    "plain": fn.Augmentation.none(),
    "flips": fn.Augmentation(),
    "default": fn.two_stage()[1].augmentation,
}


def rate_of_loader(samples: fn.Samples, network: fn.Network, o: argparse.Namespace, variation: str) -> float:
    """Images per second of a pass."""
    loader = make_loader(
        samples, network, batch=o.batch, workers=o.threads, augmentation=VARIATIONS[variation], shuffle=False
    )
    start, count = time.perf_counter(), 0
    loader.start(0, None)
    for pixels, *_ in loader:
        count += len(pixels)
    return count / (time.perf_counter() - start)


def rate_of_inference(network: fn.Network, pixels: np.ndarray, o: argparse.Namespace) -> float:
    network.forward(pixels)  # makes the plan
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 1:
        network.forward(pixels)
        count += len(pixels)
    return count / (time.perf_counter() - start)


def share_in_training(samples: fn.Samples, name: str, o: argparse.Namespace) -> tuple[float, float]:
    """Images per second of an epoch of full fine-tuning, and the part of it spent waiting for the loader.

    Half of the threads read, as in any training.
    """
    samples = samples[: 4 * o.batch]
    network = fn.Network(name, labels=samples.label_names, threads=o.threads, dtype=o.dtype)
    stage = fn.Stage("finetune", 2, 1e-5, unfreeze="all", augmentation=VARIATIONS["default"])
    history = fn.Trainer(network, stages=[stage], batch_size=o.batch, progress=False).fit(samples)
    row = history.rows[-1]
    return len(samples) / row["seconds"], row["loader_seconds"] / row["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["mobilenet_v1", "mobilenet_v2"])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    samples = fn.read_celeba(data_folder("celeba"))[: o.images]
    networks = {n: fn.Network(n, labels=samples.label_names, threads=o.threads, dtype=o.dtype) for n in o.networks}
    pixels = np.random.default_rng(0).integers(0, 256, (o.batch, 224, 224, 3), dtype=np.uint8)
    rates: dict[str, list[float]] = {}
    for _ in range(o.rounds):
        for variation in VARIATIONS:
            rate = rate_of_loader(samples, next(iter(networks.values())), o, variation)
            rates.setdefault(f"loader, {variation}", []).append(rate)
        for name, network in networks.items():
            rates.setdefault(f"inference, {name}", []).append(rate_of_inference(network, pixels, o))
    print(f"{len(samples)} images, batch {o.batch}, {o.threads} threads, {o.dtype}, {o.rounds} rounds")
    for title, values in rates.items():
        print(f"{title:<28}{statistics.median(values):>9.0f} img/s")
    slowest = min(statistics.median(v) for k, v in rates.items() if k.startswith("loader"))
    fastest = max(statistics.median(v) for k, v in rates.items() if k.startswith("inference"))
    print(f"{'slowest loader / inference':<28}{slowest / fastest:>9.1f}")
    for name in o.networks:
        rate, share = share_in_training(samples, name, o)
        print(f"{'training, ' + name:<28}{rate:>9.0f} img/s, {100 * share:.1f}% waiting for the loader")


if __name__ == "__main__":
    main()
