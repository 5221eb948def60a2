"""Time to a finished two-stage job: one fold of CK+, by ckplus.py and by ckplus_torch.py at the same setting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from versus.machine import allocators
from versus.rounds import BENCHMARKS, python_path

EPOCHS = {"head": 40, "finetune": 10}
QUICK_EPOCHS = {"head": 2, "finetune": 1}


@dataclass(frozen=True)
class JobRow:
    """Seconds of the whole process, and mean scores on the test part after both stages."""

    title: str
    seconds: float
    scores: Mapping[str, float]


def run_job(threads: int, *, quick: bool, log: TextIO) -> list[JobRow]:
    epochs = QUICK_EPOCHS if quick else EPOCHS
    same = ["--folds", "0", "--threads", str(threads)]
    same += ["--head-epochs", str(epochs["head"]), "--finetune-epochs", str(epochs["finetune"])]
    ours = ["ckplus.py", "--setting", "torch", "--losses", "bce", *same]
    theirs = ["ckplus_torch.py", *same]
    half = ["--dtype", "bfloat16"]
    allocator = next(iter(allocators().values()))
    cases: list[tuple[str, list[str], Mapping[str, str]]] = [
        ("facsnet", ours, {}),
        ("PyTorch", theirs, allocator),
        ("facsnet bf16", [*ours, *half], {}),
        ("PyTorch bf16", [*theirs, *half], allocator),
    ]
    print(f"CK+ fold 0, {epochs['head']} head epochs, {epochs['finetune']} of fine-tuning, bce")
    print(f"{'':<16}{'seconds':>9}{'AUC':>9}{'AP':>9}{'F1':>9}{'F1 fitted':>11}")
    rows = []
    for title, arguments, environment in cases:
        row = measure(title, arguments, environment, log)
        rows.append(row)
        shown = "".join(f"{row.scores[k]:>9.3f}" for k in ("roc_auc", "average_precision", "f1"))
        print(f"{title:<16}{row.seconds:>9.0f}{shown}{row.scores['f1_fitted']:>11.3f}", flush=True)
    return rows


def measure(title: str, arguments: list[str], environment: Mapping[str, str], log: TextIO) -> JobRow:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.json"
        command = [sys.executable, str(BENCHMARKS / arguments[0]), *arguments[1:], "--json", str(path)]
        start = time.perf_counter()
        subprocess.run(
            command, check=True, env={**os.environ, **environment, "PYTHONPATH": python_path()}, stdout=log, stderr=log
        )
        seconds = time.perf_counter() - start
        scores = json.loads(path.read_text(encoding="utf-8"))
    return JobRow(title, seconds, scores["bce stage 2"])
