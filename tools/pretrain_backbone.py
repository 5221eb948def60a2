"""Makes python/facsnet/models/mobilenet_v1_0.25_synthetic.safetensors.

A MobileNet-v1 of width 0.25, trained from random weights by this library to see sixteen attributes
of drawn faces (glasses, gaze, closed eyes, ...), none of which is an action unit. Takes about ten
minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import facsnet as fn
from facsnet.datasets import synthetic_faces

TARGET = (
    Path(__file__).resolve().parents[1] / "python" / "facsnet" / "models" / "mobilenet_v1_0.25_synthetic.safetensors"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--rate", type=float, default=3e-3)
    o = parser.parse_args()
    train = synthetic_faces(o.faces, seed=1000, task="attributes")
    valid = synthetic_faces(600, seed=1001, task="attributes")
    valid = fn.Samples.from_arrays(
        valid.images, valid.labels, label_names=valid.label_names, subject=[f"V{i}" for i in range(len(valid))]
    )
    network = fn.Network("mobilenet_v1", labels=train.label_names, width=0.25, seed=1)
    # mirroring would exchange left and right, which some attributes name
    stage = fn.Stage(
        "pretrain",
        o.epochs,
        o.rate,
        "all",
        fn.Schedule("cosine", warmup=1, factor=0.01),
        augmentation=fn.Augmentation(flip=0.0, crop=0.85, brightness=0.2, contrast=0.2),
        optimiser=fn.Optimiser("adamw", weight_decay=0.02),
    )
    history = fn.Trainer(network, loss="bce", stages=[stage], seed=0).fit(train, valid)
    print(history)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    network.save_weights(TARGET, head=False)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
