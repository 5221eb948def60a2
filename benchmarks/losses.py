"""Which loss finds rare labels best: all of them at the same budget on CK+ and CelebA, MobileNet-v1.

The head, then the last blocks (`--unfreeze`) from cached activations. Epoch and thresholds are chosen
on an inner part of the training subjects (CK+, 3 folds by subject) or on the validation part (CelebA).
Each run is a file in `--out`; runs that are there are not made again, so it can be interrupted. The
tables are printed at the end, or at once with `--table`: means over runs and labels, and in brackets
by how many points that is above bce on the same part with the same seed, with the 95% interval of
Student's t over those pairs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import celeba
import numpy as np
from protocol import data_folder

import facsnet as fn
from facsnet import _core, _stage_run
from facsnet._files import write_text
from facsnet.loading import Reader

LOSSES = {
    "bce": fn.Loss("bce"),
    "weighted_bce": fn.Loss("weighted_bce"),
    "lsep": fn.Loss("lsep"),
    "zlpr": fn.Loss("zlpr"),
    "asl": fn.Loss("asl"),
    "soft_f1": fn.Loss("soft_f1"),
    "pr": fn.Loss("pr"),
    "pr+0.1bce": fn.Loss("pr", bce_weight=0.1),
}
# one epoch of CelebA has five times the steps of one of CK+
FINETUNE_EPOCHS = {"ckplus": 8, "celeba": 3}
SCORES = {"f1": "F1 at 0.5", "f1_fitted": "F1 at fitted thresholds", "average_precision": "average precision"}
STAGES = {"head": "stage 1", "finetune": "both stages"}
# 97.5% points of Student's t for 1, 2, ... degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)


@dataclass(frozen=True)
class Part:
    """What one run trains on, chooses by and is scored on."""

    name: str
    train: fn.Samples
    valid: fn.Samples
    test: fn.Samples


class Remembered(Reader):
    """Runs the frozen blocks once for all runs on a part: neither a loss nor a seed changes them."""

    kept: ClassVar[dict[tuple[int, str, bool], np.ndarray]] = {}
    parts: ClassVar[list[fn.Samples]] = []

    def __init__(self, network: fn.Network, samples: fn.Samples, **options: Any) -> None:
        super().__init__(network, samples, **options)
        self.parts.append(samples)  # its identity is the key
        self.key = id(samples)

    def boundary(self, block: str, out: np.ndarray, *, flip: bool = False, title: str | None = None) -> None:
        key = (self.key, block, flip)
        if key not in self.kept:
            super().boundary(block, out, flip=flip, title=title)
            self.kept[key] = out.copy()
        out[:] = self.kept[key]

    @classmethod
    def forget(cls) -> None:
        cls.kept.clear()
        cls.parts.clear()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["ckplus", "celeba"], choices=["ckplus", "celeba"])
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--folds", type=int, nargs="+", default=[0, 1, 2], help="of CK+; parts of CelebA's training images"
    )
    parser.add_argument("--images", type=int, default=2000, help="of a part of CelebA")
    parser.add_argument("--width", type=float, default=0.25, choices=[0.25, 1.0])
    parser.add_argument("--unfreeze", default="block12", help="first block that the second stage trains")
    parser.add_argument("--head-epochs", type=int, default=20)
    parser.add_argument("--finetune-epochs", type=int, help="of both sets, in place of 8 of CK+ and 3 of CelebA")
    parser.add_argument("--rate", type=float, default=1e-3, help="of both stages")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/losses"), help="folder of the runs")
    parser.add_argument("--table", action="store_true", help="only the tables of the runs that are there")
    return parser.parse_args()


def parts_of(data: str, o: argparse.Namespace) -> Iterator[Part]:
    if data == "celeba":
        train, valid, test = celeba.parts()
        for part in o.folds:
            yield Part(f"celeba_part{part}", train[part * o.images : (part + 1) * o.images], valid, test)
        return
    samples = fn.Samples.from_csv(data_folder("ckplus") / "labels.csv")
    samples = samples.select_labels(samples.labels_with(min_positives=60))
    for fold in o.folds:
        train, test = samples.folds(3, by="subject", seed=0)[fold]
        yield Part(f"ckplus_fold{fold}", *train.inner_split(every=5), test)


def finetune_epochs(o: argparse.Namespace, part: Part) -> int:
    return o.finetune_epochs or FINETUNE_EPOCHS[part.name.partition("_")[0]]


def stages_of(o: argparse.Namespace, part: Part) -> Sequence[fn.Stage]:
    return fn.two_stage(
        head_epochs=o.head_epochs,
        finetune_epochs=finetune_epochs(o, part),
        head_rate=o.rate,
        finetune_rate=o.rate,
        unfreeze=o.unfreeze,
        augmentation=fn.Augmentation(),
        cache="boundary",
    )


def probabilities(network: fn.Network, samples: fn.Samples, block: str) -> np.ndarray:
    """From the activations that enter a block."""
    activations = np.empty((len(samples), *network._core.boundary_shape(block)), np.uint16)
    Remembered(network, samples).boundary(block, activations)
    return _core.sigmoid(network._core.above(activations, block))


def score(network: fn.Network, part: Part, block: str) -> dict[str, list[float]]:
    """Per label on the test part."""
    fitted_on = probabilities(network, part.valid, block)
    thresholds = fn.metrics.fit_thresholds(fitted_on, part.valid.labels, shrinkage=5.0)
    scores = probabilities(network, part.test, block)
    return {
        "f1": fn.metrics.f1(scores, part.test.labels, threshold=0.5).tolist(),
        "f1_fitted": fn.metrics.f1(scores, part.test.labels, threshold=thresholds).tolist(),
        "average_precision": fn.metrics.average_precision(scores, part.test.labels).tolist(),
    }


def settings_of(o: argparse.Namespace, part: Part) -> dict[str, Any]:
    """What must not differ between the runs of one table."""
    names = ("width", "unfreeze", "head_epochs", "rate", "dtype")
    sizes = {"train": len(part.train), "valid": len(part.valid), "test": len(part.test)}
    return {name: getattr(o, name) for name in names} | sizes | {"finetune_epochs": finetune_epochs(o, part)}


def run(part: Part, loss: str, seed: int, o: argparse.Namespace) -> dict[str, Any]:
    start = time.process_time()
    network = fn.Network(
        "mobilenet_v1", labels=part.train.label_names, width=o.width, threads=o.threads, seed=seed, dtype=o.dtype
    )
    network.load_weights(data_folder("weights") / f"mobilenet_v1_{o.width}_224.safetensors")
    row: dict[str, Any] = {"settings": settings_of(o, part), "loss": loss, "seed": seed, "scores": {}, "best": {}}
    for stage in stages_of(o, part):
        trainer = fn.Trainer(network, loss=LOSSES[loss], stages=[stage], seed=seed, progress=False)
        row["best"].update(trainer.fit(part.train, part.valid).best)
        row["scores"][stage.name] = score(network, part, o.unfreeze)
    return row | {"seconds": time.process_time() - start}


def make_runs(o: argparse.Namespace) -> None:
    _stage_run.Reader = Remembered
    for data in o.data:
        for part in parts_of(data, o):
            for seed in o.seeds:
                for loss in o.losses:
                    path = o.out / f"{part.name}_seed{seed}_{loss}.json"
                    if path.exists():
                        check_settings(path, settings_of(o, part))
                        continue
                    row = run(part, loss, seed, o)
                    write_text(path, json.dumps(row) + "\n")
                    means = [np.nanmean(row["scores"]["finetune"][name]) for name in SCORES]
                    print(f"{path.stem}: " + " ".join(f"{m:.3f}" for m in means), f"{row['seconds']:.0f} s", flush=True)
            Remembered.forget()


def check_settings(path: Path, wanted: dict[str, Any]) -> None:
    found = json.loads(path.read_text())["settings"]
    if found != wanted:
        raise SystemExit(f"{path} was made with {found}, want {wanted}: choose another --out")


def read_runs(folder: Path, data: str, stage: str) -> dict[str, dict[str, dict[str, float]]]:
    """Mean over labels of every score, by loss and by what was trained on with which seed."""
    runs: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted(folder.glob(f"{data}_*.json")):
        row = json.loads(path.read_text())
        key = path.stem.removesuffix(f"_{row['loss']}")
        values = {name: float(np.nanmean(row["scores"][stage][name])) for name in SCORES}
        runs.setdefault(row["loss"], {})[key] = values
    return runs


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95% interval of the mean."""
    n = len(values)
    return math.nan if n < 2 else STUDENT[min(n - 2, len(STUDENT) - 1)] * float(np.std(values, ddof=1)) / math.sqrt(n)


def cell(ours: dict[str, dict[str, float]], bce: dict[str, dict[str, float]], name: str) -> str:
    """The mean over runs, and by how much it is above bce on the same part with the same seed."""
    mean = f"{np.mean([values[name] for values in ours.values()]):.3f}"
    if ours is bce:
        return mean
    gains = [100 * (ours[key][name] - bce[key][name]) for key in ours if key in bce]
    return f"{mean} ({np.mean(gains):+.1f} ± {interval(gains):.1f})" if gains else mean


def print_table(folder: Path, data: str) -> None:
    for stage, title in STAGES.items():
        runs = read_runs(folder, data, stage)
        if "bce" not in runs:
            continue
        print(f"\n| {data}, {title} | runs | " + " | ".join(SCORES.values()) + " |")
        print("|---|---|" + "---|" * len(SCORES))
        for loss in (name for name in LOSSES if name in runs):
            cells = [cell(runs[loss], runs["bce"], name) for name in SCORES]
            print(f"| {loss} | {len(runs[loss])} | " + " | ".join(cells) + " |")


def main() -> None:
    o = parse()
    o.out.mkdir(parents=True, exist_ok=True)
    if not o.table:
        make_runs(o)
    for data in o.data:
        print_table(o.out, data)


if __name__ == "__main__":
    main()
