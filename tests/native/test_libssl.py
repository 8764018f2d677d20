"""OpenSSL by name: what is declared is what its headers declare, and no other library is taken for it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fastws import backend

HEADERS = Path(backend.__file__).parent / "native"
HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def compile_c(*options: str) -> None:
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def has_openssl_headers() -> bool:
    done = subprocess.run(
        ["cc", "-E", "-x", "c", "-"], input="#include <openssl/ssl.h>\n", capture_output=True, text=True
    )
    return done.returncode == 0


def test_numbers_and_prototypes_are_those_of_the_headers() -> None:
    if not has_openssl_headers():
        pytest.skip("needs OpenSSL's headers: Debian's libssl-dev")
    compile_c("-Wno-unused-function", "-fsyntax-only", str(HERE / "libssl.c"))


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("loader") / "loader")
    compile_c("-DLOADER", "-o", path, str(HERE / "other_ssl.c"), "-ldl")
    return path


USED = "it is used"
OTHER = "it is not OpenSSL"
OLD = "it is older than OpenSSL 1.1.1"


@pytest.mark.parametrize(
    ("version", "number", "expected"),
    [
        ("OpenSSL 3.0.19 27 Jan 2026", 0x30000130, USED),
        ("OpenSSL 3.5.4 30 Sep 2025", 0x30500040, USED),
        ("OpenSSL 1.1.1w  11 Sep 2023", 0x1010117F, USED),
        ("OpenSSL 1.1.0l  10 Sep 2019", 0x101000CF, OLD),
        ("OpenSSL 2.0.0", 0x20000000, OLD),
        ("LibreSSL 4.0.0", 0x20000000, OTHER),
        ("BoringSSL", 0x1010107F, OTHER),
        ("AWS-LC 1.48.1", 0x1010107F, OTHER),
        ("OpenSSL 1.1.1 (compatible; BoringSSL)", 0x1010107F, OTHER),
        ("OpenSSL 1.1.1 (compatible; AWS-LC 1.48.1)", 0x1010107F, OTHER),
    ],
)
def test_no_other_library_is_taken_for_openssl(
    loader: str, tmp_path: Path, version: str, number: int, expected: str
) -> None:
    library = str(tmp_path / "lib.so")
    compile_c(
        "-shared",
        "-fPIC",
        f'-DVERSION="{version}"',
        f"-DNUMBER={number:#x}UL",
        "-o",
        library,
        str(HERE / "other_ssl.c"),
    )
    assert try_to_load(loader, library, library) == expected


def test_library_that_lacks_a_function_is_not_used(loader: str, tmp_path: Path) -> None:
    library = str(tmp_path / "lib.so")
    options = ["-DLACKING", '-DVERSION="OpenSSL 3.0.0"', "-DNUMBER=0x30000000UL"]
    compile_c("-shared", "-fPIC", *options, "-o", library, str(HERE / "other_ssl.c"))
    assert try_to_load(loader, library, library) == "it lacks SSL_new"


def test_library_that_python_has_not_loaded_is_not_loaded(loader: str, tmp_path: Path) -> None:
    assert try_to_load(loader, str(tmp_path / "lib.so")) == "Python's ssl module is not loaded"


def try_to_load(loader: str, *paths: str) -> str:
    return subprocess.run([loader, *paths], capture_output=True, text=True, timeout=60).stdout.strip()
