"""Checks that each header below csrc and tests/c compiles alone; those of csrc/kernel/cuda are nvcc's.

Usage: python tools/check_headers.py [ROOT] [COMPILER]; exit status 1 when one does not.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-fsyntax-only", "-x", "c"]


def breaches(root: Path, compiler: str = "cc") -> list[str]:
    """What the compiler says of each header that does not compile alone."""
    headers = [path for path in sorted((root / "csrc").rglob("*.h")) if path.parent.name != "cuda"]
    headers += sorted((root / "tests" / "c").glob("*.h"))
    if not headers:
        return [f"{root}: no headers"]
    include = [f"-I{root / 'csrc'}", f"-I{root / 'tests' / 'c'}", f"-I{sysconfig.get_path('include')}"]

    def compile_alone(header: Path) -> str:
        command = [*shlex.split(compiler), *FLAGS, *include, "-include", str(header), "/dev/null"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return f"{header.relative_to(root)} does not compile alone:\n{answer.stderr}" if answer.returncode else ""

    with ThreadPoolExecutor(2) as pool:
        return [problem for problem in pool.map(compile_alone, headers) if problem]


if __name__ == "__main__":
    problems = breaches(Path(sys.argv[1] if len(sys.argv) > 1 else "."), *sys.argv[2:3] or [os.environ.get("CC", "cc")])
    print("\n".join(problems) or "headers: fine")
    sys.exit(bool(problems))
