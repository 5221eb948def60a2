"""Plugins of devices for tests: one that computes on the processor, and broken ones."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import build_flags

LIBRARY = ("csrc/core", "csrc/kernel/ref")
IMAGES = ("csrc/image/augment.c", "csrc/image/resize.c")


def compiled(target: Path, *sources: Path) -> Path:
    """A shared object; the test is skipped where nothing can compile it."""
    own = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    compiler = own if shutil.which(own[0]) else ["cc"]
    if shutil.which(compiler[0]) is None or not (ROOT / "csrc").exists():
        pytest.skip("needs a C compiler and the sources")
    flags = [*module_flags(), "-fPIC", "-shared", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*compiler, *flags, "-o", str(target), *map(str, sources), "-lm", "-Wl,--no-undefined"], check=True)
    return target


def module_flags() -> list[str]:
    """Those of the module, in its order: the same numbers to the bit want the same optimisation."""
    python = shlex.split(sysconfig.get_config_var("CFLAGS") or "")
    return [*python, *shlex.split(os.environ.get("CFLAGS", "")), *build_flags.BASELINE]


def pretend_device(folder: Path) -> Path:
    """Of tests/c/pretend_device.c."""
    sources = [path for part in LIBRARY for path in sorted((ROOT / part).glob("*.c"))]
    sources += [ROOT / path for path in IMAGES]
    return compiled(folder / "libpretend.so", ROOT / "tests/c/pretend_device.c", *sources)


def plugin_of_text(folder: Path, text: str) -> Path:
    """Of C source."""
    (folder / "plugin.c").write_text(text)
    return compiled(folder / "libplugin.so", folder / "plugin.c")
