"""The tables of a cross-validation, as frames, as text and for LaTeX."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facsnet import metrics
from facsnet.published import percent_with_mean

if TYPE_CHECKING:
    import pandas as pd

    from facsnet.crossvalidation import CrossValidation

__all__ = [
    "MEASURES",
    "comparison_frame",
    "costs_frame",
    "fold_frame",
    "latex",
    "mean_of",
    "published_frame",
    "results_frame",
    "setting_text",
    "summary_frame",
    "with_mean",
]

FloatArray = NDArray[np.float64]

MEASURES = {
    "f1": "F1 at 0.5",
    "f1_fitted": "F1 at fitted thresholds",
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
}
"""Name of each measure to its title."""


def mean_of(values: NDArray[Any], axis: int | tuple[int, ...]) -> FloatArray:
    """Without what is undefined, and without a word where all is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        return np.asarray(np.nanmean(np.asarray(values, np.float64), axis=axis))


def with_mean(values: FloatArray) -> FloatArray:
    """The values of the labels, and behind them their mean."""
    return np.append(values, mean_of(values, 0))


def results_frame(study: CrossValidation) -> pd.DataFrame:
    """As `CrossValidation.to_frame`."""
    import pandas as pd

    index = pd.MultiIndex.from_product([study.settings, [*study.label_names, "mean"]], names=["setting", "label"])
    columns: dict[str, list[float]] = {}
    for setting in study.settings:
        for measure in MEASURES:
            low, high = metrics.interval(study.drawn(setting, measure))
            labels = study.per_label(setting, measure)
            columns.setdefault(measure, []).extend(with_mean(labels))
            columns.setdefault(f"{measure}_low", []).extend(low)
            columns.setdefault(f"{measure}_high", []).extend(high)
            if len(study.seeds) > 1:
                each = mean_of(study.values(setting, measure), 1)
                spread = np.std(np.column_stack([each, mean_of(each, 1)]), axis=0, ddof=1)
                columns.setdefault(f"{measure}_seeds", []).extend(spread)
        for name, values in [
            ("prevalence", study.prevalence()),
            *((f"f1_{name}", values) for name, values in study.trivial().items()),
        ]:
            columns.setdefault(name, []).extend(with_mean(values))
    return pd.DataFrame(columns, index=index)


def summary_frame(study: CrossValidation) -> pd.DataFrame:
    """F1 in percent for a paper: one row per label and the mean, two columns per setting."""
    import pandas as pd

    columns = {"share": study.prevalence(), **study.trivial()}
    for setting in study.settings:
        columns[f"{setting}, 0.5"] = study.per_label(setting, "f1")
        columns[f"{setting}, fitted"] = study.per_label(setting, "f1_fitted")
    rows = {name: np.round(100 * with_mean(values), 1) for name, values in columns.items()}
    return pd.DataFrame(rows, index=pd.Index([*study.label_names, "mean"], name="label"))


def fold_frame(study: CrossValidation) -> pd.DataFrame:
    """As the method."""
    import pandas as pd

    rows = []
    for key, result in study.results.items():
        counts = metrics.confusion(result.scores, result.target)
        for i, label in enumerate(study.label_names):
            measured = {m: study.values(key.setting, m)[study.seeds.index(key.seed), key.fold, i] for m in MEASURES}
            rows.append(
                {
                    **key._asdict(),
                    "label": label,
                    "known": int(counts.known[i]),
                    "positives": int(counts.positives[i]),
                    "threshold": result.thresholds[i],
                    **measured,
                }
            )
    return pd.DataFrame(rows)


def comparison_frame(study: CrossValidation, base: str) -> pd.DataFrame:
    """As `CrossValidation.compare`."""
    import pandas as pd

    rows = []
    for setting in study.settings:
        for measure in MEASURES if setting != base else ():
            drawn = study.drawn(setting, measure)[:, -1] - study.drawn(base, measure)[:, -1]
            low, high = metrics.interval(drawn)
            difference = study.mean(setting, measure) - study.mean(base, measure)
            rows.append(
                {
                    "setting": setting,
                    "baseline": base,
                    "measure": measure,
                    "difference": difference,
                    "low": float(low),
                    "high": float(high),
                }
            )
    return pd.DataFrame(rows, columns=["setting", "baseline", "measure", "difference", "low", "high"])


def published_frame(study: CrossValidation) -> pd.DataFrame:
    """As the method."""
    import pandas as pd

    rows = {row.method: percent_with_mean(row, study.label_names) for row in study.published}
    for setting in study.settings:
        rows[f"ours: {setting}"] = [*(100 * with_mean(study.per_label(setting, "f1")))]
    rows["always positive"] = [*(100 * with_mean(study.trivial()["always"]))]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*study.label_names, "mean"]).rename_axis("method")


def costs_frame(study: CrossValidation) -> pd.DataFrame:
    """As the method."""
    import pandas as pd

    rows = []
    for setting in study.settings:
        costs = [result.costs for result in study.runs(setting)]
        for i, stage in enumerate(costs[0]["stages"]):
            rows.append(
                {
                    "setting": setting,
                    "stage": stage["name"],
                    "parameters": costs[0]["parameters"],
                    "trained": stage["trained"],
                    "macs": costs[0]["macs"],
                    "epochs": float(np.mean([c["stages"][i]["epochs"] for c in costs])),
                    "seconds": float(np.mean([c["stages"][i]["seconds"] for c in costs])),
                    "planned_memory": stage["memory"],
                    "peak_memory": max(c["peak_memory"] for c in costs),
                }
            )
    return pd.DataFrame(rows)


def setting_text(study: CrossValidation, setting: str) -> str:
    """A setting's F1 in every fold, and all means with their intervals, as lines of text."""
    width = max(len(name) for name in (*study.label_names, "mean"))
    heads = ["share", "always", "random", *(f"fold {i}" for i in range(study.folds)), "F1", "95%"]
    heads += ["F1 fit", "95%", "AP", "AUC"]
    wide = [15 if head == "95%" else 8 for head in heads]
    rows = []
    trivial = study.trivial()
    columns = [study.prevalence(), trivial["always"], trivial["random"], *mean_of(study.values(setting, "f1"), 0)]
    for i, label in enumerate((*study.label_names, "mean")):
        last = label == "mean"
        cells = [_cell(mean_of(column, 0) if last else column[i]) for column in columns]
        for measure in ("f1", "f1_fitted"):
            low, high = metrics.interval(study.drawn(setting, measure)[:, i])
            value = study.mean(setting, measure) if last else study.per_label(setting, measure)[i]
            cells += [_cell(value), f"{_cell(low)} - {_cell(high)}"]
        for measure in ("average_precision", "roc_auc"):
            cells.append(_cell(study.mean(setting, measure) if last else study.per_label(setting, measure)[i]))
        rows.append(f"{label:<{width}}" + "".join(f"{c:>{w}}" for c, w in zip(cells, wide, strict=True)))
    head = " " * width + "".join(f"{h:>{w}}" for h, w in zip(heads, wide, strict=True))
    return "\n".join(["", f"{setting}: F1 at 0.5 in each fold, and means", head, *rows[:-1], "-" * len(head), rows[-1]])


def _cell(value: Any) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def latex(frame: pd.DataFrame) -> str:
    """A booktabs table; what is undefined is a dash."""
    text: str = frame.to_latex(
        index=False, float_format=lambda value: f"{value:.3f}".removesuffix("00"), na_rep="--", escape=True
    )
    return text
