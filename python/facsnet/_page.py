"""The HTML page of a report: what goes into templates/report.html."""

from __future__ import annotations

import contextlib
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from facsnet import _gallery, plots

if TYPE_CHECKING:
    from facsnet.report import Report

__all__ = ["render", "render_template"]

# Key, heading, digits, whether the cell carries a bar.
_COLUMNS = (
    ("support", "known", 0, False), ("positives", "positive", 0, False), ("prevalence", "share", 3, False),
    ("average_precision", "AP", 3, True), ("roc_auc", "ROC AUC", 3, True),
    ("precision", "P", 3, False), ("recall", "R", 3, False), ("f1", "F1", 3, True), ("accuracy", "acc.", 3, False),
    ("threshold", "threshold", 3, False), ("precision_fitted", "P", 3, False), ("recall_fitted", "R", 3, False),
    ("f1_fitted", "F1", 3, True), ("accuracy_fitted", "acc.", 3, False),
)  # fmt: skip

_NONE = "\N{EN DASH}"

# With more labels than this a face shows only those present or predicted.
_FACE_LABELS = 12


def render_template(file: str, **values: Any) -> str:
    """A template of the package with these values; a name that is not given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("facsnet", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template(file).render(**values)
    return page


def render(report: Report, *, title: str, faces: int, mistakes: int) -> str:
    """The whole page."""
    fitted = report.thresholds is not None
    return render_template(
        "report.html",
        title=title,
        heading=report.heading,
        name=report.name,
        fitted=fitted,
        labels=len(report.label_names),
        headlines=_headlines(report),
        columns=[heading for key, heading, *_ in _shown(fitted)],
        rows=_rows(report),
        notes=report.notes,
        figures=_figures(report),
        stages=_stages(report.history),
        facts=_facts(report),
        faces=_faces(report, faces),
        mistakes=_mistakes(report, mistakes),
    )


def _shown(fitted: bool) -> list[tuple[str, str, int, bool]]:
    return [column for column in _COLUMNS if fitted or not (column[0].endswith("_fitted") or column[0] == "threshold")]


def _headlines(report: Report) -> list[dict[str, str]]:
    """The means that a reader looks for first."""
    wanted = [("average_precision", "average precision"), ("roc_auc", "ROC AUC"), ("f1", "F1 at 0.5")]
    if report.thresholds is not None:
        wanted.insert(0, ("f1_fitted", "F1, fitted thresholds"))
    table = report._table
    found = []
    for key, name in wanted:
        defined = int((~np.isnan(table[key])).sum())
        found.append({"name": name, "value": _number(report._means[key], 3), "detail": f"mean of {defined} labels"})
    return found


def _rows(report: Report) -> list[dict[str, Any]]:
    rows = []
    for i, label in enumerate([*report.label_names, "mean"]):
        cells = []
        for key, _, digits, bar in _shown(report.thresholds is not None):
            last = i == len(report.label_names)
            value = report._means.get(key) if last else float(report._table[key][i])
            text = "" if value is None else _number(value, digits)
            share = 100 * value if bar and not last and value is not None and not np.isnan(value) else None
            cells.append(
                {"text": text, "bar": share, "starts_group": key in ("average_precision", "precision", "threshold")}
            )
        rows.append({"label": label, "cells": cells})
    return rows


def _figures(report: Report) -> dict[str, Any]:
    from matplotlib.figure import Figure

    figures: dict[str, Any] = {"history": None}
    with plots.report_style():
        figure = Figure()
        report._draw_pr(figure, columns=4 if len(report.label_names) <= 16 else 6)
        figures["pr"] = plots.figure_svg(figure, "pr")
        figure = Figure(figsize=(8.6, report._f1_height()), layout="constrained")
        report.plot_f1(figure.subplots())
        figures["f1"] = plots.figure_svg(figure, "f1")
        if report.history:
            figure = Figure(figsize=(9.4, 3.1), layout="constrained")
            losses, scores = figure.subplots(1, 2)
            plots.draw_history(losses, scores, report.history)
            for ax in (losses, scores):
                if ax.get_legend_handles_labels()[0]:
                    ax.legend(frameon=False, fontsize="small")
                else:
                    ax.set_visible(False)
            figures["history"] = plots.figure_svg(figure, "history")
    return figures


def _stages(history: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One line per stage of training."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in history:
        stages.setdefault(str(row.get("stage", "")), []).append(row)
    lines = []
    for name, rows in stages.items():
        rates = [row.get("lr", row.get("rate")) for row in rows]
        rates = [rate for rate in rates if rate is not None]
        spread = f"{rates[0]:.3g}" if rates else _NONE
        if rates and rates[-1] != rates[0]:
            spread += f" to {rates[-1]:.3g}"
        seconds = sum(row.get("seconds") or 0 for row in rows)
        lines.append(
            {
                "name": name,
                "epochs": str(len(rows)),
                "rate": spread,
                "loss": _number(rows[-1].get("loss"), 4),
                "score": _best(rows),
                "time": f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min",
            }
        )
    return lines


def _best(rows: list[dict[str, Any]]) -> str:
    scores = [row.get("valid_average_precision") for row in rows]
    known = [(score, row) for score, row in zip(scores, rows, strict=True) if score is not None and not np.isnan(score)]
    if not known:
        return _NONE
    score, row = max(known, key=lambda pair: pair[0])
    return f"{score:.3f} (epoch {row.get('epoch', '?')})"


def _facts(report: Report) -> list[tuple[str, str]]:
    facts = [("model", report.name)] if report.name else []
    facts += [(str(key).replace("_", " "), str(value)) for key, value in report.config.items()]
    facts.append(("images scored", f"{len(report.scores)}"))
    if report.subjects is not None:
        facts.append(("subjects scored", f"{len(set(report.subjects))}"))
    facts.append(("written", time.strftime("%Y-%m-%d %H:%M")))
    with contextlib.suppress(PackageNotFoundError):
        facts.append(("facsnet", version("facsnet")))
    return [(key, value) for key, value in facts if value]


def _thresholds(report: Report) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.full(len(report.label_names), 0.5) if report.thresholds is None else report.thresholds


def _faces(report: Report, count: int) -> list[dict[str, Any]]:
    if report.images is None:
        return []
    rows = _gallery.choose_faces(report.target, report.subjects, count)
    return [face for face in (_face(report, row) for row in rows) if face]


def _mistakes(report: Report, count: int) -> list[dict[str, Any]]:
    if report.images is None:
        return []
    found = []
    for row, label in _gallery.choose_mistakes(report.scores, report.target, _thresholds(report), count):
        face = _face(report, row, only=label)
        if face:
            kind = "missed" if report.target[row, label] == 1 else "false alarm"
            found.append(face | {"headline": f"{report.label_names[label]}: {kind}"})
    return found


def _face(report: Report, row: int, only: int | None = None) -> dict[str, Any] | None:
    """A thumbnail with one bar per label; None where its file cannot be read any more."""
    assert report.images is not None
    pixels = _gallery.thumbnail(report.images[row])
    if pixels is None:
        return None
    bars = [_bar(report, row, label) for label in range(len(report.label_names)) if only in (None, label)]
    shown = (
        bars if len(bars) <= _FACE_LABELS else [bar for bar in bars if bar["predicted"] or bar["truth"] == "present"]
    )
    subject = None if report.subjects is None else report.subjects[row]
    return {
        "image": _gallery.data_uri(pixels), "name": report.identifiers[row], "subject": subject, "headline": None,
        "bars": shown, "hidden": len(bars) - len(shown), "long": any(len(bar["label"]) > 8 for bar in shown),
    }  # fmt: skip


def _bar(report: Report, row: int, label: int) -> dict[str, Any]:
    score, target, limit = (
        float(report.scores[row, label]),
        report.target[row, label],
        float(_thresholds(report)[label]),
    )
    predicted = score >= limit
    truth = "unknown" if np.isnan(target) else "present" if target == 1 else "absent"
    outcome = "unknown" if truth == "unknown" else "right" if predicted == (truth == "present") else "wrong"
    return {
        "label": report.label_names[label], "percent": f"{100 * score:.0f}", "width": f"{100 * score:.1f}",
        "threshold": f"{100 * min(max(limit, 0), 1):.1f}", "truth": truth, "predicted": predicted, "outcome": outcome,
    }  # fmt: skip


def _number(value: Any, digits: int) -> str:
    return _NONE if value is None or np.isnan(value) else f"{value:.{digits}f}"
