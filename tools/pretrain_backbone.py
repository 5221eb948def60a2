"""Makes python/facsnet/models/mobilenet_v1_0.25_synthetic.safetensors.

A MobileNet-v1 of width 0.25, trained from random weights by this library to see sixteen attributes
of drawn faces (glasses, gaze, closed eyes, ...), none of which is an action unit: first on faces of
112 pixels, where an epoch costs a quarter, then on whole ones. Takes some minutes on two cores.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import facsnet as fn
from facsnet.datasets import synthetic_faces

TARGET = (
    Path(__file__).resolve().parents[1] / "python" / "facsnet" / "models" / "mobilenet_v1_0.25_synthetic.safetensors"
)


def faces(n: int, seed: int, name: str) -> fn.Samples:
    drawn = synthetic_faces(n, seed=seed, task="attributes")
    subjects = [f"{name}{i}" for i in range(n)]
    return fn.Samples.from_arrays(drawn.images, drawn.labels, label_names=drawn.label_names, subject=subjects)


def fit(network: fn.Network, train: fn.Samples, valid: fn.Samples, epochs: int, rate: float) -> None:
    # mirroring would exchange left and right, which some attributes name
    stage = fn.Stage(
        f"{network.input_size} pixels",
        epochs,
        rate,
        "all",
        fn.Schedule("cosine", warmup=1, factor=0.01),
        augmentation=fn.Augmentation(flip=0.0, crop=0.9, brightness=0.15, contrast=0.15),
        optimiser=fn.Optimiser("adamw", weight_decay=0.01),
    )
    print(fn.Trainer(network, loss="bce", stages=[stage], seed=0).fit(train, valid), flush=True)
    areas = fn.metrics.roc_auc(network.predict(valid.images), valid.labels)
    print("  ".join(f"{name} {area:.2f}" for name, area in zip(valid.label_names, areas, strict=True)), flush=True)


def shrunk(samples: fn.Samples, size: int) -> fn.Samples:
    images = np.stack([fn.resize_image(image, size, size) for image in samples.images])
    return fn.Samples.from_arrays(
        images, samples.labels, label_names=samples.label_names, subject=list(samples.subjects)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=6000)
    parser.add_argument("--small-epochs", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=4)
    o = parser.parse_args()
    train, valid = faces(o.faces, 1000, "T"), faces(400, 1001, "V")
    small = fn.Network("mobilenet_v1", labels=train.label_names, width=0.25, input_size=112, dropout=0.0, seed=1)
    fit(small, shrunk(train, 112), shrunk(valid, 112), o.small_epochs, 5e-3)
    network = fn.Network("mobilenet_v1", labels=train.label_names, width=0.25, dropout=0.0, seed=1)
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        small.save_weights(file.name)
        network.load_weights(file.name, strict=True)
    fit(network, train, valid, o.epochs, 1.5e-3)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    network.save_weights(TARGET, head=False)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
