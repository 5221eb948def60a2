"""Networks: weights, running, gradients, refusals."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core

RUNGS = ["ref", "generic", "blas", "avx2", "avx512"]


def small(**options: object) -> fn.Network:
    values = {"labels": ["AU01", "AU02", "AU04"], "width": 0.25, "input_size": 64, "seed": 1, **options}
    return fn.Network("mobilenet_v1", **values)


def photos(folder: Path, names: np.ndarray) -> np.ndarray:
    from PIL import Image

    pictures = [
        Image.open(folder / "photos" / name).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        for name in names
    ]
    return np.stack([np.asarray(p) for p in pictures])


@pytest.fixture
def shared() -> Path:
    root = Path(os.environ.get("FACSNET_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
    if not (root / "weights").is_dir():
        pytest.skip(f"no test data at {root}: set FACSNET_DATA")
    return root


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(
    ("name", "width", "labels"),
    [("mobilenet_v1_0.25_224", 0.25, 1001), ("mobilenet_v1_1.0_224", 1.0, 1001), ("mobilenet_v2_1.0_224", 1.0, 1000)],
)
def test_public_checkpoints(
    shared: Path, name: str, width: float, labels: int, rung: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rung == "ref" and (width == 1.0 and threads > 1):
        pytest.skip("the reference kernels have one thread and take seconds")
    monkeypatch.setenv("FACS_CPU", rung)
    try:
        network = fn.Network(name[:12], labels=labels, width=width, head="classifier", threads=threads)
    except ValueError as problem:
        pytest.skip(str(problem))
    report = network.load_weights(shared / "weights" / f"{name}.safetensors", strict=True)
    assert not report.missing and not report.unused
    expected = np.load(shared / "weights" / f"{name}.expected.npz")
    x = photos(shared, expected["images"])
    for found, wanted in ((network.forward(x), expected["logits"]), (network.features(x), expected["features"])):
        assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("name", "features", "backbone", "statistics", "whole", "macs"),
    [
        ("mobilenet_v1", 1024, 3_206_976, 21_888, 4_231_976, 0.5687),
        ("mobilenet_v2", 1280, 2_223_872, 34_112, 3_504_872, 0.3008),
        ("densenet121", 1024, 6_953_856, 83_648, 7_978_856, 2.834),
        ("densenet201", 1920, 18_092_928, 229_056, 20_013_928, 4.291),
        ("vgg19", 512, 20_024_384, 0, 143_667_240, 19.63),
    ],
)
def test_counts_equal_the_published_ones(
    name: str, features: int, backbone: int, statistics: int, whole: int, macs: float
) -> None:
    network = fn.Network(name, labels=1000, head="classifier")
    assert network.parameter_count() == whole
    assert network.macs() / 1e9 == pytest.approx(macs, rel=2e-4)
    head = fn.Network(name, labels=8)
    assert head.parameter_count() == backbone + 2 * features + 8 * features + 8
    running = sum(value.size for key, value in head.parameters().items() if "running" in key)
    assert running == statistics + 2 * features


def test_threads_give_equal_bytes() -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    y = np.ones((9, 3), np.float32)
    results = []
    for threads in (1, 2, 7):
        network = small(threads=threads, dropout=0.0)
        logits = network.forward(x, training=True)
        network.backward(fn.losses.bce(logits, y)[1])
        results.append([network.forward(x), logits, *network.gradients().values()])
    for other in results[1:]:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(results[0], other, strict=True))


def test_pixels_equal_scaled_numbers() -> None:
    network = small()
    x = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    scaled = (x / 127.5 - 1).astype(np.float32)
    np.testing.assert_allclose(network.forward(x), network.forward(scaled), atol=2e-5)


def test_head_of_features_equals_forward() -> None:
    network = small()
    x = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(network.head(network.features(x)), network.forward(x), atol=1e-5)


def test_backward_after_inference_is_the_gradient_of_inference() -> None:
    network = small(dropout=0.5)
    x = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    network.forward(x)
    network.backward(weights)
    gradient = network.gradients()["head.classifier.weight"].copy()
    own = network.parameters()["head.classifier.weight"]
    step = 1e-2
    for index in ((0, 0, 3, 1), (0, 0, 100, 2)):
        value = own[index]
        sums = []
        for change in (step, -step):
            own[index] = value + change
            network.touch()
            sums.append(float((network.forward(x) * weights).sum()))
        own[index] = value
        network.touch()
        assert (sums[0] - sums[1]) / (2 * step) == pytest.approx(gradient[index], rel=2e-3, abs=1e-4)


def test_weights_round_trip(tmp_path: Path) -> None:
    network, other = small(), small(seed=2)
    path = tmp_path / "weights.safetensors"
    network.save_weights(path)
    report = other.load_weights(path, strict=True)
    assert not report.missing
    x = np.zeros((1, 64, 64, 3), np.uint8)
    assert network.forward(x).tobytes() == other.forward(x).tobytes()
    other.save_weights(tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_other_labels_keep_the_head(tmp_path: Path) -> None:
    small().save_weights(tmp_path / "w.safetensors")
    other = small(labels=5)
    before = other.parameters()["head.classifier.weight"].copy()
    report = other.load_weights(tmp_path / "w.safetensors")
    assert "head.classifier.weight" in report.missing and "head.classifier.weight" in report.unused
    assert (other.parameters()["head.classifier.weight"] == before).all()
    with pytest.raises(fn.FormatError, match="strict"):
        other.load_weights(tmp_path / "w.safetensors", strict=True)


def test_settings_come_from_the_file(tmp_path: Path) -> None:
    source = small(padding="symmetric", epsilon=1e-5, activation="relu")
    source.save_weights(tmp_path / "w.safetensors")
    other = small()
    report = other.load_weights(tmp_path / "w.safetensors")
    assert set(report.settings) == {"padding = symmetric", "epsilon = 1e-05", "activation = relu"}
    x = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert source.forward(x).tobytes() == other.forward(x).tobytes()


def test_another_width_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    small(width=0.5).save_weights(tmp_path / "w.safetensors")
    network = small()
    before = {k: v.copy() for k, v in network.parameters().items()}
    with pytest.raises(fn.FormatError, match=r"w\.safetensors.*shape"):
        network.load_weights(tmp_path / "w.safetensors")
    assert all((network.parameters()[k] == v).all() for k, v in before.items())


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    source = small()
    source.parameters()["mobilenet_v1.layer.3.convolution.weight"][0, 0, 0, 0] = np.nan
    source.save_weights(tmp_path / "w.safetensors")
    with pytest.raises(fn.FormatError, match=r"layer\.3.*not finite"):
        small().load_weights(tmp_path / "w.safetensors")


def test_views_outlive_the_network() -> None:
    parameters = small().parameters()
    assert all(np.isfinite(v).all() for v in parameters.values())
    with pytest.raises(ValueError, match="read-only"):
        small().gradients()["head.classifier.weight"][...] = 0


def test_summary_and_memory() -> None:
    network = small()
    assert "head.classifier" in network.summary()
    whole = network.plan_bytes(batch=8, training=True)
    part = network.plan_bytes(batch=8, training=True, unfreeze="block12")
    head = network.plan_bytes(batch=8, training=True, unfreeze="head")
    assert head < part < whole
    with pytest.raises(ValueError, match="block99"):
        network.plan_bytes(batch=8, training=True, unfreeze="block99")


def test_concurrent_calls_agree() -> None:
    network = small(threads=1)
    x = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    wanted = network.forward(x).tobytes()
    wrong: list[int] = []

    def work() -> None:
        wrong.extend(1 for _ in range(20) if network.forward(x).tobytes() != wanted)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forked_child_can_run() -> None:
    network = small(threads=2)
    x = np.zeros((4, 64, 64, 3), np.uint8)
    wanted = network.forward(x).tobytes()
    child = os.fork()
    if child == 0:
        os._exit(0 if network.forward(x).tobytes() == wanted else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
def test_copies_are_independent(duplicate: Callable[[fn.Network], fn.Network]) -> None:
    network = small(threads=2, padding="symmetric")
    network.parameters()["head.classifier.bias"][0] = np.nan  # also what is broken is copied
    x = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    wanted = network.forward(x).tobytes()
    other = duplicate(network)
    assert (other.config, other.threads) == (network.config, 2)
    assert other.forward(x).tobytes() == wanted
    other.set_parameters({name: np.zeros(v.shape) for name, v in other.parameters().items()})
    assert network.forward(x).tobytes() == wanted


def test_pixels_are_known_by_their_dtype_alone() -> None:
    network = small()
    x = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    wanted = network.forward(x)
    assert (network.forward(list(x)) == wanted).all()
    assert (network.forward(np.asfortranarray(x)) == wanted).all()
    scaled = (x / 127.5 - 1).astype(np.float32)
    assert (network.forward(list(scaled)) == network.forward(scaled)).all()
    for dtype in (np.int8, np.int64, np.uint16, bool):
        with pytest.raises(TypeError, match=f"x: dtype is {np.dtype(dtype)}, want uint8"):
            network.forward(x.astype(dtype))
    with pytest.raises(TypeError, match="x: dtype is int64"):
        network.features(x.tolist())


def test_parameters_are_set_all_or_none() -> None:
    network = small()
    name = "head.classifier.bias"
    for bad, message in (
        (np.full(3, np.nan), "not finite"),
        (np.array([1, 2, 1e300]), "not finite"),
        (["a", "b", "c"], "cast"),
        ([1, [2, 3]], "inhomogeneous"),
        (np.zeros(3, complex), "cast"),
    ):
        before = {k: v.copy() for k, v in network.parameters().items()}
        good = np.ones_like(before["head.normalization.bias"])
        with pytest.raises(ValueError, match=f"head.classifier.bias.*{message}"):
            network.set_parameters({"head.normalization.bias": good, name: bad})
        assert all((network.parameters()[k] == v).all() for k, v in before.items())
    network.set_parameters({name: [1, 2, 3]})
    assert network.parameters()[name].tolist() == [1, 2, 3]


def test_backward_refuses_images_that_changed() -> None:
    network = small()
    x = np.random.default_rng(0).normal(size=(3, 64, 64, 3)).astype(np.float32)
    dlogits = np.ones((3, 3), np.float32)
    network.forward(x)
    kept = x[2, 63, 63, 2]
    x[2, 63, 63, 2] += 1
    with pytest.raises(ValueError, match="x was written to since forward"):
        network.backward(dlogits)
    x[2, 63, 63, 2] = kept
    network.backward(dlogits)
    first = {name: g.copy() for name, g in network.gradients().items()}
    network.backward(dlogits)
    assert all((g == first[name]).all() for name, g in network.gradients().items())


def test_a_training_forward_serves_for_one_backward() -> None:
    network = small()
    network.forward(IMAGE, training=True)
    network.backward(np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="each serves for one backward"):
        network.backward(np.ones((2, 3), np.float32))


def test_numpy_integers_are_numbers() -> None:
    assert (
        small(labels=np.int64(3), input_size=np.int32(64), threads=np.int64(1)).label_names
        == small(labels=3).label_names
    )
    assert small(labels=np.array(["a", "b"])).label_names == ("a", "b")


def test_what_there_is_no_memory_for_is_refused() -> None:
    network = small()
    with pytest.raises(MemoryError, match="memory can be"):
        network.plan_bytes(batch=10**15, training=True)
    assert network.plan_bytes(batch=1) == network.plan_bytes(batch=10**6)
    image = network.plan_bytes(batch=2, training=True) - network.plan_bytes(batch=1, training=True)
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with pytest.raises(MemoryError, match=r"plan's arena: cannot allocate .* MiB are available"):
        _core.StageTrainer(
            network=network._core,
            block=network.blocks[0],
            from_boundary=False,
            stored_statistics=False,
            rate=1e-3,
            loss=("bce", 0.0, 1e-7, False, None, None, (0, 0, 0, 0, 0, False)),
            optimiser=fn.Optimiser().row(),
            schedule=fn.Schedule().row(1),
            block_rates=None,
            batch=4 * physical // image,
            seed=0,
        )


IMAGE = np.zeros((2, 64, 64, 3), np.uint8)


def spoiled(shape: tuple[int, ...], index: tuple[int, ...]) -> np.ndarray:
    x = np.zeros(shape, np.float32)
    x[index] = np.inf
    return x


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fn.Network("resnet", labels=3), ValueError, "resnet.*mobilenet_v1"),
        (lambda: small(labels=0), ValueError, "labels is 0"),
        (lambda: small(labels=[]), ValueError, "labels is empty"),
        (lambda: small(labels=["a", "a"]), ValueError, "twice"),
        (lambda: small(labels="AU01"), ValueError, "AU01"),
        (lambda: small(width=-1), ValueError, "width is -1"),
        (lambda: small(width=float("nan")), ValueError, "width"),
        (lambda: small(input_size=0), ValueError, "input_size is 0"),
        (lambda: small(padding="valid"), ValueError, "valid"),
        (lambda: small(activation="gelu"), ValueError, "gelu"),
        (lambda: small(head="top"), ValueError, "top"),
        (lambda: small(dropout=1.0), ValueError, "dropout is 1"),
        (lambda: small(epsilon=0), ValueError, "epsilon is 0"),
        (lambda: small(threads=0), ValueError, "threads is 0"),
        (lambda: small(threads=2**40), ValueError, "threads is 1099511627776"),
        (lambda: small(threads=1.5), ValueError, "threads is 1.5"),
        (lambda: small(labels=None), ValueError, "labels is None"),
        (lambda: small(labels=10**9), ValueError, "labels is 1000000000"),
        (lambda: small(input_size=2**40), ValueError, "input_size is 1099511627776"),
        (lambda: fn.Preprocessing(std=(0.5, 0.0, 0.5)), ValueError, r"std is \(0.5, 0.0, 0.5\)"),
        (lambda: fn.Preprocessing(mean=(0.5, 0.5)), ValueError, "mean is"),
        (lambda: small().plan_bytes(batch=0), ValueError, "batch is 0"),
        (lambda: small().plan_bytes(batch=-1, training=True), ValueError, "batch is -1"),
        (lambda: small(seed=-1), ValueError, "seed is -1"),
        (lambda: small().forward(IMAGE[0]), ValueError, r"x: shape is \(64, 64, 3\)"),
        (lambda: small().forward(IMAGE[:, :32]), ValueError, r"want \(any, 64, 64, 3\)"),
        (lambda: small().forward(IMAGE[:0]), ValueError, "no images"),
        (lambda: small().forward(IMAGE.astype(complex)), TypeError, "complex"),
        (lambda: small().forward("face.png"), (TypeError, ValueError), "x"),
        (
            lambda: small().forward(np.full(IMAGE.shape, np.nan, np.float32)),
            ValueError,
            r"x: entry \(0, 0, 0, 0\) is NaN",
        ),
        (
            lambda: small().forward(spoiled((2, 64, 64, 3), (1, 2, 63, 1))),
            ValueError,
            r"x: entry \(1, 2, 63, 1\) is inf",
        ),
        (lambda: small().forward(spoiled((9, 64, 64, 3), (8, 63, 63, 2))), ValueError, r"\(8, 63, 63, 2\) is inf"),
        (lambda: small().features(spoiled((9, 64, 64, 3), (8, 0, 0, 0))), ValueError, r"\(8, 0, 0, 0\) is inf"),
        (lambda: small().forward(spoiled((2, 64, 64, 3), (1, 2, 3, 0)), training=True), ValueError, "is inf"),
        (lambda: small().head(np.zeros((2, 5), np.float32)), ValueError, "features"),
        (lambda: small().head(spoiled((2, 256), (1, 7))), ValueError, r"features: entry \(1, 7\) is inf"),
        (lambda: small().head(np.zeros((0, 256), np.float32)), ValueError, "features: there are no rows"),
        (lambda: small().backward(spoiled((2, 3), (1, 2))), ValueError, r"dlogits: entry \(1, 2\) is inf"),
        (lambda: small().backward(np.zeros((2, 3), np.float32)), ValueError, "forward"),
        (lambda: small().set_parameters({"nobody": 1}), ValueError, "nobody"),
        (lambda: small().set_parameters({"head.classifier.bias": np.zeros(4)}), ValueError, "want"),
        (lambda: small().load_weights("/nowhere/w.safetensors"), FileNotFoundError, "nowhere"),
    ],
)
def test_refusals(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]


def test_backward_of_other_images_is_refused() -> None:
    network = small()
    network.forward(IMAGE)
    with pytest.raises(ValueError, match=r"dlogits: shape is \(5, 3\), want \(2, 3\)"):
        network.backward(np.zeros((5, 3), np.float32))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_backward_knows_the_images_of_many_lanes(threads: int) -> None:
    network = small(threads=threads)
    images = np.random.default_rng(3).random((9, 64, 64, 3), np.float32)
    network.forward(images)
    network.backward(np.ones((9, 3), np.float32))
    network.forward(images)
    images[[2, 5]] = images[[5, 2]]
    with pytest.raises(ValueError, match="x was written to"):
        network.backward(np.ones((9, 3), np.float32))


def test_refused_images_leave_those_before_to_backward() -> None:
    network = small()
    network.forward(IMAGE)
    network.backward(np.ones((len(IMAGE), 3), np.float32))
    wanted = {name: gradient.copy() for name, gradient in network.gradients().items()}
    network.forward(IMAGE)
    with pytest.raises(ValueError, match="is inf"):
        network.forward(spoiled((2, 64, 64, 3), (1, 2, 63, 1)))
    network.backward(np.ones((len(IMAGE), 3), np.float32))
    for name, gradient in network.gradients().items():
        np.testing.assert_array_equal(gradient, wanted[name])
