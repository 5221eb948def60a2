"""What a cross-validation came to: tables with intervals over subjects, comparisons, a page."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facsnet import _study_page, _study_tables, metrics
from facsnet._core import FormatError
from facsnet._files import write_text
from facsnet._runs import RunKey, RunResult, read_result
from facsnet._study_tables import MEASURES, mean_of
from facsnet.published import Published, published_f1

if TYPE_CHECKING:
    import pandas as pd

    from facsnet.samples import Samples

__all__ = ["MEASURES", "CrossValidation"]

FloatArray = NDArray[np.float64]


class CrossValidation:
    """The results of `cross_validate`.

    Each measure is taken over all test rows of a fold, averaged over the folds (and seeds), then over
    the labels. Where it is undefined, as F1 without a positive, it is NaN, stays out of the means and
    is named in `notes`. Intervals are of 95% over the subjects, drawn with replacement within each
    fold (see `metrics.bootstrap`): they say how far other subjects would move a result, not other
    seeds.

    Attributes
    ----------
    label_names : tuple of str
    settings : tuple of str
        Names of the backbones and losses that were compared.
    seeds : tuple of int
    folds : int
    results : dict of RunKey to RunResult
    notes : list of str
        What is undefined, and the warnings of the runs.
    published : tuple of Published
        Rows from papers, where asked for.
    """

    def __init__(
        self,
        results: Sequence[RunResult],
        *,
        draws: int = 1000,
        published: str | None = None,
        parts: Sequence[tuple[Samples, Samples]] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        if not results:
            raise ValueError("results: there are none")
        self.results = {result.key: result for result in results}
        self.label_names = results[0].label_names
        self.settings = tuple(dict.fromkeys(key.setting for key in self.results))
        self.seeds = tuple(sorted({key.seed for key in self.results}))
        self.folds = 1 + max(key.fold for key in self.results)
        self._check()
        self.draws = draws
        self.published: tuple[Published, ...] = () if published is None else published_f1(published, self.label_names)
        self.parts = parts
        self.folder = None if folder is None else Path(folder)
        self._values = {
            setting: {measure: self._measure(setting, measure) for measure in MEASURES} for setting in self.settings
        }
        self._drawn: dict[tuple[str, str], FloatArray] = {}
        self.notes = self._note()

    def _check(self) -> None:
        for setting in self.settings:
            for seed in self.seeds:
                for fold in range(self.folds):
                    key = RunKey(setting, seed, fold)
                    if key not in self.results:
                        raise ValueError(f"results: there is no run {key}")
                    run, first = self.results[key], self.test(fold)
                    if run.label_names != self.label_names:
                        raise ValueError(f"results: the run {key} has other labels")
                    # one draw of subjects serves all detectors of a fold
                    if run.subjects != first.subjects or not np.array_equal(run.target, first.target, equal_nan=True):
                        raise ValueError(f"results: the run {key} was tested on other rows than the first of its fold")

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        draws: int = 1000,
        published: str | None = None,
        parts: Sequence[tuple[Samples, Samples]] | None = None,
    ) -> CrossValidation:
        """Reads the runs in the ``out`` folder of `cross_validate`; settings are in the order of their names.

        Parameters
        ----------
        folder, draws, published
            As there.
        parts : sequence of (train, test), optional
            The folds, without which the page shows no faces.

        Raises
        ------
        FileNotFoundError
            There is no result.
        FormatError
            A file is damaged.
        ValueError
            A run is missing, or runs do not belong together.
        """
        paths = sorted(Path(folder).glob("*.result.safetensors"))
        if not paths:
            raise FileNotFoundError(2, "no results of runs", os.fspath(folder))
        results = [read_result(path) for path in paths]
        if len({result.label_names for result in results}) > 1:
            raise FormatError(f"{os.fspath(folder)}: its results are of different labels")
        return cls(results, draws=draws, published=published, parts=parts, folder=folder)

    # --- numbers

    def test(self, fold: int) -> RunResult:
        """The first run on a fold, for what all of them share: targets and subjects."""
        return self.results[RunKey(self.settings[0], self.seeds[0], fold)]

    def runs(self, setting: str) -> list[RunResult]:
        """All runs of a setting, by seed and fold."""
        return [self.results[RunKey(setting, seed, fold)] for seed in self.seeds for fold in range(self.folds)]

    def _measure(self, setting: str, measure: str) -> FloatArray:
        values = [_measured(result, measure) for result in self.runs(setting)]
        return np.stack(values).reshape(len(self.seeds), self.folds, len(self.label_names))

    def values(self, setting: str, measure: str) -> FloatArray:
        """A measure of every run, (seeds, folds, k)."""
        return self._values[setting][measure]

    def per_label(self, setting: str, measure: str) -> FloatArray:
        """Mean over folds and seeds, (k,)."""
        return mean_of(self.values(setting, measure), (0, 1))

    def mean(self, setting: str, measure: str) -> float:
        """Mean over folds and seeds, then over labels."""
        return float(mean_of(self.per_label(setting, measure), 0))

    def drawn(self, setting: str, measure: str) -> FloatArray:
        """The bootstrap of `per_label` and, in the last column, of `mean`: (draws, k + 1).

        Row i is of the same subjects for every setting, measure and seed.
        """
        if (setting, measure) not in self._drawn:
            runs = [self._draw(result, measure) for result in self.runs(setting)]
            labels = mean_of(np.stack(runs), 0)
            self._drawn[setting, measure] = np.column_stack([labels, mean_of(labels, 1)])
        return self._drawn[setting, measure]

    def _draw(self, result: RunResult, measure: str) -> FloatArray:
        rows = range(len(result.scores)) if result.subjects is None else result.subjects
        return metrics.bootstrap(
            result.scores,
            result.target,
            np.asarray(rows),
            measure="f1" if measure == "f1_fitted" else measure,
            threshold=result.thresholds if measure == "f1_fitted" else 0.5,
            draws=self.draws,
            part=result.key.fold,
        )

    def prevalence(self) -> FloatArray:
        """Share of positives in the test parts, mean over the folds, (k,)."""
        return mean_of(np.stack([_share(self.test(fold).target) for fold in range(self.folds)]), 0)

    def trivial(self) -> dict[str, FloatArray]:
        """F1 that costs nothing, mean over the folds, (k,) each.

        ``always`` predicts the label everywhere. ``random`` predicts it at random, as often as it is in
        the training part: with that share q and the share p in the test part, 2 p q / (p + q), the F1 of
        the expected counts.
        """
        always, random = [], []
        for fold in range(self.folds):
            run = self.test(fold)
            always.append(metrics.f1(np.ones_like(run.scores), run.target))
            p, q = _share(run.target), run.training_share
            with np.errstate(invalid="ignore"):
                random.append(np.where(p > 0, 2 * p * q / (p + q), np.nan))
        return {"always": mean_of(np.stack(always), 0), "random": mean_of(np.stack(random), 0)}

    def best_inside(self) -> str:
        """The setting of the best average precision on the validation parts, which are not tested on."""

        def valid(setting: str) -> float:
            kept = [_kept_row(result).get("valid_average_precision", np.nan) for result in self.runs(setting)]
            score = float(mean_of(np.asarray(kept, np.float64), 0))
            return -np.inf if np.isnan(score) else score

        return max(self.settings, key=valid)

    def pooled(self, setting: str) -> tuple[NDArray[np.float32], NDArray[np.float32], FloatArray]:
        """Scores, targets and fitted thresholds of the rows of all folds, of the first seed: (n, k) each."""
        runs = [self.results[RunKey(setting, self.seeds[0], fold)] for fold in range(self.folds)]
        limits = [np.broadcast_to(run.thresholds, run.scores.shape) for run in runs]
        return (
            np.concatenate([run.scores for run in runs]),
            np.concatenate([run.target for run in runs]),
            np.concatenate(limits),
        )

    def _note(self) -> list[str]:
        notes = []
        for fold in range(self.folds):
            share = _share(self.test(fold).target)
            lacking = [name for name, p in zip(self.label_names, share, strict=True) if not p > 0]
            if lacking:
                notes.append(f"fold {fold}: no positive of {', '.join(lacking)}; left out of their means")
        if self.test(0).subjects is None:
            notes.append("subjects are not known: intervals are over rows, which is too narrow where rows are alike")
        warned: dict[str, list[RunKey]] = {}
        for key, result in self.results.items():
            for note in result.notes:
                warned.setdefault(note, []).append(key)
        for note, keys in warned.items():
            which = "all runs" if len(keys) == len(self.results) else f"{len(keys)} runs, first {keys[0]}"
            notes.append(f"{note} ({which})")
        return notes

    # --- tables

    def to_frame(self) -> pd.DataFrame:
        """One row per setting and label, the last of each setting being ``mean``.

        Returns
        -------
        DataFrame
            Indexed by setting and label. Columns: every measure of `MEASURES`, with ``_low`` and
            ``_high`` the ends of its interval and ``_seeds`` its standard deviation over the seeds
            (with several); prevalence, f1_always, f1_random.
        """
        return _study_tables.results_frame(self)

    def fold_frame(self) -> pd.DataFrame:
        """One row per run and label: the measures, the threshold, known and positive rows of the test part."""
        return _study_tables.fold_frame(self)

    def compare(self, baseline: str | None = None) -> pd.DataFrame:
        """Differences of the means from one setting, on the same drawn subjects.

        Parameters
        ----------
        baseline : str, optional
            A setting; the first by default.

        Returns
        -------
        DataFrame
            One row per other setting and measure: difference, and low and high of its interval. An
            interval that holds 0 says that other subjects may turn the order round.
        """
        base = self.settings[0] if baseline is None else baseline
        if base not in self.settings:
            raise ValueError(f"baseline is {base!r}, want one of {list(self.settings)}")
        return _study_tables.comparison_frame(self, base)

    def published_frame(self) -> pd.DataFrame:
        """F1 at 0.5 in percent, of papers as printed and of ours, one row per method."""
        return _study_tables.published_frame(self)

    def costs_frame(self) -> pd.DataFrame:
        """Per setting: parameters, multiply-accumulates, and seconds and memory of the stages, means over the runs."""
        return _study_tables.costs_frame(self)

    @property
    def heading(self) -> str:
        """One line: rows, subjects, labels, runs."""
        tests = [self.test(fold) for fold in range(self.folds)]
        parts = [f"{sum(len(t.scores) for t in tests)} images"]
        if tests[0].subjects is not None:
            parts.append(f"{len({s for t in tests for s in t.subjects or ()})} subjects")
        parts += [f"{len(self.label_names)} labels", f"{self.folds} folds"]
        if len(self.seeds) > 1:
            parts.append(f"{len(self.seeds)} seeds")
        return ", ".join([*parts, f"{len(self.results)} runs"])

    def __str__(self) -> str:
        return "\n".join(
            [self.heading, *(_study_tables.setting_text(self, setting) for setting in self.settings), *self.notes]
        )

    def __repr__(self) -> str:
        return f"<CrossValidation: {self.heading}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    # --- files

    def save(self, folder: str | os.PathLike[str], *, title: str = "Cross-validation", **page: Any) -> Path:
        """Writes tables (CSV and LaTeX), plots (PNG and SVG) and report.html; returns the page.

        Parameters
        ----------
        folder : path
            Made where it is not there.
        title
            Of the page.
        **page
            Of `save_html`.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        self.save_tables(place)
        _study_page.save_plots(self, place)
        self.save_html(place / "report.html", title=title, **page)
        return place / "report.html"

    def save_tables(self, folder: str | os.PathLike[str]) -> None:
        """Writes summary (F1 in percent), results, folds, comparison, costs and, where asked for, published, each as .csv and .tex."""
        frames = {
            "summary": _study_tables.summary_frame(self).reset_index(),
            "results": self.to_frame().reset_index(),
            "folds": self.fold_frame(),
            "comparison": self.compare(),
            "costs": self.costs_frame(),
        }
        if self.published:
            frames["published"] = self.published_frame().reset_index()
        for name, frame in frames.items():
            write_text(Path(folder) / f"{name}.csv", frame.to_csv(index=False))
            write_text(Path(folder) / f"{name}.tex", _study_tables.latex(frame))

    def save_html(self, path: str | os.PathLike[str], *, title: str = "Cross-validation", faces: bool = True) -> None:
        """Write the report as one HTML page with its pictures inside; nothing is fetched by it.

        Parameters
        ----------
        path
            The file; written whole or not at all.
        title
            Heading.
        faces
            Show for each label the best and the worst face, with what hiding parts of it does: needs
            the samples and the saved models, and is left out where they are not there.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_text(path, _study_page.render(self, title=title, faces=faces))


def _measured(result: RunResult, measure: str) -> FloatArray:
    if measure == "f1":
        return metrics.f1(result.scores, result.target)
    if measure == "f1_fitted":
        return metrics.f1(result.scores, result.target, threshold=result.thresholds)
    rank = {"average_precision": metrics.average_precision, "roc_auc": metrics.roc_auc}[measure]
    return rank(result.scores, result.target)


def _kept_row(result: RunResult) -> dict[str, Any]:
    """The row of history of the weights that were kept."""
    if not result.history:
        return {}
    stage = result.history[-1]["stage"]
    rows = [row for row in result.history if row["stage"] == stage]
    return next((row for row in rows if row["epoch"] == result.best.get(stage)), rows[-1])


def _share(target: NDArray[np.float32]) -> FloatArray:
    return mean_of(target, 0)
