"""Networks: weights, running, gradients, refusals."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn

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
@pytest.mark.parametrize(("name", "width"), [("mobilenet_v1_0.25_224", 0.25), ("mobilenet_v1_1.0_224", 1.0)])
def test_public_checkpoints(
    shared: Path, name: str, width: float, rung: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rung == "ref" and (width == 1.0 and threads > 1):
        pytest.skip("the reference kernels have one thread and take seconds")
    monkeypatch.setenv("FACS_CPU", rung)
    try:
        network = fn.Network("mobilenet_v1", labels=1001, width=width, head="classifier", threads=threads)
    except ValueError as problem:
        pytest.skip(str(problem))
    report = network.load_weights(shared / "weights" / f"{name}.safetensors", strict=True)
    assert not report.missing and not report.unused
    expected = np.load(shared / "weights" / f"{name}.expected.npz")
    x = photos(shared, expected["images"])
    for found, wanted in ((network.forward(x), expected["logits"]), (network.features(x), expected["features"])):
        assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_counts_equal_the_published_ones() -> None:
    network = fn.Network("mobilenet_v1", labels=1000, head="classifier")
    assert network.parameter_count() == 4_231_976
    assert network.macs() == 568_740_352
    head = fn.Network("mobilenet_v1", labels=8)
    assert head.parameter_count() == 3_206_976 + 2 * 1024 + 8 * 1024 + 8


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


IMAGE = np.zeros((2, 64, 64, 3), np.uint8)


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
        (lambda: small(seed=-1), ValueError, "seed is -1"),
        (lambda: small().forward(IMAGE[0]), ValueError, r"x: shape is \(64, 64, 3\)"),
        (lambda: small().forward(IMAGE[:, :32]), ValueError, r"want \(any, 64, 64, 3\)"),
        (lambda: small().forward(IMAGE[:0]), ValueError, "no images"),
        (lambda: small().forward(IMAGE.astype(complex)), TypeError, "complex"),
        (lambda: small().forward("face.png"), (TypeError, ValueError), "x"),
        (lambda: small().forward(np.full(IMAGE.shape, np.nan, np.float32)), ValueError, "NaN"),
        (lambda: small().head(np.zeros((2, 5), np.float32)), ValueError, "features"),
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
