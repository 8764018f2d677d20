"""Builds the compiled twins where that is possible; without a compiler the pure ones are the server."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

REQUIRED = os.environ.get("FASTWS_REQUIRE_EXTENSIONS") == "1"
PURE = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
SOURCES = sorted(str(path) for path in Path("fastws").rglob("*.pyx"))
HEADERS = sorted(str(path) for path in Path("fastws").rglob("*") if path.suffix in (".h", ".pxd"))

if REQUIRED and PURE:
    sys.exit("FASTWS_REQUIRE_EXTENSIONS=1 and FASTWS_NO_EXTENSIONS=1 exclude each other")


def extensions() -> list[Extension]:
    """Each may fail for itself: a platform without epoll still gets the compiled parser."""
    try:
        from Cython.Build import cythonize
    except ImportError:
        if REQUIRED:
            raise
        return []
    modules = [
        Extension(
            source[:-4].replace("/", "."),
            [source],
            depends=HEADERS,
            include_dirs=["fastws/native"],  # the generated C lies elsewhere
            extra_compile_args=["-O3", "-fno-strict-aliasing", *os.environ.get("FASTWS_CFLAGS", "").split()],
            extra_link_args=os.environ.get("FASTWS_LDFLAGS", "").split(),
        )
        for source in SOURCES
    ]
    modules = cythonize(modules, build_dir="build/cython")
    for module in modules:
        module.optional = not REQUIRED  # cythonize drops it from what it is given
    return modules


# Without ext_modules, not even an empty list of them, the wheel is for every platform: py3-none-any.
setup(**({} if PURE else {"ext_modules": extensions()}))
