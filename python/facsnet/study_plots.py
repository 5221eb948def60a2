"""Drawing what a cross-validation came to on matplotlib figures.

The functions draw on what they are given and keep no state; `facsnet.CrossValidation` calls them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facsnet.metrics import Calibration, PRCurve
from facsnet.plots import BLUE, GREEN, GREY, ORANGE, draw_pr, mark_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "SETTING_COLOURS",
    "draw_calibration_grid",
    "draw_cooccurrence",
    "draw_f1_bars",
    "draw_histories",
    "draw_pr_settings",
]

FloatArray = NDArray[np.float64]

SETTING_COLOURS = (BLUE, ORANGE, GREEN, "#a8518f", "#c8b400", "#6f63c0", "#c0504d", "#4aa8b5")
"""Of the settings that are compared, in their order, over and over."""

_TINTS = ("#c9cdd4", "#b1b7c1", "#989fac", "#7f8795", "#666e7d", "#4d5565")


def colour_of(setting: int) -> str:
    return SETTING_COLOURS[setting % len(SETTING_COLOURS)]


def _grid(figure: Figure, count: int, columns: int, height: float) -> NDArray[Any]:
    """Panels that share their axes, with room for a legend above; the unused ones are hidden."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure.set_size_inches(2.35 * max(columns, 2), height * rows + 0.4)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in panels[count:]:
        ax.set_axis_off()
    for ax in panels[:count]:
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.grid(alpha=0.18)
    found: NDArray[Any] = panels[:count]
    return found


def _numbers(ax: Axes, texts: Sequence[str]) -> None:
    """One number per setting in its colour, above the panel; more than fit there are left to the tables."""
    for j, text in enumerate(texts if len(texts) <= 4 else ()):
        place = (1.01 - 0.165 * (len(texts) - 1 - j), 1.035)
        style: dict[str, Any] = {"fontsize": "x-small", "fontweight": "bold", "color": colour_of(j)}
        ax.text(place[0], place[1], text, transform=ax.transAxes, ha="right", va="bottom", **style)


def _legend(figure: Figure, axes: Sequence[Axes] | NDArray[Any]) -> None:
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside upper center", ncols=5, frameon=False, fontsize="small"
        )


def draw_pr_settings(
    figure: Figure,
    names: Sequence[str],
    curves: Mapping[str, Sequence[PRCurve]],
    *,
    average_precision: Mapping[str, FloatArray],
    prevalence: FloatArray,
    columns: int = 4,
) -> NDArray[Any]:
    """Draw precision against recall, one panel per label and one curve per setting.

    Parameters
    ----------
    figure
        An empty figure; its size is set.
    names
        The k labels.
    curves
        Setting to its k curves.
    average_precision
        Setting to (k,), written into the panels.
    prevalence
        (k,), drawn dotted: the precision of a random ranking.

    Returns
    -------
    ndarray of k Axes
    """
    panels = _grid(figure, len(names), columns, 2.3)
    for i, ax in enumerate(panels):
        ax.set_title(names[i], fontsize="medium", loc="left")
        for j, (setting, of_labels) in enumerate(curves.items()):
            draw_pr(ax, of_labels[i], colour=colour_of(j), label=setting)
        _numbers(ax, [f"{average_precision[setting][i]:.2f}" for setting in curves])
        ax.axhline(prevalence[i], color=GREY, linestyle=":", linewidth=1.2, label="prevalence")
        ax.set(xlabel="", ylabel="")
    figure.supxlabel("recall", fontsize="medium")
    figure.supylabel("precision", fontsize="medium")
    _legend(figure, panels)
    return panels


def draw_f1_bars(
    ax: Axes,
    names: Sequence[str],
    ours: Mapping[str, tuple[FloatArray, FloatArray, FloatArray]],
    *,
    published: Mapping[str, Sequence[float]] | None = None,
    trivial: Mapping[str, FloatArray] | None = None,
) -> None:
    """Draw F1 in percent as groups of upright bars, one group per label.

    Parameters
    ----------
    ax
        The axes.
    names
        The labels; "mean" may be the last.
    ours
        Setting to F1, and the lower and the upper end of its interval, each as many as names, 0 to 1.
    published
        Method to F1 in percent, drawn in greys on the left of each group.
    trivial
        Name to F1, 0 to 1, drawn as lines across each group.
    """
    others = dict(published or {})
    count = len(others) + len(ours)
    width = 0.84 / count
    ink = ax.xaxis.label.get_color()
    places = np.arange(len(names))
    for j, (method, row) in enumerate(others.items()):
        tint = _TINTS[min(j * len(_TINTS) // max(len(others), 1), len(_TINTS) - 1)]
        ax.bar(places + (j + 0.5) * width - 0.42, row, width * 0.94, color=tint, label=method)
    for j, (setting, (f1, low, high)) in enumerate(ours.items()):
        at = places + (len(others) + j + 0.5) * width - 0.42
        ax.bar(at, 100 * np.nan_to_num(f1), width * 0.94, color=colour_of(j), label=setting)
        ends = 100 * np.stack([np.maximum(f1 - low, 0), np.maximum(high - f1, 0)])
        ax.errorbar(at, 100 * f1, ends, fmt="none", ecolor=ink, elinewidth=1, capsize=min(3, 40 * width / count))
    for (name, values), style in zip((trivial or {}).items(), ("-", (0, (2, 1.2))), strict=False):
        for i, value in enumerate(values):
            line = ax.plot([i - 0.46, i + 0.46], [100 * value] * 2, color=ink, linestyle=style, linewidth=1.1)[0]
            line.set(alpha=0.75, zorder=4, label=name if i == 0 else "_")
    ax.set_xticks(places, list(names))
    if names and names[-1] == "mean":
        ax.axvline(len(names) - 1.5, color=GREY, linewidth=0.8)
    ax.set(xlim=(-0.55, len(names) - 0.45), ylim=(0, 100), ylabel="F1, %")
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y", alpha=0.18)
    ax.set_axisbelow(True)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=6, frameon=False, fontsize="small")


def draw_histories(
    loss_ax: Axes, score_ax: Axes, histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
) -> None:
    """Draw training loss and validation average precision over the epochs, each setting in its colour.

    Parameters
    ----------
    loss_ax, score_ax
        The axes.
    histories
        Setting to the histories of its runs; each run is a faint line, their mean a strong one as far
        as all of them go.
    """
    longest: Sequence[Mapping[str, Any]] = []
    for j, (setting, runs) in enumerate(histories.items()):
        for ax, key in ((loss_ax, "loss"), (score_ax, "valid_average_precision")):
            lines = [np.array([float(row.get(key, np.nan)) for row in run]) for run in runs]
            for line in lines:
                ax.plot(np.arange(1, len(line) + 1), line, color=colour_of(j), linewidth=0.7, alpha=0.35)
            common = min(len(line) for line in lines)
            mean = np.mean([line[:common] for line in lines], axis=0)
            ax.plot(np.arange(1, common + 1), mean, color=colour_of(j), linewidth=1.9, label=setting)
        longest = max([longest, *runs], key=len)
    loss_ax.set(ylabel="training loss", ylim=(0, None))
    score_ax.set(ylabel="validation AP, mean over labels")
    for ax in (loss_ax, score_ax):
        ax.set(xlabel="epoch", xlim=(0.5, len(longest) + 0.5))
        ax.locator_params(axis="x", integer=True)
        ax.grid(alpha=0.18)
    mark_stages({loss_ax, score_ax}, longest)
    score_ax.legend(frameon=False, fontsize="small")


def draw_calibration_grid(
    figure: Figure, names: Sequence[str], found: Mapping[str, Calibration], *, columns: int = 4, least: int = 10
) -> NDArray[Any]:
    """Draw the share of positives against the score, one panel per label and one curve per setting.

    Parameters
    ----------
    figure
        An empty figure; its size is set.
    names
        The k labels.
    found
        Setting to its calibration.
    least
        Bins of fewer entries are left out: their share is chance.

    Returns
    -------
    ndarray of k Axes
    """
    panels = _grid(figure, len(names), columns, 2.3)
    for i, ax in enumerate(panels):
        ax.set_title(names[i], fontsize="medium", loc="left")
        ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="perfect")
        for j, (setting, c) in enumerate(found.items()):
            shown = c.entries[i] >= least
            size = 3 + 5 * np.sqrt(c.entries[i][shown] / max(1, c.entries[i].sum()))
            line = np.where(shown, c.share[i], np.nan)  # broken where a bin is left out
            ax.plot(c.score[i], line, color=colour_of(j), linewidth=1.4, label=setting)
            ax.scatter(c.score[i][shown], c.share[i][shown], size**2, color=colour_of(j), linewidths=0)
        _numbers(ax, [f"{c.error[i]:.2f}" for c in found.values()])
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    figure.supxlabel("mean score", fontsize="medium")
    figure.supylabel("share of positives", fontsize="medium")
    _legend(figure, panels)
    return panels


def draw_cooccurrence(ax: Axes, names: Sequence[str], share: FloatArray, *, title: str) -> None:
    """Draw a table of shares: row i, column j the part of the rows with label i that have label j.

    Parameters
    ----------
    ax
        The axes.
    names
        The k labels.
    share
        (k, k) from `facsnet.metrics.cooccurrence`; NaN is a dash.
    title
        Of the panel.
    """
    from matplotlib import colormaps

    k = len(names)
    shades = colormaps["Blues"]
    ax.pcolormesh(np.nan_to_num(share), cmap=shades, vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for i in range(k):
        for j in range(k):
            text = "\N{EN DASH}" if np.isnan(share[i, j]) else f"{100 * share[i, j]:.0f}"
            colour = "white" if share[i, j] > 0.55 else "#1d2330"
            ax.text(j + 0.5, i + 0.5, text, ha="center", va="center", color=colour, fontsize="small")
    ax.set_xticks(np.arange(k) + 0.5, list(names), rotation=45 if k > 8 else 0)
    ax.set_yticks(np.arange(k) + 0.5, list(names))
    ax.tick_params(length=0, labelsize="small")
    ax.set(ylim=(k, 0), xlabel="also has, %", ylabel="of the images with")
    ax.set_title(title, fontsize="medium", loc="left")
    for side in ax.spines.values():
        side.set_visible(False)
