"""The trainer: stages over samples, with validation, early stopping and a history."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from facsnet._cache import byte_count
from facsnet._interrupts import Interrupts
from facsnet._stage_run import Kept, StageRun, block_rates, check_boundary, drawn_count, scored_labels, steps_of
from facsnet.history import History
from facsnet.loading import usual_workers
from facsnet.losses import Loss, resolve
from facsnet.network import Network, check_memory
from facsnet.samples import Samples, check_disjoint
from facsnet.stages import Stage, two_stage

__all__ = ["Trainer"]

_MONITORS = ("roc_auc", "average_precision", "f1", "loss")


class Trainer:
    """Trains a network in stages.

    Parameters
    ----------
    network : Network
    loss : str or Loss
        One of `losses.NAMES` (``"pr"`` comes with 0.1 bce), or a `Loss`.
    stages : sequence of Stage
        Default `two_stage`.
    batch_size : int
    seed : int
        Of the order, the augmentation and the dropout.
    monitor : {"roc_auc", "average_precision", "f1", "loss"}
        The validation score that picks the epoch; macro mean over the labels where it is defined.
    workers : int, optional
        Threads that read images; default one per two processors, at least one; beside a GPU all but one.
    progress : bool, optional
        Show a progress bar. None shows it on a terminal or in a notebook.
    memory : {"normal", "low"}
        ``"low"`` computes convolutions inside a block again for the backward pass instead of keeping
        what they gave: the very weights of ``"normal"`` in 30 to 62% less memory (`Network.plan_bytes`)
        and 2 to 11% more time. VGG-19-BN gains less, VGG-19, which has no BatchNorm, nothing.
    cache_limit : int or str, optional
        Bytes of cached activations (see `Stage`) that may lie in memory, or text such as ``"4 GB"``;
        more are kept in a mapped temporary file. Default half of the memory that is free.
    cache_folder : path, optional
        Where that file lies; default the system's temporary folder.

    Attributes
    ----------
    history_ : History
        Of the last `fit`, also of one that failed.
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
        memory: str = "normal",
        cache_limit: int | str | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, want at least 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}, want at least 0")
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}, want at least 1")
        if monitor not in _MONITORS:
            raise ValueError(f"monitor is {monitor!r}, want one of {', '.join(_MONITORS)}")
        self.network = network
        self.loss = resolve(loss)
        self.stages = list(two_stage() if stages is None else stages)
        for stage in self.stages:
            network.resolve_block(stage.unfreeze)
            block_rates(network, stage)
            check_boundary(network, stage)
        self.batch_size = batch_size
        self.seed = seed
        self.monitor = monitor
        self.workers = workers if workers is not None else usual_workers(network)
        self.progress = progress
        self.memory = check_memory(memory)
        self.cache_limit = None if cache_limit is None else byte_count(cache_limit)
        self.cache_folder = cache_folder
        self.history_ = History()

    def fit(self, train: Samples, valid: Samples | None = None) -> History:
        """Runs all stages.

        After each stage with a validation set the weights of its best epoch are restored, also where
        the stage ends with an exception; `history_` then has its epochs, and the exception a note of
        what the network holds. Ctrl-C ends training at the border of a step, and the history says so;
        pressed twice, it raises KeyboardInterrupt once the weights are whole.

        Parameters
        ----------
        train, valid : Samples
            Of the network's labels; no subject may be on both sides.

        Raises
        ------
        ValueError
            Labels differ, a subject is on both sides, the batch is larger than the set or too small
            for batch statistics, a stage waits for validation scores that there are none of, or a step
            diverged.
        OSError
            An image cannot be read.

        Warns
        -----
        UserWarning
            The score that picks the epoch is undefined for every label of ``valid``.
        """
        self._check(train, valid)
        self.history_ = history = History()
        kept: Kept | None = None
        with Interrupts() as interrupts:
            for stage in self.stages:
                if stage.epochs == 0:
                    continue
                kept = StageRun(self, stage, train, valid, kept, interrupts).run()
                if history.interrupted:
                    break
        if interrupts.count and not history.interrupted:
            history.interrupted = True
            history.notes.append("interrupted after the last epoch")
        if interrupts.count > 1:
            raise KeyboardInterrupt
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
        for stage in self.stages:
            if stage.epochs:
                self._check_batches(stage, drawn_count(stage, train))
        self._check_scores(valid)
        if valid is not None:
            check_disjoint(train, valid)

    def _check_batches(self, stage: Stage, count: int) -> None:
        """BatchNorm of a single sample is a constant, so nothing would be learned through it."""
        if self.batch_size > count:
            raise ValueError(
                f"batch_size is {self.batch_size}, but the sampling of stage {stage.name!r} draws only {count} samples"
            )
        if stage.statistics == "batch" and count // steps_of(count, self.batch_size) < 2:
            raise ValueError(
                f"batch_size is {self.batch_size}: of {count} training samples a batch has only one, which has no "
                f"statistics; stage {stage.name!r} wants more, or statistics='stored'"
            )

    def _check_scores(self, valid: Samples | None) -> None:
        chosen = valid is not None and (self.monitor == "loss" or bool(scored_labels(self.monitor, valid).any()))
        for stage in self.stages:
            waits = "patience" if stage.patience is not None else "the schedule 'plateau'"
            if chosen or not stage.epochs or (stage.patience is None and stage.schedule.kind != "plateau"):
                continue
            lack = "there is no validation part" if valid is None else f"{self.monitor} is undefined for all its labels"
            raise ValueError(f"stage {stage.name!r}: {waits} waits for a better validation score, but {lack}")
        if valid is not None and not chosen:
            warnings.warn(
                f"valid: {self.monitor} is undefined for every label, so the last epoch of each stage is kept",
                stacklevel=4,
            )
