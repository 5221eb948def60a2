"""The one place of compiler flags: for setup.py and, as Make variables, for the C tests.

`python tools/build_flags.py` prints the variables. Environment:

FACS_BLAS      auto (default) | wheel | system | none: where OpenBLAS comes from
FACS_WERROR    1: warnings are errors, as in this project's own builds
FACS_SANITIZE  1: AddressSanitizer and UndefinedBehaviorSanitizer
FACS_COVERAGE  1: gcov counters
FACS_STB_INCLUDE  folder that holds stb/stb_image.h, where the compiler does not find it by itself
"""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BASELINE = [
    "-std=c11",
    "-O3",
    "-Wall",
    "-Wextra",
    "-Wno-missing-field-initializers",  # clang, of the {NULL} that ends CPython's tables
    "-fvisibility=hidden",
    "-fopenmp",
    "-ffp-contract=fast",
    "-fno-math-errno",
    # setuptools adds -fwrapv, which CPython needs: inference of MobileNets is 5 to 11% slower with it
    # (Sapphire Rapids, gcc 12).
    "-fno-wrapv",
]

# Decodes damaged files, whose numbers overflow.
WRAPPING_UNITS = {"image_stb.c": ["-fwrapv"]}

# Units of one instruction set; every other file gets the baseline only, so that nothing but
# a kernel chosen at run time needs a newer processor.
AVX2 = ["-mavx2", "-mfma"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]
UNITS = {
    "isa_avx2.c": AVX2,
    "isa_avx2_bfloat16.c": AVX2,
    "isa_avx512.c": AVX512,
    "isa_avx512_bfloat16.c": AVX512,
    "isa_avx512_bf16.c": [*AVX512, "-mavx512bf16"],
    "isa_amx_bfloat16.c": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}

# Units that compile to nothing where the compiler does not know their flags.
OPTIONAL_UNITS = {"isa_amx_bfloat16.c"}

# Instrumented code sets off the compiler's flow analysis where plain code does not.
SANITIZE = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
    "-Wno-error",
    "-Wno-format-truncation",
    "-Wno-maybe-uninitialized",
]
COVERAGE = ["--coverage"]

# What a build needs beside the compiler: header and the Debian package that brings it.
HEADERS = {"stb/stb_image.h": "libstb-dev", "omp.h": "libgomp (gcc) or libomp-dev (clang)"}


@dataclass
class Blas:
    """How to compile and link against a BLAS.

    `library` is a shared object to ship beside the extension, `licence` the text that goes with it.
    """

    kind: str
    compile_flags: list[str] = field(default_factory=list)
    link_flags: list[str] = field(default_factory=list)
    library: Path | None = None
    licence: Path | None = None


def unit_flags(source: str | Path) -> list[str]:
    """Flags a source file gets beside the baseline."""
    name = Path(source).name
    if name in WRAPPING_UNITS:
        return WRAPPING_UNITS[name]
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    flags = UNITS.get(name, [])
    return [] if name in OPTIONAL_UNITS and not _compiler_takes(tuple(flags)) else flags


@functools.cache
def _compiler_takes(flags: tuple[str, ...]) -> bool:
    command = [*shlex.split(os.environ.get("CC", "cc")), *flags, "-E", "-x", "c", os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def extra_flags() -> list[str]:
    """Flags of strict and instrumented builds, for compiler and linker alike."""
    flags: list[str] = []
    if os.environ.get("FACS_STB_INCLUDE"):
        flags += ["-I" + os.environ["FACS_STB_INCLUDE"]]
    if os.environ.get("FACS_WERROR") == "1":
        flags += ["-Werror"]
    if os.environ.get("FACS_SANITIZE") == "1":
        flags += SANITIZE
    if os.environ.get("FACS_COVERAGE") == "1":
        flags += COVERAGE
    return flags


def find_blas(choice: str | None = None) -> Blas:
    """OpenBLAS from the scipy-openblas32 wheel, else from pkg-config, else none."""
    choice = choice or os.environ.get("FACS_BLAS", "") or "auto"
    if choice not in ("auto", "wheel", "system", "none"):
        raise SystemExit(f"FACS_BLAS={choice}: wanted auto, wheel, system or none")
    found = None
    if choice in ("auto", "wheel"):
        found = _wheel_blas()
    if found is None and choice in ("auto", "system"):
        found = _system_blas()
    if found is None and choice == "wheel":
        raise SystemExit("FACS_BLAS=wheel: the Python package scipy-openblas32 was not found")
    if found is None and choice == "system":
        raise SystemExit("FACS_BLAS=system: no OpenBLAS: apt-get install libopenblas-dev pkg-config")
    return found or Blas("none")


def _wheel_blas() -> Blas | None:
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    library = root / "lib" / "libscipy_openblas.so"
    if not library.exists():
        return None
    licences = sorted(root.parent.glob("scipy_openblas32-*.dist-info/**/LICENSE*"))
    licence = licences[0] if licences else None
    return Blas("wheel", ["-DFACS_BLAS_PREFIXED", f"-I{root / 'include'}"], [], library, licence)


def _system_blas() -> Blas | None:
    if shutil.which("pkg-config") is None:
        return None
    answers = [
        subprocess.run(["pkg-config", what, "openblas"], capture_output=True, text=True, check=False)
        for what in ("--cflags", "--libs")
    ]
    if any(answer.returncode for answer in answers):
        return None
    cflags, libs = (shlex.split(answer.stdout) for answer in answers)
    return Blas("system", ["-DFACS_BLAS", *cflags], libs)


def check_compiler(command: Sequence[str], headers: dict[str, str]) -> None:
    """Ends with one clear line when the compiler or a header is missing."""
    if shutil.which(command[0]) is None:
        raise SystemExit(f"facsnet: no C compiler {command[0]!r}: apt-get install gcc (or set CC)")
    for header, package in headers.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(f"#include <stdio.h>\n#include <{header}>\n")
            answer = subprocess.run(
                [*command, *extra_flags(), "-fopenmp", "-E", str(source)], capture_output=True, text=True, check=False
            )
        if answer.returncode:
            reason = next((line for line in answer.stderr.splitlines() if "error" in line), "")
            raise SystemExit(f"facsnet: cannot include <{header}>: install {package} ({reason})")


def _print_make_variables() -> None:
    blas = find_blas()
    link = list(blas.link_flags)
    if blas.library:
        link += [str(blas.library), f"-Wl,-rpath,{blas.library.parent}"]
    print(f"FACS_BASELINE := {shlex.join(BASELINE)} -Werror")
    print(f"FACS_SANITIZER := {shlex.join(SANITIZE)}")
    print(f"FACS_EXTRA := {shlex.join(extra_flags())}")
    print(f"FACS_BLAS_COMPILE := {shlex.join(blas.compile_flags)}")
    print(f"FACS_BLAS_LINK := {shlex.join(link)}")
    for unit in [*UNITS, *WRAPPING_UNITS]:
        print(f"FACS_UNIT_{unit} := {shlex.join(unit_flags(unit))}")


if __name__ == "__main__":
    _print_make_variables()
