"""Builds the compiled twins where that is possible; without a compiler the pure ones are the server."""

import os
import re
import sys
import tomllib
from pathlib import Path

from setuptools import Extension, setup

REQUIRED = os.environ.get("FASTWS_REQUIRE_EXTENSIONS") == "1"
# The C is written for POSIX.
PURE = os.environ.get("FASTWS_NO_EXTENSIONS") == "1" or sys.platform == "win32"
SOURCES = sorted(str(path) for path in Path("fastws").rglob("*.pyx"))
HEADERS = sorted(str(path) for path in Path("fastws").rglob("*") if path.suffix in (".h", ".pxd"))

if REQUIRED and PURE:
    why = "FASTWS_NO_EXTENSIONS=1" if sys.platform != "win32" else "Windows, for which nothing is compiled,"
    sys.exit(f"FASTWS_REQUIRE_EXTENSIONS=1 and {why} exclude each other")


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


def index_readme(text: str, files: str) -> str:
    """Return the README for a package index, where relative links lead nowhere: to ``files``, or none of them."""

    def mend(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        if re.match("[a-z]+:|#", target):
            return match.group()
        if not files:
            return "" if mark else words
        return f"{mark}[{words}]({files.rstrip('/')}/{target}{'?raw=true' if mark else ''})"

    return re.sub(r"(!?)\[([^]]*)\]\(([^)\s]+)\)", mend, text)


def index_pages() -> dict[str, str]:
    """Return the addresses that a package index shows, by their names: of what ``[tool.fastws]`` names."""
    pages = {"Homepage": PUBLISHED["home"]}
    for name, path in (("Documentation", "docs/operations.md"), ("Changelog", "CHANGELOG.md")):
        pages[name] = PUBLISHED["files"] and f"{PUBLISHED['files'].rstrip('/')}/{path}"
    return {name: address for name, address in pages.items() if address}


PUBLISHED = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["fastws"]
INDEX = {
    "long_description": index_readme(Path("README.md").read_text(encoding="utf-8"), PUBLISHED["files"]),
    "long_description_content_type": "text/markdown",
    "project_urls": index_pages(),
}

# Without ext_modules, not even an empty list of them, the wheel is for every platform: py3-none-any.
setup(**INDEX, **({} if PURE else {"ext_modules": extensions()}))
