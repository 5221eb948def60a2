"""Write a small seed corpus of image files (drawn patterns only) into a folder.

Usage: python tests/fuzz/make_image_corpus.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def pattern(height: int, width: int) -> np.ndarray:
    """Return a smooth colour pattern of shape (height, width, 3), dtype uint8."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=-1).astype(np.uint8)


def write_corpus(folder: Path) -> list[Path]:
    """Write every variant a decoder treats differently, each a few hundred bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rgb = Image.fromarray(pattern(19, 23))
    grey = rgb.convert("L")
    alpha = rgb.convert("RGBA")
    alpha.putalpha(grey)
    deep = Image.fromarray(pattern(9, 7)[..., 2].astype(np.uint16) * 257)
    variants = {
        "rgb.png": (rgb, {}),
        "rgba.png": (alpha, {}),
        "grey.png": (grey, {}),
        "grey_alpha.png": (alpha.convert("LA"), {}),
        "palette.png": (rgb.quantize(7), {}),
        "transparent_palette.png": (rgb.quantize(16), {"transparency": 3}),
        "bilevel.png": (rgb.convert("1"), {}),
        "deep.png": (deep, {}),
        "baseline.jpg": (rgb, {"quality": 80}),
        "full_chroma.jpg": (rgb, {"quality": 90, "subsampling": 0}),
        "restarts.jpg": (rgb, {"quality": 80, "restart_marker_blocks": 1}),
        "progressive.jpg": (rgb, {"quality": 80, "progressive": True}),
        "grey.jpg": (grey, {"quality": 80}),
        "cmyk.jpg": (rgb.convert("CMYK"), {"quality": 80}),
        "rgb.bmp": (rgb, {}),
        "rgba.bmp": (alpha, {}),
        "grey.bmp": (grey, {}),
        "palette.bmp": (rgb.quantize(16), {}),
        "bilevel.bmp": (rgb.convert("1"), {}),
    }
    paths = []
    for name, (image, options) in variants.items():
        image.save(folder / name, **options)
        paths.append(folder / name)
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for written in write_corpus(Path(sys.argv[1])):
        print(written)
