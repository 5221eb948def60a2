"""One network used by many threads: answers are right or refused, and nothing crashes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

import facsnet as fn
from facsnet import _core

# In a process of its own, which a read or write past the end of a buffer may well end.
RACE = """
import threading, time
import numpy as np
import facsnet as fn

network = fn.Network("mobilenet_v1", labels=2000, width=0.25, input_size=32, threads=1)
one, many = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((64, 32, 32, 3), np.uint8)
end = time.monotonic() + 3

def differentiate():
    while time.monotonic() < end:
        network.forward(one, training=True)
        try:
            network.backward(np.zeros((1, 2000), np.float32))
        except ValueError as problem:
            assert "dlogits" in str(problem) or "forward" in str(problem), problem

def run():
    while time.monotonic() < end:
        network.forward(many, training=True)

threads = [threading.Thread(target=f) for f in (differentiate, run)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def together(*works: Callable[[], object]) -> list[BaseException]:
    """Runs all at once; what they raised."""
    raised: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as problem:
            raised.append(problem)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_forward_of_another_thread_before_backward() -> None:
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_every_method_at_once() -> None:
    network = fn.Network("mobilenet_v1", labels=3, width=0.25, input_size=32, threads=2)
    x = np.zeros((2, 32, 32, 3), np.uint8)
    calls: list[Callable[[], object]] = [
        lambda: network.forward(x),
        lambda: network.forward(x, training=True),
        lambda: network.head(network.features(x)),
        lambda: network.gradients(),
        lambda: network.reset_head(),
        lambda: network.touch(),
        lambda: network.plan_bytes(batch=2, training=True),
        lambda: network.set_parameters({"head.classifier.bias": np.zeros(3)}),
    ]

    def repeat(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: [call() for _ in range(10)]

    assert together(*map(repeat, calls)) == []
    network.forward(x)
    network.backward(np.ones((2, 3), np.float32))
    assert all(np.isfinite(g).all() for g in network.gradients().values())


def spoiled(*shape: int) -> np.ndarray:
    """Zeros with a NaN in the end: what checks them looks at all of them."""
    x = np.zeros(shape, np.float32)
    x[(-1,) * len(shape)] = np.nan
    return x


NETWORK = fn.Network("mobilenet_v1", labels=3, width=0.25, input_size=64)
BCE = ("bce", 0.0, 1e-7, False, None, None, (0, 0, 0, 0, 0, False))
ZEROS, LOGITS, IMAGES = np.zeros((1500, 1000), np.float32), spoiled(1500, 1000), spoiled(100, 64, 64, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: _core.sigmoid(ZEROS),
        lambda: _core.loss(BCE, LOGITS, ZEROS, None),
        lambda: NETWORK._core.forward(IMAGES),
        lambda: _core.draw_expression(0, 0, np.zeros(len(_core.face_labels(0)))),
        lambda: fn.Network("mobilenet_v1", labels=3, width=0.25, input_size=64),
    ],
)
def test_other_threads_run_meanwhile(call: Callable[[], object]) -> None:
    """Nothing but the core lets go of the interpreter here, so the other thread runs within a call."""
    gate, ran = threading.Lock(), []
    gate.acquire()
    thread = threading.Thread(target=lambda: (gate.acquire(), ran.append(True)))
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        gate.release()
        for _ in range(100):
            with contextlib.suppress(ValueError):
                call()
            if ran:
                break
        assert ran
    finally:
        sys.setswitchinterval(interval)
        thread.join()


@pytest.mark.parametrize("threads", [257, 10**6, 2**40])
def test_too_many_threads_are_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads is {threads}, want 1 to 256"):
        fn.Network("mobilenet_v1", labels=3, width=0.25, input_size=32, threads=threads)
