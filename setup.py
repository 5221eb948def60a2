"""Builds the C extension; all metadata is in pyproject.toml, all flags in tools/build_flags.py."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "tools"))
import build_flags
from private_library import copy_private

BLAS_NAME = "libfacs_openblas.so"


class BuildExt(build_ext):
    """Compiles each file with the flags of its unit, several at a time, and only what changed."""

    def build_extension(self, ext: Extension) -> None:
        build_flags.check_compiler(self.compiler.compiler[:1], build_flags.HEADERS)
        include = [f"-I{folder}" for folder in self.compiler.include_dirs + self.include_dirs]
        python = "python3-dev, or the Python this is built for with its headers"
        build_flags.check_compiler([*self.compiler.compiler[:1], *include], {"Python.h": python})
        blas = build_flags.find_blas()
        ext.extra_compile_args += blas.compile_flags
        ext.extra_link_args += blas.link_flags
        if blas.library:
            library = Path(self.get_ext_fullpath(ext.name)).parent / BLAS_NAME
            copy_private(blas.library, library)
            if blas.licence:
                shutil.copy2(blas.licence, library.with_suffix(".LICENSE"))
            ext.extra_link_args += [str(library), "-Wl,-rpath,$ORIGIN"]
        print(f"facsnet: BLAS {blas.kind}")
        self.force = True  # objects are checked one by one below
        self.compiler.compile = self.compile_changed
        super().build_extension(ext)

    def compile_changed(
        self,
        sources,
        output_dir=None,
        macros=None,
        include_dirs=None,
        debug=0,
        extra_preargs=None,
        extra_postargs=None,
        depends=None,
    ):
        """Stands for CCompiler.compile."""
        compiler = self.compiler
        macros, objects, post, options, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        arguments = compiler._get_cc_args(options, debug, extra_preargs)
        same_flags = self.remember(Path(output_dir, "flags"), compiler.compiler_so + arguments + post)

        def compile_one(item: tuple[str, tuple[str, str]]) -> None:
            target, (source, extension) = item
            if not (same_flags and is_current(target)):
                flags = post + build_flags.unit_flags(source)
                compiler._compile(target, source, extension, arguments, flags, options)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(compile_one, build.items()))
        return objects

    @staticmethod
    def remember(path: Path, flags: list[str]) -> bool:
        """Writes the flags down; whether they are those of the last build."""
        text = shlex.join(flags)
        same = path.exists() and path.read_text() == text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return same

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        for ext in self.extensions:
            package = self.get_finalized_command("build_py").get_package_dir("facsnet")
            for built in Path(self.build_lib, *ext.name.split(".")[:-1]).glob(Path(BLAS_NAME).stem + ".*"):
                target = Path(package, built.name)
                target.unlink(missing_ok=True)
                shutil.copy2(built, target)


def is_current(target: str) -> bool:
    """Whether an object is newer than all it was made from, as the compiler's -MMD file lists."""
    listing = Path(target).with_suffix(".d")
    if not Path(target).exists() or not listing.exists():
        return False
    made = Path(target).stat().st_mtime
    inputs = re.sub(r"^.*?:|\\\n", " ", listing.read_text(), flags=re.DOTALL | re.MULTILINE).split()
    return all(Path(name).exists() and Path(name).stat().st_mtime < made for name in inputs)


setup(
    ext_modules=[
        Extension(
            "facsnet._core",
            sorted(map(str, Path("csrc").rglob("*.c"))),
            include_dirs=["csrc", numpy.get_include()],
            libraries=["m"],
            extra_compile_args=[*build_flags.BASELINE, *build_flags.extra_flags(), "-MMD"],
            extra_link_args=["-fopenmp", *build_flags.extra_flags()],
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
