"""Command line: facsnet demo | train | evaluate | predict | about."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from facsnet import FormatError, about
from facsnet.datasets import synthetic_faces
from facsnet.estimator import AUClassifier
from facsnet.losses import Loss
from facsnet.report import Report
from facsnet.samples import Samples
from facsnet.stages import Augmentation, Optimiser, Schedule, Stage, two_stage

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, or 1 with one line on standard error, or 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (FormatError, OSError, ValueError, MemoryError, ImportError) as problem:
        print(f"facsnet {options.command}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"facsnet {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facsnet", description="Train and run detectors of facial action units.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train both stages on the embedded data set and write a report")
    demo.add_argument("--out", type=Path, default=Path("demo-report"), help="folder to write (default: %(default)s)")
    demo.add_argument("--faces", type=int, default=1600, help="faces to draw (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--threads", type=int)
    demo.set_defaults(run=_demo)

    train = commands.add_parser(
        "train", help="train on a CSV of images and labels", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    _add_data(train)
    train.add_argument("--out", type=Path, required=True, help="run folder to write; must not hold a run already")
    train.add_argument(
        "--weights", help="backbone checkpoint (safetensors), or 'demo' for the small one in the package"
    )
    train.add_argument("--backbone", default="mobilenet_v1")
    train.add_argument("--loss", default="bce", choices=["bce", "weighted_bce", "lsep", "pr"])
    train.add_argument("--bce-weight", type=float, help="how much bce is added to pr")
    train.add_argument("--head-epochs", type=int, default=10)
    train.add_argument("--finetune-epochs", type=int, default=10)
    train.add_argument("--head-rate", type=float, default=1e-3)
    train.add_argument("--finetune-rate", type=float, default=1e-5)
    train.add_argument("--unfreeze", default="all", help="'all' or the first block that fine-tuning trains")
    train.add_argument(
        "--statistics", default="batch", choices=["batch", "stored"], help="of BatchNorm while fine-tuning"
    )
    train.add_argument("--optimiser", default="adam", choices=["adam", "adamw", "sgd"])
    train.add_argument("--weight-decay", type=float, default=0.0)
    train.add_argument("--clip-norm", type=float)
    train.add_argument("--average-decay", type=float, help="keep an average of the weights with this decay")
    train.add_argument("--schedule", default="constant", choices=["constant", "step", "cosine", "plateau"])
    train.add_argument("--warmup", type=float, default=0.0, help="epochs")
    train.add_argument("--patience", type=int)
    train.add_argument("--flip", type=float, default=0.5)
    train.add_argument("--crop", type=float, default=1.0, help="smallest part of the side kept by a random crop")
    train.add_argument("--rotation", type=float, default=0.0, help="degrees")
    train.add_argument("--brightness", type=float, default=0.0)
    train.add_argument("--contrast", type=float, default=0.0)
    train.add_argument("--input-size", type=int, default=224)
    train.add_argument("--batch-size", type=int, default=64)
    train.add_argument("--monitor", default="roc_auc", choices=["roc_auc", "average_precision", "f1", "loss"])
    train.add_argument(
        "--test", type=float, default=0.33, help="part of the subjects held out for the report; 0 trains on all"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--threads", type=int)
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "evaluate",
        help="score a model on a CSV of images and labels",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.add_argument("model", type=Path)
    _add_data(evaluate)
    evaluate.add_argument("--out", type=Path, help="write scores.csv and report.html into this folder")
    evaluate.add_argument("--allow-training-subjects", action="store_true")
    evaluate.add_argument("--threads", type=int)
    evaluate.set_defaults(run=_evaluate)

    predict = commands.add_parser("predict", help="write a CSV of probabilities for images")
    predict.add_argument("model", type=Path)
    predict.add_argument("images", nargs="+", type=Path, help="image files or folders")
    predict.add_argument("--out", type=Path, help="CSV to write (default: standard output)")
    predict.add_argument("--threads", type=int)
    predict.set_defaults(run=_predict)

    facts = commands.add_parser("about", help="version, build, processor and threads")
    facts.set_defaults(run=_about)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("csv", type=Path, help="table of samples")
    parser.add_argument("--root", type=Path, help="folder of the images (default: that of the CSV)")
    parser.add_argument("--labels", help="comma-separated columns (default: every column that looks like a label)")
    parser.add_argument("--image", default="image", help="column of the image path")
    parser.add_argument("--subject", default="subject", help="column of the subject; '' for none")


def _read_samples(options: argparse.Namespace, labels: Sequence[str] | None = None) -> Samples:
    if options.labels:
        labels = [name.strip() for name in options.labels.split(",")]
    return Samples.from_csv(
        options.csv,
        root=options.root or options.csv.parent,
        labels=labels,
        image=options.image,
        subject=options.subject or None,
    )


def _write_report(report: Report, folder: Path, title: str) -> Path:
    """scores.csv, report.html, pr.png and f1.png; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    report.to_csv(folder / "scores.csv")
    report.save_html(folder / "report.html", title=title)
    report.save_plots(folder)
    return folder / "report.html"


def _demo(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    samples = synthetic_faces(options.faces, seed=options.seed)
    train, test = samples.split_by_subject(test=0.33, seed=options.seed)
    print(f"{samples!r}: {len(train)} to train on, {len(test)} to test on")
    detector = AUClassifier(
        weights="demo",
        loss="pr",
        head_epochs=20,
        finetune_epochs=3,
        finetune_rate=1e-3,
        random_state=options.seed,
        threads=options.threads,
    )
    detector.fit(train)
    report = detector.evaluate(test)
    page = _write_report(report, options.out, "facsnet demo")
    detector.save(options.out / "model.safetensors")
    detector.history_.to_frame().to_csv(options.out / "history.csv", index=False)
    print(report)
    print(f"model: {options.out / 'model.safetensors'}")
    print(f"report: {page}")
    print(f"{time.perf_counter() - start:.0f} seconds")


def _stages(options: argparse.Namespace) -> Sequence[Stage]:
    return two_stage(
        head_epochs=options.head_epochs,
        finetune_epochs=options.finetune_epochs,
        unfreeze=options.unfreeze,
        head_rate=options.head_rate,
        finetune_rate=options.finetune_rate,
        statistics=options.statistics,
        augmentation=Augmentation(options.flip, options.crop, options.rotation, options.brightness, options.contrast),
        optimiser=Optimiser(
            options.optimiser,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            average_decay=options.average_decay,
        ),
        schedule=Schedule(options.schedule, options.warmup),
        patience=options.patience,
    )


def _train(options: argparse.Namespace) -> None:
    if (options.out / "model.safetensors").exists():
        raise ValueError(f"{options.out} holds a run already: choose another folder")
    samples = _read_samples(options)
    print(samples.summary())
    train, test = samples, None
    if options.test > 0:
        train, test = samples.split_by_subject(test=options.test, seed=options.seed)
    loss: str | Loss = options.loss if options.bce_weight is None else Loss(options.loss, bce_weight=options.bce_weight)
    detector = AUClassifier(
        options.backbone,
        weights=options.weights,
        loss=loss,
        input_size=options.input_size,
        stages=_stages(options),
        batch_size=options.batch_size,
        monitor=options.monitor,
        random_state=options.seed,
        threads=options.threads,
    )
    detector.fit(train)
    options.out.mkdir(parents=True, exist_ok=True)
    config = {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items() if name != "run"
    }
    (options.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    detector.save(options.out / "model.safetensors")
    detector.history_.to_frame().to_csv(options.out / "history.csv", index=False)
    print(detector.history_)
    if test is not None:
        report = detector.evaluate(test)
        print(report)
        print(f"report: {_write_report(report, options.out, f'{options.csv.name}, {options.loss}')}")
    print(f"model: {options.out / 'model.safetensors'}")


def _evaluate(options: argparse.Namespace) -> None:
    detector = AUClassifier.load(options.model, threads=options.threads)
    samples = _read_samples(options, detector.label_names)
    report = detector.evaluate(samples, allow_training_subjects=options.allow_training_subjects)
    print(report)
    if options.out:
        print(f"report: {_write_report(report, options.out, options.csv.name)}")


def _images(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"))
        else:
            found.append(path)
    if not found:
        raise ValueError(f"no images in {', '.join(map(str, paths))}")
    return found


def _predict(options: argparse.Namespace) -> None:
    detector = AUClassifier.load(options.model, threads=options.threads)
    frame = detector.predict_frame(_images(options.images))
    frame.to_csv(options.out or sys.stdout, index=False)
    failed = int((frame["success"] == 0).sum())
    if failed:
        print(
            f"facsnet predict: {failed} of {len(frame)} images could not be read, see the column error", file=sys.stderr
        )


def _about(options: argparse.Namespace) -> None:
    del options
    print(about())


if __name__ == "__main__":
    sys.exit(main())
