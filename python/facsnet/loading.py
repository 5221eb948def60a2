"""Samples through the ring of batches and through a network, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet import _core
from facsnet.network import Network
from facsnet.samples import Samples
from facsnet.stages import Augmentation

__all__ = ["Reader", "features_of", "logits_of", "make_loader", "make_store", "progress_bar", "usual_workers"]

FloatArray = npt.NDArray[np.float32]
_CACHE_BYTES = 2 << 30


class _NoBar:
    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, n: int = 1) -> None:
        return None

    def set_postfix(self, **_: object) -> None:
        return None


def progress_bar(total: int, title: str | None, shown: bool | None) -> Any:
    """A tqdm bar; nothing where ``title`` is None or ``shown`` False, by itself on terminals and in notebooks."""
    if title is None or shown is False:
        return _NoBar()
    from tqdm.auto import tqdm

    # disable=None hides the bar where there is no terminal
    return tqdm(total=total, desc=title, leave=False, disable=None if shown is None else False)


def usual_workers(network: Network) -> int:
    """Threads that read images while a network trains: half of its own, or all but one where it is on a GPU."""
    if network.device == "cpu":
        return max(1, network.threads // 2)
    return max(1, _core.build_facts()["threads"] - 1)


def make_loader(
    samples: Samples,
    network: Network,
    *,
    batch: int,
    seed: int = 0,
    workers: int = 1,
    augmentation: Augmentation | None = None,
    shuffle: bool = True,
    most_skipped: int = 0,
) -> _core.Loader:
    """Batches of samples at the network's input size, read by worker threads.

    ``shuffle`` draws the order of every pass, otherwise samples come in order. Batches have at most
    ``batch`` images and differ by at most one. Up to ``most_skipped`` unreadable images are left out
    of a pass; one more is an error.
    """
    images, paths = samples.images, samples.paths
    return _core.Loader(
        images=images if paths is None else None,
        paths=paths,
        labels=samples.labels,
        batch=batch,
        size=network.input_size,
        workers=workers,
        seed=seed,
        shuffle=shuffle,
        augmentation=_ranges(augmentation or Augmentation.none()),
        cache_bytes=_CACHE_BYTES,
        most_skipped=most_skipped,
    )


def make_store(
    samples: Samples,
    network: Network,
    *,
    batch: int,
    seed: int,
    workers: int,
    augmentation: Augmentation,
    most_bytes: int,
) -> _core.ImageStore:
    """The same batches without their labels, for a network on a GPU: variants of decoded images that stay there.

    Its ``load`` is a MemoryError where the images would be more than ``most_bytes``.
    """
    images, paths = samples.images, samples.paths
    return _core.ImageStore(
        network.plugin,
        images=images if paths is None else None,
        paths=paths,
        batch=batch,
        size=network.input_size,
        threads=workers,
        seed=seed,
        augmentation=_ranges(augmentation),
        most_bytes=most_bytes,
    )


def _ranges(a: Augmentation) -> tuple[float, float, float, float, float]:
    return (a.crop**2, a.flip, a.rotation, a.brightness, a.contrast)


class Reader:
    """Samples in their order through a network, as often as wanted: decoded images are kept.

    Parameters
    ----------
    network : Network
    samples : Samples
    workers : int, optional
        None is one, which reads while the CPU runs the network; for a GPU as many as train.
    batch : int
    progress : bool, optional
        Show bars, see `progress_bar`.
    between : callable, optional
        Called between batches; what it raises ends the pass.
    """

    def __init__(
        self,
        network: Network,
        samples: Samples,
        *,
        workers: int | None = None,
        batch: int = 64,
        progress: bool | None = None,
        between: Callable[[], None] | None = None,
    ) -> None:
        self.network, self.count, self.progress, self.between = network, len(samples), progress, between
        if workers is None:
            workers = 1 if network.device == "cpu" else usual_workers(network)
        self.loader = make_loader(samples, network, batch=min(batch, len(samples)), workers=workers, shuffle=False)

    def features(self, *, flip: bool = False, title: str | None = None) -> FloatArray:
        """Features (n, c), of mirrored images where ``flip``; ``title`` is the bar's."""
        return self._collect(self.network.features, flip, title)

    def pixels(self, out: npt.NDArray[np.uint8], *, flip: bool = False, title: str | None = None) -> None:
        """Fills ``out`` (n, h, w, 3) with the images as the network sees them."""
        self._collect(lambda x: x, flip, title, out)

    def logits(self, *, flip: bool = False, title: str | None = None) -> FloatArray:
        """Logits (n, k)."""
        return self._collect(self.network.forward, flip, title)

    def boundary(self, block: str, out: npt.NDArray[Any], *, flip: bool = False, title: str | None = None) -> None:
        """Fills ``out`` (n, h, w, c) with the values that enter a block: float32, or uint16 for bfloat16."""
        bfloat16 = out.dtype == np.uint16
        self._collect(lambda x: self.network._core.below(x, block, bfloat16), flip, title, out)

    def _collect(
        self,
        run: Callable[[Any], npt.NDArray[Any]],
        flip: bool,
        title: str | None,
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        self.loader.start(0, mirror=flip)
        with progress_bar(self.count, title, self.progress) as bar:
            for x, _, _, index in self.loader:
                rows = run(x)
                if out is None:
                    out = np.empty((self.count, rows.shape[1]), np.float32)
                out[index] = rows
                bar.update(len(index))
                if self.between is not None:
                    self.between()
        assert out is not None
        return out


def features_of(
    network: Network,
    samples: Samples,
    *,
    flip: bool = False,
    workers: int = 1,
    progress: str | None = None,
    batch: int = 64,
) -> FloatArray:
    """Features (n, c) of all samples, mirrored where ``flip``; ``progress`` titles a bar."""
    return Reader(network, samples, workers=workers, batch=batch).features(flip=flip, title=progress)


def logits_of(
    network: Network,
    samples: Samples,
    *,
    flip: bool = False,
    workers: int = 1,
    progress: str | None = None,
    batch: int = 64,
) -> FloatArray:
    """Logits (n, k) of all samples."""
    return Reader(network, samples, workers=workers, batch=batch).logits(flip=flip, title=progress)
