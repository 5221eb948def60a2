"""One stage of training: its batches, its epochs and the weights it keeps."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facsnet import _core, metrics
from facsnet._batches import (
    CachedBatches,
    ImageBatches,
    PixelBatches,
    VariedBatches,
    pixels_fit,
    pixels_on_gpu,
)
from facsnet._interrupts import Interrupts
from facsnet.loading import Reader, progress_bar
from facsnet.losses import resolve
from facsnet.network import Network
from facsnet.samples import Samples
from facsnet.stages import Stage

if TYPE_CHECKING:
    from facsnet.training import Trainer

__all__ = ["Kept", "StageRun", "block_rates", "check_boundary", "drawn_count", "scored_labels", "steps_of"]

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


def steps_of(count: int, batch_size: int) -> int:
    """Batches of an epoch; they differ by at most one sample."""
    return -(-count // batch_size)


def drawn_count(stage: Stage, train: Samples) -> int:
    """Samples of an epoch of the stage."""
    rows = stage.sampling.drawer(train, seed=0)(0)
    return len(train) if rows is None else len(rows)


def scored_labels(monitor: str, valid: Samples) -> npt.NDArray[np.bool_]:
    """Per label whether a score is defined: all want a positive, ROC AUC a negative too."""
    positive, negative = (valid.labels == 1).any(axis=0), (valid.labels == 0).any(axis=0)
    return np.asarray(positive & negative if monitor == "roc_auc" else positive)


def block_rates(network: Network, stage: Stage) -> npt.NDArray[np.float64] | None:
    """The stage's factors of the rate, per block with the input first; ValueError for a block that there is not."""
    if not stage.block_rates:
        return None
    unknown = set(stage.block_rates) - set(network.blocks)
    if unknown:
        raise ValueError(f"stage {stage.name!r}: block_rates names {sorted(unknown)}, the blocks are {network.blocks}")
    return np.array([1.0] + [stage.block_rates.get(name, 1.0) for name in network.blocks])


def check_boundary(network: Network, stage: Stage) -> None:
    """Whether a stage that asks for it can keep what enters its first block.

    Raises
    ------
    ValueError
        It freezes nothing.
    NotImplementedError
        More than one value enters the block.
    """
    if stage.cache != "boundary":
        return
    block = network.resolve_block(stage.unfreeze)
    if block == network.blocks[0]:
        raise ValueError(
            f"stage {stage.name!r}: cache='boundary' keeps what the frozen blocks compute, but unfreeze="
            f"{stage.unfreeze!r} freezes none"
        )
    network._core.boundary_shape(block)


@dataclass
class Kept:
    """The weights of the best epoch so far."""

    stage: str
    epoch: int
    weights: dict[str, FloatArray]


class StageRun:
    """One stage of one fit: where batches come from, the epochs, the best weights.

    ``kept`` are the weights that the stage begins with, where an earlier one chose them.
    """

    def __init__(
        self,
        trainer: Trainer,
        stage: Stage,
        train: Samples,
        valid: Samples | None,
        kept: Kept | None,
        interrupts: Interrupts,
    ) -> None:
        self.trainer, self.stage, self.train, self.valid = trainer, stage, train, valid
        self.history, self.interrupts = trainer.history_, interrupts
        self.network = trainer.network
        self.block = self.network.resolve_block(stage.unfreeze)
        self.is_cached = stage.cache == "boundary" or (
            stage.cache == "auto" and self.block == "head" and stage.augmentation.is_fixed
        )
        self.loss = resolve(stage.loss if stage.loss is not None else trainer.loss).fitted(train.labels)
        self.rows = stage.sampling.drawer(train, seed=trainer.seed)
        self.drawn = drawn_count(stage, train)
        self.steps = steps_of(self.drawn, trainer.batch_size)
        self.kept = kept
        self.best: Kept | None = None
        self.best_score = -math.inf
        self.core: _core.StageTrainer | None = None
        self.valid_logits: Callable[[], FloatArray] | None = None

    def run(self) -> Kept | None:
        """All epochs; returns what it kept, or None where there was nothing to choose by."""
        try:
            self._prepare()
            self._epochs()
        except KeyboardInterrupt:
            self.history.interrupted = True
            self.note(f"interrupted; the network holds {self._restore(failed=True)}")
        except BaseException as problem:
            problem.add_note(
                f"stage {self.stage.name!r} ended in epoch {self._row_count() + 1}; the network holds "
                f"{self._restore(failed=True)}"
            )
            raise
        else:
            self._restore()
        return self.best

    def note(self, text: str) -> None:
        self.history.notes.append(f"{self.stage.name}: {text}")

    def title(self, what: str) -> str:
        return f"{self.stage.name}: {what}"

    def reader(self, samples: Samples) -> Reader:
        t = self.trainer
        return Reader(self.network, samples, workers=t.workers, progress=t.progress, between=self.interrupts.check)

    def _row_count(self) -> int:
        return sum(row["stage"] == self.stage.name for row in self.history.rows)

    # --- before the first epoch

    def _prepare(self) -> None:
        self._note_undefined()
        self.batches: CachedBatches | PixelBatches | VariedBatches | ImageBatches
        if self.is_cached:
            cached = self.batches = CachedBatches(self)
            self.valid_logits = lambda: self.network._core.above(cached.valid, self.block)
        elif PixelBatches.suit(self):
            kept = self.batches = PixelBatches(self)
            self.valid_logits = lambda: self.network.forward(kept.valid)
        else:
            self.core = self._make_core()  # what it leaves of a GPU's memory is for images
            if self.block == "head" and not self.stage.augmentation.is_fixed:
                self.note("the frozen backbone runs in every epoch, for images that random crops, angles or light vary")
            self.batches = VariedBatches.of(self) or ImageBatches(self)
            self.valid_logits = self._validation_reader(self.valid)
        if self.core is None:
            self.core = self._make_core()

    def _make_core(self) -> _core.StageTrainer:
        t, s = self.trainer, self.stage
        return _core.StageTrainer(
            self.network._core,
            self.block,
            self.is_cached,
            s.statistics == "stored",
            s.rate,
            self.loss._specification(),
            s.optimiser.row(),
            s.schedule.row(s.epochs),
            block_rates(self.network, s),
            t.batch_size,
            t.seed,
            t.memory == "low",
        )

    def _validation_reader(self, valid: Samples | None) -> Callable[[], FloatArray] | None:
        """Logits of the validation part, from pixels on the GPU where the training images lie there too."""
        if valid is None:
            return None
        if isinstance(self.batches, VariedBatches) and pixels_fit(self.network, len(valid)):
            pixels = pixels_on_gpu(self, valid)
            return lambda: self.network.forward(pixels)
        return self.reader(valid).logits

    def _note_undefined(self) -> None:
        """Names the labels that `_mean` leaves out of the validation scores."""
        if self.valid is None:
            return
        names = np.array(self.valid.label_names)
        positive, both = scored_labels("f1", self.valid), scored_labels("roc_auc", self.valid)
        for what, scores, left_out in (
            ("positive", "the validation scores", ~positive),
            ("negative", "the validation's ROC AUC", positive & ~both),
        ):
            if left_out.any():
                self.note(f"{', '.join(names[left_out])} left out of {scores}: no {what} in the validation part")

    # --- epochs

    def _epochs(self) -> None:
        for epoch in range(self.stage.epochs):
            row = self._epoch(epoch)
            self.history.rows.append(row)
            if self.valid is not None and self._observe(row, epoch) and epoch + 1 < self.stage.epochs:
                self.note(
                    f"stopped after epoch {epoch + 1}, {self.stage.patience} epochs without a better {self.trainer.monitor}"
                )
                break

    def _epoch(self, epoch: int) -> dict[str, Any]:
        assert self.core is not None
        losses, rate = [], self.stage.rate
        start = waited = time.perf_counter()
        loading = 0.0
        title = f"{self.stage.name} {epoch + 1}/{self.stage.epochs}"
        with progress_bar(self.steps, title, self.trainer.progress) as bar:
            for i, batch in enumerate(self.batches.epoch(epoch, self.rows(epoch))):
                self.interrupts.check()
                loading += time.perf_counter() - waited
                # the rate of the step's middle: a rise from 0 does not waste the first step
                loss, rate, _ = self.core.step(
                    batch.x, batch.target, batch.mask, epoch + (i + 0.5) / self.steps, batch.rows
                )
                losses.append(loss)
                bar.set_postfix(loss=f"{np.mean(losses):.4f}", refresh=False)
                bar.update()
                waited = time.perf_counter()
        row: dict[str, Any] = {
            "stage": self.stage.name,
            "epoch": epoch + 1,
            "loss": float(np.mean(losses)),
            "rate": rate,
        }
        row["seconds"] = time.perf_counter() - start
        row["loader_seconds"] = loading
        if self.valid is not None:
            self.interrupts.check()
            with self._averaged():
                row.update(self._validate(self.valid))
        return row

    def _validate(self, valid: Samples) -> dict[str, float]:
        assert self.valid_logits is not None
        logits = self.valid_logits()
        target = valid.labels
        scores = _core.sigmoid(logits)
        value, _ = self.loss(logits, target)
        return {
            "valid_loss": value,
            "valid_f1": _mean(metrics.f1(scores, target)),
            "valid_average_precision": _mean(metrics.average_precision(scores, target)),
            "valid_roc_auc": _mean(metrics.roc_auc(scores, target)),
        }

    def _observe(self, row: dict[str, Any], epoch: int) -> bool:
        """Keeps the best weights; True when patience is at an end."""
        assert self.core is not None
        score = row[f"valid_{self.trainer.monitor}"]
        score = -score if self.trainer.monitor == "loss" else score
        self.core.observe(score)
        if score > self.best_score:
            with self._averaged():
                weights = {name: value.copy() for name, value in self.network.parameters().items()}
            self.best = Kept(self.stage.name, epoch + 1, weights)
            self.best_score = score
            self.history.best[self.stage.name] = epoch + 1
        waited = epoch + 1 - (self.best.epoch if self.best is not None else 0)
        return self.stage.patience is not None and waited >= self.stage.patience

    # --- the average of the weights, the best weights

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        self._swap_average()
        try:
            yield
        finally:
            self._swap_average()

    def _swap_average(self) -> None:
        if self.core is not None and self.stage.optimiser.average_decay:
            self.core.swap_average()

    def _restore(self, *, failed: bool = False) -> str:
        """Puts the best weights into the network, of a failed stage those it began with; says which."""
        kept = self.best or (self.kept if failed else None)
        if kept is None:
            self._swap_average()
            return "the weights of the last step, which no validation chose"
        self.network.set_parameters(kept.weights)
        return f"the best weights so far, of stage {kept.stage!r}, epoch {kept.epoch}"


def _mean(values: npt.NDArray[Any]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
