"""Memory of fine-tuning each network: what plan_bytes says, and what the process takes above its imports.

Each network runs in a process of its own: two steps with Adam at batch 64.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import numpy as np

import facsnet as fn

NETWORKS = ("mobilenet_v1", "mobilenet_v2", "densenet121", "densenet169", "densenet201", "vgg19", "vgg19_bn")


def resident(field: str) -> int:
    """A line of this process' status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def measure(name: str, batch: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2 * batch, 224, 224, 3), dtype=np.uint8)
    labels = (rng.random((2 * batch, 8)) < 0.2).astype(np.float32)
    samples = fn.Samples.from_arrays(images, labels)
    before = resident("VmRSS")
    network = fn.Network(name, labels=samples.label_names)
    plan = network.plan_bytes(batch=batch, training=True)
    stages = fn.two_stage(head_epochs=0, finetune_epochs=1, augmentation=fn.Augmentation.none())
    fn.Trainer(network, stages=stages, batch_size=batch, progress=False).fit(samples)
    return {"plan": plan / 1e9, "grown": (resident("VmHWM") - before) / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.child:
        print(json.dumps(measure(o.networks[0], o.batch)))
        return
    print(f"{'':<16}{'plan_bytes, GB':>16}{'process grew, GB':>18}")
    for name in o.networks:
        command = [sys.executable, __file__, name, "--batch", str(o.batch), "--child"]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{name:<16}{row['plan']:>16.2f}{row['grown']:>18.2f}", flush=True)


if __name__ == "__main__":
    main()
