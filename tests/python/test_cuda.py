"""device="cuda" against the CPU: the same numbers, caches, memory and copies.

Everything that is not about a GPU's own numbers also runs on a pretended device, whose memory is
apart and whose kernels are the reference's: there results are those of FACS_CPU=ref to the bit. Against
the CPU's fastest kernels they keep to what is asked of a GPU, so that no bound is asked of it which
another order of sums breaks.

A sum in another order moves what a network makes by 1e-6, and single numbers by per cents: an activation
that lies so near to a corner of its ReLU falls to either side of it, and Adam makes a full step of a
gradient that is rounding alone. Where gradients and steps are compared, `clear` keeps activations from
corners and an epsilon keeps such steps small; the bounds are then tight enough to show one gradient in
a hundred too large by a hundredth part.
"""

from __future__ import annotations

import copy
import fcntl
import functools
import math
import os
import pickle
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import MISSING

import facsnet as fn
from facsnet import _core, _device
from facsnet.benchmark import training_step
from facsnet.cli import main
from facsnet.datasets import synthetic_faces

LABELS = ("AU04", "AU25")
NAMES = ["mobilenet_v1", "mobilenet_v2", "densenet121", "densenet201"]
DEMO = Path(fn.__file__).parent / "models" / "mobilenet_v1_0.25_synthetic.safetensors"


ROUNDING = 2e-3  # how far a parameter's may be off beyond its own part, of the usual size of all


def needs_gpu(test: Any) -> Any:
    """The test, or None where there is no GPU: test_on_a_gpu tells of all that is left out then."""
    return None if MISSING else test


@pytest.mark.skipif(bool(MISSING), reason=f"nothing here has run on a GPU: {MISSING}")
def test_on_a_gpu() -> None:
    assert network().device == "cuda" and network(device="auto").instruction_set == "cuda"


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that asks for `alone` has the GPU to itself among the workers of pytest-xdist."""
    with open(Path(tempfile.gettempdir()) / f"facsnet-{os.getuid()}.gpu", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if "alone" in request.fixturenames else fcntl.LOCK_SH)
        yield


@pytest.fixture
def alone() -> None:
    """See `turn`."""


def network(device: str = "cuda", name: str = "mobilenet_v1", **options: Any) -> fn.Network:
    """A small one."""
    usual = {"labels": LABELS, "width": 0.25, "input_size": 32, "seed": 1, "threads": 2}
    return fn.Network(name, device=device, **{**usual, **options})


def pair(name: str = "mobilenet_v1", **options: Any) -> tuple[fn.Network, fn.Network]:
    """The same on the CPU and on the device, with running statistics that fit the weights."""
    cpu, cuda = network("cpu", name, **options), network("cuda", name, **options)
    rng = np.random.default_rng(4)
    side = cpu.input_size
    for _ in range(8):
        cpu.forward(rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8), training=True)
    cuda.set_parameters(cpu.parameters())
    return cpu, cuda


@functools.cache
def clear_weights(name: str = "mobilenet_v1", **options: Any) -> dict[str, np.ndarray]:
    """BatchNorms after which an activation lies between the corners of ReLU6, below or above both, and five deviations
    from either; running statistics that fit.
    """
    net = network("cpu", name, **options)
    rng, values = np.random.default_rng(5), net.parameters()
    for key in values:
        if key.endswith("running_mean"):
            norm, n = key.removesuffix("running_mean"), values[key].size
            values[norm + "weight"][...] = rng.uniform(0.5, 0.7, n)
            values[norm + "bias"][...] = rng.choice([3.0, -3.0, 9.0], n, p=[0.85, 0.1, 0.05])
    net.touch()
    for seed in range(40):
        net.forward(pixels(4, net.input_size, seed), training=True)
    return kept(net)


def clear_pair(name: str = "mobilenet_v1", **options: Any) -> tuple[fn.Network, fn.Network]:
    """The same on the CPU and on the device, without corners."""
    pair = network("cpu", name, **options), network("cuda", name, **options)
    for net in pair:
        net.set_parameters(clear_weights(name, **options))
    return pair


def pixels(n: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Coloured squares: unlike noise, no two have the same features."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, 256, (n, 4, 4, 3)).repeat(side // 4, 1).repeat(side // 4, 2)
    return np.clip(squares + rng.normal(0, 12, squares.shape), 0, 255).astype(np.uint8)


def some(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and gradients of logits: so many that the last maps, of one pixel, have statistics; DenseNets are slow."""
    n = 6 if name.startswith("densenet") else 16
    return pixels(n), np.random.default_rng(1).normal(size=(n, 2)).astype(np.float32)


def targets(n: int, seed: int = 3) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, len(LABELS))) < 0.4).astype(np.float32)


def same(where: str, got: np.ndarray, want: np.ndarray, part: float = 1e-4) -> None:
    """To the bit on the pretended device, else to a part of the largest entry."""
    assert got.shape == want.shape and got.dtype == want.dtype
    if where == "pretend":
        assert (got == want).all()
    else:
        assert np.abs(got - want).max() <= part * max(np.abs(want).max(), 1e-6)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    u, v = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(u @ v / math.sqrt(float(u @ u) * float(v @ v)))


def near(
    where: str, got: dict[str, np.ndarray], want: dict[str, np.ndarray], *, part: float, each: float | None = None
) -> None:
    """To the bit on the pretended device, else by length: all together to a part, and each parameter to a part of
    itself and a little of what is usual; what should be 0, as of a shift before a BatchNorm, is rounding.
    """
    assert got.keys() == want.keys()
    if where == "pretend":
        assert all((got[key] == want[key]).all() for key in want)
    far = length(flat(got) - flat(want))
    assert far <= part * length(flat(want)), f"{far / length(flat(want)):.1e} of the whole"
    usual = length(flat(want)) / math.sqrt(flat(want).size)
    for key in want if each else ():
        far, own = length(got[key] - want[key]), length(want[key])
        limit = each * own + ROUNDING * usual * math.sqrt(want[key].size)
        assert far <= limit, f"{key}: {far:.1e} of {own:.1e}, want {limit:.1e}"


def kept(net: fn.Network) -> dict[str, np.ndarray]:
    return {key: value.copy() for key, value in net.parameters().items()}


def length(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.astype(np.float64)))


def trained(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the running statistics."""
    return {key: value for key, value in values.items() if "running_" not in key}


def running(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: value for key, value in values.items() if "running_" in key}


def less(values: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: values[key] - before[key] for key in values}


def flat(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([value.ravel() for value in values.values()])


def small_faces(count: int = 48) -> fn.Samples:
    drawn = synthetic_faces(count, seed=3, subjects=8).select_labels(LABELS)
    small = np.stack([fn.resize_image(image, 32, 32) for image in drawn.images])
    return fn.Samples.from_arrays(small, drawn.labels, label_names=LABELS, subject=list(drawn.subjects))


@pytest.fixture(scope="module")
def faces() -> tuple[fn.Samples, fn.Samples]:
    return small_faces().split_by_subject(test=0.3, seed=0)


# --- numbers


@pytest.mark.parametrize("name", NAMES)
def test_inference(place: str, name: str) -> None:
    cpu, cuda = pair(name)
    assert (cpu.device, cuda.device) == ("cpu", "cuda")
    x = pixels(5)
    same(place, cuda.forward(x), cpu.forward(x))
    same(place, cuda.features(x), cpu.features(x))
    same(place, cuda.head(cpu.features(x)), cpu.head(cpu.features(x)))
    same(place, cuda.predict(x), cpu.predict(x))
    scaled = x.astype(np.float32) / 100 - 1
    same(place, cuda.forward(scaled), cpu.forward(scaled))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_training(place: str, name: str) -> None:
    """With dropout, which is drawn alike, and running statistics."""
    cpu, cuda = clear_pair(name, dropout=0.5)
    x, d = some(name)
    before = kept(cpu)
    logits = [net.forward(x, training=True, seed=2**40 + 7, step=5) for net in (cpu, cuda)]
    same(place, logits[1], logits[0], 1e-3)
    for net in (cpu, cuda):
        net.backward(d)
    near(place, cuda.gradients(), cpu.gradients(), part=1e-3, each=3e-3)
    moved = [running(less(net.parameters(), before)) for net in (cuda, cpu)]
    near(place, *moved, part=1e-3, each=3e-3)
    assert (flat(trained(cuda.parameters())) == flat(trained(before))).all()
    other = cuda.forward(x, training=True, seed=2**40 + 7, step=6)
    assert np.abs(other - logits[1]).max() > 1e-3, "another step drops other features"


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_inference(place: str, name: str) -> None:
    cpu, cuda = clear_pair(name)
    x, d = pixels(3), np.ones((3, 2), np.float32)
    for net in (cpu, cuda):
        net.forward(x)
        net.backward(d)
    near(place, cuda.gradients(), cpu.gradients(), part=1e-4, each=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_at_corners(place: str, name: str) -> None:
    """Activations on both sides of every corner: a few may fall to the other side of one."""
    cpu, cuda = pair(name)
    x, d = some(name)
    for net in (cpu, cuda):
        net.forward(x, training=True)
        net.backward(d)
    near(place, cuda.gradients(), cpu.gradients(), part=5e-2)


@needs_gpu
@pytest.mark.parametrize("name", ["mobilenet_v1", "densenet121"])
def test_full_size(name: str) -> None:
    cpu, cuda = clear_pair(name, width=1.0, input_size=224, threads=None)
    x, d = pixels(4, 224), np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    same("gpu", cuda.forward(x), cpu.forward(x))
    for net in (cpu, cuda):
        net.forward(x, training=True)
        net.backward(d)
    near("gpu", cuda.gradients(), cpu.gradients(), part=1e-3, each=3e-3)


@needs_gpu
@pytest.mark.parametrize("name", ["mobilenet_v1", "densenet121"])
def test_tf32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off unless asked for; eleven bits of every factor then."""
    x, d = pixels(4), np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    found = {}
    for choice in ("", "1"):
        monkeypatch.setenv("FACS_CUDA_TF32", choice)
        cpu, cuda = clear_pair(name)
        far = np.abs(cuda.forward(x) - cpu.forward(x)).max() / np.abs(cpu.forward(x)).max()
        for net in (cpu, cuda):
            net.forward(x)
            net.backward(d)
        difference = flat(cuda.gradients()) - flat(cpu.gradients())
        found[choice] = far, length(difference) / length(flat(cpu.gradients()))
    assert max(found[""]) < 1e-4 and max(found["1"]) < 2e-2
    assert found["1"][1] > 10 * found[""][1], "gradients are rounded"


@needs_gpu
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16(name: str) -> None:
    """As close to float32 as the CPU's bfloat16. Of full width: narrow networks miss the kernels of stems and 3x3."""
    options = {"input_size": 64, "width": 1.0}
    exact, cuda = pair(name, **options)
    narrow = {device: network(device, name, dtype="bfloat16", **options) for device in ("cpu", "cuda")}
    for net in narrow.values():
        net.set_parameters(exact.parameters())
    x, d = pixels(8, 64), np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)
    far = {device: 1 - cosine(net.forward(x), exact.forward(x)) for device, net in narrow.items()}
    assert far["cuda"] <= max(1e-3, 2 * far["cpu"])
    for net in (exact, *narrow.values()):
        net.forward(x, training=True)
        net.backward(d)
    far = {device: 1 - cosine(flat(net.gradients()), flat(exact.gradients())) for device, net in narrow.items()}
    assert far["cuda"] <= max(1e-2, 2 * far["cpu"])
    assert cuda.dtype == "float32" and narrow["cuda"].dtype == "bfloat16"


@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_smoke(name: str, dtype: str) -> None:
    """Little work through every kernel, for compute-sanitizer."""
    net = network("cuda", name, dtype=dtype, width=1.0)
    step = training_step(net, pixels(4), targets(4), rate=1e-3)
    for _ in range(3):
        step()
    assert np.isfinite(net.forward(pixels(3))).all()


# --- training


@pytest.mark.parametrize("loss", fn.losses.NAMES)
@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_steps(place: str, loss: str, optimiser: str) -> None:
    """Three steps, the third of which replays what the second recorded. Decay moves weights about as much as gradients do."""
    kinds = {
        "adam": fn.Optimiser("adam", epsilon=1e-2, weight_decay=0.2),
        "adamw": fn.Optimiser("adamw", epsilon=1e-2, weight_decay=0.2, clip_norm=0.5),
        "sgd": fn.Optimiser("sgd", weight_decay=2e-3, clip_norm=0.5),
    }
    check_steps(place, loss=fn.losses.resolve(loss), optimiser=kinds[optimiser])


@pytest.mark.parametrize("options", [{"statistics": "stored"}, {"unfreeze": "head"}, {"unfreeze": "block9"}])
def test_steps_of_a_part(place: str, options: dict[str, Any]) -> None:
    check_steps(place, optimiser=fn.Optimiser("adam", epsilon=1e-2), **options)


def check_steps(place: str, **options: Any) -> None:
    cpu, cuda = clear_pair(dropout=0.5)
    before = kept(cpu)
    x, y = pixels(16), targets(16)
    for net in (cpu, cuda):
        step = training_step(net, x, y, rate=1e-2, **options)
        for _ in range(3):
            step()
    moved, want = less(cuda.parameters(), before), less(cpu.parameters(), before)
    assert np.abs(flat(trained(want))).max() > 0
    small = options["optimiser"].kind == "sgd"
    near(place, trained(moved), trained(want), part=1e-3 if small else 1e-2, each=3e-3 if small else None)
    near(place, running(moved), running(want), part=1e-3 if small else 5e-3)


def fitted(device: str, faces: tuple[fn.Samples, fn.Samples], **options: Any) -> tuple[fn.Network, fn.History]:
    net = network(device, dropout=0.3, seed=5)
    net.set_parameters(clear_weights(dropout=0.3, seed=5))
    stage = {"augmentation": fn.Augmentation(0.5), "epochs": 3, "rate": 1e-3, "unfreeze": "all", **options}
    trainer = fn.Trainer(
        net, stages=[fn.Stage("only", **stage)], batch_size=18, progress=False, monitor="loss", workers=1
    )
    return net, trainer.fit(*faces)


@pytest.mark.parametrize(
    "options",
    [
        {"unfreeze": "head"},
        {"unfreeze": "block9", "cache": "boundary"},
        {"unfreeze": "block9", "cache": "boundary", "cache_dtype": "float32", "augmentation": fn.Augmentation.none()},
        {"unfreeze": "all"},
        {"unfreeze": "all", "augmentation": fn.Augmentation.none()},
        {
            "unfreeze": "all",
            "augmentation": fn.Augmentation(1.0),
            "optimiser": fn.Optimiser(epsilon=1e-2, average_decay=0.9),
        },
        {"unfreeze": "all", "augmentation": fn.Augmentation.varied()},
    ],
    ids=["head", "boundary", "boundary float32", "flips", "plain", "average", "varied"],
)
def test_fit(place: str, faces: tuple[fn.Samples, fn.Samples], options: dict[str, Any]) -> None:
    """Stages with caches, pixels that stay on the device, averages and flips: as on the CPU."""
    options = {"optimiser": fn.Optimiser(epsilon=1e-2), **options}
    (cpu, want), (cuda, got) = (fitted(device, faces, **options) for device in ("cpu", "cuda"))
    assert want.best == got.best or place != "pretend"
    for key in ("loss", "valid_loss"):
        a, b = ([row[key] for row in history.rows] for history in (want, got))
        assert a == b if place == "pretend" else a == pytest.approx(b, rel=1e-2)
    if want.best == got.best:
        start = clear_weights(dropout=0.3, seed=5)
        moved = [trained(less(net.parameters(), start)) for net in (cuda, cpu)]
        # A boundary kept in bfloat16 rounds to either side where float32 differs in its last bits.
        near(place, *moved, part=1e-2)


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121"])
def test_little_memory(place: str, name: str) -> None:
    """What is computed again on the device is what was there; the CPU keeps everything."""
    cpu, cuda = clear_pair(name, input_size=64)
    before = kept(cpu)
    x, y = pixels(4, 64), targets(4)
    for net, memory in ((cpu, "normal"), (cuda, "low")):
        training_step(net, x, y, rate=1e-3, memory=memory, optimiser=fn.Optimiser("sgd"))()
    moved = [trained(less(net.parameters(), before)) for net in (cuda, cpu)]
    near(place, *moved, part=1e-3, each=3e-3)


def test_detector(where: str, faces: tuple[fn.Samples, fn.Samples], tmp_path: Path) -> None:
    """The whole job, saved and read on the other device."""
    train, test = faces
    options = {"weights": "demo", "input_size": 32, "head_epochs": 1, "finetune_epochs": 1, "batch_size": 8}
    found = {}
    for device in ("cpu", "cuda"):
        detector = fn.AUClassifier(**options, device=device, progress=False).fit(train)
        detector.save(tmp_path / f"{device}.safetensors")
        found[device] = detector.evaluate(test).scores
    same(where, found["cuda"], found["cpu"], 2e-2)
    other = fn.AUClassifier.load(tmp_path / "cuda.safetensors")
    assert other.network.device == "cpu" and other.device == "cpu"
    same(where, other.evaluate(test).scores, found["cuda"], 1e-3)
    again = fn.AUClassifier.load(tmp_path / "cpu.safetensors", device="cuda")
    assert again.network.device == "cuda" and again.device == "cuda"
    same(where, again.evaluate(test).scores, found["cpu"], 1e-3)


# --- parameters


def test_parameters_are_as_of_the_call(place: str) -> None:
    cpu, cuda = clear_pair()
    x, y = pixels(16), targets(16)
    before = kept(cuda)
    steps = [training_step(net, x, y, rate=1e-2, optimiser=fn.Optimiser("sgd")) for net in (cpu, cuda)]

    def check() -> None:
        for step in steps:
            step()
        moved = [trained(less(net.parameters(), before)) for net in (cuda, cpu)]
        assert flat(moved[0]).any()
        near(place, *moved, part=2e-3)

    check()
    for net in (cpu, cuda):
        net.parameters()["head.classifier.bias"][...] = 2
        net.touch()
    same(place, cuda.forward(x), cpu.forward(x), 1e-3)
    check()


def test_weights_come_and_go(where: str, tmp_path: Path) -> None:
    cpu, cuda = pair()
    training_step(cuda, pixels(4), targets(4), rate=1e-2)()
    cuda.save_weights(tmp_path / "net.safetensors")
    for device in ("cpu", "cuda", "auto"):
        net = fn.load_weights(tmp_path / "net.safetensors", input_size=32, device=device)
        assert net.device == ("cpu" if device == "cpu" else "cuda")
        assert (flat(net.parameters()) == flat(cuda.parameters())).all()
        same(where, net.forward(pixels(2)), cuda.forward(pixels(2)))
    cuda.reset_head(seed=3)
    cpu.load_weights(tmp_path / "net.safetensors")
    cpu.reset_head(seed=3)
    assert (flat(cpu.parameters()) == flat(cuda.parameters())).all()
    cuda.load_weights(DEMO)
    cpu.load_weights(DEMO)
    same(where, cuda.features(pixels(2)), cpu.features(pixels(2)))


def test_copies(where: str) -> None:
    net = network()
    training_step(net, pixels(4), targets(4), rate=1e-2)()
    want = net.forward(pixels(3))
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.device == "cuda"
        same(where, other.forward(pixels(3)), want)
    assert fn.Network.from_config(net.config).device == "cpu", "it is not part of a config"
    assert fn.Network.from_config(net.config, device="auto").device == "cuda"
    assert net.instruction_set == ("ref" if where == "pretend" else "cuda")


# --- memory


def test_arrays_on_the_device(where: str) -> None:
    cpu, net = pair()
    x, want = pixels(5), None
    there = net.to_device(x)
    assert (there.shape, there.dtype, there.nbytes, len(there)) == (x.shape, "uint8", x.nbytes, 5)
    assert (there.numpy() == x).all() and cpu.to_device(x) is x
    want = net.forward(x)
    same(where, net.forward(there), want, 0)
    same(where, net.features(net.to_device(x.astype(np.float32))), net.features(x.astype(np.float32)), 0)
    gradients = []
    for images in (x, there):
        net.forward(images)
        net.backward(np.ones((5, 2), np.float32))
        gradients.append(flat(net.gradients()))
    same(where, gradients[1], gradients[0], 0)
    assert (net.to_device(there).numpy() == x).all()
    bits = np.arange(6, dtype=np.uint16).reshape(2, 3)
    assert net.to_device(bits).dtype == "bfloat16" and (net.to_device(bits).numpy() == bits).all()


def test_arrays_that_do_not_fit(where: str) -> None:
    cpu, net = pair()
    there = net.to_device(pixels(2))
    with pytest.raises(ValueError, match=r"x lies on a GPU, but the network's device is cpu"):
        cpu.forward(there)
    with pytest.raises(ValueError, match=r"x: shape is \(2, 16, 32, 3\), want \(any, 32, 32, 3\)"):
        net.forward(net.to_device(pixels(2)[:, :16]))
    with pytest.raises(TypeError, match=r"x: dtype is bfloat16, want uint8"):
        net.forward(net.to_device(np.zeros((1, 32, 32, 3), np.uint16)))
    with pytest.raises(TypeError, match=r"array: its dtype"):
        net.to_device(np.zeros(3))
    with pytest.raises(ValueError, match=r"array has 5 axes, want 1 to 4"):
        net.to_device(np.zeros((1, 1, 1, 1, 1), np.uint8))


class Interface:
    """An array of another library over the same memory."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


class Capsules:
    def __init__(self, array: Any) -> None:
        self.array = array
        self.streams: list[object] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, *, stream: object = None) -> object:
        self.streams.append(stream)
        return self.array.__dlpack__(stream=stream)


def test_arrays_of_others(where: str) -> None:
    net = network()
    x = pixels(3)
    there = net.to_device(x)
    want = net.forward(x)
    capsules = Capsules(there)
    for other in (Interface(there), Interface(there, strides=(3072, 96, 3, 1)), Interface(there, stream=1), capsules):
        same(where, net.forward(other), want, 0)
        view = net.to_device(other)
        assert view.__cuda_array_interface__["data"] == there.__cuda_array_interface__["data"]
    assert set(capsules.streams) == {1}
    view = net.to_device(Capsules(there))
    del there, capsules, other
    assert (view.numpy() == x).all(), "a view keeps the memory"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"typestr": "<f8"}, "x: its dtype on the GPU"),
        ({"strides": (1, 2, 3, 4)}, "x: on the GPU it must be C-contiguous"),
        ({"shape": ()}, "x: on the GPU it must be C-contiguous, of 1 to 4 axes"),
        ({"shape": (1, 1, 1, 1, 1)}, "x: on the GPU it must be C-contiguous, of 1 to 4 axes"),
        ({"stream": 4711}, "x: its __cuda_array_interface__ names a stream"),
        ({"data": None}, "x: its __cuda_array_interface__ is not whole"),
        ({"typestr": None}, "x: its __cuda_array_interface__ is not whole"),
    ],
)
def test_broken_arrays_of_others(where: str, changes: dict[str, Any], text: str) -> None:
    net = network()
    with pytest.raises((TypeError, ValueError), match=text):
        net.forward(Interface(net.to_device(pixels(3)), **changes))


def test_a_batch_too_large(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A MemoryError that says what was wanted and what is free; then life goes on."""
    if where == "pretend":
        net, n = network(), 64
        net.forward(pixels(1))
        monkeypatch.setenv("FACS_PRETEND_BYTES", str(net.plan_bytes(batch=n, training=True) // 2))
    else:
        net = network("cuda", "densenet121", input_size=224, width=1.0)
        total = _core.device_facts(str(_device.plugin_path()))["memory_total"]
        n = int(1.2 * total / (net.plan_bytes(batch=64, training=True) / 64))
    side = net.input_size
    x, want = np.zeros((n, side, side, 3), np.uint8), net.forward(pixels(2, side))
    for _ in range(2):
        with pytest.raises(MemoryError, match=r"cannot allocate .* free"):
            net.forward(x, training=True)
        same(where, net.forward(pixels(2, side)), want, 0)
    net.forward(x[:2], training=True)


@needs_gpu
def test_plan_bytes_are_true(alone: None) -> None:
    """What a step takes of the GPU is what was said, parameters and Adam's numbers on top.

    Only the memory of the whole GPU can be seen, so what other programs take or give back while it is
    looked at spoils a try.
    """
    found = []
    for _ in range(4):
        net = network("cuda", "mobilenet_v2", width=1.0, input_size=224)
        net.forward(pixels(2, 224))
        before = _device.free_memory()
        wanted = net.plan_bytes(batch=64, training=True)
        step = training_step(net, pixels(64, 224), targets(64))
        step()
        found.append((before - _device.free_memory()) - wanted)
        if 0 <= found[-1] <= 8 * 4 * net.parameter_count() + (256 << 20):
            return
        del step, net
    pytest.fail(f"taken beyond what was said, in bytes: {found}")


# --- threads


def test_networks_in_threads(where: str) -> None:
    """Two train side by side; each comes out as alone."""
    x, y = pixels(8), targets(8)

    def train(net: fn.Network) -> None:
        step = training_step(net, x, y, rate=1e-2)
        for _ in range(6):
            step()

    alone, *both = (network(seed=7) for _ in range(3))
    train(alone)
    threads = [threading.Thread(target=train, args=(net,)) for net in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for net in both:
        same(where, flat(net.parameters()), flat(alone.parameters()), 0)


def test_a_network_of_two_threads(where: str) -> None:
    """A step in one thread is over when another thread looks."""
    x, y = pixels(8), targets(8)
    alone, shared = network(seed=7), network(seed=7)
    steps = {net: training_step(net, x, y, rate=1e-2) for net in (alone, shared)}
    for _ in range(4):
        steps[alone]()
        thread = threading.Thread(target=steps[shared])
        thread.start()
        thread.join()
        same(where, shared.forward(x), alone.forward(x), 0)


# --- other libraries


@needs_gpu
def test_torch() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch sees no GPU")
    net = network()
    x = pixels(4)
    want, tensor = net.forward(x), torch.from_numpy(x).cuda()
    assert (net.forward(tensor) == want).all()
    assert net.to_device(tensor).__cuda_array_interface__["data"][0] == tensor.data_ptr()
    # channels_last of PyTorch is NHWC
    images = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 100 - 1).cuda().to(memory_format=torch.channels_last)
    assert (net.forward(images.permute(0, 2, 3, 1)) == net.forward(x.astype(np.float32) / 100 - 1)).all()
    with pytest.raises(ValueError, match="C-contiguous"):
        net.forward(images.contiguous().permute(0, 2, 3, 1))
    back = torch.from_dlpack(net.to_device(x))
    assert back.is_cuda and (back.cpu().numpy() == x).all()
    bits = torch.from_dlpack(net.to_device(np.array([0x3F80, 0xC000], np.uint16)))
    assert bits.dtype == torch.bfloat16 and bits.tolist() == [1.0, -2.0]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(tensor)
        for _ in range(50):
            torch.matmul(torch.ones(2048, 2048, device="cuda"), torch.ones(2048, 2048, device="cuda"))
        late += tensor
        got = net.forward(late)
    assert (got == want).all(), "what another stream still works on is waited for"


@needs_gpu
def test_cupy() -> None:
    cupy = pytest.importorskip("cupy")
    net = network()
    x = pixels(4)
    array = cupy.asarray(x)
    assert (net.forward(array) == net.forward(x)).all()
    there = net.to_device(array)
    assert there.__cuda_array_interface__["data"][0] == array.data.ptr
    assert (cupy.asnumpy(cupy.asarray(net.to_device(x))) == x).all()
    assert (cupy.asnumpy(cupy.from_dlpack(net.to_device(x))) == x).all()


# --- the rest


def test_facts(where: str) -> None:
    text = fn.about()["cuda"]
    assert "GB free, driver of CUDA " in text
    if where == "pretend":
        assert text == "pretend, none, 1.1 of 1.1 GB free, driver of CUDA 13.0"


def test_benchmark(where: str) -> None:
    found = fn.benchmark(network("cpu"), batch=4, seconds=0.01, device="cuda")
    assert {row["device"] for row in found.to_rows()} == {"cuda"} and len(found) == 3


def test_commands(where: str, face_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = str(face_folder / "labels.csv"), tmp_path / "run"
    options = ["--weights", "demo", "--input-size", "32", "--head-epochs", "1", "--finetune-epochs", "1"]
    assert main(["train", table, "--out", str(out), "--batch-size", "16", *options, "--device", "cuda"]) == 0
    model = str(out / "model.safetensors")
    assert main(["evaluate", model, table, "--allow-training-subjects", "--device", "auto"]) == 0
    assert main(["predict", model, str(face_folder / "000.png"), "--device", "cuda"]) == 0
    capsys.readouterr()
    small = ["--batch", "4", "--seconds", "0.01", "--width", "0.25", "--input-size", "32"]
    assert main(["bench", *small, "--device", "cuda"]) == 0
    assert fn.about()["cuda"].split(",")[0] in capsys.readouterr().out.splitlines()[0]
