"""Checks names and sizes: base names, symbols, length of files.

- A base name stands in one folder of the C tree, except that cpu/ and cuda/ mirror ref/.
- Symbols of the static library begin with facs_; the extension exports PyInit__core alone.
- A file has at most 800 lines; more than 400 are reported. Tables (.def) are exempt.

Usage: python tools/check_names.py [ROOT] [--library FILE] [--extension FILE]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

MOST_LINES, MANY_LINES = 800, 400
MIRRORS = ("csrc/kernel/ref", "csrc/kernel/cpu", "csrc/kernel/cuda")
C_SUFFIXES = {".c", ".h", ".inc", ".def", ".cu", ".cuh"}
TREES = ("csrc", "python", "tests", "tools", "benchmarks")


def base_names(root: Path) -> list[str]:
    """Base names that stand in more than one folder."""
    folders: dict[str, set[str]] = {}
    for tree in ("csrc", "tests"):
        for path in (root / tree).rglob("*"):
            if path.suffix in C_SUFFIXES:
                folder = path.parent.relative_to(root).as_posix()
                folders.setdefault(path.stem, set()).add("kernel" if folder in MIRRORS else folder)
    return [f"base name {stem!r} is in {', '.join(sorted(found))}" for stem, found in folders.items() if len(found) > 1]


def lengths(root: Path, limit: int = MOST_LINES) -> list[str]:
    """Files longer than limit."""
    found = []
    for tree in TREES:
        for path in sorted((root / tree).rglob("*")):
            if path.suffix in (C_SUFFIXES - {".def"}) | {".py", ".pyi", ".sh"}:
                count = len(path.read_text(encoding="utf-8").splitlines())
                if count > limit:
                    found.append(f"{path.relative_to(root)}: {count} lines, the limit is {limit}")
    return found


def _symbols(*command: str) -> list[tuple[str, str]]:
    """(type, name) rows of nm."""
    text = subprocess.run(["nm", *command], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in text.splitlines())
    return [(row[1], row[2]) for row in rows if len(row) == 3]


def library_symbols(library: Path) -> list[str]:
    """Global symbols that do not begin with facs_."""
    symbols = [name for _, name in _symbols("-g", "--defined-only", str(library))]
    if not symbols:
        return [f"{library}: no symbols"]
    return [
        f"{library.name}: symbol {name} does not begin with facs_" for name in symbols if not name.startswith("facs_")
    ]


def extension_symbols(extension: Path) -> list[str]:
    """Exported symbols beside PyInit__core."""
    linker = {"_init", "_fini", "_edata", "_end", "__bss_start"}
    exported = {name for _, name in _symbols("-D", "--defined-only", str(extension))} - linker
    if "PyInit__core" not in exported:
        return [f"{extension.name}: does not export PyInit__core"]
    return [f"{extension.name}: exports {name}" for name in sorted(exported - {"PyInit__core"})]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check names and sizes.")
    parser.add_argument("root", nargs="?", type=Path, default=Path())
    parser.add_argument("--library", type=Path)
    parser.add_argument("--extension", type=Path)
    options = parser.parse_args()
    problems = [*base_names(options.root), *lengths(options.root)]
    if options.library:
        problems += library_symbols(options.library)
    if options.extension:
        problems += extension_symbols(options.extension)
    for long in lengths(options.root, MANY_LINES):
        print(f"note: {long}")
    print("\n".join(problems) or "names: fine")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
