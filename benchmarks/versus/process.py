"""A peer in a process of its own: a task as JSON on standard input, then requests, a line each, answered by lines.

Requests: run N (seconds of N runs), logits FILE, gradients FILE (written as .npz), trim (gives free
memory back), memory (bytes that the process grew at most since its imports and data). The end of
the input ends the process. Everything else that a peer prints goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from versus.task import Absent, Peer, Task, release_memory

# Module, its function that makes the peer, its function that names the version.
MAKERS = {
    "facsnet": ("versus.facsnet_peer", "make", "version"),
    "torch": ("versus.torch_peer", "make", "version"),
    "onnxruntime": ("versus.onnx_peers", "make_onnxruntime", "onnxruntime_version"),
    "openvino": ("versus.onnx_peers", "make_openvino", "openvino_version"),
    "keras": ("versus.keras_peer", "make", "version"),
}


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def start_from_here() -> int:
    """Forgets the largest size so far; the size now."""
    release_memory()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return resident("VmRSS")


class Server:
    def __init__(self, task: Task) -> None:
        module, function, version = MAKERS[task.kind]
        imported = importlib.import_module(module)
        self.data = task.images(), task.targets()  # what a caller would have in memory
        before = start_from_here()
        start = time.perf_counter()
        self.peer: Peer = getattr(imported, function)(task)
        self.peer.run()
        self.facts = {"version": getattr(imported, version)(), "first_run": time.perf_counter() - start}
        self.before = before

    def run(self, count: str) -> dict[str, Any]:
        measured = []
        start = time.perf_counter()
        for _ in range(int(count)):
            measured.append(self.peer.run())
        seconds = time.perf_counter() - start
        own = [value for value in measured if value is not None]
        return {"seconds": sum(own) if own else seconds}

    def logits(self, path: str) -> dict[str, Any]:
        arrays = {"logits": self.peer.logits()}
        if hasattr(self.peer, "wanted_logits"):
            arrays["wanted"] = self.peer.wanted_logits()
        np.savez(path, **arrays)
        return {}

    def gradients(self, path: str) -> dict[str, Any]:
        np.savez(path, **self.peer.gradients())
        return {}

    def trim(self) -> dict[str, Any]:
        release_memory()
        return {"resident": resident("VmRSS")}

    def memory(self) -> dict[str, Any]:
        return {"grown": resident("VmHWM") - self.before, "resident": resident("VmRSS")}


def guarded(answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return answer()
    except Absent as problem:
        return {"absent": str(problem)}
    except Exception as problem:
        traceback.print_exc()
        return {"error": f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print; the answers must stay alone
    server: list[Server] = []

    def start() -> dict[str, Any]:
        server.append(Server(Task(**json.loads(sys.stdin.readline()))))
        return server[0].facts

    def answer(line: str) -> dict[str, Any]:
        name, *arguments = line.split()
        return getattr(server[0], name)(*arguments)

    print(json.dumps(guarded(start)), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(guarded(lambda: answer(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
