"""What a model file says of a detector besides its weights, and what a detector has seen."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from facsnet._core import FormatError
from facsnet._plain import from_plain, to_plain
from facsnet.faces import Alignment
from facsnet.history import History
from facsnet.losses import resolve
from facsnet.network import NetworkConfig
from facsnet.samples import Samples

__all__ = ["Description", "image_digests", "parse_model", "write_model"]

_FORMAT = "facsnet.model"
_VERSION = 1


@dataclass(frozen=True)
class Description:
    """A detector apart from its weights; ``arguments`` are those it was made with, ``recipe`` how its faces were cut out."""

    version: int
    network: NetworkConfig
    arguments: Mapping[str, Any]
    thresholds: tuple[float, ...]
    training_subjects: tuple[str, ...]
    training_images: tuple[str, ...]
    history: History
    recipe: Alignment | None = None

    def __post_init__(self) -> None:
        if self.version != _VERSION:
            raise ValueError(f"version is {self.version}, this library knows {_VERSION}")
        if len(self.thresholds) != len(self.network.labels):
            raise ValueError(f"thresholds are {len(self.thresholds)}, the labels {len(self.network.labels)}")
        for i, row in enumerate(self.history.rows):
            for name, value in row.items():
                if value is None:  # a score that is undefined
                    row[name] = math.nan
                elif not isinstance(value, (str, int, float)):
                    raise ValueError(f"history.rows[{i}].{name} is {value!r:.80}, want text or a number")


def write_model(**fields: Any) -> dict[str, str]:
    """The metadata of a model file, from the fields of `Description` less its version."""
    return {_FORMAT: json.dumps(to_plain(Description(_VERSION, **fields)), allow_nan=False)}


def parse_model(path: str | os.PathLike[str], metadata: Mapping[str, str], arguments: Mapping[str, Any]) -> Description:
    """The description in a file's metadata; ``arguments`` has the annotation of every argument.

    Raises
    ------
    FormatError
        There is none, or a field is missing, unknown, of another type or out of its range.
    """

    def constant(text: str) -> NoReturn:
        raise ValueError(f"holds {text}")

    name = os.fspath(path)
    if _FORMAT not in metadata:
        raise FormatError(f"{name}: not a facsnet model: its metadata has no {_FORMAT!r}")
    try:
        table = json.loads(metadata[_FORMAT], parse_constant=constant)
        description: Description = from_plain(Description, table, "description")
        given = {
            key: from_plain(arguments.get(key, _Unknown), value, f"arguments.{key}")
            for key, value in description.arguments.items()
        }
        resolve(given.get("loss", "bce"))
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"{name}: the model's description is damaged: {problem}") from None
    return Description(**{**vars(description), "arguments": given})


class _Unknown:
    """Of an argument that there is not: nothing is an instance."""


def image_digests(samples: Samples) -> list[str]:
    """Per image a name that follows from its bytes alone, wherever its file lies."""
    if samples.paths is not None:
        return [_digest(Path(path).read_bytes()) for path in samples.paths]
    return [_digest(np.ascontiguousarray(image).tobytes()) for image in samples.images]


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
