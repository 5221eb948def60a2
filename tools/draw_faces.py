"""Writes docs/images/synthetic_faces.png: every action unit, neutral and on, for several drawn subjects."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from facsnet.datasets import ACTION_UNITS, draw_expression

TITLES = {
    "AU01": "inner brow raiser",
    "AU02": "outer brow raiser",
    "AU04": "brow lowerer",
    "AU06": "cheek raiser",
    "AU09": "nose wrinkler",
    "AU12": "lip corner puller",
    "AU25": "lips part",
    "AU26": "jaw drop",
}


def main() -> None:
    subjects = (1, 5, 9, 12)
    figure, axes = plt.subplots(len(subjects), 9, figsize=(12, 5.8))
    for row, subject in enumerate(subjects):
        for column, unit in enumerate((None, *ACTION_UNITS)):
            on = {} if unit is None else {unit: 0.9, **({"AU25": 0.7} if unit == "AU26" else {})}
            axis = axes[row, column]
            axis.imshow(draw_expression(on, subject=subject, seed=3))
            axis.axis("off")
            if row == 0:
                axis.set_title("neutral" if unit is None else f"{unit}\n{TITLES[unit]}", fontsize=9)
    figure.tight_layout(pad=0.3)
    target = Path(__file__).resolve().parents[1] / "docs" / "images" / "synthetic_faces.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=72)
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
