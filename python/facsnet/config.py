"""What defines a network apart from its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["IMAGENET", "NetworkConfig", "Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """How 8-bit RGB pixels become the numbers a network was trained on: (x / 255 - mean) / std.

    Three finite numbers each, those of ``std`` more than 0; else a ValueError.
    """

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise ValueError(f"{name} is {values!r}, want three finite numbers")
        if not all(s > 0 for s in self.std):
            raise ValueError(f"std is {self.std!r}, want numbers of more than 0")

    def scale_and_shift(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        scale = tuple(1.0 / (255.0 * s) for s in self.std)
        shift = tuple(-m / s for m, s in zip(self.mean, self.std, strict=True))
        return scale, shift


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's pixels, as PyTorch's models want them."""


@dataclass(frozen=True)
class NetworkConfig:
    """What defines a network, apart from its weights; stored with every model."""

    name: str
    labels: tuple[str, ...]
    width: float = 1.0
    input_size: int = 224
    padding: str = "same"
    activation: str = "relu6"
    epsilon: float = 1e-3
    dropout: float = 0.2
    head: str = "action_units"
    preprocessing: Preprocessing = Preprocessing()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        rows = dict(values)
        rows["labels"] = tuple(rows["labels"])
        p = rows.pop("preprocessing")
        return cls(**rows, preprocessing=Preprocessing(tuple(p["mean"]), tuple(p["std"])))
