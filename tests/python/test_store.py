"""Images that stay on a device: their variants are the loader's, byte for byte."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import facsnet as fn
from facsnet import _core, _device
from facsnet._stage_run import StageRun

SIDES = [(48, 48), (100, 61), (33, 90), (150, 150), (7, 200), (64, 64), (1, 1), (90, 40)]
RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 256, (*side, 3), dtype=np.uint8) for side in SIDES]
SEED, COUNT = 5, len(IMAGES)
PLAIN = (1.0, 0.0, 0.0, 0.0, 0.0)


def store(*, loaded: bool = True, **options: Any) -> _core.ImageStore:
    values = {
        "images": IMAGES, "paths": None, "batch": 8, "size": 32, "threads": 2, "seed": SEED, "augmentation": PLAIN,
        "most_bytes": 1 << 30, **options,
    }  # fmt: skip
    made = _core.ImageStore(_device.plugin_of("cuda"), **values)
    if loaded:
        assert made.load(3) == 3 and made.load(1 << 40) == len(made) == COUNT
    return made


def check_epochs(made: _core.ImageStore, size: int, augmentation: tuple[float, ...]) -> None:
    loader = _core.Loader(
        images=IMAGES, paths=None, labels=np.zeros((COUNT, 1), np.float32), batch=3, size=size, workers=1, seed=SEED,
        shuffle=True, augmentation=augmentation, cache_bytes=0, most_skipped=0,
    )  # fmt: skip
    for epoch, rows in enumerate([None, np.array([0, 1, 1, 1, 4, 7, 7, 2]), np.array([3, 5])]):
        loader.start(epoch, rows)
        order, _ = _core.draw_epoch(SEED, epoch, COUNT, 0.0, rows)
        made.start(epoch, order)
        seen = 0
        for pixels, _, _, index in loader:
            assert (order[seen : seen + len(index)] == index).all()
            seen += len(index)
            got = made.next(len(pixels))
            assert got.shape == (len(pixels), size, size, 3) and got.dtype == "uint8"
            np.testing.assert_array_equal(got.numpy(), pixels)
        assert seen == len(order)


@pytest.mark.parametrize("size", [32, 61, 64])
@pytest.mark.parametrize(
    "augmentation",
    [PLAIN, (0.6, 0.5, 0, 0, 0), (1, 0, 30, 0, 0), (1, 0, 0, 0.3, 0), (1, 0, 0, 0, 0.6), (0.3, 0.5, 180, 0.5, 0.6)],
)
def test_variants_are_the_loaders(where: str, size: int, augmentation: tuple[float, ...]) -> None:
    check_epochs(store(size=size, augmentation=augmentation), size, augmentation)


def test_images_in_one_array(where: str) -> None:
    stack = np.stack([IMAGES[3], IMAGES[3][::-1], IMAGES[3][:, ::-1]])
    made = store(images=stack, loaded=False)
    assert made.load(9) == len(made) == 3 and made.nbytes == stack.nbytes
    made.start(0, np.array([2, 0]))
    np.testing.assert_array_equal(made.next(2).numpy()[1], fn.resize_image(stack[0], 32, 32))


def saved(folder: Path) -> list[str]:
    paths = [folder / f"{i}.png" for i in range(COUNT)]
    for image, path in zip(IMAGES, paths, strict=True):
        Image.fromarray(image).save(path)
    return [str(path) for path in paths]


def test_files(where: str, tmp_path: Path) -> None:
    paths = saved(tmp_path)
    made = store(images=None, paths=paths)
    for path in paths:
        os.remove(path)
    check_epochs(made, 32, PLAIN)


def test_files_that_cannot_be_read(where: str, tmp_path: Path) -> None:
    paths = saved(tmp_path)
    (tmp_path / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n is none")
    os.remove(paths[6])
    made = store(images=None, paths=paths, loaded=False)
    with pytest.raises(fn.FormatError, match=r"3\.png"):
        made.load(COUNT)
    Image.fromarray(IMAGES[3]).save(paths[3])
    with pytest.raises(FileNotFoundError) as missing:
        made.load(COUNT)
    assert missing.value.filename == paths[6]
    Image.fromarray(IMAGES[6]).save(paths[6])
    assert made.load(COUNT) == COUNT
    check_epochs(made, 32, PLAIN)


def test_too_many_images(where: str) -> None:
    """Each takes a multiple of 64 bytes."""
    sizes = [image.nbytes for image in IMAGES]
    made = store(most_bytes=sum(-(-size // 64) * 64 for size in sizes[:3]), loaded=False)
    assert made.load(3) == 3 and made.nbytes == sum(sizes[:3])
    with pytest.raises(MemoryError, match="decoded images"):
        made.load(1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch": 0}, "batch: is 0"),
        ({"batch": 65536}, "batch: is 65536"),
        ({"size": 0}, "size: is 0"),
        ({"threads": 0}, "threads: is 0"),
        ({"most_bytes": -1}, "most_bytes: is -1"),
        ({"augmentation": (0.0, 0, 0, 0, 0)}, "crop_scale"),
        ({"images": None}, "either images or paths"),
        ({"paths": ["a.png"]}, "either images or paths"),
        ({"images": []}, "has 0 images"),
    ],
)
def test_options_outside_their_range(where: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        store(loaded=False, **options)


def test_epochs_outside_the_table(where: str) -> None:
    made = store(loaded=False)
    with pytest.raises(ValueError, match="0 of 8 images are loaded"):
        made.start(0, np.arange(2))
    assert made.load(COUNT) == COUNT
    with pytest.raises(ValueError, match="0 are left"):
        made.next(1)
    for order, text in (([0, 8], "row 1 is 8"), ([-1], "row 0 is -1"), ([0] * 9, "an epoch of 9 rows")):
        with pytest.raises(ValueError, match=text):
            made.start(0, np.array(order))
    made.start(0, np.arange(8))
    for n in (0, -1, 9):
        with pytest.raises(ValueError, match=f"a batch of {n} images"):
            made.next(n)
    assert len(made.next(6)) == 6
    with pytest.raises(ValueError, match="2 are left"):
        made.next(3)


def varied(device: str, images: Sequence[np.ndarray], **options: Any) -> tuple[fn.Network, fn.History]:
    labels = np.random.default_rng(2).integers(0, 2, (len(images), 2)).astype(np.float32)
    names = ("AU04", "AU25")
    train = fn.Samples(labels=labels, label_names=names, images=list(images), subjects=list("aabbccdd"))
    valid = fn.Samples(labels=labels[:4], label_names=names, images=list(images[:4]), subjects=list("eeff"))
    net = fn.Network("mobilenet_v1", labels=names, width=0.25, input_size=32, seed=1, device=device)
    values = {"augmentation": fn.Augmentation.varied(), "epochs": 3, "rate": 1e-4, "unfreeze": "all", **options}
    stage = fn.Stage("all", **values)
    trainer = fn.Trainer(net, stages=[stage], batch_size=3, progress=False)
    return net, trainer.fit(train, valid)


def check_alike(where: str, cpu: fn.Network, cuda: fn.Network, want: fn.History, got: fn.History) -> None:
    assert got.rows[0]["loss"] == pytest.approx(want.rows[0]["loss"], rel=5e-2)
    for key, value in cpu.parameters().items() if where == "pretend" else ():
        np.testing.assert_array_equal(cuda.parameters()[key], value)


def test_fit(where: str) -> None:
    (cpu, want), (cuda, got) = varied("cpu", IMAGES), varied("cuda", IMAGES)
    assert any("images stay on the GPU and are varied there" in note for note in got.notes)
    check_alike(where, cpu, cuda, want, got)


def test_fit_without_room(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches then travel ahead of their steps, and are the same."""
    monkeypatch.setattr("facsnet._batches.free_memory", lambda: 1000)
    (cpu, want), (cuda, got) = varied("cpu", IMAGES), varied("cuda", IMAGES)
    assert any("images are varied on the CPU: the decoded images take" in note for note in got.notes)
    check_alike(where, cpu, cuda, want, got)


def test_an_array_takes_equal_ones(where: str) -> None:
    array = _core.DeviceArray(np.zeros((2, 3), np.float32), _device.plugin_of("cuda"))
    wanted = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.assign(wanted)
    assert (array.numpy() == wanted).all()
    for other in (wanted[:1], wanted.ravel(), wanted[..., None]):
        with pytest.raises(ValueError, match="array"):
            array.assign(other)
    with pytest.raises(TypeError, match="array"):
        array.assign("text")
    assert (array.numpy() == wanted).all()


@pytest.mark.parametrize(
    "options",
    [{"epochs": 1}, {"augmentation": fn.Augmentation(0.5)}, {"sampling": fn.Sampling(per_subject=1)}],
    ids=["once", "mirrored", "few"],
)
def test_images_that_are_read_once_or_only_mirrored(where: str, options: dict[str, Any]) -> None:
    _, history = varied("cuda", IMAGES, **options)
    assert not any("varied there" in note for note in history.notes)


def test_repeated_rows(where: str) -> None:
    sampling = fn.Sampling(balanced=True)
    (cpu, want), (cuda, got) = varied("cpu", IMAGES, sampling=sampling), varied("cuda", IMAGES, sampling=sampling)
    assert any("varied there" in note for note in got.notes)
    check_alike(where, cpu, cuda, want, got)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_missing_file(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """The error names it, and nothing of the stage stays behind."""
    stages: list[weakref.ref[Any]] = []

    def run_of(*arguments: Any) -> StageRun:
        run = StageRun(*arguments)
        stages.append(weakref.ref(run))
        return run

    monkeypatch.setattr("facsnet.training.StageRun", run_of)
    paths = saved(tmp_path)
    os.remove(paths[5])
    labels = np.tile(np.array([[0, 1], [1, 0]], np.float32), (COUNT // 2, 1))
    train = fn.Samples(labels=labels, label_names=("AU04", "AU25"), paths=paths)
    net = fn.Network("mobilenet_v1", labels=train.label_names, width=0.25, input_size=32, seed=1, device="cuda")
    stage = fn.Stage("all", augmentation=fn.Augmentation.varied(), epochs=epochs, rate=1e-4, unfreeze="all")
    trainer = fn.Trainer(net, stages=[stage], batch_size=3, progress=False)
    gc.disable()
    try:
        found = ""
        try:
            trainer.fit(train)
        except FileNotFoundError as problem:
            found = problem.filename
        assert found == paths[5]
        assert len(stages) == 1 and stages[0]() is None
    finally:
        gc.enable()
