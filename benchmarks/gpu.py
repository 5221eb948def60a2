"""facsnet against PyTorch on one GPU, in bfloat16, with the data on it: make cuda-bench.

PyTorch runs channels_last under autocast(bfloat16) (inference: weights of bfloat16), eagerly in a CUDA graph
and with torch.compile(mode="max-autotune"), which has CUDA graphs of its own. Logits and gradients are
compared first. All then run in turns, in rounds with a probe of the GPU's copy bandwidth; rounds with a slow
probe are dropped. Printed are images per second of the median round, the median of the rounds' ratios to the
best of PyTorch with its 10-90% interval, and the part of the limit of bandwidth: images per second at which
each network's least bytes (performance notes of a GPU of 4.3 TB/s) pass through this one.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from versus.gpu_contenders import Contender, Subject

import facsnet as fn

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "densenet121", "densenet201")
# images per second at 4.3 TB/s
LIMITS = {
    "infer": {"mobilenet_v1": 340e3, "mobilenet_v2": 237e3, "densenet121": 104e3, "densenet201": 70e3},
    "train": {"mobilenet_v1": 64e3, "mobilenet_v2": 52e3, "densenet121": 26e3, "densenet201": 17e3},
}
LIMIT_BANDWIDTH = 4.3e12
PROBE_BYTES = 1 << 30
LEAST_PROBE = 0.9


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS, metavar="NETWORK")
    parser.add_argument("--modes", nargs="+", default=["train", "infer"], choices=["train", "infer"])
    parser.add_argument("--train-batch", type=int, default=64)
    parser.add_argument("--infer-batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.05, help="least of a turn")
    parser.add_argument("--size", type=int, default=224, help="pixels on a side")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--compile", nargs="*", default=NETWORKS, metavar="NETWORK", help="whom to compile (minutes)")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--compile-mode", default="max-autotune")
    parser.add_argument("--no-compare", action="store_true", help="take it that results are the same")
    parser.add_argument("--profile", action="store_true", help="also: time of each kernel of ours")
    parser.add_argument("--quick", action="store_true", help="two networks, nothing compiled, few rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="written after every network")
    o = parser.parse_args()
    if o.quick:
        o.networks = [name for name in o.networks if name in ("mobilenet_v1", "densenet121")]
        o.rounds, o.no_compile = 5, True
    if o.no_compile:
        o.compile = ()
    return o


# --- results


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    u, v = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(u @ v / np.sqrt((u @ u) * (v @ v)))


def compare(subject: Subject) -> dict[str, Any]:
    """float32 to 1e-4 of PyTorch's logits and 1e-3 of its gradients; bfloat16 as close as PyTorch's own."""
    logits, gradients = subject.logits(), subject.gradients()
    want, exact = logits["torch"], gradients["torch float32"]
    found = {
        "logits float32": float(np.abs(logits["float32"] - want).max() / np.abs(want).max()),
        "logits bfloat16, cosine": cosine(logits["bfloat16"], want),
        "gradients float32": float(np.linalg.norm(gradients["float32"] - exact) / np.linalg.norm(exact)),
        "gradients bfloat16, cosine": cosine(gradients["bfloat16"], exact),
        "gradients of PyTorch's bfloat16, cosine": cosine(gradients["torch bfloat16"], exact),
    }
    far = 1 - found["gradients bfloat16, cosine"]
    theirs = 1 - found["gradients of PyTorch's bfloat16, cosine"]
    fine = found["logits float32"] <= 1e-4 and found["gradients float32"] <= 1e-3
    return {**found, "same": bool(fine and far <= max(1e-3, 1.5 * theirs))}


# --- speed


class Probe:
    """Bytes per second that a copy within the GPU reads and writes."""

    def __init__(self) -> None:
        self.a = torch.empty(PROBE_BYTES, dtype=torch.uint8, device="cuda")
        self.b = torch.empty_like(self.a)

    def __call__(self) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        for _ in range(4):
            self.b.copy_(self.a)
        end.record()
        torch.cuda.synchronize()
        return 4 * 2 * PROBE_BYTES / (start.elapsed_time(end) / 1e3)


def seconds_of(run: Any, count: int) -> float:
    """Of one run, everything that it started included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def interleave(contenders: Sequence[Contender], probe: Probe, o: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (rounds, contenders) of the rounds that were kept, and their probes."""
    counts = []
    for contender in contenders:
        seconds_of(contender.run, 5)
        counts.append(max(3, int(o.seconds / seconds_of(contender.run, 3))))
    times, probes = [], []
    for _ in range(o.rounds):
        probes.append(probe())
        times.append([seconds_of(c.run, n) for c, n in zip(contenders, counts, strict=True)])
    kept = np.array(probes) >= LEAST_PROBE * max(probes)
    return np.array(times)[kept], np.array(probes)[kept]


def measure(subject: Subject, mode: str, probe: Probe, o: argparse.Namespace) -> dict[str, Any]:
    batch = o.train_batch if mode == "train" else o.infer_batch
    compiled = o.compile_mode if subject.name in o.compile else ""
    made = list((subject.train if mode == "train" else subject.infer)(batch, compiled))
    contenders, notes = [c for c in made if isinstance(c, Contender)], [c for c in made if isinstance(c, str)]
    times, probes = interleave(contenders, probe, o)
    others = [i for i, c in enumerate(contenders) if i > 0]
    best = min(others, key=lambda i: float(np.median(times[:, i]))) if others else 0
    bandwidth = float(np.median(probes))
    limit = LIMITS[mode][subject.name] * bandwidth / LIMIT_BANDWIDTH if o.size == 224 and o.width == 1 else None
    rows = []
    for i, contender in enumerate(contenders):
        ratios = times[:, best] / times[:, i]
        speed = batch / statistics.median(times[:, i])
        low, middle, high = (float(np.quantile(ratios, part)) for part in (0.1, 0.5, 0.9))
        rows.append({
            "title": contender.title, "images_per_second": speed, "milliseconds": 1e3 * batch / speed,
            "ratio": middle, "interval": [low, high], "of_limit": speed / limit if limit else None,
        })  # fmt: skip
    profile = profiled(contenders[0]) if o.profile else None
    return {
        "network": subject.name, "mode": mode, "batch": batch, "rounds": len(times), "of": o.rounds,
        "bandwidth": bandwidth, "limit": limit, "rows": rows, "notes": notes, "profile": profile,
    }  # fmt: skip


def profiled(contender: Contender, *, runs: int = 5) -> list[dict[str, Any]]:
    """Microseconds and launches of each kernel in one run, the longest first."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(runs):
            contender.run()
        torch.cuda.synchronize()
    rows = [
        {"kernel": e.key, "launches": e.count / runs, "microseconds": e.self_device_time_total / runs}
        for e in profile.key_averages()
        if e.self_device_time_total > 0
    ]
    return sorted(rows, key=lambda row: -row["microseconds"])


# --- words


def show(found: dict[str, Any]) -> None:
    part = "" if found["limit"] is None else f", limit {found['limit']:,.0f} img/s"
    print(
        f"\n{found['network']}, {found['mode']}, batch {found['batch']}: {found['rounds']} of {found['of']} rounds, "
        f"copies at {found['bandwidth'] / 1e12:.2f} TB/s{part}"
    )
    print(f"  {'':<28}{'img/s':>10}{'ms':>9}{'ratio':>8}{'10% - 90%':>15}{'of limit':>10}")
    for row in found["rows"]:
        limit = "" if row["of_limit"] is None else f"{row['of_limit']:.0%}"
        low, high = row["interval"]
        print(
            f"  {row['title']:<28}{row['images_per_second']:>10,.0f}{row['milliseconds']:>9.3f}{row['ratio']:>8.2f}"
            f"{f'{low:.2f} - {high:.2f}':>15}{limit:>10}"
        )
    for note in found["notes"]:
        print(f"  {note}")
    if found["profile"]:
        total = sum(row["microseconds"] for row in found["profile"])
        print(f"  kernels: {total:.0f} us in {sum(row['launches'] for row in found['profile']):.0f} launches")
        for row in found["profile"][:30]:
            print(f"  {row['microseconds']:>9.1f} us {row['launches']:>6.0f}  {row['kernel'][:100]}")
    sys.stdout.flush()


def main() -> int:
    o = parse()
    facts = fn.about()
    print(f"{facts['cuda']}; facsnet {facts['facsnet']}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    probe, found, differ = Probe(), [], []
    for name in o.networks:
        subject = Subject(name, size=o.size, width=o.width)
        compared = None
        if not o.no_compare:
            compared = compare(subject)
            print(f"\n{name}: " + ", ".join(f"{k} {v:.3g}" for k, v in compared.items() if k != "same"), flush=True)
            if not compared["same"]:
                differ.append(name)
                print(f"{name}: results differ from PyTorch's by more than rounding")
        for mode in o.modes:
            torch.compiler.reset()
            gc.collect()
            torch.cuda.empty_cache()
            row = measure(subject, mode, probe, o)
            show(row)
            found.append({**row, "compared": compared})
            if o.json:
                o.json.write_text(json.dumps({"about": facts, "torch": torch.__version__, "rows": found}, indent=1))
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
