"""The C headers compile with other C libraries than the one of this Python, and do the same with them."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path

import pytest
from rawhttp import put

from fastws import backend

HEADERS = Path(backend.__file__).parent / "native"
SOURCE = Path(__file__).with_name("open_beneath.c")


@pytest.fixture(params=["cc", pytest.param("musl-gcc", marks=pytest.mark.peer)])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A program of all headers. musl has none of the kernel's headers; Debian has it as musl-tools."""
    compiler = shutil.which(request.param)
    if compiler is None:
        pytest.skip(f"{request.param} was not found")
    path = tmp_path / "program"
    options = [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unused-function",
        f"-I{HEADERS}",
    ]
    done = subprocess.run([compiler, *options, "-o", str(path), str(SOURCE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(path)


def test_files_below_a_directory_are_read_and_links_are_not_followed(program: str, tmp_path: Path) -> None:
    root = put(tmp_path / "root", {"a.txt": b"top", "sub/b.txt": b"below", "big.txt": b"x" * 5000})
    (root / "link").symlink_to("a.txt")
    read = {
        path: subprocess.run([program, str(root), path], capture_output=True, text=True, timeout=60).stdout
        for path in ("a.txt", "sub/b.txt", "link", "../program", "nowhere", "big.txt")
    }
    if read["a.txt"] == f"error {errno.ENOSYS}\n":
        pytest.skip("this kernel has no openat2")
    assert read == {
        "a.txt": "top",
        "sub/b.txt": "below",
        "link": f"error {errno.ELOOP}\n",
        "../program": f"error {errno.EXDEV}\n",
        "nowhere": f"error {errno.ENOENT}\n",
        "big.txt": "error 0\n",
    }


def test_every_header_is_in_the_program() -> None:
    text = SOURCE.read_text()
    missing = [path.name for path in sorted(HEADERS.glob("*.h")) if f'"{path.name}"' not in text]
    assert not missing
