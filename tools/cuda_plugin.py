"""Builds the CUDA plugin from csrc/kernel/cuda/*.cu: python tools/cuda_plugin.py TARGET.so OBJECTS

Objects are made several at a time and only where something changed; OBJECTS is their folder, which
holds one folder for each list of architectures. Environment:

FACS_CUDA       auto (default): where there is nvcc, with a warning where it fails; 0: never; 1: or fail
FACS_CUDA_ARCH  all: sm_80 to sm_120 and PTX; native: that of the GPUs here, else sm_80; or a list
                such as 80,90a
FACS_CUDA_PDL   1: kernels are made ready while those before them run (0: the default)
NVCC            the compiler, else the one in PATH, in $CUDA_HOME or in /usr/local/cuda
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from incremental import is_current, remember

NAME = "libfacs_cuda.so"
SOURCES = Path("csrc/kernel/cuda")

# The PTX of the first is for GPUs between these, that of the last for later ones.
ALL = ("80", "86", "89", "90a", "100", "120")
WITH_PTX = ("80", "120")

FLAGS = ["-std=c++17", "-O3", "-Icsrc", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall"]
# A row of the table that no file defines fails here, not when the plugin is loaded.
LINK = ["-shared", "-cudart", "static", "-Xlinker", "--no-undefined", "-Xlinker", "--exclude-libs=ALL"]


class Unbuilt(Exception):
    """Why there is no plugin."""


def wanted() -> str:
    """The choice in FACS_CUDA."""
    choice = os.environ.get("FACS_CUDA", "") or "auto"
    if choice not in ("auto", "0", "1"):
        raise SystemExit(f"FACS_CUDA={choice}: wanted auto, 0 or 1")
    return choice


def find_nvcc() -> str | None:
    homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places = [f"{home}/bin/nvcc" for home in [*homes, "/usr/local/cuda"]]
    return next(filter(None, map(shutil.which, [os.environ.get("NVCC") or "nvcc", *places])), None)


def architectures(choice: str) -> tuple[str, ...]:
    """Of a choice as in FACS_CUDA_ARCH: numbers of nvcc's names, such as 90a of sm_90a."""
    if choice == "all":
        return ALL
    if choice == "native":
        return _of_this_machine() or ("80",)
    found = tuple(name.strip().removeprefix("sm_") for name in choice.split(",") if name.strip())
    if not found or not all(name.rstrip("af").isdigit() for name in found):
        raise SystemExit(f"FACS_CUDA_ARCH={choice}: wanted all, native, or a list such as 80,90a")
    return found


def _of_this_machine() -> tuple[str, ...]:
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    numbers = {line.strip().replace(".", "") for line in answer.stdout.splitlines() if answer.returncode == 0}
    return tuple("90a" if number == "90" else number for number in sorted(numbers) if number.isdigit())


def known(nvcc: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that this nvcc has; older ones lack the newest."""
    answer = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise Unbuilt(f"{nvcc} does not run: {(answer.stderr or answer.stdout).strip()}")
    has = set(answer.stdout.replace("compute_", "").split())
    found = tuple(name for name in names if name.rstrip("af") in has)
    if not found:
        raise Unbuilt(f"{nvcc} knows none of the architectures {', '.join(names)}")
    return found


def generate(names: tuple[str, ...]) -> list[str]:
    """nvcc's options for architectures."""
    options = []
    for name in names:
        codes = [f"sm_{name}"] + [f"compute_{name}"] * (name in WITH_PTX)
        options += ["-gencode", f"arch=compute_{name},code=[{','.join(codes)}]"]
    return options


def build(target: Path, objects: Path, choice: str) -> tuple[str, ...]:
    """Makes the plugin; returns its architectures, or raises Unbuilt."""
    nvcc = find_nvcc()
    if nvcc is None:
        raise Unbuilt("no nvcc was found in PATH, CUDA_HOME or /usr/local/cuda")
    names = known(nvcc, architectures(choice))
    sources = sorted(SOURCES.glob("*.cu"))
    folder = objects / "_".join(names)
    folder.mkdir(parents=True, exist_ok=True)
    processors = len(os.sched_getaffinity(0))
    command = [nvcc, *FLAGS, *generate(names)]
    if os.environ.get("FACS_CUDA_PDL") == "1":
        command += ["-DFACS_CUDA_PDL=1"]
    if os.environ.get("FACS_WERROR") == "1":
        command += ["-Werror", "all-warnings"]
    same = remember(folder / "flags", command)
    threads = ["--threads", str(-(-processors // len(sources)))]

    def compile_one(source: Path) -> Path:
        made = folder / (source.stem + ".o")
        if not (same and is_current(made)):
            listing = ["-MMD", "-MF", str(made.with_suffix(".d"))]
            run([*command, *threads, *listing, "-c", "-o", str(made), str(source)], made)
        return made

    with ThreadPoolExecutor(processors) as pool:
        made = list(pool.map(compile_one, sources))
    linked = folder / NAME
    if not linked.exists() or any(one.stat().st_mtime >= linked.stat().st_mtime for one in made):
        run([nvcc, *LINK, *generate(names), "-o", str(linked), *map(str, made)], linked)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)  # a process may have the old one mapped
    shutil.copy2(linked, target)
    return names


def run(command: list[str], made: Path) -> None:
    """Runs the compiler; what it says of a success is shown, of a failure raised."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (answer.stdout + answer.stderr).strip()
    if answer.returncode:
        made.unlink(missing_ok=True)
        raise Unbuilt(f"nvcc failed on {made.name}\n{shlex.join(command)}\n{said}")
    if said:
        print(said, file=sys.stderr)


def build_if_wanted(target: Path, objects: Path, choice: str) -> str:
    """Makes the plugin as FACS_CUDA says; returns a line about it. Where there is none, no old one stays."""
    how = wanted()
    reason = "FACS_CUDA=0"
    if how != "0":
        try:
            names = build(target, objects, os.environ.get("FACS_CUDA_ARCH", "") or choice)
            return "CUDA " + " ".join(f"sm_{name}" for name in names)
        except Unbuilt as problem:
            if how == "1":
                raise SystemExit(f"facsnet: FACS_CUDA=1, but {problem}") from None
            reason = str(problem)
            if find_nvcc() is not None:
                print(f"facsnet: warning: building without CUDA: {problem}", file=sys.stderr)
    target.unlink(missing_ok=True)
    return f"no CUDA ({reason.splitlines()[0]})"


if __name__ == "__main__":
    if find_nvcc() is None:
        print("facsnet: no CUDA (no nvcc was found)")
    else:
        os.environ["FACS_CUDA"] = "1"
        print("facsnet: " + build_if_wanted(Path(sys.argv[1]), Path(sys.argv[2]), "all"))
