"""Training from cached activations: the bits of training without a cache, and where the cache lies."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core
from facsnet._cache import Cache, byte_count, byte_text
from facsnet.datasets import synthetic_faces
from facsnet.loading import make_loader

LABELS = ("AU04", "AU25")
DEMO = Path(fn.__file__).parent / "models" / "mobilenet_v1_0.25_synthetic.safetensors"
# OpenBLAS adds up in an order that depends on the size of the batch.
CPU = "generic" if _core.build_facts()["instruction_sets"][-1] == "blas" else None


@pytest.fixture(autouse=True)
def _portable_where_only_blas_is(monkeypatch: pytest.MonkeyPatch) -> None:
    if CPU is not None and "FACS_CPU" not in os.environ:
        monkeypatch.setenv("FACS_CPU", CPU)


@pytest.fixture(scope="module")
def faces() -> tuple[fn.Samples, fn.Samples]:
    """64 x 64 faces, so that a test takes seconds."""
    drawn = synthetic_faces(96, seed=3, subjects=10).select_labels(LABELS)
    small = np.stack([fn.resize_image(image, 64, 64) for image in drawn.images])
    samples = fn.Samples.from_arrays(small, drawn.labels, label_names=LABELS, subject=list(drawn.subjects))
    return samples.split_by_subject(test=0.3, seed=0)


def network(name: str = "mobilenet_v1") -> fn.Network:
    net = fn.Network(name, labels=LABELS, width=0.25, input_size=64, seed=1, threads=2)
    if name == "mobilenet_v1":
        net.load_weights(DEMO)
    return net


def fit(
    parts: tuple[fn.Samples, fn.Samples], stage: fn.Stage, name: str = "mobilenet_v1", **options: object
) -> tuple[bytes, fn.History, fn.Network]:
    net = network(name)
    history = fn.Trainer(net, stages=[stage], **{"batch_size": 20, "progress": False, **options}).fit(*parts)
    return b"".join(value.tobytes() for value in net.parameters().values()), history, net


def stage(cache: str, dtype: str | None = None, **options: object) -> fn.Stage:
    chosen = {"unfreeze": "block12", "augmentation": fn.Augmentation(), **options}
    return fn.Stage("fine", 3, 1e-3, cache=cache, cache_dtype=dtype, **chosen)


def scores(history: fn.History) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in history.rows]


# --- the same bits


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v1", {}),
        ("mobilenet_v1", {"augmentation": fn.Augmentation.none(), "statistics": "stored"}),
        ("mobilenet_v1", {"augmentation": fn.Augmentation(flip=1.0)}),
        ("mobilenet_v1", {"unfreeze": "head"}),
        ("mobilenet_v1", {"sampling": fn.Sampling(every=2, balanced=True)}),
        ("mobilenet_v1", {"unfreeze": "block1", "optimiser": fn.Optimiser("adamw", average_decay=0.9, clip_norm=0.1)}),
        ("mobilenet_v2", {"unfreeze": "block14", "schedule": fn.Schedule("plateau", warmup=1)}),
        ("densenet121", {"unfreeze": "denseblock4", "patience": 2}),
        ("vgg19", {"unfreeze": "block5"}),
    ],
)
def test_float32_gives_the_bits_of_no_cache(
    faces: tuple[fn.Samples, fn.Samples], name: str, options: dict[str, object]
) -> None:
    """Weights, losses and validation scores, with dropout, flips and batches that differ in size."""
    plain, without, _ = fit(faces, stage("none", **options), name)
    cached, history, _ = fit(faces, stage("boundary", "float32", **options), name)
    assert cached == plain
    assert scores(history) == scores(without) and history.best == without.best
    assert any("cached" in note for note in history.notes) and not any("cached" in note for note in without.notes)


def test_the_head_is_cached_by_itself(faces: tuple[fn.Samples, fn.Samples]) -> None:
    plain, _, _ = fit(faces, stage("none", unfreeze="head"))
    cached, history, _ = fit(faces, stage("auto", unfreeze="head"))
    assert cached == plain
    count = 2 * len(faces[0]) + len(faces[1])
    assert f"plain and mirrored activations: {byte_text(count * 256 * 4)} of float32 in memory" in history.notes[0]


def test_auto_leaves_fine_tuning_alone(faces: tuple[fn.Samples, fn.Samples]) -> None:
    assert fit(faces, stage("auto"))[1].notes == []


def test_bfloat16_stays_close(faces: tuple[fn.Samples, fn.Samples]) -> None:
    _, exact, net = fit(faces, stage("boundary", "float32"))
    bits, rounded, other = fit(faces, stage("boundary"))
    assert bits == fit(faces, stage("boundary", "bfloat16"))[0], "bfloat16 is the default"
    assert "of bfloat16 in memory" in rounded.notes[0]
    for a, b in zip(exact.rows, rounded.rows, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=2e-3) and a["loss"] != b["loss"]
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], abs=5e-3)
    x = faces[1].images
    np.testing.assert_allclose(other.predict(x), net.predict(x), atol=0.02)


def test_files_in_place_of_memory(faces: tuple[fn.Samples, fn.Samples], tmp_path: Path) -> None:
    want, _, _ = fit(faces, stage("boundary"))
    found, history, _ = fit(faces, stage("boundary"), cache_limit="1 kB", cache_folder=tmp_path)
    assert found == want
    assert history.notes[0].endswith(f"of bfloat16 in a temporary file in {tmp_path}")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        fit(faces, stage("boundary"), cache_limit=0, cache_folder=tmp_path / "nowhere")


def test_number_of_threads_and_workers_do_not_matter(faces: tuple[fn.Samples, fn.Samples]) -> None:
    results = []
    for threads in (1, 3):
        net = fn.Network("mobilenet_v1", labels=LABELS, width=0.25, input_size=64, seed=1, threads=threads)
        fn.Trainer(net, stages=[stage("boundary")], batch_size=20, progress=False, workers=threads).fit(*faces)
        results.append(b"".join(value.tobytes() for value in net.parameters().values()))
    assert results[0] == results[1]


# --- refusals


def test_refusals(faces: tuple[fn.Samples, fn.Samples]) -> None:
    with pytest.raises(ValueError, match=r"stage 'fine': cache='boundary' .* \(crop=0.85, rotation=10, bright"):
        stage("boundary", augmentation=fn.Augmentation.varied())
    with pytest.raises(ValueError, match=r"cache='boundary' .* \(crop=0.85"):
        fn.two_stage(unfreeze="block12", cache="boundary")
    with pytest.raises(ValueError, match="cache is 'disk', want 'auto', 'boundary' or 'none'"):
        stage("disk")
    with pytest.raises(ValueError, match="cache_dtype is 'float16'"):
        stage("boundary", "float16")
    for everything in ("all", "stem"):
        with pytest.raises(ValueError, match=f"unfreeze='{everything}' freezes none"):
            fit(faces, stage("boundary", unfreeze=everything))
    with pytest.raises(ValueError, match="cache_limit is 'plenty'"):
        fit(faces, stage("boundary"), cache_limit="plenty")


def test_options_of_two_stages() -> None:
    head, fine = fn.two_stage(
        unfreeze="block12", augmentation=fn.Augmentation(), cache="boundary", cache_dtype="float32"
    )
    assert (head.cache, head.cache_dtype, fine.cache, fine.cache_dtype) == ("auto", None, "boundary", "float32")


# --- parts


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "densenet121", "vgg19"])
def test_below_and_above_are_the_network(name: str, faces: tuple[fn.Samples, fn.Samples]) -> None:
    net, x = network(name), faces[0].images[:5]
    core = net._core
    for block in net.blocks:
        values = core.below(x, block, False)
        assert values.shape == (5, *core.boundary_shape(block)) and values.dtype == np.float32
        assert (core.above(values, block) == net.forward(x)).all()
        bits = core.below(x, block, True)
        rounded = (bits.astype(np.uint32) << 16).view(np.float32)
        assert (np.abs(rounded - values) <= np.abs(values) / 256).all()
        assert (core.above(bits, block) == core.above(rounded, block)).all()
    with pytest.raises(ValueError, match="no value of an earlier block enters it"):
        core.boundary_shape("input")
    with pytest.raises(ValueError, match="block 'nobody' is not in this network"):
        core.below(x, "nobody", False)
    with pytest.raises(ValueError, match="values: shape is"):
        core.above(values[:, :, :, 1:], net.blocks[-1])


def test_rows_of_a_step_are_checked() -> None:
    net = network()
    shape = net._core.boundary_shape("block12")
    row = (fn.Loss("bce")._specification(), fn.Optimiser().row(), fn.Schedule().row(1))
    core = _core.StageTrainer(net._core, "block12", True, False, 1e-3, *row, None, 4, 0)
    values, labels = np.zeros((3, *shape), np.uint16), np.zeros((4, 2), np.float32)
    core.step(values, labels, labels + 1, 0.0, [2, 0, 1, 1])
    for rows in ([0, 1, 2, 3], [-1, 0, 0, 0]):
        with pytest.raises(ValueError, match="rows: entry"):
            core.step(values, labels, labels, 0.0, rows)
    with pytest.raises(ValueError, match="target: shape is"):
        core.step(values, labels, labels, 0.0, [0, 1])
    with pytest.raises(ValueError, match="step: 5 images, want 1 to 4"):
        core.step(values, labels[[0] * 5], labels[[0] * 5], 0.0, [0] * 5)


def test_an_epoch_is_drawn_as_the_loader_draws_it(faces: tuple[fn.Samples, fn.Samples]) -> None:
    train = faces[0]
    loader = make_loader(train, network(), batch=20, seed=9, augmentation=fn.Augmentation(flip=0.3))
    for epoch in range(2):
        rows = None if epoch == 0 else np.arange(len(train)) % 7
        order, mirrored = _core.draw_epoch(9, epoch, len(train), 0.3, rows)
        loader.start(epoch, rows)
        batches = list(loader)
        assert (np.concatenate([index for *_, index in batches]) == order).all()
        parts = np.array_split(order, len(batches))
        assert [len(part) for part in parts] == [len(index) for *_, index in batches]
        sides = np.array_split(mirrored, len(batches))
        for (pixels, _, _, index), side in zip(batches, sides, strict=True):
            for image, i, is_mirrored in zip(pixels, index, side, strict=True):
                assert (image == (train.images[i][:, ::-1] if is_mirrored else train.images[i])).all()
        copies = mirrored[order == 3]
        assert len(copies) == 1 or 0 < copies.sum() < len(copies), "copies are mirrored each on its own"


def test_byte_counts() -> None:
    for text, count in (("4 GB", 4 * 10**9), ("1.5mb", 1_500_000), ("2 GiB", 2 << 30), ("7", 7), ("0 k", 0), (12, 12)):
        assert byte_count(text) == count
    for bad in ("", "GB", "-1", "4 XB", "3 ib", -1, True, 1.5):
        with pytest.raises(ValueError, match="want a number of bytes or text such as '4 GB'"):
            byte_count(bad)  # type: ignore[arg-type]
    assert [byte_text(n) for n in (12, 3200, 4_560_000, 10**10)] == ["12 bytes", "3.2 kB", "4.56 MB", "10 GB"]


def test_a_cache_lies_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Cache(10, (2, 3), dtype="float32", limit=240, folder=tmp_path)
    assert (small.place, small.is_mapped, small.bytes, small.values.dtype) == ("in memory", False, 240, np.float32)
    mapped = Cache(10, (2, 3), dtype="bfloat16", limit=119, folder=tmp_path)
    assert mapped.is_mapped and mapped.place == f"in a temporary file in {tmp_path}" and not list(tmp_path.iterdir())
    mapped.values[:] = np.arange(60, dtype=np.uint16).reshape(10, 2, 3)
    mapped.expect(np.array([9, 0, 3]))
    assert (mapped.values.ravel() == np.arange(60)).all()
    monkeypatch.setattr(_core, "available_memory", lambda: 300)
    assert Cache(10, (2, 3), dtype="float32", folder=tmp_path).is_mapped
    assert not Cache(10, (2, 3), dtype="bfloat16", folder=tmp_path).is_mapped
    with pytest.raises(OSError, match=r"cache: .* are more than the .* free in .*cache_dtype='bfloat16'"):
        Cache(10**9, (1000, 1000), dtype="float32", limit=0, folder=tmp_path)
