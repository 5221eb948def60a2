"""Command line: facsnet demo | train | experiment | evaluate | predict | frames | bench | about."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facsnet import DeviceError, FormatError, about, losses
from facsnet._cli_experiment import add_experiment
from facsnet._cli_faces import add_face_options, add_frames, align_samples, face_source
from facsnet._device import DEVICES
from facsnet._files import write_text
from facsnet._version import __version__
from facsnet.benchmark import Benchmark, benchmark
from facsnet.datasets import synthetic_faces
from facsnet.estimator import AUClassifier
from facsnet.faces import Alignment
from facsnet.losses import Loss
from facsnet.network import DTYPES, MEMORIES, Network
from facsnet.report import Report
from facsnet.samples import Samples
from facsnet.sampling import Sampling
from facsnet.stages import Augmentation, Optimiser, Schedule, Stage, two_stage, usual_warmup

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Group = argparse._ArgumentGroup

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, or 1 with the reason on standard error, or 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (FormatError, DeviceError, OSError, ValueError, MemoryError, ImportError) as problem:
        for line in (str(problem), *getattr(problem, "__notes__", ())):
            print(f"facsnet {options.command}: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"facsnet {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="facsnet", description="Train and run detectors of facial action units.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_demo,
        _add_train,
        _add_experiment,
        _add_evaluate,
        _add_predict,
        _add_frames,
        _add_bench,
        _add_about,
    ):
        add(commands)
    return parser


def _add_command(
    commands: Commands, name: str, text: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: Commands) -> None:
    parser = _add_command(commands, "demo", "train both stages on the embedded data set and write a report", _demo)
    parser.add_argument("--out", type=Path, default=Path("demo-report"), help="folder to write")
    parser.add_argument("--faces", type=int, default=1600, help="faces to draw")
    parser.add_argument("--seed", type=int, default=0)
    _add_process(parser)


def _add_train(commands: Commands) -> None:
    parser = _add_command(commands, "train", "train on a CSV of images and labels", _train)
    _add_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="run folder to write; must not hold a run already")
    parser.add_argument(
        "--test", type=_share, default=0.33, help="part of the subjects held out for the report; 0 trains on all"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--monitor", default="roc_auc", choices=["roc_auc", "average_precision", "f1", "loss"])
    parser.add_argument("--seed", type=int, default=0)
    add_face_options(parser)
    _add_process(parser)
    _add_memory(parser)
    _add_network(parser.add_argument_group("network and loss"))
    _add_stages(parser.add_argument_group("stages"))
    _add_augmentation(parser.add_argument_group("augmentation"))


def _add_experiment(commands: Commands) -> None:
    add_experiment(lambda name, text, run: _add_command(commands, name, text, run))


def _add_network(group: Group) -> None:
    group.add_argument("--backbone", default="mobilenet_v1")
    group.add_argument(
        "--weights",
        help="backbone checkpoint (.safetensors, .pth, .h5), 'imagenet' to fetch the public one, or 'demo' for the "
        "small one in the package",
    )
    group.add_argument("--width", type=float, help="multiplies the backbone's channels (None: that of the weights)")
    group.add_argument("--input-size", type=int, default=224)
    group.add_argument("--loss", default="bce", choices=losses.NAMES)
    group.add_argument("--bce-weight", type=float, help="how much bce is added to pr, soft_f1 or tversky")


def _add_stages(group: Group) -> None:
    group.add_argument("--head-epochs", type=int, default=10)
    group.add_argument("--finetune-epochs", type=int, default=10)
    group.add_argument("--head-rate", type=float, default=1e-3)
    group.add_argument("--finetune-rate", type=float, default=1e-5)
    group.add_argument(
        "--block-rates", type=_block_rates, metavar="BLOCK=FACTOR,...",
        help="fine-tuning: factors of the rate for single blocks, such as stem=0.1,block1=0.1",
    )  # fmt: skip
    group.add_argument("--unfreeze", default="all", help="'all' or the first block that fine-tuning trains")
    group.add_argument(
        "--statistics", default="batch", choices=["batch", "stored"], help="of BatchNorm while fine-tuning"
    )
    group.add_argument("--optimiser", default="adam", choices=["adam", "adamw", "sgd"])
    group.add_argument("--weight-decay", type=float, default=0.0)
    group.add_argument("--clip-norm", type=float)
    group.add_argument("--average-decay", type=float, help="keep an average of the weights with this decay")
    group.add_argument("--schedule", default="cosine", choices=["constant", "step", "cosine", "plateau"])
    group.add_argument(
        "--warmup", type=float, help="epochs over which the fine-tuning rate rises (None: a tenth of them, at most 1)"
    )
    group.add_argument("--patience", type=int)
    group.add_argument(
        "--every", type=int, default=1, help="of so many consecutive frames of a subject an epoch has one"
    )
    group.add_argument("--per-subject", type=int, help="most samples of a subject in an epoch")
    group.add_argument(
        "--balanced", action="store_true", help="draw every label's positives, and samples without any, equally often"
    )
    group.add_argument(
        "--cache", default="auto", choices=["auto", "boundary", "none"],
        help="fine-tuning: 'boundary' runs the blocks below --unfreeze once per image and keeps their activations, "
        "which wants --crop 1 --rotation 0 --brightness 0 --contrast 0",
    )  # fmt: skip
    group.add_argument(
        "--cache-dtype",
        choices=["bfloat16", "float32"],
        help="of kept activations (None: bfloat16, the head's float32)",
    )
    group.add_argument(
        "--cache-limit", help="activations in memory, such as '4 GB'; more lie in a temporary file in --out (None: half "
        "of the memory that is free)",
    )  # fmt: skip


def _add_augmentation(group: Group) -> None:
    varied = Augmentation.varied()
    group.add_argument("--flip", type=float, default=varied.flip, help="share of mirrored images, in both stages")
    group.add_argument(
        "--crop", type=float, default=varied.crop, help="fine-tuning: smallest part of the side kept by a random crop"
    )
    group.add_argument("--rotation", type=float, default=varied.rotation, help="fine-tuning: degrees either way")
    group.add_argument("--brightness", type=float, default=varied.brightness, help="fine-tuning: part either way")
    group.add_argument("--contrast", type=float, default=varied.contrast, help="fine-tuning: part either way")


def _add_evaluate(commands: Commands) -> None:
    parser = _add_command(commands, "evaluate", "score a model on a CSV of images and labels", _evaluate)
    parser.add_argument("model", type=Path)
    _add_data(parser)
    parser.add_argument("--out", type=Path, help="write scores.csv and report.html into this folder")
    parser.add_argument("--allow-training-subjects", action="store_true")
    add_face_options(parser)
    _add_process(parser)


def _add_predict(commands: Commands) -> None:
    parser = _add_command(commands, "predict", "write a CSV of probabilities for images", _predict)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", nargs="+", type=Path, help="image files or folders")
    parser.add_argument("--out", type=Path, help="CSV to write (None: standard output)")
    parser.add_argument(
        "--decisions", action="store_true", help="also columns such as AU01_c: 1 at and above the fitted threshold"
    )
    add_face_options(parser)
    parser.add_argument(
        "--aligned", action="store_true", help="the images are faces cut out as those that the model was trained on"
    )
    _add_process(parser)


def _add_frames(commands: Commands) -> None:
    add_frames(lambda name, text, run: _add_command(commands, name, text, run))


def _add_bench(commands: Commands) -> None:
    parser = _add_command(commands, "bench", "measure the speed of inference and fine-tuning on this machine", _bench)
    parser.add_argument("networks", nargs="*", default=["mobilenet_v1"], metavar="NETWORK")
    parser.add_argument("--batch", type=int, default=64)
    _add_process(parser)
    _add_memory(parser)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each kind of work, at least three runs")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--unfreeze", default="all", help="'all' or the first block that fine-tuning trains")
    parser.add_argument("--inference", action="store_true", help="leave fine-tuning out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures and `about` to a file")


def _add_about(commands: Commands) -> None:
    _add_command(commands, "about", "version, build, processor and threads", _about)


def _add_process(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, help="(None: every processor)")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of activations and their gradients; bfloat16 halves their memory",
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="auto is a GPU where there is one")


def _add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory",
        choices=MEMORIES,
        default="normal",
        help="of fine-tuning: 'low' computes activations again for the backward pass instead of keeping them",
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a part of the subjects, from 0 to less than 1")
    return value


def _block_rates(text: str) -> dict[str, float]:
    rates = {}
    for item in text.split(","):
        name, _, factor = item.partition("=")
        try:
            rates[name.strip()] = float(factor)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{item!r} is not BLOCK=FACTOR") from None
    return rates


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("csv", type=Path, help="table of samples")
    parser.add_argument("--root", type=Path, help="folder of the images (None: that of the CSV)")
    parser.add_argument("--labels", help="comma-separated columns (None: every column that looks like a label)")
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


def _make_folder(folder: Path) -> None:
    """The folder of a run; raises OSError before anything is trained where it cannot be written."""
    if (folder / "model.safetensors").exists():
        raise ValueError(f"{folder} holds a run already: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)


def _fit(detector: AUClassifier, train: Samples, folder: Path) -> Path:
    """Trains and writes history.csv, of a failure too, and the model; returns its file.

    A failure leaves the best weights that there are.
    """
    try:
        detector.fit(train)
    except Exception as problem:
        if detector.trainer_ is not None and detector.trainer_.history_.best:
            detector.trainer_.network.save_weights(folder / "weights.safetensors")
            problem.add_note(f"these weights are in {folder / 'weights.safetensors'}")
        raise
    finally:
        if detector.trainer_ is not None and detector.trainer_.history_.rows:
            write_text(folder / "history.csv", detector.trainer_.history_.to_frame().to_csv(index=False))
    detector.save(folder / "model.safetensors")
    return folder / "model.safetensors"


def _write_report(report: Report, folder: Path, title: str) -> Path:
    """scores.csv, report.html, pr.png and f1.png; returns the page."""
    report.to_csv(folder / "scores.csv")
    report.save_html(folder / "report.html", title=title)
    report.save_plots(folder)
    return folder / "report.html"


def _demo(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    samples = synthetic_faces(options.faces, seed=options.seed)
    train, test = samples.split_by_subject(test=0.33, seed=options.seed)
    print(f"{samples!r}: {len(train)} to train on, {len(test)} to test on")
    detector = AUClassifier(
        weights="demo",
        loss="pr",
        head_epochs=20,
        finetune_epochs=15,
        finetune_rate=2e-3,
        random_state=options.seed,
        threads=options.threads,
        dtype=options.dtype,
        device=options.device,
    )
    model = _fit(detector, train, options.out)
    report = detector.evaluate(test)
    print(report)
    print(f"report: {_write_report(report, options.out, 'facsnet demo')}")
    print(f"model: {model}")
    print(f"{time.perf_counter() - start:.0f} seconds")
    _stop_where_interrupted(detector)


def _stages(options: argparse.Namespace) -> Sequence[Stage]:
    warmup = usual_warmup(options.finetune_epochs) if options.warmup is None else options.warmup
    return two_stage(
        head_epochs=options.head_epochs,
        finetune_epochs=options.finetune_epochs,
        unfreeze=options.unfreeze,
        head_rate=options.head_rate,
        finetune_rate=options.finetune_rate,
        statistics=options.statistics,
        head_augmentation=Augmentation(options.flip),
        augmentation=Augmentation(options.flip, options.crop, options.rotation, options.brightness, options.contrast),
        optimiser=Optimiser(
            options.optimiser,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            average_decay=options.average_decay,
        ),
        schedule=Schedule(options.schedule, warmup),
        block_rates=options.block_rates,
        patience=options.patience,
        cache=options.cache,
        cache_dtype=options.cache_dtype,
        sampling=Sampling(every=options.every, per_subject=options.per_subject, balanced=options.balanced),
    )


def _train(options: argparse.Namespace) -> None:
    samples = _read_samples(options)
    print(samples.summary())
    samples.check()
    train, test = samples, None
    if options.test > 0:
        if samples.subjects is None:
            raise ValueError(
                f"{options.csv}: subjects are not known, so none can be held out: name their column with --subject, "
                "or train on all images with --test 0"
            )
        train, test = samples.split_by_subject(test=options.test, seed=options.seed)
    loss: str | Loss = options.loss if options.bce_weight is None else Loss(options.loss, bce_weight=options.bce_weight)
    detector = AUClassifier(
        options.backbone,
        weights=options.weights,
        loss=loss,
        width=options.width,
        input_size=options.input_size,
        stages=_stages(options),
        batch_size=options.batch_size,
        monitor=options.monitor,
        random_state=options.seed,
        threads=options.threads,
        dtype=options.dtype,
        device=options.device,
        memory=options.memory,
        cache_limit=options.cache_limit,
        cache_folder=options.out,
    )
    _make_folder(options.out)
    config = {
        name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items() if name != "run"
    }
    write_text(options.out / "config.json", json.dumps(config, indent=1) + "\n")
    recipe = Alignment(size=options.input_size)
    train = align_samples(train, options, recipe, options.out / "faces_train.npy")
    if test is not None:
        test = align_samples(test, options, recipe, options.out / "faces_test.npy")
    model = _fit(detector, train, options.out)
    print(detector.history_)
    print(f"model: {model}")
    if test is None:
        print("no report: --test 0 held no subjects out")
    else:
        _report_run(detector, test, options, model)
    _stop_where_interrupted(detector)


def _report_run(detector: AUClassifier, test: Samples, options: argparse.Namespace, model: Path) -> None:
    try:
        report = detector.evaluate(test)
        print(report)
        print(f"report: {_write_report(report, options.out, f'{options.csv.name}, {options.loss}')}")
    except Exception as problem:
        problem.add_note(f"the model was trained and is in {model}: score it with facsnet evaluate")
        raise


def _stop_where_interrupted(detector: AUClassifier) -> None:
    if detector.history_.interrupted:
        raise KeyboardInterrupt


def _evaluate(options: argparse.Namespace) -> None:
    detector = AUClassifier.load(options.model, threads=options.threads, dtype=options.dtype, device=options.device)
    samples = _read_samples(options, detector.label_names)
    samples.check()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        recipe = detector.recipe_ or Alignment(size=detector.network.input_size)
        samples = align_samples(samples, options, recipe, Path(folder) / "faces.npy")
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
    detector = AUClassifier.load(options.model, threads=options.threads, dtype=options.dtype, device=options.device)
    frame = detector.predict_frame(
        _images(options.images), decisions=options.decisions, faces=face_source(options), aligned=options.aligned
    )
    table = frame.to_csv(index=False)
    if options.out:
        write_text(options.out, table)
    else:
        sys.stdout.write(table)
    failed = int((frame["success"] == 0).sum())
    if failed:
        print(
            f"facsnet predict: {failed} of {len(frame)} images could not be read, or have no face, see the column error",
            file=sys.stderr,
        )


def _bench(options: argparse.Namespace) -> None:
    facts = about()
    found = Benchmark()
    for name in options.networks:
        network = Network(
            name,
            labels=16,
            width=options.width,
            input_size=options.input_size,
            threads=options.threads,
            dtype=options.dtype,
            device=options.device,
        )
        new = benchmark(
            network,
            batch=options.batch,
            seconds=options.seconds,
            unfreeze=options.unfreeze,
            training=not options.inference,
            memory=options.memory,
        )
        lines = repr(new).splitlines()
        if not found:
            print(_bench_title(facts, network))
        print("\n".join(lines if not found else lines[1:]), flush=True)
        found += new
    if options.json:
        settings = {
            "threads": network.threads,
            "dtype": network.dtype,
            "device": network.device,
            "memory": options.memory,
            "width": options.width,
            "input_size": options.input_size,
        }
        write_text(options.json, json.dumps({"about": facts, **settings, "rows": found.to_rows()}, indent=1) + "\n")


def _bench_title(facts: Mapping[str, str], network: Network) -> str:
    where, kernels = facts["processor"], facts["bfloat16" if network.dtype == "bfloat16" else "instruction set"]
    if network.device == "cuda":
        where, kernels = facts["cuda"], "cuda"
    return f"{where}; facsnet {facts['facsnet']}, {network.dtype}, {kernels}"


def _about(options: argparse.Namespace) -> None:
    del options
    print(about())


if __name__ == "__main__":
    sys.exit(main())
