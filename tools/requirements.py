"""Prints what pyproject.toml requires, one requirement a line.

Usage: python tools/requirements.py build | EXTRA
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(name: str) -> list[str]:
    """Those of the build, or of an extra."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    if name == "build":
        found: list[str] = project["build-system"]["requires"]
    else:
        found = project["project"]["optional-dependencies"][name]
    return found


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
