"""facsnet as a peer."""

from __future__ import annotations

import statistics

import numpy as np

import facsnet as fn
from facsnet.benchmark import training_step
from versus.draws import PADDING
from versus.task import LABELS, RATE, FloatArray, Task

# The first block that partial fine-tuning trains.
BOUNDARIES = {"mobilenet_v1": "block12", "mobilenet_v2": "block14"}
DENSE_BOUNDARY = "denseblock4"
PARTIAL_BATCHES, PARTIAL_EPOCHS = 4, 3


def version() -> str:
    facts = fn.about()
    return f"facsnet {facts['facsnet']}, {facts['instruction set']}"


def make_network(task: Task, *, size: int | None = None, weights: str = "weights.npz") -> fn.Network:
    network = fn.Network(
        task.network,
        labels=LABELS,
        input_size=size or task.size,
        width=task.width,
        padding=PADDING.get(task.network),
        dropout=0.0,
        seed=1,
        threads=task.threads,
        dtype=task.dtype,
    )
    try:
        state = task.load(weights)
    except FileNotFoundError:
        return network
    network.load_state_dict({k: v for k, v in state.items() if not k.endswith("_")})
    return network


class FacsnetPeer:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.x = task.images()
        self.network = make_network(task)
        self.step = None
        if task.job == "train":
            memory = task.options.get("memory", "normal")
            self.step = training_step(self.network, self.x, task.targets(), rate=RATE, memory=memory)
        if task.job == "partial":
            self.prepare_partial()

    def run(self) -> float | None:
        if self.task.job == "partial":
            return self.partial()
        if self.step is not None:
            self.step()
        else:
            self.network.forward(self.x)
        return None

    def logits(self) -> FloatArray:
        return self.network.forward(self.x)

    def gradients(self) -> dict[str, np.ndarray]:
        check = self.task.load("check.npz")
        x, y = check["images_"], check["targets_"]
        network = make_network(self.task, size=x.shape[1], weights="check.npz")
        logits = network.forward(x, training=True)
        network.backward(fn.losses.bce(logits, y)[1])
        found = {}
        for name, value in network.gradients().items():
            if value.ndim == 4:
                value = value[0, 0].T if name.endswith("classifier.weight") else value.transpose(3, 2, 0, 1)
            found[name] = np.array(value)
        return found

    # --- partial fine-tuning, with what enters the first trained block computed once or in every epoch

    def prepare_partial(self) -> None:
        task = self.task
        cache = task.options.get("cache", "auto")
        block = BOUNDARIES.get(task.network, DENSE_BOUNDARY)
        rng = np.random.default_rng(3)
        count = PARTIAL_BATCHES * task.batch
        pixels = rng.integers(0, 256, (count, task.size, task.size, 3), dtype=np.uint8)
        labels = (rng.random((count, LABELS)) < 0.2).astype(np.float32)
        self.samples = fn.Samples.from_arrays(pixels, labels, label_names=self.network.label_names)
        stage = fn.Stage("partial", PARTIAL_EPOCHS, RATE, block, augmentation=fn.Augmentation(), cache=cache)
        self.trainer = fn.Trainer(self.network, stages=[stage], batch_size=task.batch, progress=False)

    def partial(self) -> float:
        """Seconds of a batch in the median epoch after the first; what fills the cache comes before the first."""
        history = self.trainer.fit(self.samples)
        seconds = [row["seconds"] for row in history.rows[1:]]
        return statistics.median(seconds) / PARTIAL_BATCHES


def make(task: Task) -> FacsnetPeer:
    return FacsnetPeer(task)
