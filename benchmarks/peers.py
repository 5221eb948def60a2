"""facsnet against PyTorch (eager, compiled, frozen), ONNX Runtime, OpenVINO and Keras, each at its best settings.

All get the same weights; logits and gradients are compared first, and a peer whose differ is left out
and makes the script fail. Every peer is a process of its own that keeps its network loaded. One after the other they
run in rounds with a probe of the machine's peak before each; rounds with a slow probe are dropped.
Printed are images per second of the median round, the median of the rounds' ratios to the best peer with
its 10-90% interval, and the part of the limit: the FLOP of the layers' definitions over the probed peak.

  infer, infer-b1, infer-bf16   inference of a batch and of one image
  train, train-bf16             a step of full fine-tuning with Adam; bfloat16 against PyTorch's faster dtype
  memory                        how much a process grows in full fine-tuning above imports and data
  partial                       fine-tuning of the last blocks with the activations below them cached, against without
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from versus.facsnet_peer import version
from versus.job import run_job
from versus.machine import Probe, allocators, free_memory
from versus.rounds import Failed, Process, Setting, choose, interleave, python_path
from versus.settings import Contender, contenders, narrowed
from versus.table import compare_gradients, compare_logits, plain, printed, rows_of
from versus.task import LABELS, Absent, Task

import facsnet as fn

# of a core while another peer runs: more says that its threads spin
MOST_IDLE = 0.02
NETWORKS = ("mobilenet_v1", "mobilenet_v2", "densenet121", "densenet201")


@dataclass(frozen=True)
class Mode:
    name: str
    job: str
    dtype: str = "float32"
    batch: int | None = None


MODES = {
    mode.name: mode
    for mode in (
        Mode("infer", "infer"),
        Mode("infer-b1", "infer", batch=1),
        Mode("infer-bf16", "infer", "bfloat16"),
        Mode("train", "train"),
        Mode("train-bf16", "train", "bfloat16"),
        Mode("memory", "train"),
        Mode("partial", "partial"),
    )
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES), metavar="MODE")
    parser.add_argument("--peers", nargs="+", metavar="KIND", help="words of their names, such as facsnet pytorch")
    parser.add_argument("--rounds", type=int, default=15, help="kept ones of inference (default %(default)s)")
    parser.add_argument("--train-rounds", type=int, default=5, help="kept ones of training (default %(default)s)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=224, help="pixels on a side")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--no-tune", action="store_true", help="take each peer's first setting, try no others")
    parser.add_argument("--quick", action="store_true", help="3 rounds, one setting: to see that it runs")
    parser.add_argument("--job", action="store_true", help="instead: time to a finished two-stage job on CK+")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--log", type=Path, metavar="FILE", help="what the peers print (default: nowhere)")
    o = parser.parse_args()
    if o.quick:
        o.rounds = o.train_rounds = 3
        o.no_tune = True
    return o


class Comparison:
    """One network in all modes."""

    def __init__(self, o: argparse.Namespace, network: str, folder: Path, probe: Probe, log: TextIO) -> None:
        self.o, self.network, self.folder, self.probe, self.log = o, network, folder, probe, log
        self.differ: list[str] = []
        dtypes = {MODES[name].dtype for name in o.modes} | ({"bfloat16"} if "memory" in o.modes else set())
        for dtype in sorted(dtypes | ({"float32"} if "train-bf16" in o.modes else set())):
            self.draw(dtype)

    def draw(self, dtype: str) -> None:
        o = self.o
        say(f"{self.network}: drawing weights")
        command = [sys.executable, "-m", "versus.draws", self.network, str(self.folder), "--size", str(o.size)]
        command += ["--batch", str(o.batch), "--width", str(o.width)]
        command += ["--bfloat16"] if dtype == "bfloat16" else []
        kinds = {c.kind for mode in o.modes for c in self.contenders(MODES[mode]) if MODES[mode].job == "infer"}
        command += ["--onnx"] if kinds & {"onnxruntime", "openvino"} else []
        environment = {**os.environ, "PYTHONPATH": python_path()}
        subprocess.run(command, check=True, env=environment, stdout=self.log, stderr=self.log)

    def flop(self, job: str) -> float | None:
        """Of an image: twice the multiply-accumulates, thrice that with backward, less the gradient of the images."""
        network = fn.Network(self.network, labels=LABELS, width=self.o.width, input_size=self.o.size)
        macs = [row[5] for row in network._core.node_rows()]
        first = next(count for count in macs if count)
        return {"infer": 2.0 * sum(macs), "train": 6.0 * sum(macs) - 2.0 * first}.get(job)

    def task(self, mode: Mode, contender: Contender, setting: Setting) -> Task:
        o = self.o
        batch = o.batch if mode.batch is None else mode.batch
        options = dict(setting.options)
        return Task(
            contender.kind, self.network, mode.job, contender.dtype, batch, o.size, o.width, o.threads, str(self.folder),
            options,
        )  # fmt: skip

    def start(self, mode: Mode, contender: Contender, setting: Setting) -> Process:
        return Process(contender.title, setting, self.task(mode, contender, setting), self.log)

    # --- speed

    def contenders(self, mode: Mode) -> list[Contender]:
        o = self.o
        if mode.job == "partial":
            settings = {"with the cache": {"cache": "boundary"}, "without": {"cache": "none"}}
            return [Contender(t, "facsnet", "float32", [Setting("", options)]) for t, options in settings.items()]
        batch = o.batch if mode.batch is None else mode.batch
        found = contenders(mode.job, mode.dtype, batch, o.threads)
        return [narrowed(c) if o.no_tune else c for c in found if self.wants(c)]

    def wants(self, contender: Contender) -> bool:
        return not self.o.peers or any(word.lower() in contender.title.lower() for word in self.o.peers)

    def ready(self, mode: Mode, contender: Contender) -> Process:
        """Its process at its best setting."""
        runs = 5 if mode.job == "infer" else 1
        setting = choose(
            contender.title,
            contender.settings,
            lambda setting: self.start(mode, contender, setting),
            runs=runs,
            say=say,
        )
        say(f"{self.network} {mode.name}: starting {contender.title}")
        process = self.start(mode, contender, setting)
        process.ask("trim")
        return process

    def speed(self, mode: Mode) -> dict[str, Any]:
        free = free_memory()
        notes: list[str] = []
        differences: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            peers: list[Process] = []
            for contender in self.contenders(mode):
                try:
                    process = stack.enter_context(self.ready(mode, contender))
                    text, fine = self.compare(mode, process)
                    process.ask("trim")
                except Absent as problem:
                    notes.append(f"{contender.title}: {problem}")
                    continue
                except Failed as problem:
                    notes.append(str(problem))
                    continue
                differences[process.title] = text
                if fine:
                    peers.append(process)
                else:
                    self.differ.append(f"{self.network} {mode.name}: {process.title} differs ({text})")
                    notes.append(self.differ[-1])
            if not peers:
                return self.report(mode, notes, [], "no peer runs")
            grown = sum(p.ask("memory")["grown"] for p in peers)
            warm = mode.job == "train" and grown > 0.7 * free
            if warm:
                notes.append(f"the peers take {grown / 1e9:.0f} GB: each gave its memory back after its turn")
            rounds = self.o.rounds if mode.job == "infer" else self.o.train_rounds
            least = 0.05 if self.o.quick else 0.3
            try:
                outcome = interleave(
                    peers, self.probe, rounds=rounds, least_seconds=least, warm=warm,
                    say=lambda text: say(f"{self.network} {mode.name}: {text}"),
                )  # fmt: skip
            except Failed as problem:
                return self.report(mode, [*notes, str(problem)], [], "a peer failed")
            batch = peers[0].task.batch
            rows = rows_of(
                outcome, peers, ours=self.ours(mode, peers), batch=batch, flop=self.flop(mode.job),
                differences=differences,
            )  # fmt: skip
        peaks = {name: max(p[name] for p in outcome.probes) for name in outcome.probes[0]}
        speeds = ", ".join(f"{name} {value:.0f}" for name, value in peaks.items())
        title = (
            f"batch {batch}, {len(outcome.probes)} of {outcome.rounds} rounds, peak {speeds} GFLOP/s, "
            f"a waiting peer used at most {max(outcome.idle.values()):.1%} of a core"
        )
        notes += [
            f"{t} used {part:.1%} of a core while it waited" for t, part in outcome.idle.items() if part > MOST_IDLE
        ]
        facts = {"rounds": len(outcome.probes), "of": outcome.rounds, "peak": peaks, "idle": outcome.idle}
        return {**self.report(mode, notes, rows, title), **facts}

    @staticmethod
    def ours(mode: Mode, peers: Sequence[Process]) -> str:
        return next((p.title for p in peers if p.task.kind == "facsnet"), "")

    def compare(self, mode: Mode, process: Process) -> tuple[str, bool]:
        if mode.job == "infer":
            return compare_logits(process, self.folder)
        return compare_gradients(process, self.folder) if mode.job == "train" else ("", True)

    def report(self, mode: Mode, notes: Sequence[str], rows: Sequence[Any], title: str) -> dict[str, Any]:
        print(f"\n{self.network}, {mode.name}: {title}")
        if rows:
            print(printed(rows))
        for note in notes:
            print(f"  {note}")
        sys.stdout.flush()
        return {"network": self.network, "mode": mode.name, "rows": [plain(row) for row in rows], "notes": list(notes)}

    # --- memory

    def memory(self, mode: Mode) -> dict[str, Any]:
        """Each alone, after three steps; the least over its settings."""
        usual, frugal = Setting(""), {"memory": "low"}
        ways = [Setting(name, environment=environment) for name, environment in allocators().items()]
        cases = [
            Contender("facsnet", "facsnet", "float32", [usual]),
            Contender("facsnet bf16", "facsnet", "bfloat16", [usual]),
            Contender("facsnet memory='low'", "facsnet", "float32", [Setting("", frugal)]),
            Contender("facsnet bf16 memory='low'", "facsnet", "bfloat16", [Setting("", frugal)]),
        ]
        for kind in ("eager", "compile"):
            for dtype, suffix in (("float32", ""), ("bfloat16", " bf16")):
                settings = [replace(way, options={"mode": kind}) for way in ways[:: max(1, len(ways) - 1)]]
                cases.append(Contender(f"PyTorch {kind}{suffix}", "torch", dtype, settings))
        print(f"\n{self.network}, memory: batch {self.o.batch}, GB that the process grew above imports and data")
        found: dict[str, float] = {}
        notes: list[str] = []
        for case in cases:
            if not self.wants(case):
                continue
            for setting in case.settings[: 1 if self.o.no_tune else None]:
                say(f"{self.network} memory: {case.title} {setting.label}")
                try:
                    with self.start(mode, case, setting) as process:
                        process.ask("run 2")
                        grown = process.ask("memory")["grown"] / 1e9
                except (Absent, Failed) as problem:
                    notes.append(f"{case.title}: {problem}")
                    continue
                found[case.title] = min(grown, found.get(case.title, grown))
        for title, value in found.items():
            print(f"{title:<28}{value:>8.2f}")
        for note in dict.fromkeys(notes):
            print(f"  {note}")
        sys.stdout.flush()
        return {"network": self.network, "mode": mode.name, "gigabytes": found, "notes": notes}


def say(text: str) -> None:
    """Where it stands, on a terminal alone."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:150]}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def log_file(path: Path | None) -> Iterator[TextIO]:
    with open(os.devnull if path is None else path, "w", encoding="utf-8") as file:
        yield file


def compare_all(o: argparse.Namespace, log: TextIO, results: dict[str, Any]) -> list[str]:
    differ: list[str] = []
    with tempfile.TemporaryDirectory(prefix="facsnet-peers-") as name:
        folder = Path(name)
        probe = Probe(folder, o.threads)
        results["probe"] = probe.name
        print(f"probe: {probe.name}; allocators: {', '.join(allocators())}", flush=True)
        for network in o.networks:
            comparison = Comparison(o, network, folder / network, probe, log)
            for mode in (MODES[m] for m in o.modes):
                measure = comparison.memory if mode.name == "memory" else comparison.speed
                results["results"].append(measure(mode))
                write(o.json, results)
            differ += comparison.differ
    return differ


def write(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    o = parse()
    facts = fn.about()
    print(f"{facts['processor']}; {version()}; {o.threads} threads", flush=True)
    results: dict[str, Any] = {"about": facts, "threads": o.threads, "results": []}
    with log_file(o.log) as log:
        if o.job:
            results["job"] = [asdict(row) for row in run_job(o.threads, quick=o.quick, log=log)]
            write(o.json, results)
            return 0
        differ = compare_all(o, log, results)
    for line in differ:
        print(line, file=sys.stderr)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
