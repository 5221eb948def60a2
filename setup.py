"""Builds the C extension; all metadata is in pyproject.toml, all flags in tools/build_flags.py."""

from __future__ import annotations

import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "tools"))
import build_flags
import cuda_plugin
from incremental import is_current, remember
from private_library import copy_private

BLAS_NAME = "libfacs_openblas.so"


class BuildExt(build_ext):
    """Compiles each file with the flags of its unit, several at a time, and only what changed."""

    def run(self) -> None:
        # a build in place is for this machine, any other for all of them
        self.architectures = "native" if self.inplace or self.editable_mode else "all"
        super().run()

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
        plugin = Path(self.get_ext_fullpath(ext.name)).parent / cuda_plugin.NAME
        line = cuda_plugin.build_if_wanted(plugin, Path(self.build_temp, "cuda"), self.architectures)
        print(f"facsnet: {line}")

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
        same_flags = remember(Path(output_dir, "flags"), compiler.compiler_so + arguments + post)

        def compile_one(item: tuple[str, tuple[str, str]]) -> None:
            target, (source, extension) = item
            if not (same_flags and is_current(target)):
                flags = post + build_flags.unit_flags(source)
                compiler._compile(target, source, extension, arguments, flags, options)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(compile_one, build.items()))
        return objects

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        for ext in self.extensions:
            package = self.get_finalized_command("build_py").get_package_dir("facsnet")
            folder = Path(self.build_lib, *ext.name.split(".")[:-1])
            Path(package, cuda_plugin.NAME).unlink(missing_ok=True)
            for built in [*folder.glob(Path(BLAS_NAME).stem + ".*"), *folder.glob(cuda_plugin.NAME)]:
                target = Path(package, built.name)
                target.unlink(missing_ok=True)
                shutil.copy2(built, target)


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
