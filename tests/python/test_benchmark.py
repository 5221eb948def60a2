"""Speed on this machine: `benchmark` and the command `facsnet bench`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import facsnet as fn
from facsnet.benchmark import training_step
from facsnet.cli import main

SMALL = {"width": 0.25, "input_size": 32}


def small(name: str = "mobilenet_v1", **options: object) -> fn.Network:
    return fn.Network(name, labels=3, **SMALL, **options)


def test_measures_and_leaves_the_weights() -> None:
    network = small()
    before = {name: value.copy() for name, value in network.parameters().items()}
    found = fn.benchmark(network, batch=4, seconds=0.02)
    assert [(m.work, m.batch) for m in found] == [("inference", 4), ("inference", 1), ("fine-tuning", 4)]
    for m in found:
        assert m.runs >= 3
        assert m.interval[0] <= m.images_per_second <= m.interval[1]
        flop = (6 if m.work == "fine-tuning" else 2) * network.macs()
        assert m.gflops == pytest.approx(flop * m.images_per_second / 1e9)
    assert found[2].memory == network.plan_bytes(batch=4, training=True)
    low = fn.benchmark(network, batch=4, seconds=0.02, memory="low")
    assert low[2].memory == network.plan_bytes(batch=4, training=True, memory="low") < found[2].memory
    for name, value in network.parameters().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert len(repr(found).splitlines()) == 4
    assert [row["work"] for row in found.to_rows()] == [m.work for m in found]


def test_parts() -> None:
    assert [m.work for m in fn.benchmark(small(), batch=1, seconds=0.01, training=False)] == ["inference"]
    network = small()
    whole, part = (fn.benchmark(network, batch=4, seconds=0.01, unfreeze=u)[-1] for u in ("all", "head"))
    assert part.memory < whole.memory


@pytest.mark.parametrize("options", [{"batch": 0}, {"batch": 1}, {"seconds": 0.0}, {"unfreeze": "block99"}])
def test_refuses(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        fn.benchmark(small(), **{"batch": 4, "seconds": 0.01, **options})


@pytest.mark.parametrize("unfreeze", ["all", "block13", "head"])
def test_a_step_trains(unfreeze: str) -> None:
    """It moves what is unfrozen, and nothing below."""
    network = small(dropout=0.0, seed=2)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 32, 32, 3)).astype(np.float32), np.eye(4, 3, dtype=np.float32)
    before = {name: value.copy() for name, value in network.parameters().items()}
    step = training_step(network, x, y, rate=1e-3, unfreeze=unfreeze)
    losses = []
    for _ in range(10):
        logits = network.forward(x, training=True)
        losses.append(fn.losses.bce(logits, y)[0])
        step()
    moved = {n for n, v in network.parameters().items() if n.endswith("weight") and not np.array_equal(v, before[n])}
    assert losses[-1] < losses[0]
    assert any(name.startswith("head.") for name in moved)
    assert ("mobilenet_v1.conv_stem.convolution.weight" in moved) == (unfreeze == "all")
    assert ("mobilenet_v1.layer.25.convolution.weight" in moved) == (unfreeze != "head")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--batch", "4", "--seconds", "0.01", "--width", "0.25", "--input-size", "32", "--threads", "1"]
    names = ["mobilenet_v1", "mobilenet_v2"]
    assert main(["bench", *names, *options, "--json", str(tmp_path / "bench.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * 3
    assert lines[1].split()[:5] == ["network", "work", "dtype", "device", "batch"]
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["threads"] == 1
    assert written["about"]["facsnet"] == fn.__version__
    assert [row["network"] for row in written["rows"]] == [name for name in names for _ in range(3)]
    assert all(row["images_per_second"] > 0 for row in written["rows"])
    assert written["memory"] == "normal"
    assert main(["bench", "--memory", "low", *options, "--json", str(tmp_path / "low.json")]) == 0
    low = json.loads((tmp_path / "low.json").read_text())
    assert low["memory"] == "low" and low["rows"][2]["memory"] < written["rows"][2]["memory"]
    capsys.readouterr()
    assert main(["bench", "--inference", *options]) == 0
    assert "fine-tuning" not in capsys.readouterr().out
    assert main(["bench", "no_such_network", *options]) == 1
    assert "no_such_network" in capsys.readouterr().err
