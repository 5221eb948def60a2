"""Reports: how well a detector does, per label, as a table, plots and one HTML page."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facsnet import metrics
from facsnet._files import write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from facsnet.samples import Samples

__all__ = ["Report"]

FloatArray = NDArray[np.float64]

# Columns of the printed table: key in the frame, heading, format.
_PRINTED = (
    ("support", "known", "{:.0f}"), ("positives", "pos", "{:.0f}"), ("prevalence", "share", "{:.3f}"),
    ("precision", "P", "{:.3f}"), ("recall", "R", "{:.3f}"), ("f1", "F1", "{:.3f}"),
    ("threshold", "fitted", "{:.3f}"), ("precision_fitted", "P fit", "{:.3f}"), ("recall_fitted", "R fit", "{:.3f}"),
    ("f1_fitted", "F1 fit", "{:.3f}"), ("average_precision", "AP", "{:.3f}"), ("roc_auc", "AUC", "{:.3f}"),
)  # fmt: skip

_FITTED = ("threshold", "precision_fitted", "recall_fitted", "f1_fitted", "accuracy_fitted")

# Measures that may be undefined, in the order of the notes.
_MAY_LACK = (
    "precision", "recall", "f1", "accuracy", "precision_fitted", "recall_fitted", "f1_fitted", "accuracy_fitted",
    "average_precision", "roc_auc",
)  # fmt: skip


class Report:
    """Scores of a detector on a set of images it was not trained on.

    Everything is computed once over the whole set. What is undefined (a label without a positive,
    say) is NaN, stays out of the means and is named in `notes`.

    Parameters
    ----------
    label_names
        The k labels, such as AU01.
    scores
        (n, k) probabilities in [0, 1], taken as float32.
    target
        (n, k), 1 present, 0 absent, NaN unknown.
    thresholds
        (k,) thresholds fitted on data held out of training, never on this set; by default scores are
        given at 0.5 only.
    name
        Of the model, for headings.
    config
        Facts of the run, printed in the page.
    samples
        The table the scores belong to: its images or paths show in the page, and its number of
        subjects. Taken in place of `images` and `identifiers`.
    images
        n images (h, w, 3) uint8 or paths of image files.
    identifiers
        n names, by default file names, else rows.
    history
        Rows of training: stage, epoch, loss, and where known valid_loss, valid_f1,
        valid_average_precision, valid_roc_auc, lr (or rate), seconds.

    Attributes
    ----------
    label_names : tuple of str
    scores, target : float32 arrays (n, k)
    thresholds : float64 array (k,), or None
    notes : list of str
        Which labels are left out of which mean, and why.

    Raises
    ------
    ValueError
        Shapes do not belong together, a score is not in [0, 1] or a target not 0, 1 or NaN.
    """

    def __init__(
        self,
        *,
        label_names: Sequence[str],
        scores: ArrayLike,
        target: ArrayLike,
        thresholds: ArrayLike | None = None,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        samples: Samples | None = None,
        images: Sequence[Any] | NDArray[np.uint8] | None = None,
        identifiers: Sequence[str] | None = None,
        history: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.label_names = tuple(str(label) for label in label_names)
        self.scores, self.target = np.asarray(scores, np.float32), np.asarray(target, np.float32)
        self.thresholds = None if thresholds is None else np.asarray(thresholds, np.float64)
        self.name = name
        self.config = dict(config or {})
        self.history = [dict(row) for row in history or ()]
        self.subjects: Sequence[Any] | None = None
        if samples is not None:
            images = samples.paths if samples.paths is not None else samples.images
            self.subjects = None if samples.subjects is None else samples.subjects.tolist()
        self.images = images
        self._check(identifiers, samples)
        self.identifiers = _identifiers(identifiers, images, len(self.scores))
        self._table = self._measure()
        self._means = {
            key: _quiet_mean(values)
            for key, values in self._table.items()
            if key not in ("support", "positives", "threshold")
        }
        self.notes = self._note()

    def _check(self, identifiers: Sequence[str] | None, samples: Samples | None) -> None:
        k = len(self.label_names)
        if self.scores.ndim != 2 or self.scores.shape[1] != k:
            raise ValueError(f"scores: shape is {self.scores.shape}, want (n, {k}) for {k} label names")
        n = len(self.scores)
        if self.thresholds is not None and self.thresholds.shape != (k,):
            raise ValueError(f"thresholds: shape is {self.thresholds.shape}, want ({k},)")
        outside = (self.scores < 0) | (self.scores > 1)
        if outside.any():
            row, label = np.argwhere(outside)[0]
            raise ValueError(
                f"scores: row {row}, {self.label_names[label]} is {self.scores[row, label]:g}, want a probability in [0, 1]"
            )
        for argument, values in (("images", self.images), ("identifiers", identifiers), ("samples", samples)):
            if values is not None and len(values) != n:
                raise ValueError(f"{argument}: has {len(values)} entries, scores has {n} rows")

    # --- measures

    def _measure(self) -> dict[str, NDArray[Any]]:
        known = (self.scores, self.target)
        counts = metrics.confusion(*known)
        table: dict[str, NDArray[Any]] = {"support": counts.known, "positives": counts.positives}
        with np.errstate(invalid="ignore"):
            table["prevalence"] = counts.positives / np.where(counts.known, counts.known, np.nan)
        rates = {
            "precision": metrics.precision,
            "recall": metrics.recall,
            "f1": metrics.f1,
            "accuracy": metrics.accuracy,
        }
        table |= {key: rate(*known) for key, rate in rates.items()}
        undefined = np.full(len(self.label_names), np.nan)
        limits = self.thresholds
        table["threshold"] = undefined if limits is None else limits
        for key, rate in rates.items():
            table[f"{key}_fitted"] = undefined if limits is None else rate(*known, threshold=limits)
        table["average_precision"] = metrics.average_precision(*known)
        table["roc_auc"] = metrics.roc_auc(*known)
        return table

    def _note(self) -> list[str]:
        left_out: dict[str, dict[str, list[str]]] = {}
        for key in _MAY_LACK:
            if self.thresholds is None and key in _FITTED:
                continue
            for i in np.flatnonzero(np.isnan(self._table[key])).tolist():
                left_out.setdefault(self._lack(i, key), {}).setdefault(_title(key), []).append(self.label_names[i])
        notes = []
        for lack, measures in left_out.items():
            alike: dict[str, list[str]] = {}
            for measure, labels in measures.items():
                alike.setdefault(", ".join(labels), []).append(measure)
            notes += [
                f"{labels}: {lack}; left out of the mean of {', '.join(names)}." for labels, names in alike.items()
            ]
        if self.thresholds is None:
            notes.append("No thresholds were fitted: precision, recall and F1 are at 0.5.")
        return notes

    def _lack(self, label: int, key: str) -> str:
        """Why a measure is undefined."""
        if self._table["support"][label] == 0:
            return "no known target"
        if key.startswith("precision"):
            return "nothing predicted"
        return "no positive" if self._table["positives"][label] == 0 else "no negative"

    def to_frame(self) -> pd.DataFrame:
        """The measures of every label as a pandas DataFrame.

        Returns
        -------
        DataFrame
            Indexed by label, last row "mean" (over the labels where a measure is defined). Columns:
            support (known targets), positives, prevalence; precision, recall, f1, accuracy at 0.5;
            threshold and precision_fitted, recall_fitted, f1_fitted, accuracy_fitted at the fitted
            thresholds (NaN without); average_precision, roc_auc.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        pandas = _need("pandas", "tables")
        frame = pandas.DataFrame(self._table, index=pandas.Index([*self.label_names], name="label"))
        frame.loc["mean"] = pandas.Series(self._means)
        for key in ("support", "positives"):
            frame[key] = frame[key].astype("Int64")
        table: pd.DataFrame = frame
        return table

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table of `to_frame`; what is undefined is an empty cell."""
        write_text(path, self.to_frame().to_csv())

    def __str__(self) -> str:
        columns = [c for c in _PRINTED if self.thresholds is not None or c[0] not in _FITTED]
        width = max(len(label) for label in (*self.label_names, "mean"))
        lines = [" " * width + "".join(f"{heading:>8}" for _, heading, _ in columns)]
        for i, label in enumerate(self.label_names):
            cells = [_cell(self._table[key][i], form) for key, _, form in columns]
            lines.append(f"{label:<{width}}" + "".join(f"{cell:>8}" for cell in cells))
        cells = [_cell(self._means[key], form) if key in self._means else "" for key, _, form in columns]
        lines += ["-" * len(lines[0]), (f"{'mean':<{width}}" + "".join(f"{cell:>8}" for cell in cells)).rstrip()]
        return "\n".join([self.heading, *lines, *self.notes])

    def __repr__(self) -> str:
        return f"<Report: {self.heading}>"

    def _repr_html_(self) -> str:
        try:
            table = self.to_frame().to_html(float_format="{:.3f}".format, na_rep="-", border=0)
        except ImportError:
            return f"<pre>{html.escape(str(self))}</pre>"
        notes = "".join(f"<p><small>{html.escape(note)}</small></p>" for note in self.notes)
        return f"<p><strong>{html.escape(self.heading)}</strong></p>{table}{notes}"

    @property
    def heading(self) -> str:
        """One line: model, images, subjects, labels."""
        parts = [f"{len(self.scores)} images"]
        if self.subjects is not None:
            parts.append(f"{len(set(self.subjects))} subjects")
        parts.append(f"{len(self.label_names)} labels")
        return (f"{self.name}: " if self.name else "") + ", ".join(parts)

    # --- pictures

    def save_plots(self, folder: str | os.PathLike[str], *, dpi: int = 110) -> None:
        """Write pr.png and f1.png into a folder, without a display."""
        _need("matplotlib", "plots")
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure()
        FigureCanvasAgg(figure)
        self._draw_pr(figure)
        figure.savefig(Path(folder) / "pr.png", dpi=dpi)
        bars = Figure(figsize=(7, self._f1_height()), layout="constrained")
        FigureCanvasAgg(bars)
        self.plot_f1(bars.add_subplot())
        bars.savefig(Path(folder) / "f1.png", dpi=dpi)

    def plot_pr(self, ax: Axes | None = None) -> Any:
        """Plot precision against recall per label.

        Parameters
        ----------
        ax
            Axes for all curves together; by default a new figure with one panel per label, with the
            operating points at 0.5 and at the fitted thresholds.

        Returns
        -------
        Axes, or an array of k Axes
        """
        curves = self._curves()
        _need("matplotlib", "plots")
        from facsnet import plots

        if ax is None:
            import matplotlib.pyplot as plt

            return self._draw_pr(plt.figure())
        colours = _colours(len(curves))
        for label, curve, area, colour in zip(
            self.label_names, curves, self._table["average_precision"], colours, strict=True
        ):
            plots.draw_pr(ax, curve, colour=colour, label=f"{label} ({area:.2f})")
        ax.legend(fontsize="small", ncols=1 + len(curves) // 12)
        return ax

    def plot_f1(self, ax: Axes | None = None) -> Axes:
        """Plot F1 per label at 0.5 and at the fitted thresholds as bars; returns the axes."""
        _need("matplotlib", "plots")
        from facsnet import plots

        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(7, self._f1_height()), layout="constrained")
        share = self._table["prevalence"]
        fitted = self._table["f1_fitted"] if self.thresholds is not None else None
        always = np.where(share > 0, 2 * share / (1 + share), np.nan)
        plots.draw_f1(ax, self.label_names, self._table["f1"], fitted, always=always)
        return ax

    def plot_history(self, ax: Axes | None = None) -> Any:
        """Plot losses and validation scores over the epochs.

        Parameters
        ----------
        ax
            Axes for both, scores on a second scale; by default a new figure with two panels.

        Returns
        -------
        tuple of two Axes
            Of losses and of scores.

        Raises
        ------
        ValueError
            The report has no history.
        """
        if not self.history:
            raise ValueError("history: the report has none; pass history= when making it")
        _need("matplotlib", "plots")
        from facsnet import plots

        if ax is None:
            import matplotlib.pyplot as plt

            _, (losses, scores) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
        else:
            losses, scores = ax, ax.twinx()
        plots.draw_history(losses, scores, self.history)
        for panel in (losses, scores):
            if panel.get_legend_handles_labels()[0]:
                panel.legend(fontsize="small", frameon=False)
        return losses, scores

    def _curves(self) -> list[metrics.PRCurve]:
        curves = metrics.pr_curve(self.scores, self.target)
        assert isinstance(curves, list)
        return curves

    def _draw_pr(self, figure: Any, columns: int = 4) -> Any:
        from facsnet import plots

        points = [(self._table["recall"], self._table["precision"], "at 0.5")]
        if self.thresholds is not None:
            points.append((self._table["recall_fitted"], self._table["precision_fitted"], "at the fitted threshold"))
        return plots.draw_pr_grid(
            figure, self.label_names, self._curves(), average_precision=self._table["average_precision"],
            prevalence=self._table["prevalence"], points=points, columns=columns,
        )  # fmt: skip

    def _f1_height(self) -> float:
        return 1.0 + 0.36 * len(self.label_names)

    def save_html(
        self, path: str | os.PathLike[str], *, title: str | None = None, faces: int = 8, mistakes: int = 4
    ) -> None:
        """Write the report as one HTML page with its pictures inside; nothing is fetched by it.

        Parameters
        ----------
        path
            The file; written whole or not at all.
        title
            Heading, by default the name of the model.
        faces
            Sample images shown with their predictions, chosen by their labels alone.
        mistakes
            Images shown with the most confident errors.

        Raises
        ------
        ImportError
            jinja2, matplotlib or pandas is not installed.
        OSError
            The file cannot be written.
        """
        for module in ("jinja2", "matplotlib"):
            _need(module, "HTML reports")
        from facsnet._page import render

        write_text(path, render(self, title=title or self.name or "Action units", faces=faces, mistakes=mistakes))


def _need(module: str, what: str) -> Any:
    """The module, or an ImportError that says how to get it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as problem:
        raise ImportError(f"{what} need {module}: pip install {module}", name=module) from problem


def _identifiers(given: Sequence[str] | None, images: Any, n: int) -> list[str]:
    if given is not None:
        return [str(name) for name in given]
    if images is not None and n and isinstance(images[0], (str, os.PathLike)):
        return [Path(path).name for path in images]
    return [f"row {i}" for i in range(n)]


def _quiet_mean(values: NDArray[Any]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.UndefinedScoreWarning)
        return metrics.macro_mean(values)


def _cell(value: float, form: str) -> str:
    return "-" if np.isnan(value) else form.format(value)


def _title(key: str) -> str:
    name = key.removesuffix("_fitted").replace("_", " ").replace("f1", "F1").replace("roc auc", "ROC AUC")
    return f"{name} at the fitted threshold" if key.endswith("_fitted") else name


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["tab10" if count <= 10 else "tab20"](i % 20) for i in range(count)]
