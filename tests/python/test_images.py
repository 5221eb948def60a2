"""Image files and arrays against Pillow."""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import facsnet as fn

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from make_image_corpus import pattern, write_corpus

DATA = Path(os.environ.get("FACSNET_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
BILINEAR = Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = write_corpus(tmp_path_factory.mktemp("images"))
    return {path.name: path for path in paths}


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo(height: int = 120, width: int = 160) -> np.ndarray:
    """Smooth shapes with a little noise, as JPEG expects them."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-4, 5, smooth.shape), 0, 255).astype(np.uint8)


LOSSLESS = [
    "rgb.png", "rgba.png", "grey.png", "grey_alpha.png", "palette.png", "transparent_palette.png",
    "bilevel.png", "rgb.bmp", "rgba.bmp", "grey.bmp", "palette.bmp", "bilevel.bmp",
]  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_equal_pillow(corpus: dict[str, Path], name: str) -> None:
    with Image.open(corpus[name]) as image:
        # Convert in two steps where alpha would otherwise be composited.
        want = np.asarray(image.convert("RGBA").convert("RGB"))
    got = fn.read_image(corpus[name])
    assert got.dtype == np.uint8 and got.flags.c_contiguous
    np.testing.assert_array_equal(got, want)


def test_16_bit_png_keeps_the_high_byte() -> None:
    deep = np.arange(0, 65536, 331, dtype=np.uint16).reshape(-1, 6)[:30]
    got = fn.decode_image(encode(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(got, np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, 2))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 95, "subsampling": 0},
        {"subsampling": 1},
        {"progressive": True},
        {"progressive": True, "quality": 30},
        {"restart_marker_blocks": 3},
        {"restart_marker_rows": 1, "progressive": True},
        {"optimize": True},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_close_to_pillow(mode: str, options: dict[str, object]) -> None:
    data = encode(Image.fromarray(photo()).convert(mode), "JPEG", **options)
    got = fn.decode_image(data).astype(int)
    with Image.open(io.BytesIO(data)) as image:
        want = np.asarray(image.convert("RGB")).astype(int)
    # Both decoders round the inverse cosine transform, the chroma between samples and the colours
    # in their own way; the mean shows that nothing is shifted.
    assert np.abs(got - want).max() <= 6
    assert np.abs(got - want).mean() < 0.3


def test_cmyk_jpeg(corpus: dict[str, Path]) -> None:
    with Image.open(corpus["cmyk.jpg"]) as image:
        want = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(fn.read_image(corpus["cmyk.jpg"]).astype(int) - want).max() <= 6


def test_palette_shorter_than_its_indices_reads_black() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 3, 0, 0, 0))
    data += chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6])) + chunk(b"IDAT", zlib.compress(b"\0\0\1\xfa"))
    got = fn.decode_image(data + chunk(b"IEND", b""))
    np.testing.assert_array_equal(got, [[[1, 2, 3], [4, 5, 6], [0, 0, 0]]])


@pytest.mark.parametrize(
    "name", [*LOSSLESS, "deep.png", "baseline.jpg", "restarts.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg"]
)
def test_every_prefix_is_refused(corpus: dict[str, Path], name: str) -> None:
    data = corpus[name].read_bytes()
    for size in range(len(data)):
        with pytest.raises(fn.FormatError, match=name):
            fn.decode_image(data[:size], name=name)
    fn.decode_image(data, name=name)


def test_truncated_file_is_refused_with_its_path(tmp_path: Path) -> None:
    data = encode(Image.fromarray(photo()), "JPEG", exif=b"Exif\0\0" + b"\xff\xd9" * 20)
    path = tmp_path / "cut.jpg"
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        with pytest.raises(fn.FormatError, match=r"cut\.jpg: (truncated|the file is empty|not a JPEG)"):
            fn.read_image(path)


@pytest.mark.parametrize("name", ["rgb.png", "palette.png", "bilevel.png"])
def test_every_bit_flip_of_a_png_is_refused(corpus: dict[str, Path], name: str) -> None:
    data = corpus[name].read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(fn.FormatError):
            fn.decode_image(damaged)


def drop(data: bytes, marker: int) -> bytes:
    """Cut the segments of one kind out of a JPEG's headers."""
    kept, at = bytearray(data[:2]), 2
    while data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != marker:
            kept += data[at : at + length]
        at += length
    return bytes(kept + data[at:])


@pytest.mark.parametrize(
    ("marker", "reason"),
    [(0xC4, "Huffman table"), (0xDB, "quantisation table"), (0xC0, "before the frame header")],
)
def test_jpeg_without_a_table_is_refused(marker: int, reason: str) -> None:
    data = encode(Image.fromarray(photo()), "JPEG")
    np.testing.assert_array_equal(fn.decode_image(drop(data, 0xE0)).shape, photo().shape)
    with pytest.raises(fn.FormatError, match=reason):
        fn.decode_image(drop(data, marker))


def test_jpeg_with_lost_data_is_refused() -> None:
    data = encode(Image.fromarray(photo()), "JPEG", restart_marker_blocks=2)
    start = data.index(b"\xff\xd3")
    with pytest.raises(fn.FormatError, match="restart marker"):
        fn.decode_image(data[:start] + data[start + 40 :])
    with pytest.raises(fn.FormatError, match="too little image data"):
        fn.decode_image(encode(Image.fromarray(photo()), "JPEG")[:700] + b"\xff\xd9")


@pytest.mark.parametrize("name", ["baseline.jpg", "full_chroma.jpg", "grey.jpg", "cmyk.jpg", "restarts.jpg"])
def test_sequential_jpeg_closed_too_early_is_refused(corpus: dict[str, Path], name: str) -> None:
    # An end marker behind any prefix looks like a whole file; its blocks are too few.
    data = corpus[name].read_bytes()
    for size in range(2, len(data) - 2):
        with pytest.raises(fn.FormatError, match="corrupt JPEG|truncated JPEG"):
            fn.decode_image(data[:size] + b"\xff\xd9")


def test_most_losses_inside_a_sequential_jpeg_are_refused() -> None:
    data = encode(Image.fromarray(photo()), "JPEG", quality=90)
    start = data.index(b"\xff\xda") + 14
    cuts = range(start, len(data) - 102, 7)
    refused = 0
    for cut in cuts:
        try:
            fn.decode_image(data[:cut] + data[cut + 100 :])
        except fn.FormatError:
            refused += 1
    # A JPEG has no checksum: a loss that happens to leave the count of blocks right is not seen.
    assert refused > 0.9 * len(cuts), f"{refused} of {len(cuts)}"


def test_png_that_unpacks_to_more_than_its_header_says_is_refused() -> None:
    data = encode(Image.fromarray(pattern(4, 4)), "PNG")
    bomb = zlib.compress(bytes(50_000_000), 9)
    kind = b"IDAT" + bomb
    chunk = struct.pack(">I", len(bomb)) + kind + struct.pack(">I", zlib.crc32(kind))
    with pytest.raises(fn.FormatError, match="unpacks to more"):
        fn.decode_image(data[:33] + chunk + data[-12:])


def test_bytes_behind_the_image_are_ignored(corpus: dict[str, Path]) -> None:
    for name in ("rgb.png", "baseline.jpg", "rgb.bmp"):
        data = corpus[name].read_bytes()
        np.testing.assert_array_equal(fn.decode_image(data + b"tail"), fn.decode_image(data))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        fn.read_image(tmp_path / "missing.png")
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value.filename) == str(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError):
        fn.read_image(str(tmp_path))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match=r"pipe\.png"):
        fn.read_image(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(fn.FormatError, match="empty.png: the file is empty"):
        fn.read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(fn.FormatError, match="not a JPEG, PNG or BMP"):
        fn.read_image(tmp_path / "text.png")


@pytest.mark.parametrize(
    "call",
    [
        lambda a: fn.read_image(3.5),
        lambda a: fn.decode_image("text"),
        lambda a: fn.decode_image(b"", size="big"),
        lambda a: fn.resize_image(a.astype(np.float32), 4, 4),
        lambda a: fn.augment_image(a, 4, crop=(0, 0, 1)),
    ],
)
def test_wrong_types(call) -> None:
    with pytest.raises(TypeError):
        call(pattern(8, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: fn.decode_image(b"", size=0), "size: is 0"),
        (lambda a: fn.decode_image(b"", size=10**30), "size: is 1000"),
        (lambda a: fn.resize_image(a[..., 0], 4, 4), r"image: shape is \(8, 8\)"),
        (lambda a: fn.resize_image(a[:0], 4, 4), "image: is 0 x 8"),
        (lambda a: fn.resize_image(a, 0, 4), "height, width: are 0, 4"),
        (lambda a: fn.crop_image(a, 9, 4), "9 x 4 does not fit"),
        (lambda a: fn.augment_image(a, 4, crop=(0.5, 0, 0.6, 1)), "crop: box"),
        (lambda a: fn.augment_image(a, 4, crop=(0, 0, 0, 1)), "crop: box"),
        (lambda a: fn.augment_image(a, 4, brightness=-1), "brightness: is -1"),
        (lambda a: fn.augment_image(a, 4, contrast=float("nan")), "contrast: is"),
        (lambda a: fn.augment_image(a, 4, angle=float("inf")), "angle: is inf"),
    ],
)
def test_wrong_values(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(pattern(8, 8))


SIZES = [
    (48, 48, 224, 224), (37, 53, 224, 224), (1, 1, 7, 9), (5, 3, 5, 4), (64, 64, 64, 64),
    (61, 300, 77, 31), (224, 500, 224, 224),
]  # fmt: skip


@pytest.mark.parametrize(("h", "w", "height", "width"), SIZES)
def test_resize_equals_pillow(h: int, w: int, height: int, width: int) -> None:
    image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
    want = np.asarray(Image.fromarray(image).resize((width, height), BILINEAR))
    np.testing.assert_array_equal(fn.resize_image(image, height, width), want)


@pytest.mark.parametrize(
    ("h", "w", "height", "width"), [(500, 333, 13, 400), (301, 333, 77, 50), (768, 1024, 224, 224), (5, 3, 1, 1)]
)
def test_reduction_is_within_one_level_of_pillow(h: int, w: int, height: int, width: int) -> None:
    # Pillow 13 takes rows first in some reductions: the rounding between the passes differs.
    image = np.random.default_rng(h).integers(0, 256, (h, w, 3), dtype=np.uint8)
    want = np.asarray(Image.fromarray(image).resize((width, height), BILINEAR)).astype(int)
    assert np.abs(fn.resize_image(image, height, width) - want).max() <= 1


def test_read_with_a_size_resizes(corpus: dict[str, Path]) -> None:
    whole = fn.read_image(str(corpus["rgb.png"]))
    np.testing.assert_array_equal(fn.read_image(corpus["rgb.png"], size=31), fn.resize_image(whole, 31, 31))
    np.testing.assert_array_equal(fn.decode_image(corpus["rgb.png"].read_bytes(), 31), fn.resize_image(whole, 31, 31))


def test_strided_input() -> None:
    image = pattern(20, 30)[::2, ::-1]
    np.testing.assert_array_equal(fn.resize_image(image, 7, 7), fn.resize_image(image.copy(), 7, 7))


@pytest.mark.parametrize("name", ["bird.bmp", "cat.bmp", "grace_hopper.bmp", "hot_dog.jpg", "sunflower.bmp"])
def test_photos_as_the_reference_sees_them(name: str) -> None:
    path = DATA / "photos" / name
    if not path.exists():
        pytest.skip(f"needs private test data: {path} is missing (set FACSNET_DATA)")
    with Image.open(path) as image:
        want = np.asarray(image.convert("RGB").resize((224, 224), BILINEAR)).astype(int)
    assert np.abs(fn.read_image(path, size=224) - want).max() <= 1


def test_crop_image() -> None:
    image = pattern(9, 12)
    np.testing.assert_array_equal(fn.crop_image(image, 4, 6), image[2:6, 3:9])
    np.testing.assert_array_equal(fn.crop_image(image, 9, 12), image)


def test_augment_with_defaults_is_resize() -> None:
    image = photo()
    np.testing.assert_array_equal(fn.augment_image(image, 99), fn.resize_image(image, 99, 99))


def test_augment_crop_equals_pillow_box() -> None:
    image = photo(120, 160)
    want = np.asarray(Image.fromarray(image).resize((50, 50), BILINEAR, box=(40, 30, 120, 75)))
    got = fn.augment_image(image, 50, crop=(0.25, 0.25, 0.5, 0.375))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [32, 33])
def test_quarter_turns_and_flips_are_exact(size: int) -> None:
    image = fn.resize_image(photo(), size, size)
    for turns in range(-3, 5):
        np.testing.assert_array_equal(fn.augment_image(image, size, angle=90 * turns), np.rot90(image, turns))
    np.testing.assert_array_equal(fn.augment_image(image, size, flip=True), image[:, ::-1])


def test_rotation_agrees_with_interpolation_in_double() -> None:
    size, angle = 41, np.deg2rad(17)
    image = fn.resize_image(photo(), size, size)
    c = (size - 1) / 2
    y, x = np.mgrid[:size, :size] - c
    sx = np.clip(np.cos(angle) * x - np.sin(angle) * y + c, 0, size - 1)
    sy = np.clip(np.sin(angle) * x + np.cos(angle) * y + c, 0, size - 1)
    x0, y0 = sx.astype(int), sy.astype(int)
    x1, y1 = np.minimum(x0 + 1, size - 1), np.minimum(y0 + 1, size - 1)
    fx, fy = (sx - x0)[..., None], (sy - y0)[..., None]
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    want = top * (1 - fy) + (image[y1, x0] * (1 - fx) + image[y1, x1] * fx) * fy
    # Half a level of rounding and the 10 bits of the weights.
    assert np.abs(fn.augment_image(image, size, angle=17) - want).max() <= 0.8


@pytest.mark.parametrize("factor", [0, 0.5, 0.9, 1.3, 4])
def test_brightness_and_contrast(factor: float) -> None:
    image = fn.resize_image(photo(), 40, 40)
    bright = np.clip(image.astype(float) * factor, 0, 255)
    assert np.abs(fn.augment_image(image, 40, brightness=factor) - bright).max() <= 0.5
    grey = (image @ [0.299, 0.587, 0.114]).mean()
    stretched = np.clip(grey + factor * (image - grey), 0, 255)
    assert np.abs(fn.augment_image(image, 40, contrast=factor) - stretched).max() <= 0.5 + 1e-9
