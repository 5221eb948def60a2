"""benchmarks/peers.py on a tiny network: it runs, compares, prints and writes what it found."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from versus.machine import Probe
from versus.rounds import Failed, Outcome, Setting, choose, interleave, kept
from versus.settings import contenders
from versus.table import rows_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: pip install .[bench]"
)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(fn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(BENCHMARKS / "peers.py"), "--quick", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path, **environment}
    )


SMALL = ["--networks", "mobilenet_v1", "--width", "0.25", "--size", "32", "--batch", "4"]


@needs_torch
def test_runs(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    peers = ["facsnet", "eager", "onnx"]
    modes = ["infer", "train", "partial"]
    answer = run(*SMALL, "--peers", *peers, "--modes", *modes, "--json", str(path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = json.loads(path.read_text())
    assert [result["mode"] for result in found["results"]] == modes
    for result in found["results"][:2]:
        rows = {row["title"]: row for row in result["rows"]}
        assert {"facsnet", "PyTorch eager"} <= set(rows), result["notes"]
        for row in rows.values():
            assert row["images_per_second"] > 0
            assert row["interval"][0] <= row["ratio"] <= row["interval"][1]
            assert 0 < float(row["difference"]) < 1e-3
            assert row["title"] in answer.stdout
        assert result["rounds"] >= 1
    assert "without" in [row["title"] for row in found["results"][2]["rows"]]


@needs_torch
def test_memory_is_of_every_plan(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    answer = run(*SMALL, "--peers", "facsnet", "--modes", "memory", "--json", str(path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (found,) = json.loads(path.read_text())["results"]
    ways = ["facsnet", "facsnet bf16", "facsnet memory='low'", "facsnet bf16 memory='low'"]
    assert list(found["gigabytes"]) == ways and not found["notes"]


@needs_torch
def test_fails_where_outputs_differ(tmp_path: Path) -> None:
    """A facsnet whose first bias is another."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'versus.process' in ' '.join(sys.orig_argv):\n"
        "    import facsnet\n"
        "    load = facsnet.Network.load_state_dict\n"
        "    def changed(self, tensors, **options):\n"
        "        load(self, tensors, **options)\n"
        "        self.parameters()['head.classifier.bias'][0] += 1\n"
        "        self.touch()\n"
        "    facsnet.Network.load_state_dict = changed\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(fn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    answer = run(*SMALL, "--peers", "facsnet", "--modes", "infer", PYTHONPATH=path)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert "facsnet differs" in answer.stderr


def test_slow_probes_are_dropped() -> None:
    rows = [({"float32": speed}, {"a": 1.0}) for speed in (70.0, 90.0, 79.9, 100.0, 80.0)]
    assert [row[0]["float32"] for row in kept(rows)] == [90.0, 100.0, 80.0]


class FakeProcess:
    def __init__(self, title: str) -> None:
        self.title = title
        self.facts = {"version": "1"}
        self.setting = self.task = type("Fake", (), {"label": "", "dtype": "bfloat16"})()


class FakePeer:
    """Takes the seconds it is told; notes what it is asked."""

    def __init__(self, title: str, seconds: float, asked: list[str]) -> None:
        self.title, self.duration, self.asked = title, seconds, asked

    def seconds(self, count: int) -> float:
        self.asked.append(f"{self.title} {count}")
        return self.duration

    def ask(self, line: str) -> None:
        self.asked.append(f"{self.title} {line}")

    def processor_seconds(self) -> float:
        return 0.0

    def __enter__(self) -> FakePeer:
        if self.duration == 0:
            raise Failed(self.title)
        return self

    def __exit__(self, *_: object) -> None:
        return None


class FakeProbe:
    def __init__(self, *speeds: float) -> None:
        self.speeds = list(speeds)

    def measure(self) -> dict[str, float]:
        return {"float32": self.speeds.pop(0)}


def test_rounds_are_in_turns_until_enough_are_good() -> None:
    asked: list[str] = []
    peers = [FakePeer("a", 0.1, asked), FakePeer("b", 1.0, asked)]
    outcome = interleave(peers, FakeProbe(100, 50, 99), rounds=2, least_seconds=0.35)
    assert asked == ["a 1", "b 1", "a 4", "b 1", "b 1", "a 4", "a 4", "b 1"]
    assert (outcome.rounds, len(outcome.probes)) == (3, 2)
    assert outcome.seconds == {"a": [0.1, 0.1], "b": [1.0, 1.0]}
    outcome = interleave(peers, FakeProbe(100, 1, 1, 1), rounds=2)
    assert (outcome.rounds, len(outcome.probes)) == (4, 1)


def test_peers_that_do_not_fit_together_warm_up_and_give_back() -> None:
    asked: list[str] = []
    peers = [FakePeer("a", 1.0, asked), FakePeer("b", 1.0, asked)]
    interleave(peers, FakeProbe(1), rounds=1, warm=True)
    assert asked == ["a 1", "a trim", "b 1", "b trim", "a 1", "a 1", "a trim", "b 1", "b 1", "b trim"]


def test_the_fastest_setting_is_chosen() -> None:
    duration = {"slow": 0.3, "broken": 0.0, "fast": 0.2}
    settings = [Setting(label) for label in duration]

    def start(setting: Setting) -> FakePeer:
        return FakePeer(setting.label, duration[setting.label], [])

    said: list[str] = []
    assert choose("peer", settings, start, runs=2, say=said.append).label == "fast"
    assert len(said) == 3
    with pytest.raises(Failed, match="broken"):
        choose("peer", [settings[1], settings[1]], start, runs=1, say=said.append)


def test_ratios_are_of_rounds() -> None:
    """To the best of the others by its median, round by round."""
    seconds = {"ours": [1.0, 2.0, 4.0], "slow": [9.0, 9.0, 9.0], "best": [2.0, 6.0, 4.0]}
    probes = [{"float32": 1.0, "bfloat16": 2.0}] * 3
    rows = rows_of(
        Outcome(seconds, probes, 3, {}), [FakeProcess(title) for title in seconds], ours="ours", batch=8, flop=1e8,
        differences={},
    )  # fmt: skip
    ours = rows[0]
    assert (ours.images_per_second, ours.ratio) == (4.0, 2.0)
    np.testing.assert_allclose(ours.interval, np.quantile([2.0, 3.0, 1.0], [0.1, 0.9]))
    assert ours.of_limit == pytest.approx(4.0 * 1e8 / 2e9)
    assert rows[2].ratio == 1.0


@pytest.mark.parametrize("compiler", ["cc", "no-such-compiler"])
def test_probe(compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", compiler)
    probe = Probe(tmp_path, 1, milliseconds=2.0)
    assert probe.measure()["float32"] > 0.1
    assert (probe.program is None) or compiler == "cc"


def test_peers_of_a_mode() -> None:
    """In bfloat16 training the other dtype runs too, and every peer but ours has several settings."""
    titles = [c.title for c in contenders("train", "bfloat16", 64, 2)]
    assert titles[:3] == ["facsnet bf16", "PyTorch eager bf16", "PyTorch compiled bf16"]
    assert {"PyTorch eager", "PyTorch compiled"} <= set(titles)
    for contender in contenders("infer", "float32", 64, 2)[1:]:
        assert len({setting.label for setting in contender.settings}) == len(contender.settings) > 1
