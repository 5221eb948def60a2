"""The page and the plots of a cross-validation: what goes into templates/study.html."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facsnet import metrics, plots, study_plots
from facsnet._page import render_template
from facsnet._study_faces import best_and_worst
from facsnet._study_tables import MEASURES, with_mean
from facsnet._version import __version__
from facsnet.published import percent_with_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from facsnet.crossvalidation import CrossValidation

__all__ = ["render", "save_plots"]

FloatArray = NDArray[np.float64]
_NONE = "\N{EN DASH}"


def render(study: CrossValidation, *, title: str, faces: bool) -> str:
    """The whole page."""
    chosen = study.best_inside()
    with plots.report_style():
        figures = {name: plots.figure_svg(figure, name) for name, figure in _figures(study).items()}
    return render_template(
        "study.html",
        title=title,
        heading=study.heading,
        settings=study.settings,
        seeds=len(study.seeds),
        labels=len(study.label_names),
        draws=study.draws,
        unit="images" if study.test(0).subjects is None else "subjects",
        chosen=chosen,
        headlines=_headlines(study, chosen),
        measures=list(MEASURES.values()),
        comparison=_comparison(study),
        differences=_differences(study),
        per_label=_per_label(study),
        fold_tables=_fold_tables(study),
        sources=study.published,
        figures=figures,
        faces=best_and_worst(study, chosen) if faces else [],
        costs=_costs(study),
        notes=study.notes,
        facts=_facts(study),
    )


def save_plots(study: CrossValidation, folder: Path) -> None:
    """Writes every figure as .png and .svg, without a display."""
    import matplotlib

    with matplotlib.rc_context({"font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False}):
        for name, figure in _figures(study).items():
            figure.savefig(folder / f"{name}.png", dpi=120)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


# --- figures


def _figures(study: CrossValidation) -> dict[str, Figure]:
    return {
        "pr": _pr(study),
        "f1": _bars(study),
        "history": _history(study),
        "calibration": _calibration(study),
        "cooccurrence": _cooccurrence(study),
    }


def _new(width: float = 0, height: float = 0) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained") if width else Figure()
    FigureCanvasAgg(figure)
    return figure


def _columns(study: CrossValidation) -> int:
    return 4 if len(study.label_names) <= 16 else 6


def _pr(study: CrossValidation) -> Figure:
    figure = _new()
    curves = {}
    for setting in study.settings:
        scores, target, _ = study.pooled(setting)
        found = metrics.pr_curve(scores, target)
        assert isinstance(found, list)
        curves[setting] = found
    study_plots.draw_pr_settings(
        figure,
        study.label_names,
        curves,
        average_precision={s: study.per_label(s, "average_precision") for s in study.settings},
        prevalence=study.prevalence(),
        columns=_columns(study),
    )
    return figure


def _bars(study: CrossValidation) -> Figure:
    labels = [*study.label_names, "mean"]
    bars = len(labels) * (len(study.settings) + len(study.published))
    figure = _new(float(np.clip(0.11 * bars + 2, 9.4, 11.5)), 3.6)
    ours = {}
    for setting in study.settings:
        low, high = metrics.interval(study.drawn(setting, "f1"))
        ours[setting] = (with_mean(study.per_label(setting, "f1")), low, high)
    published = {row.method: percent_with_mean(row, study.label_names) for row in study.published}
    names = {"always": "always positive", "random": "random by prevalence"}
    trivial = {names[name]: with_mean(values) for name, values in study.trivial().items()}
    study_plots.draw_f1_bars(figure.subplots(), labels, ours, published=published, trivial=trivial)
    return figure


def _history(study: CrossValidation) -> Figure:
    figure = _new(9.4, 3.2)
    losses, scores = figure.subplots(1, 2)
    study_plots.draw_histories(
        losses, scores, {setting: [run.history for run in study.runs(setting)] for setting in study.settings}
    )
    return figure


def _calibration(study: CrossValidation) -> Figure:
    figure = _new()
    found = {setting: metrics.calibration(*study.pooled(setting)[:2]) for setting in study.settings}
    study_plots.draw_calibration_grid(figure, study.label_names, found, columns=_columns(study))
    return figure


def _cooccurrence(study: CrossValidation) -> Figure:
    k = len(study.label_names)
    size = float(np.clip(0.5 * k + 0.6, 3, 12))
    figure = _new(2 * size + 0.6, size)
    scores, target, limits = study.pooled(study.best_inside())
    predicted = np.where(np.isnan(target), np.nan, scores >= limits).astype(np.float32)
    panels = figure.subplots(1, 2)
    for ax, values, title in zip(panels, (target, predicted), ("labels", "predictions"), strict=True):
        study_plots.draw_cooccurrence(ax, study.label_names, metrics.cooccurrence(values), title=title)
    return figure


# --- tables


def _headlines(study: CrossValidation, chosen: str) -> list[dict[str, str]]:
    found = []
    for measure, title in MEASURES.items():
        low, high = metrics.interval(study.drawn(chosen, measure)[:, -1])
        detail = f"95%: {_number(low)} to {_number(high)}"
        found.append({"name": title, "value": _number(study.mean(chosen, measure)), "detail": detail})
    return found


def _comparison(study: CrossValidation) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, setting in enumerate(study.settings):
        cells = []
        for measure in MEASURES:
            low, high = metrics.interval(study.drawn(setting, measure)[:, -1])
            cells.append(
                {"value": _number(study.mean(setting, measure)), "interval": f"{_number(low)}, {_number(high)}"}
            )
        rows.append({"name": setting, "colour": study_plots.colour_of(i), "cells": cells})
    share = float(np.nanmean(study.prevalence()))
    for name, title in (("always", "always positive"), ("random", "random by prevalence")):
        f1 = float(np.nanmean(study.trivial()[name]))
        values = [_number(f1), _NONE, _number(share), _number(0.5)]
        rows.append({"name": title, "colour": None, "cells": [{"value": v, "interval": None} for v in values]})
    return rows


def _differences(study: CrossValidation) -> list[dict[str, Any]]:
    frame = study.compare()
    rows = []
    for i, setting in enumerate(study.settings[1:], start=1):
        cells = []
        for measure in MEASURES:
            one = frame[(frame["setting"] == setting) & (frame["measure"] == measure)].iloc[0]
            sure = one["low"] > 0 or one["high"] < 0
            interval = f"{one['low']:+.3f}, {one['high']:+.3f}"
            cells.append({"value": f"{one['difference']:+.3f}", "interval": interval, "sure": sure})
        rows.append({"name": setting, "colour": study_plots.colour_of(i), "cells": cells})
    return rows


def _per_label(study: CrossValidation) -> list[dict[str, Any]]:
    trivial = study.trivial()
    plain = [with_mean(v) for v in (study.prevalence(), trivial["always"], trivial["random"])]
    ours = [(m, with_mean(study.per_label(s, m))) for s in study.settings for m in MEASURES]
    rows = []
    for i, label in enumerate((*study.label_names, "mean")):
        cells: list[dict[str, Any]] = [{"text": _number(values[i]), "bar": None, "starts": False} for values in plain]
        for measure, values in ours:
            shown = measure != "roc_auc" and label != "mean" and not np.isnan(values[i])
            bar = 100 * float(values[i]) if shown else None
            cells.append({"text": _number(values[i]), "bar": bar, "starts": measure == "f1"})
        rows.append({"label": label, "cells": cells})
    return rows


def _fold_tables(study: CrossValidation) -> list[dict[str, Any]]:
    tables = []
    for setting in study.settings:
        values = study.values(setting, "f1")
        columns = [
            f"fold {fold}" if len(study.seeds) == 1 else f"seed {seed}, fold {fold}"
            for seed in study.seeds
            for fold in range(study.folds)
        ]
        flat = values.reshape(-1, len(study.label_names))
        rows = [[name, *map(_number, flat[:, i])] for i, name in enumerate(study.label_names)]
        tables.append({"name": setting, "columns": columns, "rows": rows})
    return tables


def _costs(study: CrossValidation) -> list[list[str]]:
    return [
        [
            row.setting,
            row.stage,
            _count(row.parameters),
            _count(row.trained),
            _count(row.macs),
            f"{row.epochs:.1f}",
            f"{row.seconds:.1f} s" if row.seconds < 120 else f"{row.seconds / 60:.1f} min",
            _bytes(row.planned_memory),
            _bytes(row.peak_memory),
        ]
        for row in study.costs_frame().itertuples()
    ]


def _count(count: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def _bytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _facts(study: CrossValidation) -> list[tuple[str, str]]:
    """What is the same for all runs of the first setting; the rest is in the tables."""
    config = study.test(0).config
    facts = [
        (str(key), str(value)) for key, value in config.items() if key not in ("loss", "epochs kept", "parameters")
    ]
    facts += [("settings", ", ".join(study.settings)), ("seeds", ", ".join(map(str, study.seeds)))]
    for fold in range(study.folds):
        subjects = study.test(fold).subjects
        if subjects is not None:
            distinct = sorted(set(subjects))
            facts.append((f"tested in fold {fold}", ", ".join(distinct[:40]) + (" ..." if len(distinct) > 40 else "")))
    return [*facts, ("written", time.strftime("%Y-%m-%d %H:%M")), ("facsnet", __version__)]


def _number(value: Any) -> str:
    return _NONE if value is None or np.isnan(value) else f"{value:.3f}"
