"""The tables of benchmarks/losses.py, from runs that are made up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("losses", None)
    import losses

    return losses


def write(folder: Path, key: str, loss: str, value: float) -> None:
    scores = {name: [value - 0.1, value + 0.1, None] for name in ("f1", "f1_fitted", "average_precision")}
    row = {"loss": loss, "scores": {"head": scores, "finetune": scores}}
    text = json.dumps(row).replace("null", "NaN")  # as a label without a positive comes out
    (folder / f"{key}_{loss}.json").write_text(text)


def test_gains_are_of_pairs(losses: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, (bce, pr) in enumerate([(0.5, 0.52), (0.6, 0.61), (0.7, 0.73)]):
        write(tmp_path, f"ckplus_fold0_seed{seed}", "bce", bce)
        write(tmp_path, f"ckplus_fold0_seed{seed}", "pr", pr)
    write(tmp_path, "ckplus_fold0_seed3", "pr", 0.1)  # without a bce to compare with
    write(tmp_path, "celeba_seed0", "bce", 0.9)
    losses.print_table(tmp_path, "ckplus")
    rows = capsys.readouterr().out.splitlines()
    assert rows[3] == "| bce | 3 | 0.600 | 0.600 | 0.600 |"
    half = 4.303 * np.std([2, 1, 3], ddof=1) / np.sqrt(3)
    assert rows[4].startswith(f"| pr | 4 | 0.490 (+2.0 ± {half:.1f}) |")
    losses.print_table(tmp_path, "celeba")
    assert "| bce | 1 | 0.900 |" in capsys.readouterr().out


def test_runs_of_other_settings_are_not_mixed(losses: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "celeba_seed0_bce.json"
    path.write_text(json.dumps({"settings": {"rate": 0.1}}))
    losses.check_settings(path, {"rate": 0.1})
    with pytest.raises(SystemExit, match="choose another --out"):
        losses.check_settings(path, {"rate": 0.2})
