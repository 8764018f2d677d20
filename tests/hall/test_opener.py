"""Opening below a directory: both twins against ``backend.Opener``, and against each other."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PURE_ONLY
from rawhttp import TIMEOUT_S, open_descriptors, put, wait_until

from fastws import backend
from fastws.files.identity import identity_of
from fastws.http.messages import Identity

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


# Reading


LIMIT = 262144


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Names that are read, and names that must not be."""
    root = put(tmp_path / "tree", READABLE | {"too-big.png": bytes(LIMIT + 1)})
    put(root, {"1/2/3/4/5.png": b"five", "unreadable.png": b"no"})
    put(tmp_path / "outside", {"secret.png": b"secret"})
    (root / "unreadable.png").chmod(0)
    (root / "inside.png").symlink_to("a.png")
    (root / "outside.png").symlink_to(tmp_path / "outside" / "secret.png")
    (root / "ring.png").symlink_to("ring.png")
    (root / "dangling.png").symlink_to("nothing.png")
    (root / "linked").symlink_to("sub")
    (root / "away").symlink_to(tmp_path / "outside")
    os.mkfifo(root / "fifo.png")
    return root


READABLE = {
    "a.png": b"picture",
    "sub/b.png": b"below",
    "empty.png": b"",
    "README": b"no extension",
    "1/2/3/4.png": b"four",
    "ü.png": b"umlaut",
    ".hidden.png": b"hidden",
    os.fsdecode(b"not-\xff-utf8.png"): b"odd",
}
UNREADABLE = (
    *("", ".", "sub", "sub/", "a.png/", "README/", "none", "none/none", "a.png/none", "x" * 300, "/a.png"),
    *("inside.png", "outside.png", "ring.png", "dangling.png", "linked/b.png", "away/secret.png"),
    *("fifo.png", "too-big.png"),
)


def read(side: backend.Backend, root: Path, name: str, most: int = LIMIT) -> Any:
    return side.opener.read_beneath(os.fsencode(root), os.fsencode(name), most)


@pytest.mark.parametrize("name", READABLE)
def test_file_is_read_whole_with_its_identity(side: backend.Backend, tree: Path, name: str) -> None:
    content, size = READABLE[name], len(READABLE[name])
    found = read(side, tree, name)
    assert found == (content, identity_of((tree / name).stat()))
    assert type(found[1]) is Identity
    assert read(side, tree, name, size) == found
    assert size == 0 or read(side, tree, name, size - 1) is None


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_file_below_is_not_read(side: backend.Backend, tree: Path, name: str) -> None:
    before = open_descriptors()
    assert read(side, tree, name) is None
    assert open_descriptors() == before


def test_deep_file_is_read_by_openat2_alone(side: backend.Backend, tree: Path) -> None:
    found = read(side, tree, "1/2/3/4/5.png")
    assert (found is not None) == (side.opener.DEEPEST > 4)


def test_root_that_is_a_link_is_followed_and_one_that_is_no_directory_is_not(
    side: backend.Backend, tree: Path
) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    assert read(side, link, "a.png") == read(side, tree, "a.png")
    assert read(side, tree / "a.png", "a.png") is None
    assert read(side, tree / "none", "a.png") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file_is_not_read(side: backend.Backend, tree: Path) -> None:
    assert read(side, tree, "unreadable.png") is None


def test_device_is_not_read(side: backend.Backend) -> None:
    assert read(side, Path("/dev"), "null") is None


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="no /proc")
def test_file_that_is_longer_than_it_says_is_not_read(side: backend.Backend) -> None:
    assert os.stat("/proc/version").st_size == 0
    assert read(side, Path("/proc"), "version") is None


def test_file_that_grows_while_it_is_read_is_whole_or_not_read(side: backend.Backend, tmp_path: Path) -> None:
    path, is_over = tmp_path / "growing.png", threading.Event()
    path.write_bytes(b"")

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not is_over.is_set() and file.tell() < LIMIT:
                file.write(b"a line of ten bytes\n"[:10])

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        found = [read(side, tmp_path, path.name) for _ in range(500)]
    finally:
        is_over.set()
        thread.join(TIMEOUT_S)
    sizes = [len(each[0]) for each in found if each is not None]
    assert sizes == sorted(sizes)
    assert all(len(each[0]) == each[1].size for each in found if each is not None)


def test_file_that_changes_while_it_is_read_is_not_read(side: backend.Backend, tmp_path: Path) -> None:
    path, is_over = tmp_path / "changing.png", threading.Event()
    path.write_bytes(bytes(LIMIT))

    def touch() -> None:
        moment = 0
        while not is_over.is_set():
            moment += 1
            os.utime(path, ns=(moment, moment))

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        wait_until(lambda: any(read(side, tmp_path, path.name) is None for _ in range(100)))
    finally:
        is_over.set()
        thread.join(TIMEOUT_S)


@pytest.mark.skipif(
    PURE_ONLY or sys.platform != "linux", reason="seccomp is Linux's, openat2 the compiled side's"
)
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_file_is_read_where_openat2_is_not_to_be_had(tree: Path, error: int) -> None:
    code = WITHOUT_OPENAT2[: WITHOUT_OPENAT2.index("import os")].replace("{error}", str(error))
    code += f"""
from fastws import backend

read = backend.load(required=True).opener.read_beneath
assert read({os.fsencode(tree)!r}, b"sub/b.png", 99)[0] == b"below"
for name in (b"linked/b.png", b"sub", b"a.png/", b"none"):
    assert read({os.fsencode(tree)!r}, name, 99) is None, name
print("as it should be")
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "no filter" in found.stderr:
        pytest.skip(found.stderr)
    assert found.stdout == "as it should be\n", found.stderr
