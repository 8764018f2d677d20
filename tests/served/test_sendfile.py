"""Files where sendfile(2) fails, or is not wanted: a library loaded before all others makes it fail.

Both sides call it by the C library; the platform without it has its test at the end.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from launch import Process, running
from rawhttp import Client, ProtocolError, get, put, request, wait_until

from fastws import Server, portable

Serve = Callable[..., Server]
Start = Callable[..., Process]
PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
KIB, MIB = 1 << 10, 1 << 20
CONTENT = os.urandom(5 * MIB)

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/types.h>

/* Fails from an offset on, both given by the environment. */
static ssize_t fail(const char *name, int to, int from, off_t *offset, size_t count) {
    off_t limit = atoll(getenv("FAIL_FROM"));
    if (offset && *offset < limit) {
        ssize_t (*real)(int, int, off_t *, size_t) = dlsym(RTLD_NEXT, name);
        return real(to, from, offset, *offset + (off_t)count > limit ? (size_t)(limit - *offset) : count);
    }
    errno = atoi(getenv("FAIL_WITH"));
    return -1;
}
ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
    return fail("sendfile", to, from, offset, count);
}
ssize_t sendfile64(int to, int from, off_t *offset, size_t count) {
    return fail("sendfile64", to, from, offset, count);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library in which sendfile fails."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    directory = tmp_path_factory.mktemp("shim")
    (directory / "shim.c").write_text(SHIM)
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", "shim.so", "shim.c", "-ldl"], cwd=directory, capture_output=True
    )
    if made.returncode:
        pytest.skip(f"the library cannot be compiled here: {made.stderr.decode()}")
    return str(directory / "shim.so")


@pytest.fixture(params=["compiled", "pure"])
def start(request: pytest.FixtureRequest, tmp_path: Path, shim: str) -> Iterator[Start]:
    """Return a function that starts a process in which sendfile fails, by error and lines of ``ws.conf``."""
    if request.param == "compiled" and PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    put(tmp_path / "root", {"large.bin": CONTENT[: 300 * KIB], "big.bin": CONTENT, "a.txt": b"a file"})
    with ExitStack() as stack:

        def run(error: int, *lines: str, fail_from: int = 0) -> Process:
            text = ['DocumentRoot "root"', "ListenPort 8080", "DefaultType application/octet-stream", *lines]
            (tmp_path / "ws.conf").write_text("\n".join(text) + "\n")
            first = os.environ.get("LD_PRELOAD", "")  # AddressSanitizer's library must come first
            preload = f"{first}:{shim}" if first else shim
            variables = {"LD_PRELOAD": preload, "FAIL_WITH": str(error), "FAIL_FROM": str(fail_from)}
            return stack.enter_context(running(tmp_path, side=str(request.param), **variables))

        yield run


def check_content(process: Process) -> None:
    """Files are whole, one by one and pipelined, and so are parts of them, when they are replayed too."""
    with Client(process.port) as client:
        for _ in range(3):
            assert client.get("/big.bin").body == CONTENT
            assert client.get("/large.bin").body == CONTENT[: 300 * KIB]
            assert client.get("/big.bin", "Range: bytes=1000000-3999999").body == CONTENT[1000000:4000000]
            assert client.get("/big.bin", "Range: bytes=2-3,100-200,5000000-").status == 206
        client.send(request("/large.bin") * 3 + request("/a.txt"))
        assert [client.reply().body for _ in range(3)] == [CONTENT[: 300 * KIB]] * 3
        assert client.reply().body == b"a file"
    with Client(process.port, receive_buffer=4096) as client:  # the socket takes little at once
        assert client.get("/big.bin").body == CONTENT


@pytest.mark.parametrize("name", ["EINVAL", "ENOSYS", "EPERM", "EOVERFLOW", "EOPNOTSUPP"])
def test_file_is_read_and_sent_where_there_is_no_sendfile(start: Start, tmp_path: Path, name: str) -> None:
    check_content(start(getattr(errno, name)))
    assert "failed" not in (tmp_path / "log_webserver_error.txt").read_text()


def test_file_is_read_from_where_sendfile_began_to_fail(start: Start) -> None:
    check_content(start(errno.EINVAL, fail_from=200_000))


def test_sendfile_off_calls_it_never(start: Start) -> None:
    check_content(start(errno.EIO, "Sendfile off"))


@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
@pytest.mark.parametrize("fail_from", [0, 3 * MIB])
def test_other_failure_cuts_the_connection_and_is_logged(
    start: Start, tmp_path: Path, name: str, fail_from: int
) -> None:
    error = getattr(errno, name)
    process = start(error, fail_from=fail_from)
    log = tmp_path / "log_webserver_error.txt"
    for count in range(1, 4):
        with Client(process.port) as client:
            client.send(request("/big.bin"))
            client.head()
            with pytest.raises((ProtocolError, ConnectionError)):
                client.read(len(CONTENT))
        said = f"sending a file failed: {os.strerror(error)}; the connection to 127.0.0.1 is closed"
        wait_until(
            lambda count=count, said=said: log.read_text().count(said) == count, "a line in the error log"
        )
    assert get(process.port, "/a.txt").body == b"a file"


def test_file_that_cannot_be_read_cuts_the_connection_and_is_logged(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every side, where files are read: without sendfile, and as ``Sendfile off`` asks for."""
    put(tmp_path / "root", {"big.bin": CONTENT, "a.txt": b"a file"})
    server = serve("Sendfile off", "ErrorLog errors.txt")
    read_at = portable.read_at

    def fail(file: int, count: int, offset: int) -> bytes:
        if os.fstat(file).st_size == len(CONTENT):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_at(file, count, offset)

    monkeypatch.setattr(portable, "read_at", fail)
    with Client(server) as client:  # a first answer is Python's on every side
        client.send(request("/big.bin"))
        client.head()
        with pytest.raises((ProtocolError, ConnectionError)):
            client.read(len(CONTENT))
    said = "sending a file failed: Input/output error"
    wait_until(lambda: said in (tmp_path / "errors.txt").read_text(), "a line in the error log")
    assert get(server, "/a.txt").body == b"a file"
