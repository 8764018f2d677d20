"""Builds the compiled twins where that is possible; without a compiler the pure ones are the server."""

import os

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

REQUIRED = os.environ.get("FASTWS_REQUIRE_EXTENSIONS") == "1"
PURE = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
COMPILED_MODULES = ("_parser", "_reactor")

if REQUIRED and PURE:
    raise SystemExit("FASTWS_REQUIRE_EXTENSIONS=1 and FASTWS_NO_EXTENSIONS=1 exclude each other")


class OptionalBuildExt(build_ext):
    """Each extension may fail for itself: a platform without epoll still gets the compiled parser."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            if REQUIRED:
                raise
            self.warn(f"{ext.name} was not compiled ({error}); its pure twin will run in its place")


def extensions() -> list[Extension]:
    if PURE:
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        if REQUIRED:
            raise
        return []
    flags = ["-O3", "-fno-strict-aliasing"] + os.environ.get("FASTWS_CFLAGS", "").split()
    modules = [
        Extension(
            f"fastws.{name}",
            [f"fastws/{name}.pyx"],
            depends=["fastws/_scan.h", "fastws/_line.h"],
            extra_compile_args=flags,
            extra_link_args=os.environ.get("FASTWS_LDFLAGS", "").split(),
        )
        for name in COMPILED_MODULES
        if os.path.exists(f"fastws/{name}.pyx")
    ]
    return cythonize(modules)


setup(ext_modules=extensions(), cmdclass={"build_ext": OptionalBuildExt})
