"""Small networks and files of their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import facsnet as fn
from facsnet._safetensors import write_safetensors


def small(name: str, **options: Any) -> fn.Network:
    return fn.Network(name, **{"labels": 3, "width": 0.0625, "input_size": 64, "seed": 1, "threads": 1, **options})


def nothing_neutral(network: fn.Network, seed: int = 0) -> fn.Network:
    rng = np.random.default_rng(seed)
    for value in network.parameters().values():
        value[...] = rng.normal(1.0, 0.3, value.shape)
        np.abs(value, out=value)
    network.touch()
    return network


def frozen(network: fn.Network) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in network.parameters().items()}


def write(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    write_safetensors(path, tensors, metadata)
    return path
