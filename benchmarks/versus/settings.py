"""The peers, and the settings among which each gets its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from versus.machine import allocators
from versus.rounds import Setting


@dataclass(frozen=True)
class Contender:
    """A row of the table."""

    title: str
    kind: str
    dtype: str
    settings: Sequence[Setting]


def joined(*settings: Setting) -> Setting:
    label = ", ".join(s.label for s in settings if s.label)
    options: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for s in settings:
        options |= s.options
        environment |= s.environment
    return Setting(label, options, environment)


def allocator_settings() -> list[Setting]:
    return [Setting(name, environment=environment) for name, environment in allocators().items()]


def part(size: int) -> Setting:
    """The batch goes through in parts of so many images."""
    return Setting(f"parts of {size}", {"chunk": size})


BOUND = Setting("bound threads", environment={"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"})
HUGE_PAGES = Setting("huge pages", environment={"THP_MEM_ALLOC_ENABLE": "1"})


# libgomp's workers spin for milliseconds by default, which on a shared machine can cost ten times the work.
SHORT_WAITS = Setting("short waits", environment={"GOMP_SPINCOUNT": "20000"})


def torch_settings(mode: str, job: str, batch: int) -> list[Setting]:
    """The first allocator in all ways; another with short waits alone."""
    kind = Setting("", {"mode": mode})
    first, *others = allocator_settings()
    shared = joined(first, SHORT_WAITS)
    settings = [shared, first, joined(shared, BOUND), joined(shared, HUGE_PAGES)]
    if job == "infer" and batch > 8:
        settings.insert(1, joined(shared, part(8)))
    settings += [joined(other, SHORT_WAITS) for other in others[:1]]
    return [joined(kind, s) for s in settings]


def onnxruntime_settings(batch: int, threads: int) -> list[Setting]:
    """The usually fastest first, as for OpenVINO."""
    first = allocator_settings()[0]
    one = Setting("one session")
    ways = [one]
    if batch > 1 and threads > 1:
        each = joined(Setting("a session per thread", {"sessions": threads}), part(max(1, min(8, batch // threads))))
        ways = [joined(one, part(8)), one, each]
    return [joined(way, first) for way in ways]


def openvino_settings(batch: int, threads: int) -> list[Setting]:
    latency = Setting("LATENCY", {"hint": "LATENCY", "streams": 1})
    if batch == 1 or threads == 1:
        return [latency]
    throughput = Setting("THROUGHPUT, a stream per thread", {"hint": "THROUGHPUT", "streams": threads})
    parts = [1, 8, max(1, batch // threads)]
    return [*(joined(throughput, part(size)) for size in parts if size < batch), latency]


def contenders(job: str, dtype: str, batch: int, threads: int) -> list[Contender]:
    """Those of one mode; for training in bfloat16 PyTorch's float32 too, which may be the faster."""
    short = "" if dtype == "float32" else " bf16"
    usual = allocator_settings()[-1]
    found = [Contender(f"facsnet{short}", "facsnet", dtype, [usual])]
    modes: Mapping[str, str] = {"eager": "eager", "compile": "compiled"}
    if job == "infer":
        modes = {**modes, "frozen": "frozen"}
    dtypes = [dtype] if job == "infer" or dtype == "float32" else [dtype, "float32"]
    for each in dtypes:
        suffix = "" if each == "float32" else " bf16"
        for mode, name in modes.items():
            found.append(Contender(f"PyTorch {name}{suffix}", "torch", each, torch_settings(mode, job, batch)))
    if job == "infer":
        found.append(Contender(f"ONNX Runtime{short}", "onnxruntime", dtype, onnxruntime_settings(batch, threads)))
        found.append(Contender(f"OpenVINO{short}", "openvino", dtype, openvino_settings(batch, threads)))
    compiled = Setting("XLA", {"xla": True})
    keras = [joined(allocator_settings()[0], SHORT_WAITS), joined(compiled, allocator_settings()[0])]
    found.append(Contender(f"Keras{short}", "keras", dtype, keras))
    return found


def narrowed(contender: Contender) -> Contender:
    """With its first setting alone."""
    return replace(contender, settings=contender.settings[:1])
