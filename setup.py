"""Builds the C extension; all metadata is in pyproject.toml."""

import importlib.util
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Flags of the units of one instruction set; every other file gets the baseline only.
ISA_FLAGS = {
    "isa_avx2.c": ["-mavx2", "-mfma"],
    "isa_avx512.c": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}


class BuildExt(build_ext):
    def build_extension(self, ext):
        compile_one = self.compiler._compile

        def compile_with_isa(obj, src, extension, arguments, extra, options):
            compile_one(obj, src, extension, arguments, extra + ISA_FLAGS.get(Path(src).name, []), options)

        self.compiler._compile = compile_with_isa
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one


setup(
    ext_modules=[
        Extension(
            "facsnet._core",
            sorted(map(str, Path("csrc").rglob("*.c"))),
            include_dirs=["csrc", numpy.get_include()],
            extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno"],
            extra_link_args=["-fopenmp"],
        )
    ],
    cmdclass={"build_ext": BuildExt},
)
