"""Plugins of devices for tests: one that computes on the processor, and broken ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ("csrc/core", "csrc/kernel/ref")


def compiled(target: Path, *sources: Path) -> Path:
    """A shared object; the test is skipped where nothing can compile it."""
    compiler = shutil.which("cc")
    if compiler is None or not (ROOT / "csrc").exists():
        pytest.skip("needs a C compiler and the sources")
    flags = ["-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fopenmp", "-std=c11", f"-I{ROOT / 'csrc'}"]
    subprocess.run([compiler, *flags, "-o", str(target), *map(str, sources), "-lm", "-Wl,--no-undefined"], check=True)
    return target


def pretend_device(folder: Path) -> Path:
    """Of tests/c/pretend_device.c."""
    sources = [path for part in LIBRARY for path in sorted((ROOT / part).glob("*.c"))]
    return compiled(folder / "libpretend.so", ROOT / "tests/c/pretend_device.c", *sources)


def plugin_of_text(folder: Path, text: str) -> Path:
    """Of C source."""
    (folder / "plugin.c").write_text(text)
    return compiled(folder / "libplugin.so", folder / "plugin.c")
