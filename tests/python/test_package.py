"""What is shipped: the wheel, the source archive, and links between the pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from facsnet import __version__

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import build_flags
import cuda_plugin

FOLDERS = ("benchmarks", "csrc", "docs", "notebooks", "python", "tests", "tools")
FILES = (
    ".clang-format", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile",
    "README.md", "pyproject.toml", "setup.py",
)  # fmt: skip
# What .gitignore leaves out.
MADE = ("__pycache__", ".*_cache", ".ipynb_checkpoints", "*.egg-info", "*.so", "*.o", "*.py[cod]", "*openblas.LICENSE")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, with the objects of the last build where there is one."""
    pytest.importorskip("setuptools", "77")
    if not (ROOT / "setup.py").exists() or not shutil.which("cc"):
        pytest.skip("needs the sources and a compiler")
    tree = tmp_path_factory.mktemp("tree")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns(*MADE))
    for name in FILES:
        shutil.copy2(ROOT / name, tree)
    for objects in (ROOT / "build").glob("temp.*"):
        shutil.copytree(objects, tree / "build" / objects.name)
    return tree


def built(tree: Path, kind: str) -> Path:
    """Runs a hook of the build backend as pip does."""
    flags = [path.read_text() for path in (tree / "build").glob("temp.*/flags")]
    # One architecture shows where the plugin goes; `make cuda` compiles all of them.
    environment = {
        **os.environ,
        "FACS_WERROR": "1" if "-Werror" in "".join(flags) else "",
        "FACS_CUDA_ARCH": "80",
    }
    script = f"from setuptools import build_meta; build_meta.build_{kind}('dist')"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    (path,) = (tree / "dist").glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return path


def files(root: Path, *folders: str) -> set[str]:
    found = {path for folder in folders for path in (root / folder).rglob("*") if path.is_file()}
    return {path.relative_to(root).as_posix() for path in found}


def test_wheel_holds_the_package_and_nothing_else(tree: Path) -> None:
    with zipfile.ZipFile(built(tree, "wheel")) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (licence,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    wanted = {name.removeprefix("python/") for name in files(tree, "python/facsnet")}
    wanted.add(f"facsnet/_core{sysconfig.get_config_var('EXT_SUFFIX')}")
    blas = build_flags.find_blas()
    if blas.library:
        wanted.add("facsnet/libfacs_openblas.so")
    if blas.library and blas.licence:
        wanted.add("facsnet/libfacs_openblas.LICENSE")
    if cuda_plugin.wanted() != "0" and cuda_plugin.find_nvcc():
        wanted.add("facsnet/libfacs_cuda.so")
    assert names == wanted
    for name in ("py.typed", "_core.pyi", "templates/report.html", "models/mobilenet_v1_0.25_synthetic.safetensors"):
        assert f"facsnet/{name}" in names


def test_source_archive_can_be_built_and_tested(tree: Path) -> None:
    with tarfile.open(built(tree, "sdist")) as archive:
        names = {name.removeprefix(f"facsnet-{__version__}/") for name in archive.getnames()}
    missing = files(tree, *FOLDERS) | set(FILES)
    missing -= names
    assert not {name for name in missing if ".egg-info/" not in name}
    assert not {name for name in names if name.startswith("build/") or name.endswith((".so", ".o", ".pyc"))}


PAGES = [ROOT / name for name in FILES if name.endswith(".md")] + sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(\s*<?([^)>\s]+)", text) + re.findall(r"(?:href|src)=[\"']([^\"']+)", text)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    relative = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in relative if not (page.parent / target).exists()] == []
