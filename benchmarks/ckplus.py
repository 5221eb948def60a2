"""CK+, the 16 action units with at least 60 positives, 3 folds by subject, both stages of training.

Epoch and thresholds are chosen on an inner part of the training subjects. Means over folds, then
labels. `--setting torch` is that of the job in ckplus_torch.py: 8 epochs at 1e-4, flips alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from protocol import Clock, common_options, data_folder, mean_over, print_header, print_row, save, score

import facsnet as fn

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"finetune_epochs": 8, "finetune_rate": 1e-3},
    "torch": {
        "finetune_epochs": 8,
        "finetune_rate": 1e-4,
        "schedule": fn.Schedule(),
        "augmentation": fn.Augmentation(),
    },
}
SCORING = {
    "default": {"flip_average": True, "shrinkage": 5.0},
    "torch": {"flip_average": False, "shrinkage": 0.0},
}
WEIGHTS = {"mobilenet_v1": "mobilenet_v1_1.0_224.safetensors", "mobilenet_v2": "mobilenet_v2_1.0_224.safetensors"}


def parse() -> argparse.Namespace:
    parser = common_options(__doc__.splitlines()[0])
    parser.add_argument("--setting", default="default", choices=sorted(SETTINGS))
    parser.add_argument("--backbone", default="mobilenet_v1", help="without public weights at hand it starts at random")
    parser.add_argument("--weights", type=Path, help="checkpoint in place of the one in the data folder")
    parser.add_argument("--head-epochs", type=int, default=40)
    parser.add_argument("--finetune-epochs", type=int, help="in place of the setting's")
    parser.add_argument("--finetune-rate", type=float, help="in place of the setting's")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--samples", type=int, help="only so many of every part, to see that a backbone trains")
    parser.add_argument("--inner", action="store_true", help="score the inner part, for choosing defaults")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the network")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def stages_of(o: argparse.Namespace) -> Sequence[fn.Stage]:
    options = dict(SETTINGS[o.setting])
    for name in ("finetune_epochs", "finetune_rate"):
        if getattr(o, name) is not None:
            options[name] = getattr(o, name)
    return fn.two_stage(head_epochs=o.head_epochs, head_rate=1e-3, **options)


def thinned(samples: fn.Samples, count: int | None) -> fn.Samples:
    """Some samples of all subjects."""
    return samples if count is None else samples[np.linspace(0, len(samples) - 1, count).astype(int)]


def make_network(o: argparse.Namespace, labels: Sequence[str], seed: int) -> fn.Network:
    network = fn.Network(o.backbone, labels=labels, threads=o.threads, seed=seed, dtype=o.dtype)
    if o.weights is not None or o.backbone in WEIGHTS:
        network.load_weights(o.weights or data_folder("weights") / WEIGHTS[o.backbone])
    return network


def main() -> None:
    o = parse()
    samples = fn.Samples.from_csv(data_folder("ckplus") / "labels.csv")
    samples = samples.select_labels(samples.labels_with(min_positives=60))
    print(samples.summary())
    print_header()
    results: dict[tuple[str, int], list[dict[str, np.ndarray]]] = {}
    for loss in o.losses:
        clock = Clock()
        for seed in o.seeds:
            for fold in o.folds:
                train, test = samples.folds(3, by="subject", seed=0)[fold]
                inner, valid = (thinned(part, o.samples) for part in train.inner_split(every=5))
                scored = valid if o.inner else thinned(test, o.samples)
                network = make_network(o, samples.label_names, seed)
                for count, stage in enumerate(stages_of(o), start=1):
                    history = fn.Trainer(network, loss=loss, stages=[stage], seed=seed, batch_size=o.batch_size).fit(
                        inner, valid
                    )
                    results.setdefault((loss, count), []).append(score(network, valid, scored, **SCORING[o.setting]))
                    seconds = sum(row["seconds"] for row in history.rows)
                    print(
                        f"  seed {seed} fold {fold} {stage.name}: best epoch {history.best}, {seconds:.0f} s",
                        flush=True,
                    )
        for count, title in ((1, f"{loss}: stage 1"), (2, f"{loss}: both stages")):
            if (loss, count) in results:
                print_row(title, mean_over(results[loss, count]))
        print(f"  {clock}", flush=True)
    save(o.json, {f"{loss} stage {count}": mean_over(rows) for (loss, count), rows in results.items()})


if __name__ == "__main__":
    main()
