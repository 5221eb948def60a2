"""Types of the C core. Python code beside the public modules is its only caller."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float32]
_Pixels = NDArray[np.uint8]
_Bits = NDArray[np.uint16]  # of bfloat16
_LossRow = tuple[
    str, float, float, bool, ArrayLike | None, ArrayLike | None, tuple[float, float, float, float, float, bool]
]
_OptimiserRow = tuple[str, float, float, float, float, bool, float, float]
_ScheduleRow = tuple[str, float, float, float, float]

class FormatError(ValueError): ...
class DeviceError(RuntimeError): ...

class _BuildFacts(TypedDict):
    compiler: str
    blas: str
    openmp: int
    instruction_sets: tuple[str, ...]
    threads: int

class _DeviceFacts(TypedDict):
    name: str
    capability: str
    memory_free: int
    memory_total: int
    driver: int

class _LoaderStatistics(TypedDict):
    waited: float
    decoded: int
    cached: int
    skipped: int
    skipped_rows: NDArray[np.int64]
    first_skipped: str

def build_facts() -> _BuildFacts: ...
def kernels_in_use(limit: str | None) -> tuple[str, str] | None: ...

# A device in a plugin, and arrays in its memory; uint16 is the bits of bfloat16.

def device_facts(plugin: str, /) -> _DeviceFacts: ...

@final
class DeviceArray:
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    __cuda_array_interface__: dict[str, object]
    def __new__(cls, array: ArrayLike | DeviceArray, plugin: str) -> DeviceArray: ...
    def __len__(self) -> int: ...
    def numpy(self) -> NDArray[Any]: ...
    def assign(self, array: ArrayLike, /) -> None: ...
    def __dlpack__(
        self, *, stream: object = ..., max_version: object = ..., dl_device: object = ..., copy: object = ...
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

# Images: (h, w, 3) uint8 RGB.

def read_image(path: str | os.PathLike[str], size: int | None = None) -> _Pixels: ...
def decode_image(data: bytes | bytearray | memoryview, size: int | None = None, name: str = ...) -> _Pixels: ...
def resize_image(image: ArrayLike, height: int, width: int) -> _Pixels: ...
def crop_image(image: ArrayLike, height: int, width: int) -> _Pixels: ...
def augment_image(
    image: ArrayLike,
    size: int,
    *,
    crop: tuple[float, ...] = ...,
    flip: bool = False,
    angle: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 1.0,
) -> _Pixels: ...
def align_image(
    image: ArrayLike,
    size: int,
    points: tuple[float, float, float, float],
    targets: tuple[float, float, float, float],
    /,
) -> _Pixels: ...

# Drawn faces; task 0 is action units, 1 the attributes of the small pretrained network.

def draw_faces(
    n: int, seed: int, subjects: int, task: int, threads: int, /
) -> tuple[_Pixels, _Floats, NDArray[np.int64]]: ...
def draw_expression(seed: int, subject: int, intensities: ArrayLike, /) -> _Pixels: ...
def face_labels(task: int, /) -> tuple[str, ...]: ...

# Losses on arrays (n, k).

def loss(
    specification: _LossRow, logits: ArrayLike, target: ArrayLike, mask: ArrayLike | None, /
) -> tuple[float, _Floats]: ...
def sigmoid(logits: ArrayLike, /) -> _Floats: ...

# Metrics on arrays (n, k); results are (k,).

def metric_confusion(
    scores: ArrayLike, target: ArrayLike, threshold: ArrayLike, mask: ArrayLike | None, /
) -> NDArray[np.int64]: ...
def metric_rate(name: str, counts: ArrayLike, /) -> NDArray[np.float64]: ...
def metric_ranking(
    name: str, scores: ArrayLike, target: ArrayLike, mask: ArrayLike | None, /
) -> NDArray[np.float64]: ...
def metric_pr_curve(
    scores: ArrayLike, target: ArrayLike, mask: ArrayLike | None, /
) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]: ...
def metric_shrink_thresholds(
    thresholds: ArrayLike, positives: ArrayLike, strength: float, /
) -> NDArray[np.float64]: ...
def metric_macro_mean(values: ArrayLike, /) -> float: ...
def metric_bootstrap(
    measure: str,
    scores: ArrayLike,
    target: ArrayLike,
    mask: ArrayLike | None,
    threshold: ArrayLike,
    subject: ArrayLike,
    subjects: int,
    draws: int,
    seed: int,
    part: int,
    /,
) -> NDArray[np.float64]: ...
def metric_bootstrap_draws(subjects: int, draws: int, seed: int, part: int, /) -> NDArray[np.int64]: ...
def metric_calibration(
    scores: ArrayLike, target: ArrayLike, mask: ArrayLike | None, bins: int, /
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def metric_cooccurrence(target: ArrayLike, /) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...

# Caches of activations.

def draw_sample(
    labels: ArrayLike, groups: ArrayLike | None, every: int, per_group: int, balanced: bool, seed: int, epoch: int, /
) -> tuple[NDArray[np.int64], int]: ...
def draw_epoch(
    seed: int, epoch: int, table_count: int, flip: float, rows: ArrayLike | None, /
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]: ...
def available_memory() -> int: ...
def expect_rows(values: NDArray[np.generic], rows: ArrayLike, /) -> None: ...

class Network:
    threads: int
    instruction_set: str
    device: str
    def __new__(
        cls,
        name: str,
        labels: int,
        width: float,
        input_size: int,
        padding: str,
        activation: str,
        epsilon: float,
        dropout: float,
        head: str,
        threads: int,
        seed: int,
        cpu: str | None,
        dtype: str,
        plugin: str,
    ) -> Network: ...
    def forward(self, x: ArrayLike | DeviceArray, training: bool = False, seed: int = 0, step: int = 0) -> _Floats: ...
    def features(self, x: ArrayLike | DeviceArray, /) -> _Floats: ...
    def head(self, features: ArrayLike, /) -> _Floats: ...
    def boundary_shape(self, block: str, /) -> tuple[int, int, int]: ...
    def below(self, x: ArrayLike | DeviceArray, block: str, bfloat16: bool, /) -> _Floats | _Bits: ...
    def above(self, values: ArrayLike | DeviceArray, block: str, /) -> _Floats: ...
    def backward(self, dlogits: ArrayLike, /) -> None: ...
    def parameter_rows(self) -> list[tuple[str, str, str, int, _Floats]]: ...
    def gradients(self) -> dict[str, _Floats]: ...
    def touch(self) -> None: ...
    def initialise(self, seed: int, block: str, /) -> None: ...
    def set_pixels(self, scale: Sequence[float], shift: Sequence[float], /) -> None: ...
    def plan_bytes(self, batch: int, training: bool, block: str, recompute: bool, /) -> int: ...
    def node_rows(self) -> list[tuple[str, str, str, tuple[int, int, int], int, int]]: ...
    def block_names(self) -> list[str]: ...

@final
class StageTrainer:
    bytes: int
    def __new__(
        cls,
        network: Network,
        block: str,
        from_boundary: bool,
        stored_statistics: bool,
        rate: float,
        loss: _LossRow,
        optimiser: _OptimiserRow,
        schedule: _ScheduleRow,
        block_rates: ArrayLike | None,
        batch: int,
        seed: int,
        recompute: bool = False,
    ) -> StageTrainer: ...
    def step(
        self,
        x: ArrayLike | DeviceArray,
        target: ArrayLike,
        mask: ArrayLike,
        epoch: float,
        rows: ArrayLike | None = None,
        /,
    ) -> tuple[float, float, float]: ...
    def observe(self, score: float, /) -> None: ...
    def swap_average(self) -> None: ...

@final
class ImageStore:
    nbytes: int
    def __new__(
        cls,
        plugin: str,
        *,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | None,
        paths: Sequence[str | os.PathLike[str]] | None,
        batch: int,
        size: int,
        threads: int,
        seed: int,
        augmentation: tuple[float, float, float, float, float],
        most_bytes: int,
    ) -> ImageStore: ...
    def load(self, count: int, /) -> int: ...
    def start(self, epoch: int, order: ArrayLike, /) -> None: ...
    def next(self, n: int, /) -> DeviceArray: ...
    def __len__(self) -> int: ...

@final
class Loader:
    def __new__(
        cls,
        *,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | None,
        paths: Sequence[str | os.PathLike[str]] | None,
        labels: ArrayLike,
        batch: int,
        size: int,
        workers: int,
        seed: int,
        shuffle: bool,
        augmentation: tuple[float, float, float, float, float],
        cache_bytes: int,
        most_skipped: int,
    ) -> Loader: ...
    def start(self, epoch: int, indices: ArrayLike | None = None, mirror: bool = False) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[_Pixels, _Floats, _Floats, NDArray[np.int64]]]: ...
    def __next__(self) -> tuple[_Pixels, _Floats, _Floats, NDArray[np.int64]]: ...
    def statistics(self) -> _LoaderStatistics: ...
