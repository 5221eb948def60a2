"""From rounds to rows: speeds, ratios to the best peer, parts of the limit; and how outputs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from versus.rounds import Outcome, Process

FLOAT_ERROR = 1e-4  # largest difference of logits, relative to the largest logit
GRADIENT_ERROR = 1e-3  # L2 norm of all gradients' difference, relative to that of all gradients
LEAST_COSINE = 0.999  # of logits in bfloat16
LEAST_GRADIENT_COSINE = 0.99  # of gradients in bfloat16: activations fall to the other side of corners


@dataclass(frozen=True)
class Row:
    """One peer in one mode; times are of its median round, ratios of rounds to the best peer's."""

    title: str
    setting: str
    version: str
    images_per_second: float
    ratio: float
    interval: tuple[float, float]
    of_limit: float | None
    difference: str


def rows_of(
    outcome: Outcome,
    peers: Sequence[Process],
    *,
    ours: str,
    batch: int,
    flop: float | None,
    differences: Mapping[str, str],
) -> list[Row]:
    """Of all peers; ``ours`` is the title that the best peer is not, ``flop`` those of an image."""
    seconds = {title: np.array(values) for title, values in outcome.seconds.items()}
    others = [title for title in seconds if title != ours] or [ours]
    best = min(others, key=lambda title: float(np.median(seconds[title])))
    rows = []
    for p in peers:
        speed = batch / float(np.median(seconds[p.title]))
        ratios = seconds[best] / seconds[p.title]
        low, high = (float(np.quantile(ratios, q)) for q in (0.1, 0.9))
        part = None
        if flop is not None:
            peak = 1e9 * float(np.median([highest(probe, p.task.dtype) for probe in outcome.probes]))
            part = speed * flop / peak
        rows.append(
            Row(
                p.title,
                p.setting.label,
                p.facts["version"],
                speed,
                float(np.median(ratios)),
                (low, high),
                part,
                differences.get(p.title, ""),
            )
        )
    return rows


def highest(probe: Mapping[str, float], dtype: str) -> float:
    """The peak for a dtype; bfloat16 may be computed as float32, where that is faster."""
    return max(probe["float32"], probe.get(dtype, 0.0))


def printed(rows: Sequence[Row]) -> str:
    lines = [f"{'':<24}{'img/s':>9}{'ratio to the best peer':>26}{'of limit':>10}{'difference':>14}  setting"]
    for r in rows:
        ratio = f"{r.ratio:.2f} [{r.interval[0]:.2f}, {r.interval[1]:.2f}]"
        part = "" if r.of_limit is None else f"{r.of_limit:.0%}"
        lines.append(f"{r.title:<24}{r.images_per_second:>9.1f}{ratio:>26}{part:>10}{r.difference:>14}  {r.setting}")
    return "\n".join(lines)


# --- comparison


def flat(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in names])


def cosine(found: np.ndarray, wanted: np.ndarray) -> float:
    found, wanted = found.ravel(), wanted.ravel()
    return float(found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted)))


def compare_logits(process: Process, folder: Path) -> tuple[str, bool]:
    """What is printed, and whether it is near enough; wanted are logits in double."""
    path = process.task.path("logits.npy")
    if not path.exists():
        return "unchecked", True
    answer = process.array("logits", folder / "found.npz")
    wanted = answer.get("wanted", np.load(path))
    count = min(len(wanted), len(answer["logits"]))
    found, wanted = answer["logits"][:count].astype(np.float64), wanted[:count].astype(np.float64)
    if process.task.dtype == "float32":
        error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        return f"{error:.1e}", error <= FLOAT_ERROR
    alike = cosine(found, wanted)
    return f"cos {alike:.5f}", alike >= LEAST_COSINE


def compare_gradients(process: Process, folder: Path) -> tuple[str, bool]:
    """The same for all gradients together."""
    path = process.task.path("gradients.npz")
    if not path.exists():
        return "unchecked", True
    answer = process.array("gradients", folder / "found.npz")
    found = {name: value for name, value in answer.items() if not name.startswith("wanted:")}
    wanted = {name.removeprefix("wanted:"): value for name, value in answer.items() if name not in found}
    if not wanted:
        with np.load(path) as file:
            wanted = {name: file[name] for name in file.files}
    if set(found) != set(wanted):
        return "other names", False
    names = sorted(wanted)
    a, b = flat(found, names), flat(wanted, names)
    if process.task.dtype == "float32":
        error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
        return f"{error:.1e}", error <= GRADIENT_ERROR
    alike = cosine(a, b)
    return f"cos {alike:.5f}", alike >= LEAST_GRADIENT_COSINE


def plain(row: Row) -> dict[str, Any]:
    """For JSON."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}
