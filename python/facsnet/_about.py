"""What a bug report needs to know of a build and its machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from facsnet import _core
from facsnet._device import device_text
from facsnet._version import __version__

__all__ = ["About", "about"]


class About(dict[str, str]):
    """Name to value; prints as an aligned table."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:{width}}  {value}" for name, value in self.items())


def about() -> About:
    """Version, build, processor and threads.

    Returns
    -------
    About
        A dict of strings that prints as a table:

        - ``facsnet``, ``python``, ``numpy``: versions.
        - ``compiler``: what built the C core, with its OpenMP specification date.
        - ``instruction set``: the kernels a network made now would run, of the ones this
          machine has; the environment variable ``FACS_CPU`` caps it. ``none`` where it names one
          that is not there.
        - ``bfloat16``: the same for a network of ``dtype="bfloat16"``.
        - ``blas``: the BLAS of the C core, or ``none``.
        - ``cuda``: the GPU, its architecture, memory, and the newest CUDA of its driver; or why there is none.
        - ``threads``: worker threads when ``threads=None``; ``OMP_NUM_THREADS`` sets it.
        - ``processor``, ``system``: of this machine.

    Examples
    --------
    >>> import facsnet
    >>> facsnet.about()["facsnet"]
    '0.1.0'
    """
    facts = _core.build_facts()
    asked = os.environ.get("FACS_CPU")
    missing = f"none: FACS_CPU is {asked!r}, which this machine does not have"
    used, bfloat16 = _core.kernels_in_use(asked) or (missing, missing)
    openmp = f"OpenMP {facts['openmp']}" if facts["openmp"] else "no OpenMP"
    return About(
        {
            "facsnet": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "compiler": f"{facts['compiler']}, {openmp}",
            "instruction set": f"{used} (of {', '.join(facts['instruction_sets'])})",
            "bfloat16": bfloat16,
            "blas": facts["blas"],
            "cuda": device_text(),
            "threads": str(facts["threads"]),
            "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} usable cores",
            "system": platform.platform(),
        }
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()
