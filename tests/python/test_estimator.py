"""AUClassifier on drawn faces: training, model files, predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import facsnet as fn
from facsnet._safetensors import read_safetensors, write_safetensors
from facsnet.datasets import synthetic_faces

LABELS = ("AU04", "AU12", "AU25")


@pytest.fixture(scope="module")
def trained(face_folder: Path) -> tuple[fn.AUClassifier, fn.Samples, fn.Samples]:
    train, test = fn.Samples.from_csv(face_folder / "labels.csv").split_by_subject(test=0.3, seed=0)
    detector = fn.AUClassifier(width=0.25, input_size=64, loss="pr", head_epochs=2, finetune_epochs=1, finetune_rate=1e-3, batch_size=32, progress=False)  # fmt: skip
    with pytest.warns(UserWarning, match="stage 'head' freezes a backbone of random weights"):
        detector.fit(train)
    return detector, train, test


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
    nobody = fn.Samples.from_arrays(list(test.paths), test.labels, label_names=LABELS)
    with pytest.warns(UserWarning, match="test: subjects are not known"):
        detector.evaluate(nobody)
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


def test_predictions(trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], face_folder: Path) -> None:
    detector, _, test = trained
    scores = detector.predict_proba(test.paths[:3])
    assert scores.shape == (3, 3)
    assert ((scores > 0) & (scores < 1)).all()
    pixels = np.stack([fn.read_image(p, size=64) for p in test.paths[:3]])
    assert (detector.predict_proba(pixels) == scores).all()
    assert detector.predict(pixels).dtype == bool
    frame = detector.predict_frame(
        [test.paths[0], face_folder / "broken.jpg", face_folder / "missing.png"], batch_size=2
    )
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


def test_a_failed_fit_changes_nothing(
    trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, train, _ = trained
    detector = fn.AUClassifier(weights="demo", input_size=64, head_epochs=1, finetune_epochs=0, batch_size=32, progress=False)  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(fn.metrics, "fit_thresholds", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            detector.fit(train)
    assert len(detector.trainer_.history_.rows) == 1
    with pytest.raises(RuntimeError, match="not trained"):
        detector.predict_proba(train.paths)
    before = detector.fit(train).network_, detector.history_, detector.thresholds_
    detector.finetune_epochs, detector.finetune_rate = 1, 1e38
    with pytest.raises(ValueError, match="not finite"):
        detector.fit(train)
    assert all(
        a is b for a, b in zip(before, (detector.network_, detector.history_, detector.thresholds_), strict=True)
    )
    assert [row["stage"] for row in detector.trainer_.history_.rows] == ["head"]


EVERY_STAGE = [
    fn.Stage("head", 1, 1e-3, loss=fn.Loss("asl", margin=0.1), patience=4),
    fn.Stage(
        "top",
        2,
        1e-4,
        "block12",
        fn.Schedule("step", 0.5, 0.2, 1.0),
        "stored",
        fn.Loss("pr", 0.5, "micro", 1e-6, pos_weight=[1.0, 2.0, 3.0]),
        fn.Augmentation.varied(),
        fn.Optimiser("adamw", (0.8, 0.99), weight_decay=0.01, clip_norm=1.0, average_decay=0.9),
        {"block12": 0.5},
        cache="none",
        cache_dtype="float32",
        sampling=fn.Sampling(per_subject=30, balanced=True),
    ),
]


def test_a_loaded_model_remembers_its_making(
    trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], tmp_path: Path
) -> None:
    _, train, test = trained
    detector = fn.AUClassifier(
        weights="demo", loss=fn.Loss("pr", average="micro", bce_weight=0.5), input_size=64, stages=EVERY_STAGE,
        head_epochs=3, finetune_epochs=4, unfreeze="block3", finetune_rate=2e-4, block_rates={"stem": 0.1}, batch_size=20,
        monitor="f1", threshold_shrinkage=2.0, flip_average=False, random_state=7, threads=1, progress=False,
    )  # fmt: skip
    detector.fit(train)
    detector.history_.interrupted = True
    detector.history_.rows[0]["valid_f1"] = float("nan")
    detector.save(tmp_path / "model.safetensors")
    again = fn.AUClassifier.load(tmp_path / "model.safetensors", threads=1)
    kept = [name for name in vars(detector) if not name.endswith("_") and name not in fn.estimator._OF_THE_MACHINE[1:]]
    assert len(kept) == 17
    for name in kept:
        assert getattr(again, name) == getattr(detector, name), name
    assert np.isnan(again.history_.rows[0]["valid_f1"])
    assert again.history_.rows[1:] == detector.history_.rows[1:]
    for name in ("best", "notes", "interrupted"):
        assert getattr(again.history_, name) == getattr(detector.history_, name)
    facts = again.evaluate(test).config
    assert facts == detector.evaluate(test).config
    assert facts["weights"] == "demo" and facts["training"] == "interrupted" and facts["batch size"] == 20
    assert facts["loss"] == "pr (bce_weight 0.5, average micro)"


def changed(model: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    *outer, last = field.split(".")
    table = model
    for key in outer:
        table = table[key]
    if value is ...:
        del table[last]
    else:
        table[last] = value
    return model


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 99, "version is 99"),
        ("network", {}, "network is .* want name in it"),
        ("network", ..., "want network in it"),
        ("network.speed", 1, "network is 'speed'"),
        ("network.labels", None, "network.labels is None"),
        ("network.labels", "ABC", "network.labels is 'ABC'"),
        ("network.labels", ["AU04", "AU04", "AU12"], "twice"),
        ("network.width", "wide", "network.width is 'wide'"),
        ("network.input_size", 64.5, "network.input_size is 64.5"),
        ("network.preprocessing.std", [0, 0, 0], "std"),
        ("network.preprocessing.std", [1.0, 1.0], "preprocessing.std"),
        ("network.name", "resnet", "resnet"),
        ("thresholds", [0.5], "thresholds are 1, the labels 3"),
        ("thresholds", [0.5, None, 0.5], r"thresholds\[1\] is None"),
        ("thresholds", [0.5, float("nan"), 0.5], "NaN"),
        ("training_subjects", 5, "training_subjects is 5"),
        ("training_subjects", "ABC", "training_subjects is 'ABC'"),
        ("arguments.loss", 5, "arguments.loss is 5"),
        ("arguments.loss", "mse", "loss is 'mse'"),
        ("arguments.loss", {"name": "pr", "average": "mean"}, "arguments.loss.average is 'mean'"),
        ("arguments.stages", [{"name": "x", "epochs": 1, "rate": -1.0}], r"arguments.stages\[0\].*rate is -1"),
        ("arguments.stages", [{"name": "x", "epochs": "1", "rate": 1.0}], r"stages\[0\].epochs is '1'"),
        ("arguments.speed", 1, "arguments.speed is 1"),
        ("arguments.flip_average", 1, "arguments.flip_average is 1"),
        ("history", "abc", "history is 'abc'"),
        ("history.rows", [{"loss": []}], r"history.rows\[0\].loss"),
        ("history.best", {"head": "1"}, "history.best.head is '1'"),
    ],
)
def test_damaged_descriptions_are_refused(
    trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    trained[0].save(path)
    tensors, metadata = read_safetensors(path)
    model = changed(json.loads(metadata["facsnet.model"]), field, value)
    write_safetensors(path, tensors, {"facsnet.model": json.dumps(model)})
    with pytest.raises(fn.FormatError, match=rf"model\.safetensors: .*{message}"):
        fn.AUClassifier.load(path)


def test_a_flipped_bit_of_the_description_is_found(
    trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    trained[0].save(path)
    path.write_bytes(path.read_bytes().replace(b"roc_auc", b"roc_auk", 1))
    with pytest.raises(fn.FormatError, match=r"'facsnet\.model' is damaged"):
        fn.AUClassifier.load(path)


@pytest.mark.parametrize("in_memory", [False, True])
def test_images_that_were_trained_on_are_refused(
    trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], tmp_path: Path, in_memory: bool
) -> None:
    _, train, test = trained

    def without_subjects(samples: fn.Samples) -> fn.Samples:
        images = [fn.read_image(path) for path in samples.paths] if in_memory else list(samples.paths)
        return fn.Samples.from_arrays(images, samples.labels, label_names=LABELS)

    detector = fn.AUClassifier(weights="demo", input_size=64, head_epochs=1, finetune_epochs=0, batch_size=32, progress=False)  # fmt: skip
    with pytest.warns(UserWarning, match="subjects are not known"):
        detector.fit(without_subjects(train))
    detector.save(tmp_path / "model.safetensors")
    for model in (detector, fn.AUClassifier.load(tmp_path / "model.safetensors")):
        model.evaluate(without_subjects(test))
        with pytest.raises(ValueError, match="5 images were trained on"):
            model.evaluate(without_subjects(train[:5]))
        model.evaluate(without_subjects(train[:5]), allow_training_subjects=True)


def test_what_predictions_take(trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples]) -> None:
    detector, train, test = trained
    paths = list(test.paths[:3])
    wanted = detector.predict_proba(paths)
    assert (detector.predict_proba([fn.read_image(path) for path in paths]) == wanted).all()
    assert (detector.predict_proba(path for path in paths) == wanted).all()
    frame = detector.predict_frame((path for path in paths), batch_size=2)
    assert (frame[list(LABELS)].to_numpy() == wanted).all()
    for call, message in (
        (lambda: detector.predict_frame(paths[0]), "paths is one path"),
        (lambda: detector.predict_frame([]), "paths: the list is empty"),
        (lambda: detector.predict_frame(paths, batch_size=0), "batch_size is 0"),
        (lambda: detector.predict_proba([np.zeros((4, 4), np.uint8)]), r"images\[0\] is a uint8 array of shape"),
        (lambda: detector.predict_proba(np.zeros((0, 64, 64, 3), np.uint8)), "images: the list is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    taken = fn.Samples.from_arrays(list(train.paths), train.labels, label_names=["AU04", "error", "AU25"])
    with pytest.raises(ValueError, match="label 'error' has the name of a column"):
        fn.AUClassifier(weights="demo").fit(taken)


def test_decisions(trained: tuple[fn.AUClassifier, fn.Samples, fn.Samples], face_folder: Path) -> None:
    detector, _, test = trained
    paths = [*test.paths[:6], face_folder / "broken.jpg"]
    frame = detector.predict_frame(paths, decisions=True)
    columns = [f"{name}_c" for name in LABELS]
    assert list(frame.columns) == ["input", "success", *LABELS, *columns, "error"]
    assert (frame[columns].iloc[:6].to_numpy(bool) == detector.predict(paths[:6])).all()
    assert frame[columns].iloc[6].isna().all()
    assert set(frame["AU04_c"].dropna()) <= {0, 1}


def test_the_warning_says_what_stands_in_for_a_threshold() -> None:
    scores, nothing = np.array([[0.1, 0.2], [0.3, 0.4]]), np.zeros((2, 2))
    with pytest.warns(fn.metrics.UndefinedScoreWarning, match=r"0\.5 is taken"):
        assert (fn.metrics.fit_thresholds(scores, nothing, shrinkage=5.0) == 0.5).all()
