"""Networks that keep activations as bfloat16: close to float32, half the memory, and the same everywhere it is asked for."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import facsnet as fn
from facsnet import _core
from facsnet.benchmark import training_step
from facsnet.cli import main
from facsnet.datasets import synthetic_faces

LABELS = ("AU04", "AU25")
DEMO = Path(fn.__file__).parent / "models" / "mobilenet_v1_0.25_synthetic.safetensors"
RUNGS = ["ref", "generic", "blas", "avx2", "avx512", "avx512_bf16", "amx"]
NAMES = ["mobilenet_v1", "mobilenet_v2", "densenet121", "vgg19_bn"]
SMALL = {"labels": LABELS, "width": 0.25, "input_size": 64, "seed": 1}


def network(dtype: str = "bfloat16", name: str = "mobilenet_v1", **options: object) -> fn.Network:
    """A small one; MobileNet-v1 has the weights of the package."""
    net = fn.Network(name, **{**SMALL, "threads": 2, "dtype": dtype, **options})
    if name == "mobilenet_v1":
        net.load_weights(DEMO)
    return net


def settle(net: fn.Network) -> None:
    """Running statistics of random weights become those of some batches, so that activations keep their scale."""
    rng = np.random.default_rng(4)
    for _ in range(40):
        net.forward(rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8), training=True)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    u, v = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(u @ v / np.sqrt((u @ u) * (v @ v)))


def bits(net: fn.Network) -> bytes:
    return b"".join(value.tobytes() for value in net.parameters().values())


@pytest.fixture(scope="module")
def faces() -> tuple[fn.Samples, fn.Samples]:
    """64 x 64 faces, so that a test takes seconds."""
    drawn = synthetic_faces(96, seed=3, subjects=10).select_labels(LABELS)
    small = np.stack([fn.resize_image(image, 64, 64) for image in drawn.images])
    samples = fn.Samples.from_arrays(small, drawn.labels, label_names=LABELS, subject=list(drawn.subjects))
    return samples.split_by_subject(test=0.3, seed=0)


@pytest.fixture
def images() -> np.ndarray:
    drawn = synthetic_faces(8, seed=9, subjects=4).images
    return np.stack([fn.resize_image(image, 64, 64) for image in drawn])


@pytest.fixture(params=RUNGS)
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if _core.kernels_in_use(request.param) is None:
        pytest.skip(f"this machine has no {request.param}")
    monkeypatch.setenv("FACS_CPU", request.param)
    return str(request.param)


# --- the argument


@pytest.mark.parametrize("dtype", ["float16", "BFLOAT16", "", None, 16])
def test_unknown_dtypes(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dtype is .*, want 'float32' or 'bfloat16'"):
        network(dtype)
    with pytest.raises(ValueError, match=r"dtype is .*, want 'float32' or 'bfloat16'"):
        fn.AUClassifier.load(tmp_path / "none.safetensors", dtype=dtype)


def test_copies_keep_the_dtype(images: np.ndarray) -> None:
    net = network()
    assert net.dtype == "bfloat16" and network("float32").dtype == "float32"
    want = net.forward(images)
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.dtype == "bfloat16"
        assert (other.forward(images) == want).all()
    assert fn.Network.from_config(net.config, dtype="bfloat16").dtype == "bfloat16"
    assert fn.Network.from_config(net.config).dtype == "float32", "it is not part of a config"


def test_weights_are_the_same_files(tmp_path: Path, images: np.ndarray) -> None:
    net = network()
    net.save_weights(tmp_path / "net.safetensors")
    exact, narrow = (fn.load_weights(tmp_path / "net.safetensors", input_size=64, dtype=d) for d in fn.network.DTYPES)
    assert (exact.dtype, narrow.dtype) == ("float32", "bfloat16")
    assert bits(exact) == bits(narrow) == bits(net)
    assert (narrow.forward(images) == net.forward(images)).all()
    network("float32").save_weights(tmp_path / "float32.safetensors")
    assert (tmp_path / "float32.safetensors").read_bytes() == (tmp_path / "net.safetensors").read_bytes()


# --- numbers


@pytest.mark.parametrize("name", [*NAMES, "vgg19"])
def test_logits_are_close_to_float32(name: str, images: np.ndarray) -> None:
    """As close as float32 with weights that are off by up to 1 part in 256.

    Deep networks of random weights enlarge what is rounded: that of MobileNet-v2 is at a cosine of 0.93 by either.
    """
    exact = network("float32", name)
    if name != "mobilenet_v1":
        settle(exact)
    narrow, moved = network(name=name), network("float32", name)
    narrow.set_parameters(exact.parameters())
    rng = np.random.default_rng(0)
    moved.set_parameters({k: v * (1 + rng.uniform(-1 / 256, 1 / 256, v.shape)) for k, v in exact.parameters().items()})
    for run in (fn.Network.forward, fn.Network.features):
        a, b, c = (run(net, images) for net in (exact, narrow, moved))
        assert b.dtype == np.float32 and (a != b).any()
        assert 1 - cosine(a, b) <= max(1e-3, 2 * (1 - cosine(a, c)))


@pytest.mark.parametrize("name", [*NAMES, "vgg19"])
def test_initial_weights(name: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    exact, narrow = (fn.Network(name, **SMALL, dtype=dtype) for dtype in fn.network.DTYPES)
    assert cosine(exact.forward(x), narrow.forward(x)) >= 0.999


@pytest.mark.parametrize(
    ("name", "least"),
    [("mobilenet_v1_1.0_224", 0.999), ("mobilenet_v1_0.25_224", 0.995), ("mobilenet_v2_1.0_224", 0.999)],
)
def test_public_weights(name: str, least: float, shared_data: Path) -> None:
    """Logits and features of photographs."""
    image = pytest.importorskip("PIL.Image")
    file = shared_data / "weights" / f"{name}.safetensors"
    if not file.exists():
        pytest.skip(f"there is no {file}")
    names = np.load(file.with_name(f"{name}.expected.npz"))["images"]
    x = [np.asarray(image.open(shared_data / "photos" / photo).convert("RGB").resize((224, 224))) for photo in names]
    exact, narrow = (fn.load_weights(file, dtype=dtype) for dtype in fn.network.DTYPES)
    for run in (fn.Network.forward, fn.Network.features):
        assert cosine(run(exact, np.stack(x)), run(narrow, np.stack(x))) >= least


def test_every_rung_agrees_with_float32(rung: str, images: np.ndarray) -> None:
    """Logits, and gradients with stored and with batch statistics, whose noise is larger."""
    exact, narrow = network("float32", dropout=0.0), network(dropout=0.0)
    assert _core.kernels_in_use(rung) == (exact.instruction_set, narrow.instruction_set)
    assert cosine(exact.forward(images), narrow.forward(images)) >= 0.999
    for training, least, least_of_median in ((False, 0.97, 0.96), (True, 0.7, 0.8)):
        for net in (exact, narrow):
            logits = net.forward(images, training=training)
            net.backward(fn.losses.bce(logits, np.eye(8, 2, dtype=np.float32))[1])
        a, b = exact.gradients(), narrow.gradients()
        names = [name for name, value in a.items() if np.abs(value).max() > 1e-6]
        assert cosine(*(np.concatenate([g[name].ravel() for name in names]) for g in (a, b))) >= least
        assert np.median([cosine(a[name], b[name]) for name in names]) >= least_of_median


def test_rungs_agree_with_each_other(images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = {}
    for name in RUNGS:
        if _core.kernels_in_use(name) is not None:
            monkeypatch.setenv("FACS_CPU", name)
            logits[name] = network().forward(images)
    for name, value in logits.items():
        assert cosine(value, logits["generic"]) >= 0.9995, name


def test_about_names_the_kernels(rung: str) -> None:
    facts = fn.about()
    assert facts["instruction set"].startswith(f"{network('float32').instruction_set} (of ref, generic")
    assert facts["bfloat16"] == network().instruction_set
    assert facts["bfloat16"] == (rung if rung not in ("ref", "blas") else "generic")


def test_about_names_the_best_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FACS_CPU", raising=False)
    assert fn.about()["bfloat16"] == network().instruction_set
    best = fn.about()["instruction set"].split()[0]
    assert best == network("float32").instruction_set == _core.build_facts()["instruction_sets"][-1]
    monkeypatch.setenv("FACS_CPU", "zzz")
    assert fn.about()["bfloat16"].startswith("none: FACS_CPU is 'zzz'")
    with pytest.raises(ValueError, match="FACS_CPU is 'zzz'"):
        network()


@pytest.mark.parametrize("name", NAMES)
def test_number_of_threads_does_not_matter(name: str) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (7, 64, 64, 3), dtype=np.uint8), np.eye(7, 2, dtype=np.float32)
    found = []
    for threads in (1, 2, 7):
        net = network(name=name, threads=threads)
        logits = net.forward(x)
        step = training_step(net, x, y, rate=1e-3)
        for _ in range(2):
            step()
        found.append((logits.tobytes(), net.forward(x).tobytes(), bits(net)))
    assert found[0] == found[1] == found[2]


def test_vgg_without_its_classifier() -> None:
    """The dropout before the classifier's logits is not computed in bfloat16; the action-unit head is."""
    x = np.zeros((2, 64, 64, 3), np.uint8)
    net = network(name="vgg19", head="classifier")
    for call in (
        net.forward,
        lambda x: net.forward(x, training=True),
        lambda x: net.plan_bytes(batch=2, training=True),
    ):
        with pytest.raises(NotImplementedError, match="dropout does not compute in bfloat16"):
            call(x)
    assert np.isfinite(network(name="vgg19").forward(x)).all()


# --- memory


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "densenet121", "densenet201", "vgg19", "vgg19_bn"])
def test_memory_of_training(name: str) -> None:
    exact, narrow = (
        fn.Network(name, labels=16, dtype=dtype, threads=2).plan_bytes(batch=64, training=True)
        for dtype in fn.network.DTYPES
    )
    assert narrow < 0.6 * exact


# --- training


def fit(parts: tuple[fn.Samples, fn.Samples], stages: list[fn.Stage], net: fn.Network) -> fn.History:
    return fn.Trainer(net, stages=stages, batch_size=20, progress=False).fit(*parts)


def test_training_reaches_the_loss_of_float32(faces: tuple[fn.Samples, fn.Samples]) -> None:
    stages = [
        fn.Stage("head", 3, 1e-2, augmentation=fn.Augmentation()),
        fn.Stage("fine", 6, 2e-3, "all", augmentation=fn.Augmentation()),
    ]
    exact, narrow = (fit(faces, stages, network(dtype)).rows for dtype in fn.network.DTYPES)
    assert narrow[-1]["loss"] < 0.8 * narrow[0]["loss"], "it learns"
    # losses of one epoch move by 0.04 with the last bits of a sum, those of new images by 0.07
    for name, apart in ("loss", 0.03), ("valid_loss", 0.1):
        late_narrow, late_exact = (sum(row[name] for row in rows[-3:]) / 3 for rows in (narrow, exact))
        assert late_narrow == pytest.approx(late_exact, abs=apart)
    assert [row["loss"] for row in narrow] != [row["loss"] for row in exact]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenet_v1", {"unfreeze": "block12"}),
        ("mobilenet_v1", {"unfreeze": "block12", "statistics": "stored", "augmentation": fn.Augmentation.none()}),
        ("mobilenet_v1", {"unfreeze": "block1"}),
        ("mobilenet_v2", {"unfreeze": "block14"}),
        ("densenet121", {"unfreeze": "denseblock4"}),
        ("vgg19_bn", {"unfreeze": "block5"}),
    ],
)
def test_the_cache_at_the_boundary_gives_the_bits_of_no_cache(
    faces: tuple[fn.Samples, fn.Samples], name: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of bfloat16 rounds nothing that bfloat16 has not rounded already."""
    if _core.kernels_in_use(None) == ("blas", "generic"):
        monkeypatch.setenv("FACS_CPU", "generic")  # OpenBLAS adds up in an order that depends on the size of the batch
    found = []
    for cache in ("none", "boundary"):
        net = network(name=name)
        settings = {"augmentation": fn.Augmentation(), "cache": cache, "cache_dtype": "bfloat16", **options}
        history = fit(faces, [fn.Stage("fine", 2, 1e-3, **settings)], net)
        assert any("of bfloat16 in memory" in note for note in history.notes) == (cache == "boundary")
        scores = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in history.rows]
        found.append((scores, bits(net)))
    assert found[0] == found[1]


@pytest.mark.parametrize("name", NAMES)
def test_below_and_above_are_the_network(name: str, images: np.ndarray) -> None:
    net = network(name=name)
    want = net.forward(images)
    for block in net.blocks[:-1]:
        halves = net._core.below(images, block, True)
        assert (halves.astype(np.uint32) << 16).view(np.float32).tobytes() == net._core.below(
            images, block, False
        ).tobytes()
        assert (net._core.above(halves, block) == want).all(), block


# --- wherever it can be asked for


def test_classifier(faces: tuple[fn.Samples, fn.Samples], tmp_path: Path) -> None:
    """The dtype is of the process: the file of the model knows nothing of it."""
    train, test = faces
    detector = fn.AUClassifier(
        weights="demo", input_size=64, head_epochs=1, finetune_epochs=1, batch_size=20, dtype="bfloat16", progress=False
    ).fit(train)
    assert detector.dtype == detector.network.dtype == "bfloat16"
    detector.save(tmp_path / "model.safetensors")
    again = fn.AUClassifier.load(tmp_path / "model.safetensors", dtype="bfloat16")
    exact = fn.AUClassifier.load(tmp_path / "model.safetensors")
    assert (again.dtype, exact.dtype) == (again.network.dtype, exact.network.dtype) == ("bfloat16", "float32")
    for i, other in enumerate((again, exact)):
        other.save(tmp_path / f"{i}.safetensors")
        assert (tmp_path / f"{i}.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    want = detector.predict_proba(test.images)
    assert (again.predict_proba(test.images) == want).all()
    assert (exact.predict_proba(test.images) != want).any()
    np.testing.assert_allclose(exact.predict_proba(test.images), want, atol=0.02)
    with pytest.raises(ValueError, match="dtype is 'half'"):
        fn.AUClassifier(weights="demo", dtype="half", progress=False).fit(train)


def test_benchmark() -> None:
    net = fn.Network("mobilenet_v1", **SMALL)
    before = bits(net)
    found = fn.benchmark(net, batch=4, seconds=0.01, dtype="bfloat16")
    assert {m.dtype for m in found} == {"bfloat16"} and {m.dtype for m in fn.benchmark(net, batch=4, seconds=0.01)} == {
        "float32"
    }
    narrow = fn.Network("mobilenet_v1", **SMALL, dtype="bfloat16")
    assert found[2].memory == narrow.plan_bytes(batch=4, training=True) < net.plan_bytes(batch=4, training=True)
    assert fn.benchmark(narrow, batch=1, seconds=0.01, training=False)[0].dtype == "bfloat16"
    assert bits(net) == before and net.dtype == "float32"
    with pytest.raises(ValueError, match="dtype is 'half'"):
        fn.benchmark(net, batch=4, seconds=0.01, dtype="half")


def test_commands(face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = str(face_folder / "labels.csv"), tmp_path / "run"
    small = [
        "--weights",
        "demo",
        "--input-size",
        "64",
        "--head-epochs",
        "1",
        "--finetune-epochs",
        "1",
        "--batch-size",
        "20",
    ]
    assert main(["train", table, "--out", str(out), *small, "--dtype", "bfloat16"]) == 0
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    scores = {}
    for dtype in fn.network.DTYPES:
        file = tmp_path / f"{dtype}.csv"
        assert (
            main(
                [
                    "predict",
                    str(out / "model.safetensors"),
                    str(face_folder / "000.png"),
                    "--out",
                    str(file),
                    "--dtype",
                    dtype,
                ]
            )
            == 0
        )
        scores[dtype] = pd.read_csv(file)["AU25"][0]
        assert (
            main(["evaluate", str(out / "model.safetensors"), table, "--allow-training-subjects", "--dtype", dtype])
            == 0
        )
    assert scores["float32"] != scores["bfloat16"] and scores["float32"] == pytest.approx(scores["bfloat16"], abs=0.02)
    capsys.readouterr()
    options = ["--batch", "4", "--seconds", "0.01", "--width", "0.25", "--input-size", "32", "--dtype", "bfloat16"]
    assert main(["bench", *options, "--json", str(tmp_path / "bench.json")]) == 0
    assert f", bfloat16, {fn.about()['bfloat16']}" in capsys.readouterr().out.splitlines()[0]
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["dtype"] == "bfloat16" and {row["dtype"] for row in written["rows"]} == {"bfloat16"}
    with pytest.raises(SystemExit):
        main(["bench", "--dtype", "float16"])
