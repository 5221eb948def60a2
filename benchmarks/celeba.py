"""CelebA in its own partition, 40 attributes, MobileNet-v1 1.0, both stages of training.

Epoch and thresholds are chosen on the validation part. Means over the labels. `--setting torch` is
one epoch of fine-tuning at 1e-4 with flips alone.
"""

from __future__ import annotations

from typing import Any

from protocol import Clock, common_options, data_folder, mean_over, print_header, print_row, save, score

import facsnet as fn

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {"finetune_rate": 3e-4, "finetune_epochs": 3},
    "torch": {
        "finetune_rate": 1e-4,
        "finetune_epochs": 1,
        "schedule": fn.Schedule(),
        "augmentation": fn.Augmentation(),
    },
}
SCORING = {
    "default": {"flip_average": True, "shrinkage": 5.0},
    "torch": {"flip_average": False, "shrinkage": 0.0},
}
COLUMNS = ("roc_auc", "average_precision", "f1_fitted", "accuracy")


def parts() -> list[fn.Samples]:
    """Those to train on, to choose on and to test on, as the data set has them."""
    faces = fn.read_celeba(data_folder("celeba"))
    return [faces[faces.folds_column == part] for part in ("train", "valid", "test")]


def main() -> None:
    parser = common_options(__doc__.splitlines()[0])
    parser.set_defaults(losses=["bce"])
    parser.add_argument("--setting", default="default", choices=sorted(SETTINGS))
    parser.add_argument("--head-epochs", type=int, default=40)
    o = parser.parse_args()
    train, valid, test = parts()
    print(f"{len(train)} to train on, {len(valid)} to choose on, {len(test)} to test on")
    print_header(COLUMNS)
    results = {}
    for loss in o.losses:
        clock = Clock()
        for seed in o.seeds:
            network = fn.Network("mobilenet_v1", labels=train.label_names, threads=o.threads, seed=seed)
            network.load_weights(data_folder("weights") / "mobilenet_v1_1.0_224.safetensors")
            stages = fn.two_stage(head_epochs=o.head_epochs, **SETTINGS[o.setting])
            for stage in stages:
                history = fn.Trainer(network, loss=loss, stages=[stage], seed=seed).fit(train, valid)
                results.setdefault((loss, stage.name), []).append(score(network, valid, test, **SCORING[o.setting]))
                print(
                    f"  seed {seed} {stage.name}: best epoch {history.best}, {sum(r['seconds'] for r in history.rows):.0f} s",
                    flush=True,
                )
        for stage in stages:
            print_row(f"{loss}: after {stage.name}", mean_over(results[loss, stage.name]), COLUMNS)
        print(f"  {clock}", flush=True)
    save(o.json, {f"{loss} {name}": mean_over(rows) for (loss, name), rows in results.items()})


if __name__ == "__main__":
    main()
