"""The rules of the house: layers, headers, names, symbols, stubs, and the checks themselves."""

from __future__ import annotations

import ast
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import facsnet
from facsnet import _core

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import build_flags
import check_headers
import check_layers
import check_names

needs_compiler = pytest.mark.skipif(not (shutil.which("cc") and shutil.which("make")), reason="needs cc and make")


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_layers() -> None:
    assert check_layers.breaches(ROOT) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('#include "graph/plan.h"\n', "core (rank 0) includes graph (rank 3)"),
        ("#include <Python.h>\n", "<Python.h> is included outside"),
        ("#include <stb/stb_image.h>\n", "<stb/stb_image.h> is included outside"),
        ("void f(void) { free(0); }\n", "calls free"),
        ('void f(void) { printf("x"); }\n', "calls printf"),
        ("int f(void) { return rand(); }\n", "calls rand"),
        ("void f(void) { exit (1); }\n", "calls exit"),
    ],
)
def test_layer_check_finds(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, "csrc/graph/plan.h", "")
    write(tmp_path, "csrc/core/bad.c", text)
    (breach,) = check_layers.breaches(tmp_path)
    assert breach.startswith("csrc/core/bad.c:1: ")
    assert message in breach


def test_layer_check_finds_siblings_and_spares_comments(tmp_path: Path) -> None:
    write(tmp_path, "csrc/data/loader.h", "")
    write(tmp_path, "csrc/graph/plan.c", '#include "data/loader.h"\n')
    write(tmp_path, "csrc/core/fine.c", '/* free(x) */ // exit(1)\nconst char *s = "abort()";\nint a = b->free(1);\n')
    assert check_layers.breaches(tmp_path) == ["csrc/graph/plan.c:1: graph (rank 3) includes data (rank 3)"]


@needs_compiler
def test_headers_compile_alone(tmp_path: Path) -> None:
    assert check_headers.breaches(ROOT) == []
    write(tmp_path, "csrc/core/bad.h", "size_t count(void);\n")
    assert len(check_headers.breaches(tmp_path)) == 1


def test_base_names_and_lengths(tmp_path: Path) -> None:
    assert check_names.base_names(ROOT) == []
    assert check_names.lengths(ROOT) == []
    write(tmp_path, "csrc/core/a.c", "\n" * 801)
    write(tmp_path, "csrc/core/a.h", "")
    write(tmp_path, "csrc/ops/a.h", "")
    write(tmp_path, "csrc/kernel/ref/b.c", "")
    write(tmp_path, "csrc/kernel/cpu/b.inc", "")
    assert check_names.base_names(tmp_path) == ["base name 'a' is in csrc/core, csrc/ops"]
    assert check_names.lengths(tmp_path) == ["csrc/core/a.c: 801 lines, the limit is 800"]


@needs_compiler
def test_symbols_of_the_library(tmp_path: Path) -> None:
    command = ["make", "-s", "-f", "tests/c/tests.mk", "library", f"PYTHON={sys.executable}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=environment)
    assert check_names.library_symbols(ROOT / "build" / "ctest" / "plain" / "libfacs.a") == []
    write(tmp_path, "bad.c", "int helper(void) { return 1; }\n")
    subprocess.run(["cc", "-c", "bad.c"], cwd=tmp_path, check=True)
    assert check_names.library_symbols(tmp_path / "bad.o") == ["bad.o: symbol helper does not begin with facs_"]


@pytest.mark.skipif(not shutil.which("nm"), reason="needs nm")
def test_extension_exports_its_init_alone() -> None:
    if build_flags.extra_flags() not in ([], ["-Werror"]):
        pytest.skip("an instrumented build exports its instruments")
    assert check_names.extension_symbols(Path(_core.__file__)) == []


def test_stub_names_all_of_the_core() -> None:
    stub = ast.parse((Path(facsnet.__file__).parent / "_core.pyi").read_text())
    typed = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    public = {name for name in vars(_core) if not name.startswith("_")}
    assert public == {name for name in typed if not name.startswith("_")}
    for name in public:
        found = getattr(_core, name)
        if inspect.isclass(found) and not issubclass(found, Exception):
            members = {member for member in vars(found) if not member.startswith("_")}
            assert members == members_of(typed[name]), name


def members_of(node: ast.AST) -> set[str]:
    assert isinstance(node, ast.ClassDef)
    names = {child.name for child in node.body if isinstance(child, ast.FunctionDef)}
    names |= {
        child.target.id
        for child in node.body
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name)
    }
    return {name for name in names if not name.startswith("_")}


def test_public_names_exist_and_are_documented() -> None:
    for name in facsnet.__all__:
        found = getattr(facsnet, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert inspect.getdoc(found), name


def test_about() -> None:
    facts = facsnet.about()
    assert facts["facsnet"] == facsnet.__version__
    assert int(facts["threads"]) >= 1
    assert "OpenMP" in facts["compiler"]
    assert facts["blas"] == "none" or "OpenBLAS" in facts["blas"]
    assert len(repr(facts).splitlines()) == len(facts)
    rungs = _core.build_facts()["instruction_sets"]
    assert rungs[0] == "ref"
    assert len(set(rungs)) == len(rungs)


def test_about_says_the_instruction_set_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for rung in _core.build_facts()["instruction_sets"]:
        monkeypatch.setenv("FACS_CPU", rung)
        used = facsnet.Network("mobilenet_v1", labels=["AU01"], width=0.25, input_size=32).instruction_set
        assert used == rung
        assert facsnet.about()["instruction set"].startswith(f"{used} (")
    monkeypatch.setenv("FACS_CPU", "zzz")
    assert facsnet.about()["instruction set"].startswith("none: FACS_CPU is 'zzz'")


@pytest.mark.parametrize("order", [["numpy", "scipy.linalg", "facsnet"], ["facsnet", "numpy", "scipy.linalg"]])
def test_our_blas_leaves_the_threads_of_others(order: list[str]) -> None:
    """The count that NumPy's and SciPy's OpenBLAS report does not change when facsnet loads."""
    pytest.importorskip("scipy")
    pytest.importorskip("threadpoolctl")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("OpenBLAS has one thread on one core whatever we do")
    script = f"""
import importlib, os
for name in {order!r}:
    importlib.import_module(name)
import threadpoolctl
pools = [p for p in threadpoolctl.threadpool_info() if p["internal_api"] == "openblas"]
others = [p for p in pools if "facs" not in os.path.basename(p["filepath"])]
assert others, "no other OpenBLAS is loaded"
assert all(p["num_threads"] == 2 for p in others), others
import numpy as np, scipy.linalg, facsnet
a = np.random.default_rng(0).normal(size=(64, 64))
assert np.allclose(a @ scipy.linalg.inv(a), np.eye(64), atol=1e-8)
net = facsnet.Network("mobilenet_v1", labels=["AU01"], width=0.25, input_size=32)
assert np.isfinite(net.forward(np.zeros((2, 32, 32, 3), np.uint8))).all()
"""
    path = os.pathsep.join([str(Path(facsnet.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": path}
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert answer.returncode == 0, answer.stderr
