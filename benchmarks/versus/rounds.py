"""Peers in processes of their own, run in turns: rounds with a probe of the machine before each."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from versus.machine import Probe
from versus.task import Absent, Task

BENCHMARKS = Path(__file__).resolve().parents[1]
SLOW_PROBE = 0.8
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A peer ended or reported an error."""


def python_path() -> str:
    """With which a process finds this folder and what the caller finds: facsnet as it is installed."""
    paths = [str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, paths))


@dataclass(frozen=True)
class Setting:
    """One way to run a peer: its options and its environment."""

    label: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


class Process:
    """A peer's process; a context that ends it."""

    def __init__(self, title: str, setting: Setting, task: Task, log: TextIO) -> None:
        self.title, self.setting, self.task = title, setting, task
        environment = {**os.environ, **setting.environment}
        environment.setdefault("OMP_NUM_THREADS", str(task.threads))
        environment["PYTHONPATH"] = python_path()
        command = [sys.executable, "-m", "versus.process"]
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )
        try:
            self.facts = self.ask(task.to_json())
        except BaseException:
            self.close()
            raise

    def ask(self, line: str) -> dict[str, Any]:
        assert self.child.stdin is not None and self.child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.write(line + "\n")
            self.child.stdin.flush()
        text = self.child.stdout.readline()
        if not text:
            raise Failed(f"{self.title}: the process ended with status {self.child.wait()}")
        answer: dict[str, Any] = json.loads(text)
        if "absent" in answer:
            raise Absent(answer["absent"])
        if "error" in answer:
            raise Failed(f"{self.title} ({self.setting.label}): {answer['error']}")
        return answer

    def seconds(self, count: int) -> float:
        """Of one run, the mean of so many."""
        return float(self.ask(f"run {count}")["seconds"]) / count

    def array(self, what: str, path: Path) -> dict[str, np.ndarray]:
        """The answer to "logits" or "gradients"."""
        self.ask(f"{what} {path}")
        with np.load(path) as file:
            return {name: file[name] for name in file.files}

    def processor_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def close(self) -> None:
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        try:
            self.child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Outcome:
    """Rounds of several peers: seconds of a run by title, all as long as the kept probes.

    ``idle`` is the processor time that each took while another ran, as a part of one core's.
    """

    seconds: dict[str, list[float]]
    probes: list[Mapping[str, float]]
    rounds: int
    idle: Mapping[str, float]


def interleave(
    peers: Sequence[Process],
    probe: Probe,
    *,
    rounds: int,
    least_seconds: float = 0.3,
    warm: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Runs all peers in turns until so many rounds had a good probe, or twice as many ran.

    Where ``warm``, the peers do not fit into memory together: each gives its free memory back after its
    turn, and takes one run more, not measured, before it.
    """
    counts = {}
    for p in peers:
        counts[p.title] = max(1, math.ceil(least_seconds / p.seconds(1)))
        if warm:
            p.ask("trim")
    rows: list[tuple[Mapping[str, float], dict[str, float]]] = []
    spent, watched = dict.fromkeys(counts, 0.0), dict.fromkeys(counts, 1e-9)
    for number in range(2 * rounds):
        if len(kept(rows)) >= rounds:
            break
        speeds, row = probe.measure(), {}
        # a peer that always came after the same one would always find the machine as that one leaves it
        for p in [*peers[number % len(peers) :], *peers[: number % len(peers)]]:
            if warm:
                p.seconds(1)
            before = {o.title: o.processor_seconds() for o in peers}
            start = time.perf_counter()
            row[p.title] = p.seconds(counts[p.title])
            passed = time.perf_counter() - start
            for other in peers:
                if other is not p:
                    spent[other.title] += other.processor_seconds() - before[other.title]
                    watched[other.title] += passed
            if warm:
                p.ask("trim")
        rows.append((speeds, row))
        say(f"round {number + 1}")
    good = kept(rows)
    seconds = {p.title: [row[p.title] for _, row in good] for p in peers}
    idle = {title: spent[title] / watched[title] for title in spent}
    return Outcome(seconds, [speeds for speeds, _ in good], len(rows), idle)


def kept(rows: Sequence[tuple[Mapping[str, float], dict[str, float]]]) -> list[tuple[Mapping[str, float], dict]]:
    """The rounds whose probe was not much below the best."""
    best = max((speeds["float32"] for speeds, _ in rows), default=0.0)
    return [row for row in rows if row[0]["float32"] >= SLOW_PROBE * best]


def choose(
    title: str,
    settings: Sequence[Setting],
    start: Callable[[Setting], Process],
    *,
    runs: int,
    say: Callable[[str], None],
) -> Setting:
    """The setting with the fastest run, each tried alone; the only one is not tried.

    Raises Absent or Failed where none works.
    """
    if len(settings) == 1:
        return settings[0]
    best, problem = (math.inf, settings[0]), None
    for setting in settings:
        try:
            with start(setting) as process:
                count = max(1, math.ceil(0.1 / process.seconds(1)))
                fastest = min(process.seconds(count) for _ in range(runs))
        except Failed as found:
            say(str(found))
            problem = found
            continue
        say(f"{title}: {setting.label} {1e3 * fastest:.1f} ms")
        best = min(best, (fastest, setting), key=lambda pair: pair[0])
    if best[0] == math.inf and problem is not None:
        raise problem
    return best[1]
