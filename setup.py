"""Builds the compiled twins where that is possible; without a compiler the pure ones are the server."""

import os
import sys

from setuptools import Extension, setup

REQUIRED = os.environ.get("FASTWS_REQUIRE_EXTENSIONS") == "1"
PURE = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
COMPILED_MODULES = sorted(name[:-4] for name in os.listdir("fastws") if name.endswith(".pyx"))
HEADERS = sorted(f"fastws/{name}" for name in os.listdir("fastws") if name.endswith((".h", ".pxd")))

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
            f"fastws.{name}",
            [f"fastws/{name}.pyx"],
            depends=HEADERS,
            include_dirs=["fastws"],  # the generated C lies elsewhere
            extra_compile_args=["-O3", "-fno-strict-aliasing", *os.environ.get("FASTWS_CFLAGS", "").split()],
            extra_link_args=os.environ.get("FASTWS_LDFLAGS", "").split(),
        )
        for name in COMPILED_MODULES
    ]
    modules = cythonize(modules, build_dir="build/cython")
    for module in modules:
        module.optional = not REQUIRED  # cythonize drops it from what it is given
    return modules


# Without ext_modules, not even an empty list of them, the wheel is for every platform: py3-none-any.
setup(**({} if PURE else {"ext_modules": extensions()}))
