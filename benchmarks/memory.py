"""Memory of fine-tuning each network: what plan_bytes says, and what the process takes above its imports.

Each network, dtype and way of keeping activations runs in a process of its own: two steps with Adam at batch 64.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys

import numpy as np

import facsnet as fn
from facsnet.network import DTYPES, MEMORIES

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "densenet121", "densenet169", "densenet201", "vgg19", "vgg19_bn")


def resident(field: str) -> int:
    """A line of this process' status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def measure(name: str, batch: int, dtype: str, memory: str, threads: int | None) -> dict[str, float]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2 * batch, 224, 224, 3), dtype=np.uint8)
    labels = (rng.random((2 * batch, 8)) < 0.2).astype(np.float32)
    samples = fn.Samples.from_arrays(images, labels)
    before = resident("VmRSS")
    network = fn.Network(name, labels=samples.label_names, dtype=dtype, threads=threads)
    plan = network.plan_bytes(batch=batch, training=True, memory=memory)
    stages = fn.two_stage(head_epochs=0, finetune_epochs=1, augmentation=fn.Augmentation.none())
    fn.Trainer(network, stages=stages, batch_size=batch, memory=memory, progress=False).fit(samples)
    return {"plan": plan / 1e9, "grown": (resident("VmHWM") - before) / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--memory", nargs="+", choices=MEMORIES, default=["normal"])
    parser.add_argument("--threads", type=int, help="(None: every processor)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.child:
        print(json.dumps(measure(o.networks[0], o.batch, o.dtype[0], o.memory[0], o.threads)))
        return
    print(f"{'':<16}{'dtype':<10}{'memory':<8}{'plan_bytes, GB':>16}{'process grew, GB':>18}")
    for name, dtype, memory in itertools.product(o.networks, o.dtype, o.memory):
        command = [
            sys.executable,
            __file__,
            name,
            "--batch",
            str(o.batch),
            "--dtype",
            dtype,
            "--memory",
            memory,
            "--child",
        ]
        command += [] if o.threads is None else ["--threads", str(o.threads)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{name:<16}{dtype:<10}{memory:<8}{row['plan']:>16.2f}{row['grown']:>18.2f}", flush=True)


if __name__ == "__main__":
    main()
