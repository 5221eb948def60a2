"""The ring of batches: nothing lost, nothing twice, the same bytes whatever the workers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facsnet as fn
from facsnet import _core

N = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 20, 17, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 2, (N, 3)).astype(np.float32)
LABELS[4, 1] = np.nan


def loader(**options: object) -> _core.Loader:
    values = {
        "images": IMAGES, "paths": None, "labels": LABELS, "batch": 4, "size": 16, "workers": 2, "seed": 7, "shuffle": True,
        "augmentation": (1.0, 0.0, 0.0, 0.0, 0.0), "cache_bytes": 0, "most_skipped": 0, **options,
    }  # fmt: skip
    return _core.Loader(**values)


def epoch(source: _core.Loader, number: int = 0, **options: object) -> tuple[np.ndarray, ...]:
    source.start(number, **options)
    batches = list(source)
    return tuple(np.concatenate([batch[i] for batch in batches]) for i in range(4))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    return paths


def test_every_sample_once() -> None:
    source = loader()
    for number in range(3):
        x, y, mask, index = epoch(source, number)
        assert len(index) == len(set(index)) == N
        assert len(x) == len(index)
        np.testing.assert_array_equal(mask, ~np.isnan(LABELS[index]))
        np.testing.assert_array_equal(y, np.nan_to_num(LABELS[index]))
        np.testing.assert_array_equal(x[5], fn.resize_image(IMAGES[index[5]], 16, 16))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 13, 17, 23])
def test_batches_differ_by_one_at_most(count: int) -> None:
    source = loader(shuffle=False)
    source.start(0, indices=np.arange(count))
    parts = [batch[3] for batch in source]
    for part, wanted in zip(parts, np.array_split(np.arange(count), -(-count // 4)), strict=True):
        np.testing.assert_array_equal(part, wanted)


def test_order() -> None:
    source = loader()
    first, second = epoch(source, 0)[3], epoch(source, 1)[3]
    assert (first != second).any()
    assert (epoch(source, 0)[3] == first).all()
    assert (epoch(loader(seed=8), 0)[3] != first).any()
    assert (epoch(loader(shuffle=False))[3] == np.arange(N)).all()
    assert epoch(loader(shuffle=False), indices=[5, 2])[3].tolist() == [5, 2]


@pytest.mark.parametrize(
    "augmentation", [(1.0, 0.5, 0.0, 0.0, 0.0), (1.0, 0.5, 20.0, 0.3, 0.3), (0.5, 0.5, 10.0, 0.2, 0.0)]
)
def test_bytes_do_not_depend_on_workers_or_cache(files: list[str], augmentation: tuple[float, ...]) -> None:
    wanted = [epoch(loader(workers=1, augmentation=augmentation), number) for number in range(2)]
    assert (wanted[0][0] != epoch(loader())[0]).any()
    for options in (
        {"workers": 5},
        {"cache_bytes": 1 << 20},
        {"images": None, "paths": files},
        {"images": None, "paths": files, "cache_bytes": 5000},
    ):
        source = loader(augmentation=augmentation, **options)
        for number in range(2):
            for found, expected in zip(epoch(source, number), wanted[number], strict=True):
                assert found.tobytes() == expected.tobytes()


def test_cache_spares_decoding(files: list[str]) -> None:
    source = loader(images=None, paths=files, cache_bytes=1 << 20)
    epoch(source)
    assert source.statistics()["decoded"] == N
    epoch(source, 1)
    assert source.statistics()["decoded"] == 0
    assert source.statistics()["cached"] == N


def test_mirror() -> None:
    plain, mirrored = epoch(loader())[0], epoch(loader(), mirror=True)[0]
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])


def test_start_again_in_mid_pass() -> None:
    source = loader()
    wanted = epoch(source)[0].tobytes()
    for taken in range(4):
        source.start(3)
        for _ in range(taken):
            next(source)
        assert epoch(source)[0].tobytes() == wanted
    source.start(1)  # and is dropped while workers run


def test_unreadable_images(files: list[str]) -> None:
    Path(files[9]).write_bytes(Path(files[9]).read_bytes()[:200])
    Path(files[12]).unlink()
    source = loader(images=None, paths=files, shuffle=False)
    source.start(0)
    with pytest.raises(fn.FormatError, match=r"9\.png"):
        list(source)
    source = loader(images=None, paths=files, shuffle=False, most_skipped=2)
    index = epoch(source)[3]
    assert sorted(set(range(N)) - set(index)) == [9, 12]
    assert source.statistics()["skipped"] == 2
    assert source.statistics()["skipped_rows"].tolist() == [9, 12]
    assert "9.png" in source.statistics()["first_skipped"]
    source = loader(images=None, paths=files, shuffle=False, most_skipped=1)
    source.start(0)
    with pytest.raises(FileNotFoundError, match=r"12\.png") as caught:
        list(source)
    assert caught.value.filename == files[12]
    good = epoch(source, 1, indices=[1, 2, 3])  # a pass after a failed one
    assert good[3].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"size": 0}, "size is 0"),
        ({"workers": 0}, "0 workers"),
        ({"most_skipped": -1}, "most_skipped -1"),
        ({"cache_bytes": -1}, "cache_bytes is -1"),
        ({"labels": LABELS[:5]}, "labels: shape"),
        ({"paths": ["a"]}, "either images or paths"),
        ({"augmentation": (0.0, 0.0, 0.0, 0.0, 0.0)}, "crop_scale"),
        ({"augmentation": (1.0, 2.0, 0.0, 0.0, 0.0)}, "flip_probability"),
        ({"images": np.zeros((0, 4, 4, 3), np.uint8), "labels": np.zeros((0, 1), np.float32)}, "no samples"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(**options)


def test_bad_indices() -> None:
    source = loader()
    for indices, message in (([N], f"is {N}, want 0 to"), ([-1], "is -1"), ([], "0 indices")):
        with pytest.raises(ValueError, match=message):
            source.start(0, indices=np.array(indices, np.int64))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_told() -> None:
    source = loader()
    source.start(0)
    child = os.fork()
    if not child:
        try:
            next(source)
        except NotImplementedError:
            del source
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(epoch(source)[3]) == N
