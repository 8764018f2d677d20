"""Opening below a directory: both twins against ``backend.Opener``, and against each other."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PURE_ONLY
from rawhttp import put

from fastws import backend
from fastws.files import identity_of

WITHOUT_OPENAT2 = """
import ctypes, errno, struct, sys

# seccomp(2): a filter that lets everything through but openat2, number 437 on every architecture.
CODE = [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x50000 | {error}), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in CODE))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(CODE), ctypes.addressof(code)))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, program, 0, 0):
    sys.exit("no filter: " + str(ctypes.get_errno()))

import os
from fastws import backend

opener = backend.load(required=True).opener
directory = os.open({root!r}, os.O_PATH)
assert os.read(opener.open_beneath(directory, "deep/er/file"), 9) == b"contents"
try:
    opener.open_beneath(directory, "link/file")
except OSError as error:
    assert error.errno in (errno.ELOOP, errno.ENOTDIR)
    print("as it should be")
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "root", {"file": b"top", "deep/er/file": b"contents", "ünï/sp ace": b"named"})
    (tmp_path / "root/link").symlink_to("deep/er")
    (tmp_path / "root/deep/link").symlink_to("er/file")
    (tmp_path / "root/deep/up").symlink_to("..")
    (tmp_path / "root/away").symlink_to("/")
    (tmp_path / "root" / os.fsdecode(b"not-\xff-utf8")).write_bytes(b"odd")
    os.mkfifo(tmp_path / "root/fifo")
    return tmp_path / "root"


@pytest.fixture
def directory(root: Path) -> Iterator[int]:
    fd = os.open(root, getattr(os, "O_PATH", os.O_RDONLY))
    yield fd
    os.close(fd)


def opened(side: backend.Backend, directory: int, path: str) -> bytes | int | None:
    """The first bytes of what is there, -1 for nothing, or the error number."""
    try:
        fd = side.opener.open_beneath(directory, path)
    except OSError as error:
        return error.errno
    if fd < 0:
        return fd
    try:
        assert not os.get_inheritable(fd)
        return b"a directory" if stat.S_ISDIR(side.opener.look(fd)[0]) else os.read(fd, 99)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file", b"top"),
        ("deep/er/file", b"contents"),
        ("ünï/sp ace", b"named"),
        (os.fsdecode(b"not-\xff-utf8"), b"odd"),
        ("", b"a directory"),
        ("deep", b"a directory"),
        ("deep/er/", b"a directory"),
        ("fifo", b""),
        ("none", -1),
        ("none/file", -1),
        ("file/below", errno.ENOTDIR),
        ("x" * 256, errno.ENAMETOOLONG),
    ],
)
def test_what_lies_below_is_opened(
    side: backend.Backend, directory: int, path: str, expected: bytes | int
) -> None:
    assert opened(side, directory, path) == expected


@pytest.mark.parametrize(
    "path", ["link", "link/file", "deep/link", "deep/up/file", "away", "away/etc/passwd"]
)
def test_no_link_is_followed(side: backend.Backend, directory: int, path: str) -> None:
    assert opened(side, directory, path) in (errno.ELOOP, errno.ENOTDIR)


def test_name_with_a_nul_is_a_value_error(side: backend.Backend, directory: int) -> None:
    with pytest.raises(ValueError, match=r"null (byte|character)"):
        side.opener.open_beneath(directory, "file\0")


@pytest.mark.parametrize("times_ns", [(0, 0), (1, 1), (-5, -5), (1 << 40, (1 << 40) + 1)])
def test_identity_is_that_of_stat(side: backend.Backend, root: Path, times_ns: tuple[int, int]) -> None:
    os.utime(root / "file", ns=times_ns)
    with (root / "file").open("rb") as file:
        info = os.fstat(file.fileno())
        mode, identity = side.opener.look(file.fileno())
    assert (mode, identity) == (info.st_mode, identity_of(info))
    assert identity.mtime_ns == times_ns[1]


def test_look_at_a_closed_descriptor_is_an_os_error(side: backend.Backend) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        side.opener.look(-1)


@pytest.mark.skipif(PURE_ONLY, reason="FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="openat2 and seccomp are Linux's")
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.EAGAIN])
def test_system_without_openat2_walks(root: Path, error: int) -> None:
    """An old kernel has none, a container's filter may forbid it."""
    script = WITHOUT_OPENAT2.format(root=str(root), error=error)
    environment = {key: value for key, value in os.environ.items() if key != "FASTWS_NO_EXTENSIONS"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.stdout, done.stderr) == ("as it should be\n", "")
