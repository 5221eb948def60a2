"""Drawing precision-recall curves, F1 bars and training curves on matplotlib axes.

The functions draw on what they are given and keep no state; `facsnet.Report` calls them. Text, axes
and grids take their colours from matplotlib's settings, so that a dark style stays dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facsnet.metrics import PRCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_f1", "draw_history", "draw_pr", "draw_pr_grid", "figure_svg", "mark_stages", "report_style"]

FloatArray = NDArray[np.float64]

BLUE, ORANGE, GREEN, GREY = "#3d7ebf", "#dd7a1f", "#2f9e78", "#8a8f98"

# Stands for the page's text colour in figures that go into a page; nothing else is drawn in it.
_INK = "#0a0b0d"

_SCORE_COLOURS = {"f1": ORANGE, "average_precision": GREEN, "roc_auc": BLUE}
_SCORE_NAMES = {"f1": "F1", "average_precision": "average precision", "roc_auc": "ROC AUC"}


def draw_pr(ax: Axes, curve: PRCurve, *, colour: str = BLUE, label: str | None = None) -> None:
    """Draw one precision-recall curve as the steps whose area is the average precision.

    Parameters
    ----------
    ax
        The axes.
    curve
        From `facsnet.metrics.pr_curve`. One with undefined recall draws nothing.
    colour, label
        Of the line.
    """
    if not np.isnan(curve.recall).any():
        ax.plot(curve.recall, curve.precision, color=colour, label=label, drawstyle="steps-post", linewidth=1.5)
    ax.set(xlim=(0, 1.01), ylim=(0, 1.03), xlabel="recall", ylabel="precision")


def draw_pr_grid(
    figure: Figure,
    names: Sequence[str],
    curves: Sequence[PRCurve],
    *,
    average_precision: FloatArray,
    prevalence: FloatArray,
    points: Sequence[tuple[FloatArray, FloatArray, str]] = (),
    columns: int = 4,
) -> NDArray[Any]:
    """Draw one small panel per label.

    Parameters
    ----------
    figure
        An empty figure; its size is set.
    names, curves, average_precision, prevalence
        One entry per label. The prevalence, drawn dotted, is the precision of a random ranking.
    points
        Operating points: recall (k,), precision (k,) and a name for the legend each.
    columns
        Panels side by side.

    Returns
    -------
    ndarray of k Axes
    """
    columns = min(columns, len(names))
    rows = math.ceil(len(names) / columns)
    figure.set_size_inches(2.35 * max(columns, 2), 2.3 * rows + 0.35)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for i, ax in enumerate(grid):
        if i >= len(names):
            ax.set_axis_off()
            continue
        draw_pr(ax, curves[i])
        area = f": AP {average_precision[i]:.3f}" if not np.isnan(average_precision[i]) else ""
        ax.set_title(f"{names[i]}{area}", fontsize="medium", loc="left")
        ax.set(xlabel="", ylabel="")
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.grid(alpha=0.18)
        if np.isnan(curves[i].recall).any():
            _say(ax, "no positive")
            continue
        ax.axhline(prevalence[i], color=GREY, linestyle=":", linewidth=1.2, label="prevalence")
        for (recall, precision, name), marker in zip(points, ("o", "D"), strict=False):
            colour = ORANGE if marker == "o" else GREEN
            ax.plot(
                recall[i],
                precision[i],
                marker,
                color=colour,
                markersize=5,
                label=name,
                linestyle="none",
                clip_on=False,
                zorder=5,
            )
    figure.supxlabel("recall", fontsize="medium")
    figure.supylabel("precision", fontsize="medium")
    _shared_legend(figure, grid[: len(names)])
    shown: NDArray[Any] = grid[: len(names)]
    return shown


def draw_f1(
    ax: Axes,
    names: Sequence[str],
    f1: FloatArray,
    fitted: FloatArray | None = None,
    *,
    always: FloatArray | None = None,
) -> None:
    """Draw horizontal bars of F1, one row per label from the top down.

    Parameters
    ----------
    ax
        The axes.
    names
        The k labels.
    f1, fitted
        (k,) values at 0.5 and at fitted thresholds; NaN is written as undefined.
    always
        (k,) F1 of predicting the label everywhere, drawn as a tick: what costs nothing.
    """
    rows = np.arange(len(names))
    series = [("at 0.5", f1, BLUE)] + ([("at fitted thresholds", fitted, ORANGE)] if fitted is not None else [])
    height = 0.76 / len(series)
    for i, (name, values, colour) in enumerate(series):
        at = rows + (i - (len(series) - 1) / 2) * height
        ax.barh(at, np.nan_to_num(values), height * 0.9, color=colour, label=name)
        for y, value in zip(at, values, strict=True):
            text = "undefined" if np.isnan(value) else f"{value:.2f}"
            written = ax.annotate(
                text, (np.nan_to_num(value), y), (4, 0), textcoords="offset points", va="center", fontsize="x-small"
            )
            if np.isnan(value):
                written.set_color(GREY)
    if always is not None:
        ink = ax.xaxis.label.get_color()
        for y, value in zip(rows, always, strict=True):
            line = ax.plot([value, value], [y - 0.42, y + 0.42], color=ink, linewidth=1.5, linestyle=(0, (2, 1.2)))[0]
            line.set_label("predicting always" if y == 0 else "_")
    ax.set_yticks(rows, list(names))
    ax.set(ylim=(len(names) - 0.4, -0.6), xlim=(0, 1.08), xlabel="F1", xticks=np.linspace(0, 1, 6))
    ax.grid(axis="x", alpha=0.18)
    ax.set_axisbelow(True)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize="small")


def draw_history(loss_ax: Axes, score_ax: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw losses and validation scores over the epochs of all stages, one after the other.

    Parameters
    ----------
    loss_ax, score_ax
        The axes; scores are left out where the history has none.
    history
        Rows with stage, epoch, loss and, where there was a validation part, valid_loss, valid_f1,
        valid_average_precision, valid_roc_auc.
    """
    epochs = np.arange(1, len(history) + 1)
    for key, name, style in (("loss", "training", "-"), ("valid_loss", "validation", "--")):
        _line(loss_ax, epochs, _column(history, key), color=BLUE, linestyle=style, label=f"{name} loss")
    for key, name in _SCORE_NAMES.items():
        _line(score_ax, epochs, _column(history, f"valid_{key}"), color=_SCORE_COLOURS[key], label=f"validation {name}")
    loss_ax.set(ylabel="loss", ylim=(0, None))
    score_ax.set(ylabel="mean over labels")
    for ax in {loss_ax, score_ax}:
        ax.set(xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        ax.locator_params(axis="x", integer=True)
        ax.grid(alpha=0.18)
    mark_stages({loss_ax, score_ax}, history)


def _line(ax: Axes, x: NDArray[Any], y: FloatArray, **style: Any) -> None:
    if not np.isnan(y).all():
        ax.plot(x, y, marker="o", markersize=3, linewidth=1.5, **style)


def _column(history: Sequence[Mapping[str, Any]], key: str) -> FloatArray:
    values = [row.get(key) for row in history]
    return np.array([np.nan if value is None else float(value) for value in values])


def mark_stages(axes: set[Axes], history: Sequence[Mapping[str, Any]]) -> None:
    """Name the stages above the epochs of a history, with a line between them."""
    stages = [str(row.get("stage", "")) for row in history]
    starts = [i for i, stage in enumerate(stages) if i == 0 or stage != stages[i - 1]]
    for ax in axes:
        for start in starts:
            if start:
                ax.axvline(start + 0.5, color=GREY, linewidth=1, linestyle=":")
            ax.annotate(
                stages[start], (start + 0.5, 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                fontsize="small", color=GREY,
            )  # fmt: skip


def _say(ax: Axes, text: str) -> None:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY, fontsize="small")


def _shared_legend(figure: Figure, axes: NDArray[Any]) -> None:
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside upper right", ncols=4, frameon=False, fontsize="small"
        )


@contextmanager
def report_style() -> Iterator[None]:
    """Settings of the figures of a report page, for the time of a `with` block."""
    import matplotlib

    ink = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    shape = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "font.size": 9.5,
        "font.family": "DejaVu Sans",
    }
    page = {"svg.fonttype": "none", "axes.facecolor": "none", "figure.facecolor": "none"}
    # Any, since the type of the settings is a union of 300 names.
    settings: Any = dict.fromkeys(ink, _INK) | shape | page
    with matplotlib.rc_context(settings):
        yield


def figure_svg(figure: Figure, name: str) -> str:
    """Turn a figure drawn within `report_style` into an `<svg>` element in the page's text colour.

    Parameters
    ----------
    figure
        The figure.
    name
        Distinguishes the ids of the figures of one page.

    Returns
    -------
    str
        The element, without anything fetched from elsewhere.
    """
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for unwanted in (r"<metadata>.*?</metadata>", r"<style[^>]*>.*?</style>"):
        text = re.sub(unwanted, "", text, flags=re.DOTALL)
    # Figures share one page, where ids must be unique.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return text.replace(_INK, "currentColor")
