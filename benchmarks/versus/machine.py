"""The machine: its peak of multiply-adds, the allocators that can be preloaded, its free memory."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).resolve().parents[1] / "kernels" / "fma_peak.c"
PRELOADS = {"tcmalloc": "libtcmalloc_minimal.so*", "jemalloc": "libjemalloc.so*"}
FOLDERS = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
# glibc's allocator told to keep what is freed, which is most of what the others gain here.
KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
    "MALLOC_TOP_PAD_": str(1 << 26),
}


def allocators() -> dict[str, dict[str, str]]:
    """Name to environment; glibc's own comes last."""
    found: dict[str, dict[str, str]] = {}
    for name, pattern in PRELOADS.items():
        files = [file for folder in FOLDERS for file in sorted(glob.glob(f"{folder}/{pattern}"))]
        if files:
            found[name] = {"LD_PRELOAD": files[0]}
    return {**found, "glibc, memory kept": KEPT, "glibc": {}}


def free_memory() -> int:
    """Bytes that a process can take without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return 1 << 62


class Probe:
    """Measures the peak: a small C program where there is a compiler, else a matrix product by NumPy."""

    def __init__(self, folder: Path, threads: int, *, milliseconds: float = 40.0) -> None:
        self.threads, self.milliseconds = threads, milliseconds
        self.program = self._compiled(folder)
        self.name = "FMA in registers" if self.program else "matrix product by NumPy"
        self.matrix = np.ones((1024, 1024), np.float32)

    @staticmethod
    def _compiled(folder: Path) -> Path | None:
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            return None
        program = folder / "fma_peak"
        command = [compiler, "-O2", "-pthread", str(SOURCE), "-o", str(program)]
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
        return program if made and Probe._output(program, 1, 1.0) else None

    @staticmethod
    def _output(program: Path, threads: int, milliseconds: float) -> Mapping[str, float]:
        command = [str(program), str(threads), str(milliseconds)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        rows = (line.split() for line in answer.stdout.splitlines())
        return {name: float(value) for name, value in rows} if answer.returncode == 0 else {}

    def measure(self) -> Mapping[str, float]:
        """GFLOP/s by dtype."""
        if self.program is not None:
            return self._output(self.program, self.threads, self.milliseconds)
        start = time.perf_counter()
        for _ in range(5):
            self.matrix @ self.matrix
        return {"float32": 5 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9}
