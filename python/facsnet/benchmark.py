"""How fast this machine runs and trains a network, and in how much memory."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet._interrupts import Interrupts
from facsnet._stage_run import StageRun
from facsnet.network import Network, check_memory
from facsnet.samples import Samples
from facsnet.stages import Augmentation, Stage
from facsnet.training import Trainer

__all__ = ["Benchmark", "Measurement", "benchmark", "training_step"]


@dataclass(frozen=True)
class Measurement:
    """The speed of one kind of work.

    Attributes
    ----------
    network : str
    work : {"inference", "fine-tuning"}
    dtype : {"float32", "bfloat16"}
        Of the network.
    device : {"cpu", "cuda"}
        Where it ran.
    batch : int
        Images of a run.
    runs : int
        How often it ran; one run before these is not counted.
    images_per_second : float
        Of the median run.
    interval : (float, float)
        Images per second of the slowest and the fastest tenth of the runs.
    gflops : float
        1e9 additions and multiplications per second, as many as the layers' definitions have; a step of
        fine-tuning counts as three forward passes.
    memory : int
        Working memory in bytes, see `Network.plan_bytes`; parameters and what Adam keeps come on top.
    """

    network: str
    work: str
    dtype: str
    device: str
    batch: int
    runs: int
    images_per_second: float
    interval: tuple[float, float]
    gflops: float
    memory: int


class Benchmark(list[Measurement]):
    """Measurements; prints as a table."""

    def __repr__(self) -> str:
        head = f"{'network':<16}{'work':<14}{'dtype':<10}{'device':<8}{'batch':>6}{'img/s':>10}{'10% - 90%':>20}{'GFLOP/s':>10}{'memory, GB':>12}"
        rows = [
            f"{m.network:<16}{m.work:<14}{m.dtype:<10}{m.device:<8}{m.batch:>6}{m.images_per_second:>10.1f}"
            f"{m.interval[0]:>11.1f} -{m.interval[1]:>7.1f}{m.gflops:>10.1f}{m.memory / 1e9:>12.2f}"
            for m in self
        ]
        return "\n".join([head, *rows])

    def to_rows(self) -> list[dict[str, Any]]:
        """A dict per measurement, of what JSON can hold."""
        return [asdict(m) for m in self]


def benchmark(
    network: Network,
    *,
    batch: int = 64,
    seconds: float = 3.0,
    unfreeze: str = "all",
    training: bool = True,
    memory: str = "normal",
    dtype: str | None = None,
    device: str | None = None,
) -> Benchmark:
    """Measures inference of a batch and of one image, and fine-tuning with Adam.

    The network's weights do not change in the end. Images are noise: speed does not depend on them. On a
    GPU they lie in its memory before anything is measured.

    Parameters
    ----------
    network : Network
    batch : int
        Images of a run, at least 2 with ``training``.
    seconds : float
        How long each kind of work is measured, at least three runs of it.
    unfreeze : str
        What fine-tuning trains: ``"all"`` or everything from a block of `Network.blocks`.
    training : bool
        False leaves fine-tuning out, and the memory it takes.
    memory : {"normal", "low"}
        Of fine-tuning, see `Trainer`.
    dtype : {"float32", "bfloat16"}, optional
        Measures a network of this dtype that is otherwise the same. None is the network's own.
    device : {"cpu", "cuda", "auto"}, optional
        The same of the device.

    Returns
    -------
    Benchmark
        Prints as a table.

    Raises
    ------
    ValueError
        ``batch`` is less than 1, or than 2 with ``training``; ``seconds`` is not more than 0; there is
        no such block, ``memory``, dtype or device.
    MemoryError
        There is no room to fine-tune with this batch.
    """
    least = 2 if training else 1
    if batch < least:
        raise ValueError(f"batch is {batch}, want at least {least}")
    if not seconds > 0:
        raise ValueError(f"seconds is {seconds}, want more than 0")
    network.resolve_block(unfreeze)
    check_memory(memory)
    if dtype not in (None, network.dtype) or device not in (None, network.device):
        threads = network.threads if network.device == "cpu" else None
        network = Network.from_config(
            network.config, threads=threads, dtype=dtype or network.dtype, device=device or network.device
        )
    size, labels = network.input_size, len(network.label_names)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    found = Benchmark()
    for count in sorted({batch, 1}, reverse=True):
        bytes_used = network.plan_bytes(batch=count)
        run = functools.partial(network.forward, network.to_device(x[:count]))
        found.append(_measure(network, "inference", count, seconds, run, 2.0, bytes_used))
    if training:
        kept = {name: value.copy() for name, value in network.parameters().items()}
        y = (rng.random((batch, labels)) < 0.2).astype(np.float32)
        bytes_used = network.plan_bytes(batch=batch, training=True, unfreeze=unfreeze, memory=memory)
        try:
            step = training_step(network, network.to_device(x), y, unfreeze=unfreeze, memory=memory)
            found.append(_measure(network, "fine-tuning", batch, seconds, step, 6.0, bytes_used))
        finally:
            network.set_parameters(kept)
    return found


def training_step(
    network: Network,
    x: Any,
    y: npt.NDArray[np.float32],
    *,
    rate: float = 1e-5,
    memory: str = "normal",
    **options: Any,
) -> Callable[[], None]:
    """A function that takes one step of fine-tuning on a batch, without reading images.

    Parameters
    ----------
    x : array (n, h, w, 3)
        As for `Network.forward`.
    y : float32 array (n, k)
    rate : float
    memory : {"normal", "low"}
    **options
        Of the `Stage`; ``unfreeze`` is by default ``"all"``.
    """
    # what varies images keeps a stage that trains the head alone from stepping on features
    settings = {"unfreeze": "all", "augmentation": Augmentation.varied(), **options}
    stage = Stage("bench", 1, rate, **settings)
    trainer = Trainer(network, stages=[stage], batch_size=len(x), progress=False, memory=memory)
    pixels = np.zeros((len(x), *x.shape[1:]), np.uint8)
    samples = Samples.from_arrays(pixels, y, label_names=network.label_names)
    run = StageRun(trainer, trainer.stages[0], samples, None, None, Interrupts())
    run._prepare()
    core, mask = run.core, np.ones_like(y)
    assert core is not None

    def step() -> None:
        core.step(x, y, mask, 0.0)

    return step


def _measure(
    network: Network,
    work: str,
    batch: int,
    seconds: float,
    run: Callable[[], object],
    flop_per_mac: float,
    memory: int,
) -> Measurement:
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    speed = batch / statistics.median(times)
    slow, fast = (batch / float(np.quantile(times, part)) for part in (0.9, 0.1))
    gflops = flop_per_mac * network.macs() * speed / 1e9
    return Measurement(
        network.config.name, work, network.dtype, network.device, batch, len(times), speed, (slow, fast), gflops, memory
    )
