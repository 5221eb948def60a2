"""Which of its samples a training set shows in an epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from facsnet import _core

if TYPE_CHECKING:
    from facsnet.samples import Samples

__all__ = ["Sampling"]

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sampling:
    """What an epoch draws of the training samples, in this order; by default all of them.

    The draw depends on (seed, epoch) alone, and its size on neither. A cache of activations keeps
    all samples, since every epoch draws others.

    Attributes
    ----------
    every : int
        Of so many consecutive samples of a subject one, anew in every epoch: neighbouring frames of a
        video are nearly the same. Where subjects are not known, of the whole table.
    per_subject : int, optional
        At most so many samples of each subject, drawn anew in every epoch: long recordings do not
        outweigh short ones.
    balanced : bool
        Of what is left, as many samples as there are, but every label that has a positive, and the
        samples without any, are drawn equally often (class-aware sampling: Shen, Lin and Huang, ECCV
        2016). Rare labels come several times, each time varied and mirrored on its own, frequent ones
        not always. It replaces a loss with class weights; probabilities are those of the balanced set,
        so fit thresholds.

    Raises
    ------
    ValueError
        ``every`` or ``per_subject`` is less than 1.
    """

    _: KW_ONLY
    every: int = 1
    per_subject: int | None = None
    balanced: bool = False

    def __post_init__(self) -> None:
        for name in ("every", "per_subject"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, want at least 1")

    @property
    def is_all(self) -> bool:
        """Whether an epoch has every sample once."""
        return self == Sampling()

    def drawer(self, samples: Samples, *, seed: int) -> Callable[[int], IntArray | None]:
        """A function of the epoch that gives its rows; None stands for all.

        Raises
        ------
        ValueError
            ``per_subject`` is set and subjects are not known.
        """
        if self.is_all:
            return lambda epoch: None
        if self.per_subject is not None and samples.subjects is None:
            raise ValueError(f"sampling: per_subject is {self.per_subject}, but subjects are not known")
        groups = None if samples.subjects is None else np.unique(samples.subjects.astype(str), return_inverse=True)[1]

        def draw(epoch: int) -> IntArray:
            rows, count = _core.draw_sample(
                samples.labels, groups, self.every, self.per_subject or 0, self.balanced, seed, epoch
            )
            return rows[:count]

        return draw
