"""F1 on DISFA as papers print it, for a look at where a result stands.

The protocol is that of the field: three subject-exclusive folds, frames of intensity 2 and more are
positive, F1 over all test frames of a fold, mean over the folds, then over the action units. Most of
these papers choose the epoch, some the threshold too, on the test fold; `cross_validate` never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["DISFA", "DISFA_LABELS", "Published", "percent_with_mean", "published_f1"]

DISFA_LABELS = ("AU01", "AU02", "AU04", "AU06", "AU09", "AU12", "AU25", "AU26")


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes
    ----------
    method : str
    f1 : tuple of float
        In percent, of `DISFA_LABELS`, as printed.
    mean : float
        As printed.
    source : str
    note : str
        What is odd about the row.
    """

    method: str
    f1: tuple[float, ...]
    mean: float
    source: str
    note: str = ""


DISFA: tuple[Published, ...] = (
    Published(
        "EAC-Net",
        (41.5, 26.4, 66.4, 50.7, 80.5, 89.3, 88.9, 15.6),
        48.5,
        "Li et al., EAC-Net, TPAMI 2018",
        "the mean of the printed row is 57.4; with 8.5 for AU09 it would be 48.4",
    ),
    Published(
        "JAA-Net", (43.7, 46.2, 56.0, 41.4, 44.7, 69.6, 88.3, 58.4), 56.0, "Shao et al., Deep adaptive attention, ECCV 2018"
    ),
    Published(
        "LP-Net", (29.9, 24.7, 72.7, 46.8, 49.6, 72.9, 93.8, 65.0), 56.9, "Niu et al., Local relationship learning, CVPR 2019"
    ),
    Published("J-AA-Net", (62.4, 60.7, 67.1, 41.1, 45.1, 73.5, 90.9, 67.4), 63.5, "Shao et al., JAA-Net, IJCV 2021"),
    Published(
        "ME-GraphAU", (54.6, 47.1, 72.9, 54.0, 55.7, 76.7, 91.1, 53.0), 63.1, "Luo et al., ME-GraphAU (ResNet-50), IJCAI 2022"
    ),
    Published(
        "FMAE-IAT", (64.7, 61.3, 70.8, 58.1, 59.4, 79.9, 95.2, 71.3), 70.1, "Ning et al., FMAE-IAT (ViT-L), 2024"
    ),
)  # fmt: skip
"""Results on DISFA's three folds."""


def published_f1(name: str, labels: Sequence[str]) -> tuple[Published, ...]:
    """The published rows that results on a data set may stand beside.

    Parameters
    ----------
    name
        ``"disfa"``, the only one.
    labels
        Those of the results: all must be among the eight of the tables.

    Raises
    ------
    ValueError
        There are no rows of that name, or a label is not of that data set's eight.
    """
    if name != "disfa":
        raise ValueError(f"published is {name!r}, want 'disfa'")
    foreign = [label for label in labels if label not in DISFA_LABELS]
    if foreign:
        raise ValueError(f"published: {foreign} are not among DISFA's published labels {list(DISFA_LABELS)}")
    return DISFA


def percent_with_mean(row: Published, labels: Sequence[str]) -> list[float]:
    """The row's F1 of these labels, and their mean: of all eight as printed, of fewer their own."""
    values = [row.f1[DISFA_LABELS.index(label)] for label in labels]
    whole = set(labels) == set(DISFA_LABELS)
    return [*values, row.mean if whole else sum(values) / len(values)]
