"""Images, head, optimisers and schedules against their twins in NumPy; metrics and losses have tests of their own."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import twin_images
import twin_training
from PIL import Image

import facsnet as fn
from facsnet import _core


def outcome(call, *arguments, **options):
    """What a call raises of the two that callers tell apart, else None."""
    try:
        call(*arguments, **options)
    except (TypeError, ValueError) as problem:
        return TypeError if isinstance(problem, TypeError) else ValueError
    return None


def random_image(seed, height, width):
    """Noise on smooth shapes, with black and white."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-60, 61, smooth.shape), 0, 255).astype(np.uint8)


# --- images


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_decode(mode, kind):
    for seed, (height, width) in enumerate([(1, 1), (7, 5), (31, 64)]):
        image = Image.fromarray(random_image(seed, height, width)).convert(mode)
        if kind == "BMP" and mode == "LA":
            continue
        stream = io.BytesIO()
        image.save(stream, kind)
        np.testing.assert_array_equal(fn.decode_image(stream.getvalue()), twin_images.decode(stream.getvalue()))
        np.testing.assert_array_equal(
            fn.decode_image(stream.getvalue(), 9), twin_images.resize(twin_images.decode(stream.getvalue()), 9, 9)
        )


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"BM" + bytes(60)])
def test_decode_refuses_alike(data):
    assert outcome(fn.decode_image, data) is outcome(twin_images.decode, data) is ValueError


@pytest.mark.parametrize("seed", range(12))
def test_resize_and_crop(seed):
    rng = np.random.default_rng(seed)
    h, w, height, width = (int(side) for side in rng.integers(1, [60, 90, 70, 40]))
    image = random_image(seed, h, w)
    np.testing.assert_array_equal(fn.resize_image(image, height, width), twin_images.resize(image, height, width))
    height, width = int(rng.integers(1, h + 1)), int(rng.integers(1, w + 1))
    np.testing.assert_array_equal(fn.crop_image(image, height, width), twin_images.crop(image, height, width))


@pytest.mark.parametrize(("h", "w", "height", "width"), [(48, 48, 61, 61), (37, 53, 80, 90), (5, 3, 5, 4)])
def test_twin_of_resize_is_pillow(h, w, height, width):
    image = random_image(h, h, w)
    want = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(twin_images.resize(image, height, width), want)


STEPS = [
    {"crop": (0.1, 0.2, 0.7, 0.55)},
    {"crop": (0.5, 0.5, 0.5, 0.5)},
    {"flip": True},
    {"angle": 90.0},
    {"angle": -180.0},
    {"brightness": 0.8},
    {"brightness": 3.0},
    {"contrast": 0.0},
    {"contrast": 1.7},
    {"crop": (0.05, 0.0, 0.9, 0.9), "flip": True, "brightness": 1.2, "contrast": 0.85},
]


@pytest.mark.parametrize("options", STEPS, ids=str)
def test_augment(options):
    for seed, (h, w) in enumerate([(40, 40), (33, 50), (90, 61)]):
        image = random_image(seed, h, w)
        got, want = fn.augment_image(image, 40, **options), twin_images.augment(image, 40, **options)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("angle", [0.3, 17.0, -45.0, 721.0])
def test_augment_with_an_angle(angle):
    image = random_image(1, 41, 41)
    got = fn.augment_image(image, 41, angle=angle).astype(int)
    # Shares of neighbours have 10 bits: a quarter level in all, which can change how a half is rounded.
    assert np.abs(got - twin_images.augment(image, 41, angle=angle)).max() <= 1
    assert np.abs(got - twin_images.rotate(fn.resize_image(image, 41, 41), angle)).max() <= 0.8
    options = {"angle": angle, "flip": True, "brightness": 1.1, "contrast": 1.2}
    got = fn.augment_image(image, 41, **options).astype(int)
    assert np.abs(got - twin_images.augment(image, 41, **options)).max() <= 3


IMAGE = random_image(0, 8, 9)
BAD_IMAGES = [IMAGE[..., 0], IMAGE[..., :2], IMAGE[:0], IMAGE[:, :0], IMAGE[None], IMAGE.astype(float), "face", None]


@pytest.mark.parametrize("name", ["resize", "crop", "augment"])
def test_images_are_refused_alike(name):
    ours, twin = getattr(fn, f"{name}_image"), getattr(twin_images, name)
    sides = (4,) if name == "augment" else (4, 4)
    for image in [IMAGE, IMAGE[::-1, ::2], IMAGE.tolist(), *BAD_IMAGES]:
        assert outcome(ours, image, *sides) is outcome(twin, image, *sides), np.shape(image)
    for side in (1, 9, 0, -1, 32769, 4.0, "4", None):
        wrong = (side,) if name == "augment" else (side, 4)
        assert outcome(ours, IMAGE, *wrong) is outcome(twin, IMAGE, *wrong), side


@pytest.mark.parametrize(
    "options",
    [
        {"crop": crop}
        for crop in [(0, 0, 1, 1), (0.5, 0, 0.6, 1), (0, 0, 0, 1), (0, 0, 1, -1), (-0.1, 0, 1, 1), (1, 0, 1, 1),
                     (0, math.nan, 1, 1), (0, 0, 1, math.inf)]
    ] + [
        {name: value}
        for name in ("angle", "brightness", "contrast")
        for value in (0, 1e-3, 400, -1, math.nan, math.inf, -math.inf)
    ],
    ids=str,
)  # fmt: skip
def test_options_of_augment_are_refused_alike(options):
    assert outcome(fn.augment_image, IMAGE, 4, **options) is outcome(twin_images.augment, IMAGE, 4, **options)


# --- the head


N, LABELS = 12, 3


def network():
    net = fn.Network("mobilenet_v1", labels=LABELS, width=0.25, input_size=32, dropout=0.0, threads=1)
    rng = np.random.default_rng(0)
    names = [name for name in net.parameters() if name.startswith("head.")]
    changed = {name: rng.normal(size=net.parameters()[name].shape) for name in names}
    changed[twin_training.MATRIX] /= 16
    changed[twin_training.VARIANCE] = rng.uniform(0.2, 3, changed[twin_training.VARIANCE].shape)
    net.set_parameters(changed)
    return net, names


def features_of(net, n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(1, 2, (n, len(net.parameters()[twin_training.MEAN]))).astype(np.float32)


def test_head():
    net, _ = network()
    features = features_of(net)
    want = twin_training.head(net.parameters(), features)
    np.testing.assert_allclose(net.head(features), want, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(_core.sigmoid(net.head(features)), twin_training.sigmoid(want), atol=1e-5)


def test_features_are_refused_alike():
    net, _ = network()
    x = features_of(net)
    for features in (x, x[:1], x.tolist(), x[:, 1:], x[0], x[None], x[:0], x.astype(complex), x.astype(str)):
        assert outcome(net.head, features) is outcome(twin_training.head, net.parameters(), features)
    for value in (math.nan, math.inf):
        x[1, 2] = value
        assert outcome(net.head, x) is outcome(twin_training.head, net.parameters(), x) is ValueError


def test_logits_are_refused_alike():
    x = np.zeros((3, 2))
    for logits in (x, x.tolist(), x[0], x[None], x[:0], x.astype(complex), x.astype(str), None):
        assert outcome(_core.sigmoid, logits) is outcome(twin_training.sigmoid, logits)


# --- training


def trainer(net, optimiser=None, schedule=None, epochs=1, rate=1e-2):
    return _core.StageTrainer(
        net._core,
        "head",
        True,
        False,
        rate,
        fn.Loss("bce")._specification(),
        (optimiser or fn.Optimiser()).row(),
        (schedule or fn.Schedule()).row(epochs),
        None,
        N,
        0,
    )


OPTIMISERS = [
    {"kind": "adam"},
    {"kind": "adam", "betas": (0.5, 0.9), "epsilon": 1e-3, "weight_decay": 0.1},
    {"kind": "adamw", "weight_decay": 0.1},
    {"kind": "sgd", "betas": (0.0, 0.9), "weight_decay": 0.1},
    {"kind": "sgd"},
    {"kind": "sgd", "nesterov": True},
    {"kind": "sgd", "clip_norm": 0.05},
    {"kind": "adam", "clip_norm": 1e3},
    {"kind": "adam", "average_decay": 0.9},
    {"kind": "sgd", "average_decay": 0.2},
]


@pytest.mark.parametrize("options", OPTIMISERS, ids=str)
def test_optimisers(options):
    net, names = network()
    target = (np.random.default_rng(1).random((N, LABELS)) < 0.4).astype(np.float32)
    core, moved = trainer(net, fn.Optimiser(**options)), None
    twin = twin_training.Optimiser({name: net.parameters()[name] for name in names}, **options)
    for step in range(8):
        features = features_of(net, seed=step)
        loss, gradients, statistics = twin_training.head_step(net.parameters(), features, target)
        found, rate, norm = core.step(features[:, None, None], target, np.ones_like(target), 0.0)
        assert found == pytest.approx(loss, rel=1e-5)
        for name, gradient in gradients.items():
            got = net.gradients()[name]
            np.testing.assert_allclose(got, gradient, atol=1e-5 * np.abs(gradient).max(), err_msg=name)
        for name, value in statistics.items():
            np.testing.assert_allclose(net.parameters()[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
            twin.values[name] = value
        # The core's own gradients: Adam divides by them, so that small differences would grow.
        wanted_norm = twin.step({name: net.gradients()[name] for name in gradients}, rate)
        if "clip_norm" in options:
            assert norm == pytest.approx(wanted_norm, rel=1e-5)
        moved = {name: twin.values[name] for name in gradients}
        for name, value in moved.items():
            np.testing.assert_allclose(net.parameters()[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    if "average_decay" in options:
        core.swap_average()
        for name in moved:
            np.testing.assert_allclose(net.parameters()[name], twin.average[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        *OPTIMISERS,
        {"kind": "rmsprop"}, {"betas": (1.0, 0.9)}, {"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)},
        {"betas": (math.nan, 0.9)}, {"betas": (0.9,)}, {"epsilon": 0.0}, {"epsilon": math.nan},
        {"weight_decay": -1.0}, {"weight_decay": math.nan}, {"clip_norm": -1.0}, {"average_decay": 1.0},
        {"average_decay": -0.5}, {"average_decay": math.nan}, {"clip_norm": 0.0}, {"average_decay": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_options_of_optimisers_are_refused_alike(options):
    net, _ = network()
    ours = outcome(lambda: trainer(net, fn.Optimiser(**options)))
    assert ours is outcome(twin_training.Optimiser, {}, **options)


SCHEDULES = [
    {"kind": "constant"},
    {"kind": "constant", "warmup": 2.5},
    {"kind": "step", "period": 2.0},
    {"kind": "step", "factor": 0.5, "period": 1.5, "warmup": 1.0},
    {"kind": "cosine"},
    {"kind": "cosine", "factor": 0.1, "warmup": 2.0},
    {"kind": "cosine", "warmup": 9.0},
    {"kind": "plateau", "period": 2.0},
    {"kind": "plateau", "factor": 0.5, "period": 1.0, "warmup": 3.0},
]


@pytest.mark.parametrize("options", SCHEDULES, ids=str)
def test_schedules(options):
    net, _ = network()
    features, epochs, rate = features_of(net), 8, 1e-3
    target = np.ones((N, LABELS), np.float32)
    core = trainer(net, None, fn.Schedule(**options), epochs, rate)
    scores = [0.5, 0.4, math.nan, 0.6, 0.6, 0.55, 0.1, 0.0]
    for epoch in range(epochs):
        for part in (0.0, 0.125, 0.5, 0.9):
            found = core.step(features[:, None, None], target, target, epoch + part)[1]
            want = twin_training.schedule(epoch=epoch + part, epochs=epochs, scores=scores[:epoch], **options)
            assert found == pytest.approx(rate * want, rel=1e-12, abs=1e-18)
        core.observe(scores[epoch])


@pytest.mark.parametrize(
    "options",
    [
        *SCHEDULES,
        {"kind": "linear"}, {"warmup": -1.0}, {"warmup": math.nan}, {"warmup": math.inf}, {"factor": -0.1},
        {"factor": math.nan}, {"factor": math.inf}, {"period": 0.0}, {"period": -2.0}, {"period": math.nan},
    ],
    ids=str,
)  # fmt: skip
def test_options_of_schedules_are_refused_alike(options):
    net, _ = network()
    ours = outcome(lambda: trainer(net, None, fn.Schedule(**options), 4))
    assert ours is outcome(twin_training.schedule, epoch=1.0, epochs=4, **{"kind": "constant", **options})
