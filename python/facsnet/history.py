"""What happened in training, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["History"]


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes
    ----------
    rows : list of dict
        stage, epoch, loss, rate, seconds, loader_seconds, and with a validation set valid_loss,
        valid_f1, valid_average_precision, valid_roc_auc.
    best : dict
        Stage name to the epoch whose weights were kept.
    notes : list of str
        What a reader should know: what was cached (bytes, where), why a stage ended.
    interrupted : bool
        Ctrl-C ended training; the last note says which weights the network holds.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def __str__(self) -> str:
        if not self.rows:
            return "no epochs"
        names = [n for n in self.rows[0] if n not in ("loader_seconds",)]
        lines = ["  ".join(f"{n.removeprefix('valid_'):>12}" for n in names)]
        for row in self.rows:
            lines.append("  ".join(f"{_cell(row.get(n)):>12}" for n in names))
        return "\n".join([*lines, *self.notes])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
