"""Training end to end on drawn faces: stages, caching, determinism, interruption, refusals."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core
from facsnet._interrupts import Interrupts
from facsnet.datasets import synthetic_faces
from facsnet.loading import Reader, features_of, logits_of

LABELS = ("AU04", "AU25")


@pytest.fixture(scope="module")
def faces() -> tuple[fn.Samples, fn.Samples]:
    """64 x 64 faces, so that a test takes seconds."""
    drawn = synthetic_faces(128, seed=3, subjects=10).select_labels(LABELS)
    small = np.stack([fn.resize_image(image, 64, 64) for image in drawn.images])
    samples = fn.Samples.from_arrays(small, drawn.labels, label_names=LABELS, subject=list(drawn.subjects))
    return samples.split_by_subject(test=0.3, seed=0)


def network(**options: object) -> fn.Network:
    return fn.Network(
        "mobilenet_v1", **{"labels": LABELS, "width": 0.25, "input_size": 64, "seed": 1, "threads": 2, **options}
    )


def fit(
    train: fn.Samples, valid: fn.Samples | None, stages: list[fn.Stage], **options: object
) -> tuple[fn.Network, fn.History]:
    net = network()
    history = fn.Trainer(net, stages=stages, **{"batch_size": 32, "progress": False, **options}).fit(train, valid)
    return net, history


def test_two_stages(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train, valid = faces
    net, history = fit(train, valid, list(fn.two_stage(head_epochs=3, finetune_epochs=2, finetune_rate=1e-3)))
    assert [(r["stage"], r["epoch"]) for r in history.rows] == [
        ("head", 1),
        ("head", 2),
        ("head", 3),
        ("finetune", 1),
        ("finetune", 2),
    ]
    assert set(history.best) == {"head", "finetune"}
    assert any("cached" in note for note in history.notes)
    assert history.rows[2]["loss"] < history.rows[0]["loss"]
    assert len(history.to_frame()) == 5
    assert np.isfinite(net.forward(train.images)).all()


def test_it_overfits(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train = faces[0][:32]
    # the rate falls to 0, so that running statistics catch up with the weights
    stage = fn.Stage("all", 80, 3e-3, "all", fn.Schedule("cosine"), augmentation=fn.Augmentation.none())
    net, history = fit(train, None, [stage])
    assert history.rows[-1]["loss"] < 0.1
    assert np.nanmin(fn.metrics.f1(net.predict(train.images), train.labels)) > 0.95


def test_same_seed_same_bytes(faces: tuple[fn.Samples, fn.Samples]) -> None:
    stages = list(
        fn.two_stage(
            head_epochs=1, finetune_epochs=1, augmentation=fn.Augmentation(crop=0.8, rotation=10, brightness=0.2)
        )
    )
    results = []
    for workers in (1, 3):
        net, _ = fit(*faces, stages, workers=workers)
        results.append(b"".join(v.tobytes() for v in net.parameters().values()))
    assert results[0] == results[1]
    other, _ = fit(*faces, stages, seed=1)
    assert b"".join(v.tobytes() for v in other.parameters().values()) != results[0]


def test_frozen_blocks_do_not_move(faces: tuple[fn.Samples, fn.Samples]) -> None:
    net, _ = fit(*faces, [fn.Stage("top", 1, 1e-3, "block12")])
    fresh = network().parameters()
    rows = {row[0]: row[2] for row in net._core.parameter_rows()}
    frozen = set(net.blocks[: net.blocks.index("block12")])
    for name, value in net.parameters().items():
        assert (value == fresh[name]).all() == (rows[name] in frozen), name


def test_stored_statistics_stay(faces: tuple[fn.Samples, fn.Samples]) -> None:
    net, _ = fit(*faces, [fn.Stage("stored", 1, 1e-4, "all", statistics="stored")])
    fresh = network().parameters()
    moved = {name.rsplit(".", 1)[1] for name, value in net.parameters().items() if not (value == fresh[name]).all()}
    assert moved == {"weight", "bias"}


@pytest.mark.parametrize("loss", [*fn.losses.NAMES, fn.Loss("pr", average="micro", bce_weight=0.5)])
def test_losses_train(faces: tuple[fn.Samples, fn.Samples], loss: object) -> None:
    _, history = fit(*faces, [fn.Stage("head", 8, 1e-2)], loss=loss)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "plateau"])
def test_optimisers_and_schedules(faces: tuple[fn.Samples, fn.Samples], kind: str, schedule: str) -> None:
    optimiser = fn.Optimiser(kind, weight_decay=1e-3, clip_norm=1.0, average_decay=0.5)
    rate = 0.3 if kind == "sgd" else 1e-2
    stage = fn.Stage("head", 8, rate, schedule=fn.Schedule(schedule, warmup=1, period=2), optimiser=optimiser)
    _, history = fit(*faces, [stage])
    rates = [row["rate"] for row in history.rows]
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]
    if schedule in ("cosine", "step"):
        assert rates[-1] < rates[2]


def test_patience_ends_a_stage_and_the_best_epoch_stays(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train, valid = faces
    net, history = fit(train, valid, [fn.Stage("head", 200, 0.1, patience=3)])
    assert len(history.rows) < 200 and any("stopped after epoch" in note for note in history.notes)
    best = max(history.rows, key=lambda row: row["valid_roc_auc"])
    assert history.best["head"] == best["epoch"] == len(history.rows) - 3
    found = fn.metrics.roc_auc(net.predict(valid.images), valid.labels)
    assert np.nanmean(found) == pytest.approx(best["valid_roc_auc"], abs=1e-6)


def test_unknown_labels_do_not_train(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train = faces[0]
    labels = np.array(train.labels)
    labels[:, 1] = np.nan
    masked = fn.Samples.from_arrays(train.images, labels, label_names=LABELS, subject=list(train.subjects))
    net, _ = fit(masked, None, [fn.Stage("head", 2, 1e-2)])
    fresh = network().parameters()["head.classifier.weight"][0, 0]
    weights = net.parameters()["head.classifier.weight"][0, 0]
    assert (weights[:, 1] == fresh[:, 1]).all() and not (weights[:, 0] == fresh[:, 0]).all()


def test_interrupt_leaves_a_usable_model(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train, valid = faces
    timer = threading.Timer(1.0, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    net, history = fit(train, valid, [fn.Stage("long", 10_000, 1e-4, "all")])
    timer.cancel()
    assert history.interrupted and time.perf_counter() - start < 10
    assert np.isfinite(net.forward(valid.images)).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def press(monkeypatch: pytest.MonkeyPatch, where: object, name: str, *, at: int, times: int = 1) -> None:
    """Ctrl-C in the middle of the call ``at`` of a function."""
    real, calls = getattr(where, name), iter(range(1_000_000))

    def pressed(*arguments: object, **options: object) -> object:
        if next(calls) + 1 == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(where, name, pressed)


def auc(net: fn.Network, samples: fn.Samples) -> float:
    return float(np.nanmean(fn.metrics.roc_auc(net.predict(samples.images), samples.labels)))


AVERAGED = fn.Optimiser(average_decay=0.5)


def test_ctrl_c_in_validation_keeps_the_best_weights(
    faces: tuple[fn.Samples, fn.Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid = faces
    press(monkeypatch, _core, "sigmoid", at=3)
    net, history = fit(train, valid, [fn.Stage("all", 9, 1e-3, "all", optimiser=AVERAGED)])
    monkeypatch.undo()
    assert history.interrupted and len(history.rows) == 3
    best = max(history.rows, key=lambda row: row["valid_roc_auc"])
    assert history.notes[-1].endswith(f"the best weights so far, of stage 'all', epoch {best['epoch']}")
    assert auc(net, valid) == pytest.approx(best["valid_roc_auc"], abs=1e-6)


def test_ctrl_c_while_weights_are_put_back(
    faces: tuple[fn.Samples, fn.Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid = faces
    press(monkeypatch, fn.Network, "set_parameters", at=1)
    net, history = fit(train, valid, [fn.Stage("head", 3, 1e-2)])
    monkeypatch.undo()
    assert history.interrupted and "interrupted after the last epoch" in history.notes
    assert auc(net, valid) == pytest.approx(max(row["valid_roc_auc"] for row in history.rows), abs=1e-6)


def test_a_second_ctrl_c_raises_once_the_weights_are_whole(
    faces: tuple[fn.Samples, fn.Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid = faces
    net = network()
    stage = fn.Stage("all", 9, 1e-3, "all", optimiser=AVERAGED)
    trainer = fn.Trainer(net, stages=[stage], batch_size=32, progress=False)
    press(monkeypatch, _core, "sigmoid", at=2, times=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(train, valid)
    monkeypatch.undo()
    assert trainer.history_.interrupted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    best = max(row["valid_roc_auc"] for row in trainer.history_.rows)
    assert auc(net, valid) == pytest.approx(best, abs=1e-6)


def test_ctrl_c_before_anything_was_chosen_says_so(
    faces: tuple[fn.Samples, fn.Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    press(monkeypatch, np, "mean", at=1)
    _, history = fit(faces[0], None, [fn.Stage("all", 50, 1e-4, "all")])
    assert history.interrupted
    assert "the weights of the last step, which no validation chose" in history.notes[-1]


def test_handlers_of_others_stay(faces: tuple[fn.Samples, fn.Samples]) -> None:
    seen: list[object] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        own = signal.getsignal(signal.SIGINT)
        with Interrupts() as interrupts:
            assert signal.getsignal(signal.SIGINT) is own
            signal.raise_signal(signal.SIGINT)
        assert interrupts.count == 0 and len(seen) == 1
    finally:
        signal.signal(signal.SIGINT, before)
    found: list[fn.History] = []
    thread = threading.Thread(target=lambda: found.append(fit(*faces, [fn.Stage("head", 1, 1e-3)])[1]))
    thread.start()
    thread.join()
    assert len(found[0].rows) == 1


@pytest.mark.parametrize("optimiser", [fn.Optimiser(), AVERAGED])
def test_a_diverging_stage_keeps_the_best_weights(
    faces: tuple[fn.Samples, fn.Samples], optimiser: fn.Optimiser
) -> None:
    train, valid = faces
    net = network()
    head = fn.Stage("head", 2, 1e-3, optimiser=optimiser)
    wild = fn.Schedule("step", factor=1e38, period=2)
    stages = [head, fn.Stage("wild", 9, 1e-3, "all", wild, optimiser=optimiser)]
    trainer = fn.Trainer(net, stages=stages, batch_size=32, progress=False)
    with pytest.raises(ValueError, match="not finite") as caught:
        trainer.fit(train, valid)
    rows = [row for row in trainer.history_.rows if row["stage"] == "wild"]
    assert 2 <= len(rows) < 9 and set(trainer.history_.best) == {"head", "wild"}
    best = next(row for row in rows if row["epoch"] == trainer.history_.best["wild"])
    assert auc(net, valid) == pytest.approx(best["valid_roc_auc"], abs=1e-6)
    assert f"of stage 'wild', epoch {best['epoch']}" in caught.value.__notes__[0]


def test_a_stage_that_fails_at_once_leaves_what_it_began_with(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train, valid = faces
    net = network()
    stages = [fn.Stage("head", 2, 1e-3), fn.Stage("wild", 2, 1e38, "all", statistics="stored")]
    trainer = fn.Trainer(net, stages=stages, batch_size=32, progress=False)
    with pytest.raises(ValueError, match="not finite") as caught:
        trainer.fit(train, valid)
    assert "of stage 'head'" in caught.value.__notes__[0]
    assert auc(net, valid) == pytest.approx(max(r["valid_roc_auc"] for r in trainer.history_.rows), abs=1e-6)


def test_undefined_scores_are_named_once(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train, valid = faces
    labels = np.array(valid.labels)
    labels[:, 0] = 0
    never = fn.Samples.from_arrays(valid.images, labels, label_names=LABELS, subject=list(valid.subjects))
    _, history = fit(train, never, [fn.Stage("head", 2, 1e-3)])
    assert [n for n in history.notes if "AU04" in n] == [
        "head: AU04 left out of the validation scores: no positive in the validation part"
    ]
    labels[:, 0] = 1
    always = fn.Samples.from_arrays(valid.images, labels, label_names=LABELS, subject=list(valid.subjects))
    _, history = fit(train, always, [fn.Stage("head", 1, 1e-3)])
    assert "head: AU04 left out of the validation's ROC AUC: no negative in the validation part" in history.notes
    labels[:, 1] = np.nan
    nothing = fn.Samples.from_arrays(valid.images, labels, label_names=LABELS, subject=list(valid.subjects))
    with pytest.warns(UserWarning, match="roc_auc is undefined for every label"):
        fit(train, nothing, [fn.Stage("head", 1, 1e-3)])
    with pytest.raises(ValueError, match="roc_auc is undefined for all its labels"):
        fit(train, nothing, [fn.Stage("head", 1, 1e-3, patience=2)])


def test_a_head_on_varied_images_is_noted(faces: tuple[fn.Samples, fn.Samples]) -> None:
    _, history = fit(*faces, [fn.Stage("head", 1, 1e-3, augmentation=fn.Augmentation.varied())])
    assert any("backbone runs in every epoch" in note for note in history.notes)


def test_the_first_step_of_a_warmup_counts(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train = faces[0]
    stage = fn.Stage("head", 2, 1e-3, schedule=fn.Schedule(warmup=2))
    _, history = fit(train, None, [stage], batch_size=len(train))
    assert [row["rate"] for row in history.rows] == pytest.approx([0.25e-3, 0.75e-3])


def test_block_rates_of_two_stages(faces: tuple[fn.Samples, fn.Samples]) -> None:
    stages = fn.two_stage(head_epochs=1, finetune_epochs=1, block_rates={"stem": 0.0})
    assert [dict(stage.block_rates) for stage in stages] == [{}, {"stem": 0.0}]
    net, _ = fit(*faces, list(stages))
    stem = next(row[0] for row in net._core.parameter_rows() if row[2] == "stem" and row[0].endswith("weight"))
    assert (net.parameters()[stem] == network().parameters()[stem]).all()


def test_bars_are_shown_where_asked_for(
    faces: tuple[fn.Samples, fn.Samples], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(*faces, [fn.Stage("head", 1, 1e-3)], progress=True)
    assert "head: validation features" in capsys.readouterr().err


def test_features_and_logits_of_files(faces: tuple[fn.Samples, fn.Samples], tmp_path: Path) -> None:
    from PIL import Image

    train = faces[0][:5]
    paths = []
    for i, image in enumerate(train.images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    files = fn.Samples.from_arrays(paths, train.labels, label_names=LABELS)
    net = network()
    assert (features_of(net, files) == features_of(net, train)).all()
    reader = Reader(net, files)
    assert (reader.logits() == logits_of(net, train)).all()
    mirrored = reader.logits(flip=True)
    assert (mirrored == logits_of(net, files, flip=True)).all()
    assert reader.loader.statistics()["decoded"] == 0, "the second pass takes what the first one kept"
    np.testing.assert_allclose(
        mirrored, net.forward(np.ascontiguousarray(np.asarray(train.images)[:, :, ::-1])), atol=1e-5
    )


def test_refusals(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train, valid = faces
    stages = [fn.Stage("head", 1, 1e-3)]
    with pytest.raises(ValueError, match=f"batch_size is 1000, but there are only {len(train)}"):
        fit(train, valid, stages, batch_size=1000)
    with pytest.raises(ValueError, match="both sides"):
        fit(train, train[:10], stages)
    with pytest.raises(ValueError, match="labels are"):
        fit(train.select_labels(["AU04"]), None, stages)
    with pytest.raises(ValueError, match="monitor is 'speed'"):
        fit(train, valid, stages, monitor="speed")
    with pytest.raises(ValueError, match="unfreeze is 'block77'"):
        fit(train, valid, [fn.Stage("x", 1, 1e-3, "block77")])
    with pytest.raises(ValueError, match="rate is -1"):
        fn.Stage("x", 1, -1)
    with pytest.raises(ValueError, match="block_rates names"):
        fit(train, valid, [fn.Stage("x", 1, 1e-3, block_rates={"nobody": 2.0})])
    with pytest.raises(ValueError, match="loss is 'mse'"):
        fit(train, valid, stages, loss="mse")
    for options, message in (({"seed": -1}, "seed is -1"), ({"workers": 0}, "workers is 0"), ({"batch_size": 0}, "batch_size is 0")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            fit(train, valid, stages, **options)
    with pytest.raises(ValueError, match=r"batch_size is 1: .* stage 'head' wants more"):
        fit(train, valid, stages, batch_size=1)
    with pytest.raises(ValueError, match="of 3 training samples a batch has only one"):
        fit(train[:3], None, stages, batch_size=2)
    fit(train[:3], None, [fn.Stage("x", 1, 1e-3, statistics="stored")], batch_size=2)
    for stage in (fn.Stage("x", 1, 1e-3, patience=2), fn.Stage("x", 1, 1e-3, schedule=fn.Schedule("plateau"))):
        with pytest.raises(ValueError, match="there is no validation part"):
            fit(train, None, [stage])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fn.Stage("x", 1, 1e-3, block_rates={"stem": -1.0}), "block_rates has -1.0 for 'stem'"),
        (lambda: fn.Stage("x", 1, 1e-3, block_rates={"stem": float("nan")}), "block_rates has nan for 'stem'"),
        (lambda: fn.Stage("x", 2, 1e-3, schedule=fn.Schedule(warmup=3)), "warmup is 3 epochs, the stage has 2"),
        (lambda: fn.Schedule(warmup=-1), "warmup is -1"),
        (lambda: fn.Schedule("step", period=0), "period is 0"),
        (lambda: fn.Schedule("cosine", factor=float("nan")), "factor is nan"),
        (lambda: fn.Optimiser(betas=(0.9,)), "betas are"),
        (lambda: fn.Optimiser(betas=(0.9, 1.0)), "betas are"),
    ],
)
def test_rows_are_checked(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_an_exploding_step_is_not_taken(faces: tuple[fn.Samples, fn.Samples]) -> None:
    net = network()
    core = _core.StageTrainer(
        net._core,
        "stem",
        False,
        False,
        1e-3,
        fn.Loss("bce")._specification(),
        fn.Optimiser().row(),
        fn.Schedule().row(1),
        None,
        4,
        0,
    )
    before = {k: v.copy() for k, v in net.parameters().items()}
    x = np.full((4, 64, 64, 3), 3e38, np.float32)
    y = np.zeros((4, 2), np.float32)
    with pytest.raises(ValueError, match="not finite|the loss is"):
        core.step(x, y, np.ones_like(y), 0.0)
    assert all((net.parameters()[k] == v).all() for k, v in before.items())
