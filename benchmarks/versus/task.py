"""What a peer is asked to do, and what every peer can be asked."""

from __future__ import annotations

import ctypes
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

LABELS = 16
RATE = 1e-5


class Absent(Exception):
    """The peer is not installed, or cannot do this; the text says which."""


@dataclass(frozen=True)
class Task:
    """One network in one mode for one peer at one setting; travels to the peer's process as JSON.

    Attributes
    ----------
    kind : str
        Which peer: a key of `process.MAKERS`.
    job : {"infer", "train", "partial"}
    folder : str
        Where `draws` put weights and images.
    options : mapping
        The peer's own, of the setting.
    """

    kind: str
    network: str
    job: str
    dtype: str
    batch: int
    size: int
    width: float
    threads: int
    folder: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def path(self, name: str) -> Path:
        """Of a file of `draws`, such as "weights.npz", for this dtype."""
        stem, dot, kind = name.partition(".")
        return Path(self.folder) / f"{stem}{'' if self.dtype == 'float32' else '_bf16'}{dot}{kind}"

    def load(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.path(name)) as file:
            return {key: file[key] for key in file.files}

    @property
    def chunk(self) -> int:
        """Images that go through the network at once in inference."""
        return min(self.batch, int(self.options.get("chunk") or self.batch))

    def images(self) -> FloatArray:
        """The images that are timed, scaled, NHWC."""
        return _array(str(Path(self.folder) / "images.npy"))[: self.batch]

    def targets(self) -> FloatArray:
        rng = np.random.default_rng(self.batch)
        return (rng.random((self.batch, LABELS)) < 0.2).astype(np.float32)


@functools.cache
def _array(path: str) -> FloatArray:
    return np.load(path)


class Peer(Protocol):
    """A network in memory, ready to run.

    One that is not quite the network of `draws` has `wanted_logits`, and its gradients come with what is
    wanted under the same names after "wanted:".
    """

    def run(self) -> float | None:
        """One batch of inference or one step of training; seconds where the peer measures itself."""
        ...

    def logits(self) -> FloatArray:
        """Of the images that are timed."""
        ...

    def gradients(self) -> dict[str, np.ndarray]:
        """Of the loss for the images and weights of check.npz, under PyTorch's names and in its layout."""
        ...


def chunks(x: FloatArray, size: int) -> Sequence[FloatArray]:
    return [np.ascontiguousarray(x[i : i + size]) for i in range(0, len(x), size)]


def release_memory() -> None:
    """Gives what the allocator keeps back to the system, whichever allocator it is."""
    process = ctypes.CDLL(None)
    if hasattr(process, "MallocExtension_ReleaseFreeMemory"):
        process.MallocExtension_ReleaseFreeMemory()
    elif hasattr(process, "mallctl"):
        process.mallctl(b"arena.4096.purge", None, None, None, 0)
    else:
        process.malloc_trim(0)
