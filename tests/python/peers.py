"""What the comparisons with PyTorch and Keras share."""

from __future__ import annotations

import numpy as np

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "densenet121", "densenet201", "vgg19")


def images(n: int, size: int, seed: int) -> np.ndarray:
    """8-bit images of coloured squares with noise: unlike noise alone, no two have the same features."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, 256, (n, -(-size // 16), -(-size // 16), 3)).repeat(16, 1).repeat(16, 2)
    x = squares[:, :size, :size] + rng.normal(0, 20, (n, size, size, 3))
    return np.clip(x, 0, 255).astype(np.uint8)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest wanted number."""
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def check_features(found: np.ndarray, wanted: np.ndarray) -> None:
    """To 1e-4, of features that tell the images apart by much more."""
    assert found.shape == wanted.shape
    assert relative(wanted[:1], wanted[1:2]) > 1e-2
    assert relative(found, wanted) < 1e-4
