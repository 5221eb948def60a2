"""The trainer: stages over samples, with validation, early stopping and a history."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from facsnet import _core, metrics
from facsnet.history import History
from facsnet.loading import features_of, logits_of, make_loader, progress_bar
from facsnet.losses import Loss, resolve
from facsnet.network import Network
from facsnet.samples import Samples, check_disjoint
from facsnet.stages import Stage, two_stage

__all__ = ["Trainer"]

FloatArray = npt.NDArray[np.float32]
_MONITORS = ("roc_auc", "average_precision", "f1", "loss")


class Trainer:
    """Trains a network in stages.

    Parameters
    ----------
    network : Network
    loss : str or Loss
        ``"bce"``, ``"weighted_bce"``, ``"lsep"``, ``"pr"`` (with 0.1 bce), or a `Loss`.
    stages : sequence of Stage
        Default `two_stage`.
    batch_size : int
    seed : int
        Of the order, the augmentation and the dropout.
    monitor : {"roc_auc", "average_precision", "f1", "loss"}
        The validation score that picks the epoch; macro mean over the labels where it is defined.
    workers : int, optional
        Threads that read images; default one per two processors, at least one.
    progress : bool, optional
        Show a progress bar. None shows it on a terminal or in a notebook.
    """

    def __init__(
        self,
        network: Network,
        *,
        loss: str | Loss = "bce",
        stages: Sequence[Stage] | None = None,
        batch_size: int = 64,
        seed: int = 0,
        monitor: str = "roc_auc",
        workers: int | None = None,
        progress: bool | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, want at least 1")
        if monitor not in _MONITORS:
            raise ValueError(f"monitor is {monitor!r}, want one of {', '.join(_MONITORS)}")
        self.network = network
        self.loss = resolve(loss)
        self.stages = list(two_stage() if stages is None else stages)
        for stage in self.stages:
            network.resolve_block(stage.unfreeze)
        self.batch_size = batch_size
        self.seed = seed
        self.monitor = monitor
        self.workers = workers or max(1, network.threads // 2)
        self.progress = progress

    def fit(self, train: Samples, valid: Samples | None = None) -> History:
        """Runs all stages.

        After each stage with a validation set the weights of its best epoch are restored.
        Ctrl-C ends training at the border of a step; the network then holds the best weights so
        far and the history says so.

        Parameters
        ----------
        train, valid : Samples
            Of the network's labels; no subject may be on both sides.

        Raises
        ------
        ValueError
            Labels differ, a subject is on both sides, the batch is larger than the set.
        """
        self._check(train, valid)
        history = History()
        for stage in self.stages:
            if stage.epochs == 0:
                continue
            _StageRun(self, stage, train, valid, history).run()
            if history.interrupted:
                break
        return history

    def _check(self, train: Samples, valid: Samples | None) -> None:
        for name, samples in (("train", train), ("valid", valid)):
            if samples is None:
                continue
            if len(samples) == 0:
                raise ValueError(f"{name}: there are no samples")
            if tuple(samples.label_names) != self.network.label_names:
                raise ValueError(
                    f"{name}: labels are {list(samples.label_names)}, the network's are {list(self.network.label_names)}"
                )
        if self.batch_size > len(train):
            raise ValueError(f"batch_size is {self.batch_size}, but there are only {len(train)} training samples")
        if valid is not None:
            check_disjoint(train, valid)


@dataclass
class _Batch:
    x: npt.NDArray[Any]
    target: FloatArray
    mask: FloatArray


class _StageRun:
    """One stage of one fit: where batches come from, the epochs, the best weights."""

    def __init__(self, trainer: Trainer, stage: Stage, train: Samples, valid: Samples | None, history: History) -> None:
        self.trainer, self.stage, self.train, self.valid, self.history = trainer, stage, train, valid, history
        self.network = trainer.network
        self.block = self.network.resolve_block(stage.unfreeze)
        self.on_features = self.block == "head" and stage.augmentation.is_fixed
        self.loss = resolve(stage.loss if stage.loss is not None else trainer.loss).fitted(train.labels)
        self.labels, self.mask = _known(train.labels)
        self.best_score = -math.inf
        self.best_weights: dict[str, FloatArray] | None = None
        self.loader_seconds = 0.0
        self.valid_cache: FloatArray | None = None

    def run(self) -> None:
        try:
            self._prepare()
            for epoch in range(self.stage.epochs):
                row = self._epoch(epoch)
                self.history.rows.append(row)
                if self._observe(row, epoch) and epoch + 1 < self.stage.epochs:
                    self.history.notes.append(
                        f"{self.stage.name}: stopped after epoch {epoch + 1}, {self.stage.patience} epochs without a better {self.trainer.monitor}"
                    )
                    break
        except KeyboardInterrupt:
            self.history.interrupted = True
            self.history.notes.append(f"{self.stage.name}: interrupted; the network holds the best weights so far")
        self._restore()

    def _prepare(self) -> None:
        t, s = self.trainer, self.stage
        if self.on_features:
            self.features = self._cache_features(self.train, "training")
            self.mirrored = (
                self._cache_features(self.train, "mirrored training", flip=True) if s.augmentation.flip > 0 else None
            )
            kinds = "plain and mirrored" if self.mirrored is not None else "plain"
            self.history.notes.append(
                f"{s.name}: the frozen backbone ran once per image; the head trains on cached {kinds} features"
            )
        else:
            self.loader = make_loader(
                self.train,
                self.network,
                batch=t.batch_size,
                seed=t.seed,
                workers=t.workers,
                augmentation=s.augmentation,
            )
        if self.block == "head" and self.valid is not None:
            self.valid_cache = self._cache_features(self.valid, "validation")
        rates = None
        if s.block_rates:
            unknown = set(s.block_rates) - set(self.network.blocks)
            if unknown:
                raise ValueError(
                    f"stage {s.name!r}: block_rates names {sorted(unknown)}, the blocks are {self.network.blocks}"
                )
            rates = np.array([1.0] + [s.block_rates.get(name, 1.0) for name in self.network.blocks])
        self.core = _core.StageTrainer(
            self.network._core,
            self.block,
            self.on_features,
            s.statistics == "stored",
            s.rate,
            self.loss._specification(),
            s.optimiser.row(),
            s.schedule.row(s.epochs),
            rates,
            t.batch_size,
            t.seed,
        )

    def _cache_features(self, samples: Samples, what: str, flip: bool = False) -> FloatArray:
        return features_of(
            self.network,
            samples,
            flip=flip,
            workers=self.trainer.workers,
            progress=self._bar(f"{self.stage.name}: {what} features"),
        )

    def _bar(self, title: str) -> str | None:
        return None if self.trainer.progress is False else title

    # --- batches

    def _steps(self) -> int:
        return -(-len(self.train) // self.trainer.batch_size)

    def _batches(self, epoch: int) -> Iterator[_Batch]:
        if not self.on_features:
            self.loader.start(epoch)
            for pixels, target, mask, _ in self.loader:
                yield _Batch(pixels, target, mask)
            return
        rng = np.random.default_rng((self.trainer.seed, epoch))
        order = rng.permutation(len(self.train))
        flipped = rng.random(len(self.train)) < self.stage.augmentation.flip
        for rows in np.array_split(order, self._steps()):
            x = self.features[rows]
            if self.mirrored is not None:
                x = np.where(flipped[rows, None], self.mirrored[rows], x)
            yield _Batch(x, self.labels[rows], self.mask[rows])

    # --- epochs

    def _epoch(self, epoch: int) -> dict[str, Any]:
        steps, losses, rate = self._steps(), [], self.stage.rate
        start = waited = time.perf_counter()
        loading = 0.0
        with progress_bar(
            steps, self._bar(f"{self.stage.name} {epoch + 1}/{self.stage.epochs}"), self.trainer.progress
        ) as bar:
            for i, batch in enumerate(self._batches(epoch)):
                loading += time.perf_counter() - waited
                loss, rate, _ = self.core.step(batch.x, batch.target, batch.mask, epoch + i / steps)
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
            self._swap_average()
            row.update(self._validate())
            self._swap_average()
        return row

    def _validate(self) -> dict[str, float]:
        assert self.valid is not None
        if self.valid_cache is not None:
            logits = self.network.head(self.valid_cache)
        else:
            logits = logits_of(self.network, self.valid, workers=self.trainer.workers)
        target = self.valid.labels
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
        if self.valid is None:
            return False
        score = row[f"valid_{self.trainer.monitor}"]
        score = -score if self.trainer.monitor == "loss" else score
        self.core.observe(score)
        if score > self.best_score:
            self.best_score = score
            self.history.best[self.stage.name] = epoch + 1
            self._swap_average()
            self.best_weights = {name: value.copy() for name, value in self.network.parameters().items()}
            self._swap_average()
        waited = epoch + 1 - self.history.best.get(self.stage.name, epoch + 1)
        return self.stage.patience is not None and waited >= self.stage.patience

    def _swap_average(self) -> None:
        if self.stage.optimiser.average_decay:
            self.core.swap_average()

    def _restore(self) -> None:
        if self.best_weights is not None:
            self.network.set_parameters(self.best_weights)
        elif hasattr(self, "core"):
            self._swap_average()


def _mean(values: npt.NDArray[Any]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _known(labels: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    values = np.asarray(labels, np.float32)
    mask = ~np.isnan(values)
    return np.where(mask, values, np.float32(0)), mask.astype(np.float32)
