"""Where the batches of a stage come from: images that vary, pixels or activations that are kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facsnet import _core
from facsnet._cache import Cache, byte_text
from facsnet._device import free_memory
from facsnet.loading import make_loader, make_store, progress_bar
from facsnet.network import Network
from facsnet.samples import Samples

if TYPE_CHECKING:
    from facsnet._stage_run import StageRun

__all__ = [
    "Batch",
    "CachedBatches",
    "ImageBatches",
    "PixelBatches",
    "VariedBatches",
    "pixels_fit",
    "pixels_on_gpu",
]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass
class Batch:
    """``rows`` of ``x``, or all of it."""

    x: npt.NDArray[Any] | _core.DeviceArray
    target: FloatArray
    mask: FloatArray
    rows: IntArray | None = None


class ImageBatches:
    """Augmented images, for a stage that runs the network from below the head."""

    def __init__(self, run: StageRun) -> None:
        t = run.trainer
        self.loader = make_loader(
            run.train,
            run.network,
            batch=t.batch_size,
            seed=t.seed,
            workers=t.workers,
            augmentation=run.stage.augmentation,
        )
        self.plugin = run.network.plugin

    def epoch(self, epoch: int, rows: IntArray | None) -> Iterator[Batch]:
        self.loader.start(epoch, rows)
        return _uploaded(self.loader, self.plugin) if self.plugin else _plain(self.loader)


def _plain(loader: _core.Loader) -> Iterator[Batch]:
    for pixels, target, mask, _ in loader:
        yield Batch(pixels, target, mask)


def _uploaded(loader: _core.Loader, plugin: str) -> Iterator[Batch]:
    """The same on the GPU: a batch travels while the step before it runs, which has read its own when it returns."""
    places: dict[tuple[int, int], _core.DeviceArray] = {}

    def bring(turn: int) -> Batch | None:
        batch = next(loader, None)
        if batch is None:
            return None
        pixels, target, mask, _ = batch
        place = (turn, len(pixels))
        if place in places:
            places[place].assign(pixels)
        else:
            places[place] = _core.DeviceArray(pixels, plugin)
        return Batch(places[place], target, mask)

    with ThreadPoolExecutor(1) as pool:
        turn = 0
        coming = pool.submit(bring, turn)
        try:
            while (batch := coming.result()) is not None:
                turn = 1 - turn
                coming = pool.submit(bring, turn)
                yield batch
        finally:
            del coming  # its exception has this frame, which keeps the GPU's memory


class _KeptBatches:
    """Versions of every image that are made once; drawn as the loader draws images.

    Rows are the plain images and the mirrored ones, as far as they are wanted. They lie in the memory
    of the network's GPU where there is room.
    """

    values: npt.NDArray[Any] | _core.DeviceArray
    valid: npt.NDArray[Any] | _core.DeviceArray

    def __init__(self, run: StageRun) -> None:
        flip = run.stage.augmentation.flip
        self.seed, self.flip, self.steps, self.count = run.trainer.seed, flip, run.steps, len(run.train)
        self.labels, self.mask = _known(run.train.labels)
        self.versions = [False] * (flip < 1) + [True] * (flip > 0)
        self.kinds = " and ".join("mirrored" if mirrored else "plain" for mirrored in self.versions)
        self.stride = self.count if len(self.versions) == 2 else 0

    def expect(self, rows: npt.NDArray[np.int64]) -> None:
        """Called before rows are wanted."""

    def epoch(self, epoch: int, rows: IntArray | None) -> Iterator[Batch]:
        order, mirrored = _core.draw_epoch(self.seed, epoch, self.count, self.flip, rows)
        batches = np.array_split(order, self.steps)
        places = np.array_split(order + self.stride * mirrored, self.steps)
        self.expect(places[0])
        for i, images in enumerate(batches):
            if i + 1 < self.steps:
                self.expect(places[i + 1])
            yield Batch(self.values, self.labels[images], self.mask[images], places[i])


class CachedBatches(_KeptBatches):
    """What enters the first trained block; ``valid`` is the same of the validation part."""

    def __init__(self, run: StageRun) -> None:
        super().__init__(run)
        t, first = run.trainer, len(self.versions) * self.count
        cache = Cache(
            first + (0 if run.valid is None else len(run.valid)),
            run.network._core.boundary_shape(run.block),
            dtype=run.stage.cache_dtype or ("float32" if run.block == "head" else "bfloat16"),
            limit=t.cache_limit,
            folder=t.cache_folder,
        )
        reader, what = run.reader(run.train), "features" if run.block == "head" else "activations"
        for i, mirrored in enumerate(self.versions):
            title = run.title(f"mirrored training {what}" if mirrored else f"training {what}")
            rows = cache.values[i * self.count : (i + 1) * self.count]
            reader.boundary(run.block, rows, flip=mirrored, title=title)
        if run.valid is not None:
            run.reader(run.valid).boundary(run.block, cache.values[first:], title=run.title(f"validation {what}"))
        place = cache.place
        if has_room(run.network, cache.bytes):
            self.values = _core.DeviceArray(cache.values[:first], run.network.plugin)
            self.valid = _core.DeviceArray(cache.values[first:], run.network.plugin)
            place = "on the GPU"
        else:
            self.values, self.valid, self.cache = cache.values, cache.values[first:], cache
        run.note(
            f"the frozen blocks ran once per image; {run.block} trains on cached {self.kinds} activations: "
            f"{byte_text(cache.bytes)} of {cache.dtype} {place}"
        )

    def expect(self, rows: npt.NDArray[np.int64]) -> None:
        if isinstance(self.values, np.ndarray):
            self.cache.expect(rows)


class PixelBatches(_KeptBatches):
    """Pixels that stay on the GPU, for images of which nothing but mirroring is varied."""

    def __init__(self, run: StageRun) -> None:
        super().__init__(run)
        shape = (self.count, *_image_shape(run.network))
        pixels = np.empty((len(self.versions) * self.count, *shape[1:]), np.uint8)
        reader = run.reader(run.train)
        for i, mirrored in enumerate(self.versions):
            title = run.title("mirrored images" if mirrored else "images")
            reader.pixels(pixels[i * self.count : (i + 1) * self.count], flip=mirrored, title=title)
        self.values = _core.DeviceArray(pixels, run.network.plugin)
        if run.valid is not None:
            self.valid = pixels_on_gpu(run, run.valid)
        run.note(f"the {self.kinds} images stay on the GPU: {byte_text(self.values.nbytes)}")

    @staticmethod
    def suit(run: StageRun) -> bool:
        """Whether they can be kept, and are read more than once."""
        if not (_are_read_again(run) and run.stage.augmentation.is_fixed):
            return False
        return pixels_fit(run.network, 2 * len(run.train) + (0 if run.valid is None else len(run.valid)))


class VariedBatches:
    """Random variants of images that stay on the GPU, made there as the loader makes them."""

    def __init__(self, run: StageRun) -> None:
        t, network = run.trainer, run.network
        self.seed, self.steps, self.count = t.seed, run.steps, len(run.train)
        self.labels, self.mask = _known(run.train.labels)
        self.most = free_memory() // 2
        self.store = make_store(
            run.train,
            network,
            batch=t.batch_size,
            seed=t.seed,
            workers=t.workers,
            augmentation=run.stage.augmentation,
            most_bytes=self.most,
        )
        self._load(run)
        run.note(f"the images stay on the GPU and are varied there: {byte_text(self.store.nbytes)}")

    def epoch(self, epoch: int, rows: IntArray | None) -> Iterator[Batch]:
        order, _ = _core.draw_epoch(self.seed, epoch, self.count, 0.0, rows)
        self.store.start(epoch, order)
        for images in np.array_split(order, self.steps):
            yield Batch(self.store.next(len(images)), self.labels[images], self.mask[images])

    def _load(self, run: StageRun) -> None:
        """Decodes all images; MemoryError as soon as those of the first files would be far too many."""
        loaded = 0
        with progress_bar(self.count, run.title("images"), run.trainer.progress) as bar:
            while loaded < self.count:
                run.interrupts.check()
                before, loaded = loaded, self.store.load(256)
                bar.update(loaded - before)
                if self.store.nbytes / loaded * self.count > 2 * self.most:
                    raise MemoryError(f"the decoded images take far more than {byte_text(self.most)}")

    @staticmethod
    def of(run: StageRun) -> VariedBatches | None:
        """None where images are not varied, are read but once, or do not fit."""
        if run.stage.augmentation.is_fixed or not _are_read_again(run):
            return None
        try:
            return VariedBatches(run)
        except (MemoryError, NotImplementedError) as problem:
            run.note(f"images are varied on the CPU: {problem}")
            return None


def _are_read_again(run: StageRun) -> bool:
    """Whether a network on a GPU reads its images twice or more, so that it is worth while to keep all of them there."""
    return run.network.device != "cpu" and run.stage.epochs * run.drawn >= 2 * len(run.train)


def pixels_fit(network: Network, images: int) -> bool:
    """Whether that many images of the network's input size fit on its GPU, and on their way there in the host's memory."""
    size = images * math.prod(_image_shape(network))
    return has_room(network, size) and size <= _core.available_memory() // 2


def has_room(network: Network, size: int) -> bool:
    """Whether a network runs on a GPU that would have as many bytes free as were kept there."""
    return network.device != "cpu" and size <= free_memory() // 2


def pixels_on_gpu(run: StageRun, valid: Samples) -> _core.DeviceArray:
    pixels = np.empty((len(valid), *_image_shape(run.network)), np.uint8)
    run.reader(valid).pixels(pixels, title=run.title("validation images"))
    return _core.DeviceArray(pixels, run.network.plugin)


def _image_shape(network: Network) -> tuple[int, int, int]:
    return (network.input_size, network.input_size, 3)


def _known(labels: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    values = np.asarray(labels, np.float32)
    mask = ~np.isnan(values)
    return np.where(mask, values, np.float32(0)), mask.astype(np.float32)
