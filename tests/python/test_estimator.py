"""AUClassifier and the command line, on drawn faces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import facsnet as fn
from facsnet.cli import main
from facsnet.datasets import synthetic_faces

LABELS = ("AU04", "AU12", "AU25")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 small faces as files with a table, 10 subjects; one more file is broken."""
    root = tmp_path_factory.mktemp("faces")
    drawn = synthetic_faces(120, seed=5, subjects=10).select_labels(LABELS)
    rows = []
    for i, image in enumerate(drawn.images):
        Image.fromarray(fn.resize_image(image, 64, 64)).save(root / f"{i:03d}.png")
        rows.append(
            {"image": f"{i:03d}.png", "subject": drawn.subjects[i], **dict(zip(LABELS, drawn.labels[i], strict=True))}
        )
    pd.DataFrame(rows).to_csv(root / "labels.csv", index=False)
    (root / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    return root


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[fn.AUClassifier, fn.Samples, fn.Samples]:
    train, test = fn.Samples.from_csv(folder / "labels.csv").split_by_subject(test=0.3, seed=0)
    detector = fn.AUClassifier(width=0.25, input_size=64, loss="pr", head_epochs=2, finetune_epochs=1, finetune_rate=1e-3, batch_size=32, progress=False)  # fmt: skip
    return detector.fit(train), train, test


def test_fit_and_evaluate(trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples]) -> None:
    detector, train, test = trained
    assert detector.label_names == LABELS
    assert set(detector.training_subjects_) == set(train.subjects)
    assert detector.thresholds_.shape == (3,)
    frame = detector.evaluate(test).to_frame()
    assert len(frame) == len(LABELS) + 1
    with pytest.raises(ValueError, match="subjects were trained on"):
        detector.evaluate(train)
    detector.evaluate(train, allow_training_subjects=True)
    with pytest.raises(ValueError, match="labels are"):
        detector.evaluate(test.select_labels(["AU04"]))


def test_save_and_load(trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], tmp_path: Path) -> None:
    detector, _, test = trained
    path = tmp_path / "model.safetensors"
    detector.save(path)
    again = fn.AUClassifier.load(path)
    assert again.predict_proba(test.paths).tobytes() == detector.predict_proba(test.paths).tobytes()
    assert again.training_subjects_ == detector.training_subjects_
    assert (again.thresholds_ == detector.thresholds_).all()
    assert again.history_.rows == detector.history_.rows
    again.save(tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_damaged_models_are_refused(trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], tmp_path: Path) -> None:
    detector, _, _ = trained
    path = tmp_path / "model.safetensors"
    detector.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(fn.FormatError, match=r"model\.safetensors"):
        fn.AUClassifier.load(path)
    path.write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
    with pytest.raises(fn.FormatError, match="damaged"):
        fn.AUClassifier.load(path)
    detector.network.save_weights(path)
    with pytest.raises(fn.FormatError, match="not a facsnet model"):
        fn.AUClassifier.load(path)


def test_predictions(trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], folder: Path) -> None:
    detector, _, test = trained
    scores = detector.predict_proba(test.paths[:3])
    assert scores.shape == (3, 3)
    assert ((scores > 0) & (scores < 1)).all()
    pixels = np.stack([fn.read_image(p, size=64) for p in test.paths[:3]])
    assert (detector.predict_proba(pixels) == scores).all()
    assert detector.predict(pixels).dtype == bool
    frame = detector.predict_frame([test.paths[0], folder / "broken.jpg", folder / "missing.png"], batch_size=2)
    assert list(frame.columns) == ["input", "success", *LABELS, "error"]
    assert frame["success"].tolist() == [1, 0, 0]
    assert "broken.jpg" in frame["error"][1]
    assert frame[list(LABELS)].iloc[1:].isna().all().all()
    for images, message in ((str(test.paths[0]), "one path"), ([], "empty"), (pixels.astype(float), "uint8")):
        with pytest.raises(ValueError, match=message):
            detector.predict_proba(images)


def test_untrained() -> None:
    with pytest.raises(RuntimeError, match="not trained"):
        fn.AUClassifier().predict([])


def test_weights_that_ship() -> None:
    drawn = synthetic_faces(64, seed=1, subjects=8)
    stages = fn.two_stage(head_epochs=1, finetune_epochs=0)
    detector = fn.AUClassifier(weights="demo", stages=stages, batch_size=16, progress=False)
    with pytest.warns(UserWarning):  # 64 faces do not show every unit
        detector.fit(drawn)
    assert detector.network.config.width == 0.25
    assert not [name for name in detector.load_report_.missing if not name.startswith("head.")]


def test_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, table = tmp_path / "run", str(folder / "labels.csv")
    options = [
        "--input-size",
        "64",
        "--head-epochs",
        "1",
        "--finetune-epochs",
        "1",
        "--batch-size",
        "32",
        "--test",
        "0.3",
    ]
    assert main(["train", table, "--out", str(run), *options]) == 0
    assert {p.name for p in run.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "history.csv",
        "report.html",
        "scores.csv",
    }
    assert json.loads((run / "config.json").read_text())["head_epochs"] == 1
    assert len(pd.read_csv(run / "history.csv")) == 2
    assert main(["train", table, "--out", str(run), *options]) == 1
    assert "holds a run already" in capsys.readouterr().err
    model = str(run / "model.safetensors")
    assert main(["evaluate", model, table]) == 1
    assert "were trained on" in capsys.readouterr().err
    assert main(["evaluate", model, table, "--allow-training-subjects", "--out", str(tmp_path / "scores")]) == 0
    assert (tmp_path / "scores" / "report.html").stat().st_size > 10_000
    out = tmp_path / "predictions.csv"
    assert main(["predict", model, str(folder), "--out", str(out)]) == 0
    frame = pd.read_csv(out)
    assert list(frame.columns[:3]) == ["input", "success", "AU04"]
    assert (frame["success"] == 0).sum() == 1
    assert "1 of 121 images could not be read" in capsys.readouterr().err
    assert main(["predict", str(folder / "labels.csv"), str(folder)]) == 1
    assert main(["train", str(tmp_path / "none.csv"), "--out", str(tmp_path / "x")]) == 1
    assert not (tmp_path / "x").exists()
    assert main(["about"]) == 0


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--faces", "160", "--out", str(tmp_path / "demo")]) == 0
    assert "AU12" in capsys.readouterr().out
    assert (tmp_path / "demo" / "report.html").exists()
