"""The command line, on drawn faces."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import facsnet as fn
from facsnet import _core
from facsnet.cli import main

SMALL = ["--width", "0.25", "--input-size", "64", "--head-epochs", "1", "--finetune-epochs", "1", "--batch-size", "32"]

pytestmark = pytest.mark.filterwarnings("ignore:stage 'head' freezes a backbone of random weights")


def train(table: Path, out: Path, *more: str) -> int:
    return main(["train", str(table), "--out", str(out), *SMALL, *more])


def spied(patch: pytest.MonkeyPatch) -> list[fn.Trainer]:
    """The trainers that are made from here on."""
    made: list[fn.Trainer] = []
    make = fn.Trainer.__init__

    def init(self: fn.Trainer, *arguments: Any, **options: Any) -> None:
        made.append(self)
        make(self, *arguments, **options)

    patch.setattr(fn.Trainer, "__init__", init)
    return made


@pytest.fixture(scope="module")
def run(face_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    loss, drawn = ("--loss", "soft_f1", "--bce-weight", "0.1"), ("--per-subject", "8", "--balanced")
    rates, little = ("--block-rates", "stem=0,block1=0.5"), ("--memory", "low")
    with pytest.MonkeyPatch.context() as patch:
        made = spied(patch)
        assert train(face_folder / "labels.csv", out, "--test", "0.3", *rates, *loss, *drawn, *little) == 0
    assert [trainer.memory for trainer in made] == ["low"]
    return out


@pytest.fixture
def never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it trains before it has looked")

    monkeypatch.setattr(fn.AUClassifier, "fit", fail)


def test_a_run(run: Path, face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"config.json", "model.safetensors", "history.csv", "report.html", "scores.csv"}
    assert {p.name for p in run.iterdir()} >= files
    config = json.loads((run / "config.json").read_text())
    assert (
        config["head_epochs"] == 1
        and config["memory"] == "low"
        and config["block_rates"] == {"stem": 0.0, "block1": 0.5}
    )
    assert len(pd.read_csv(run / "history.csv")) == 2
    detector = fn.AUClassifier.load(run / "model.safetensors")
    assert detector.width == detector.network.config.width == 0.25
    assert detector.stages[1].block_rates == {"stem": 0.0, "block1": 0.5}
    assert detector.loss == fn.Loss("soft_f1", bce_weight=0.1)
    assert {stage.sampling for stage in detector.stages} == {fn.Sampling(per_subject=8, balanced=True)}
    assert train(face_folder / "labels.csv", run) == 1
    assert "holds a run already" in capsys.readouterr().err
    assert main(["train", str(tmp_path / "none.csv"), "--out", str(tmp_path / "x")]) == 1
    assert not (tmp_path / "x").exists()


def test_a_cache_at_the_boundary(face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, cached = (
        face_folder / "labels.csv",
        ("--unfreeze", "block12", "--cache", "boundary", "--cache-limit", "1 MB"),
    )
    assert train(table, tmp_path / "varied", *cached) == 1
    assert "augmentation varies it anew in every epoch (crop=" in capsys.readouterr().err
    plain = ("--crop", "1", "--rotation", "0", "--brightness", "0", "--contrast", "0")
    assert train(table, tmp_path / "run", "--test", "0.3", "--width", "1", *cached, *plain) == 0
    assert f"of bfloat16 in a temporary file in {tmp_path / 'run'}" in capsys.readouterr().out


def test_evaluate(run: Path, face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, table = str(run / "model.safetensors"), str(face_folder / "labels.csv")
    assert main(["evaluate", model, table]) == 1
    assert "were trained on" in capsys.readouterr().err
    assert main(["evaluate", model, table, "--allow-training-subjects", "--out", str(tmp_path / "scores")]) == 0
    assert (tmp_path / "scores" / "report.html").stat().st_size > 10_000


def test_predict(run: Path, face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(run / "model.safetensors"), tmp_path / "predictions.csv"
    assert main(["predict", model, str(face_folder), "--decisions", "--out", str(out)]) == 0
    frame = pd.read_csv(out)
    assert list(frame.columns[:3]) == ["input", "success", "AU04"]
    assert (frame["success"] == 0).sum() == 1
    assert set(frame["AU04_c"].dropna()) <= {0, 1}
    assert "1 of 121 images could not be read" in capsys.readouterr().err
    assert main(["predict", model, str(face_folder / "000.png")]) == 0
    assert capsys.readouterr().out.startswith("input,success,AU04,AU12,AU25,error\n")
    assert main(["predict", str(face_folder / "labels.csv"), str(face_folder)]) == 1
    assert "not a safetensors file" in capsys.readouterr().err


@pytest.mark.usefixtures("never_trained")
def test_what_is_wrong_is_found_before_training(
    face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(face_folder / "labels.csv")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", Path("/dev/null/x")):
        assert train(face_folder / "labels.csv", out) == 1
        assert str(out) in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    missing = pd.concat([table, table.iloc[:1].assign(image="gone.png", subject="S99")])
    missing.to_csv(tmp_path / "missing.csv", index=False)
    assert train(tmp_path / "missing.csv", tmp_path / "run", "--root", str(face_folder)) == 1
    assert "gone.png" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    table.drop(columns="subject").to_csv(tmp_path / "nobody.csv", index=False)
    assert train(tmp_path / "nobody.csv", tmp_path / "run", "--root", str(face_folder)) == 1
    assert "--subject" in capsys.readouterr().err
    for wrong in (["--test", "-1"], ["--test", "1"], ["--block-rates", "stem"]):
        with pytest.raises(SystemExit, match="2"):
            train(face_folder / "labels.csv", tmp_path / "run", *wrong)


def test_without_a_test_part(face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv(face_folder / "labels.csv").drop(columns="subject")
    table.to_csv(tmp_path / "nobody.csv", index=False)
    with pytest.warns(UserWarning, match="subjects are not known"):
        assert train(tmp_path / "nobody.csv", tmp_path / "run", "--root", str(face_folder), "--test", "0") == 0
    assert "no report: --test 0 held no subjects out" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.json",
        "history.csv",
        "model.safetensors",
    ]


def test_a_failed_report_leaves_the_model(
    face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fn.AUClassifier, "evaluate", lambda *_: (_ for _ in ()).throw(OSError("no such face")))
    assert train(face_folder / "labels.csv", tmp_path / "run") == 1
    answer = capsys.readouterr().err
    assert "no such face" in answer and "the model was trained and is in" in answer
    assert len(fn.AUClassifier.load(tmp_path / "run" / "model.safetensors").history_.rows) == 2


def test_a_diverging_run_leaves_its_history(
    face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = ["--finetune-rate", "1e38", "--schedule", "constant", "--warmup", "0", "--statistics", "stored"]
    assert train(face_folder / "labels.csv", tmp_path / "run", *wild) == 1
    answer = capsys.readouterr().err
    assert "not finite" in answer
    assert "of stage 'head', epoch 1" in answer and "weights.safetensors" in answer
    assert fn.load_weights(tmp_path / "run" / "weights.safetensors", input_size=64).label_names[0] == "AU04"
    assert pd.read_csv(tmp_path / "run" / "history.csv")["stage"].tolist() == ["head"]
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_ctrl_c(
    face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = iter(range(1000))

    def pressed(logits: np.ndarray, real: object = _core.sigmoid) -> np.ndarray:
        if next(calls) == 0:
            signal.raise_signal(signal.SIGINT)
        return real(logits)

    monkeypatch.setattr(_core, "sigmoid", pressed)
    assert train(face_folder / "labels.csv", tmp_path / "run") == 130
    assert "facsnet train: interrupted" in capsys.readouterr().err
    detector = fn.AUClassifier.load(tmp_path / "run" / "model.safetensors")
    assert detector.history_.interrupted and "interrupted" in detector.history_.notes[-1]
    assert len(detector.history_.rows) == 1
    assert "<dd>interrupted</dd>" in (tmp_path / "run" / "report.html").read_text()


def test_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["about"]) == 0
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.endswith(f"facsnet {fn.__version__}\n")


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--faces", "160", "--out", str(tmp_path / "demo")]) == 0
    assert "AU12" in capsys.readouterr().out
    assert (tmp_path / "demo" / "report.html").exists()
