"""The rows that are not loads: the parser's core, and the start."""

from __future__ import annotations

import compileall
import contextlib
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterable
from pathlib import Path

from beside import BESIDE
from measure import RowResult, Sample
from peers import HERE, PEERS, why_missing
from rows import OVER_TLS, Row
from samples import BROWSER_REQUEST
from servers import Server, StartError, cpu_ns

PARSER_REPEATS = 1_000_000
START_PEERS = ("fastws", "fastws pure", "nginx", "http.server")

_PARSER_SCRIPT = """\
import sys
try:
    from fastws._parser import scan_benchmark
except ImportError as error:
    sys.exit(f"no benchmark hook: {error}")
print(scan_benchmark(sys.stdin.buffer.read(), int(sys.argv[1])))
"""


def _parser_core_us() -> float:
    """Return the time of one scan of the browser request without Python objects, in us."""
    done = subprocess.run(
        [sys.executable, "-c", _PARSER_SCRIPT, str(PARSER_REPEATS)],
        input=BROWSER_REQUEST, capture_output=True, check=False, cwd=HERE.parent,
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )  # fmt: skip
    if done.returncode:
        raise StartError(done.stderr.decode().strip().splitlines()[-1])
    return float(done.stdout) / PARSER_REPEATS * 1e6


def measure_parser(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure the parser's core in us a head."""
    result = RowResult(row)
    try:
        result.samples["fastws"] = [Sample(_parser_core_us(), 0, None) for _ in range(rounds)]
    except StartError as error:
        result.skipped["fastws"] = str(error)
    return result


def _install(directory: Path) -> Path:
    """Make a virtual environment that has the working tree's fastws as pip would put it; return its Python.

    An editable installation has a finder of its own, which takes longer than a tenth of a start, and other
    packages may run code at each start.
    """
    venv.EnvBuilder(symlinks=True).create(directory)
    python = directory / "bin" / "python"
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    done = subprocess.run(where, capture_output=True, text=True, check=True)
    package = Path(done.stdout.strip(), "fastws")
    not_installed = shutil.ignore_patterns("__pycache__", "*.pyx", "*.pxd", "*.c", "*.h")
    shutil.copytree(HERE.parent / "fastws", package, ignore=not_installed)
    compileall.compile_dir(package, quiet=1)
    return python


def _start_ms(name: str, root: Path, directory: Path, python: Path) -> float:
    server = Server(PEERS[name], root, directory, python=python)
    begin = time.perf_counter()
    with server:
        return (time.perf_counter() - begin) * 1e3


def _rounds(names: Iterable[str], rounds: int, measure: Callable[[str], float], result: RowResult) -> None:
    for name in names:
        reason = why_missing(PEERS[name])
        if reason is not None:
            result.skipped[name] = reason
        else:
            result.samples[name] = []
    for _ in range(rounds):
        for name in list(result.samples):
            try:
                result.samples[name].append(Sample(measure(name), 0, None))
            except (StartError, OSError) as error:
                result.skipped[name] = str(error)
                del result.samples[name]


def measure_start(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure the time from the start of the process to the end of its first answer, in ms."""
    result = RowResult(row)
    python = _install(directory / "installed")

    def measure(name: str) -> float:
        return _start_ms(name, root, directory / "start", python)

    _rounds(START_PEERS, 1, measure, RowResult(row))  # once before, so that all files are in memory
    _rounds(START_PEERS, rounds, measure, result)
    return result


_RESUMING = """\
import socket, ssl, sys, time
context, session, done, resumed = ssl._create_unverified_context(), None, 0, 0
end = time.monotonic() + float(sys.argv[2])
request = b"GET /1k.html HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\n\\r\\n"
while time.monotonic() < end:
    with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), session=session) as sock:
        sock.sendall(request)
        while sock.recv(65536):
            pass
        session, done, resumed = sock.session, done + 1, resumed + bool(sock.session_reused)
print(done if resumed >= done - 1 else 0)
"""
RESUMING_S = "2"


def measure_resumed(row: Row, root: Path, directory: Path, rounds: int) -> RowResult:
    """Measure a request for which a session is resumed; wrk begins each connection with a full handshake."""
    result = RowResult(row)
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(Server(PEERS[name], root, directory / f"resumed-{number}"))
            for number, name in enumerate(OVER_TLS)
            if why_missing(PEERS[name]) is None
        }

        def measure(name: str) -> float:
            pids = servers[name].pids()
            before = cpu_ns(pids)
            command = [sys.executable, "-c", _RESUMING, str(servers[name].port), RESUMING_S]
            client = subprocess.run(
                command, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {1})
            )
            if client.returncode or client.stdout == "0\n":
                raise StartError(f"sessions are not resumed: {client.stderr[-200:]}")
            return (cpu_ns(pids) - before) / 1e3 / int(client.stdout)

        _rounds(servers, rounds, measure, result)
    return result


SPECIAL: dict[str, Callable[[Row, Path, Path, int], RowResult]] = {
    "parser": measure_parser,
    "start": measure_start,
    "tls-resumed": measure_resumed,
    **BESIDE,
}
