"""Checks who includes whom in csrc, and what the library may not call.

A file includes its own folder and lower ranks only. Some system headers belong to one folder.
The heap is reached through core/memory.c alone, and nothing prints, aborts or exits.
Prints every breach; exit status 1 when there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

RANKS = {
    "core": 0,
    "kernel": 1,
    "image": 1,
    "metric": 1,
    "ops": 2,
    "graph": 3,
    "data": 3,
    "nets": 4,
    "train": 5,
    "py": 6,
}

# System headers, and the only places that include them.
HOMES = {
    r"Python\.h": r"csrc/py/",
    r"numpy/.*": r"csrc/py/bridge\.[ch]$",
    r"omp\.h": r"csrc/core/",
    r"cblas\.h": r"csrc/core/",
    r"stb/.*": r"csrc/image/",
    r"(imm|.mm|arm_)\w*\.h": r"csrc/kernel/cpu/",
    r"cuda.*|cublas.*|cudnn.*": r"csrc/kernel/cuda/",
    r"pthread\.h": r"csrc/(core|data)/",
}

# Functions, and the only places that call them ("" for none).
CALLS = {
    r"malloc|calloc|realloc|reallocarray|free|posix_memalign|aligned_alloc|strdup|strndup": r"csrc/core/memory\.c$",
    r"printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror": "",
    r"abort|exit|_exit|_Exit|quick_exit|raise|kill|setjmp|longjmp|signal": "",
    r"rand|srand|random|srandom|drand48|rand_r": "",
    r"system|popen|fork|setenv|putenv|setlocale": "",
}

SUFFIXES = {".c", ".h", ".inc", ".def", ".cu", ".cuh"}
_COMMENT_OR_LITERAL = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def code_of(text: str) -> str:
    """The text without comments and literals, line for line."""

    def blank(match: re.Match[str]) -> str:
        found = match.group()
        return '""' if found[0] in "\"'" else "\n" * found.count("\n")

    return _COMMENT_OR_LITERAL.sub(blank, text)


def includes(root: Path, path: Path, text: str) -> Iterator[str]:
    name = path.relative_to(root).as_posix()
    folder = name.split("/")[1]
    if folder not in RANKS:
        yield f"{name}: folder {folder!r} has no rank in tools/check_layers.py"
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
        if not match:
            continue
        mark, header = match.groups()
        if mark == '"':
            other = header.split("/")[0]
            if not (root / "csrc" / header).is_file():
                yield f'{name}:{number}: "{header}" is not a file below csrc'
            elif other != folder and RANKS[other] >= RANKS[folder]:
                yield f"{name}:{number}: {folder} (rank {RANKS[folder]}) includes {other} (rank {RANKS[other]})"
        for pattern, home in HOMES.items():
            if mark == "<" and re.fullmatch(pattern, header) and not re.match(home, name):
                yield f"{name}:{number}: <{header}> is included outside {home}"


def calls(root: Path, path: Path, text: str) -> Iterator[str]:
    name = path.relative_to(root).as_posix()
    for number, line in enumerate(code_of(text).splitlines(), 1):
        for pattern, home in CALLS.items():
            match = re.search(rf"(?<![\w.>])({pattern})\s*\(", line)
            if match and not (home and re.match(home, name)):
                yield f"{name}:{number}: calls {match[1]}"


def breaches(root: Path) -> list[str]:
    """Every breach below root/csrc, as `file:line: what`."""
    files = sorted(p for p in (root / "csrc").rglob("*") if p.suffix in SUFFIXES)
    if not files:
        return [f"{root}/csrc: no source files"]
    found: list[str] = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        found += [*includes(root, path, text), *calls(root, path, text)]
    return found


if __name__ == "__main__":
    problems = breaches(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
    print("\n".join(problems) or "layers: fine")
    sys.exit(bool(problems))
