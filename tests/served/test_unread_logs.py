"""A log that is not read stops no request, no signal and no end."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launch import END_S, answers, command, environment
from rawhttp import Client, get, put, request, wait_until

SIDES = ["compiled", "pure"]
AGENT = f"User-Agent: {'a' * 800}"
MANY = 2000  # lines of more than 800 bytes: twice what waits at most


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, {"root/a.txt": b"a file"})
    return tmp_path


class Sink:
    """Where standard error goes, and the FIFO beside it."""

    def __init__(self, what: str, directory: Path) -> None:
        self.access_log = "-"
        self._ends: list[int] = []
        if what == "terminal":
            self._ends = list(pty.openpty())
            termios.tcflow(self._ends[1], termios.TCOOFF)  # what Ctrl-S does
        elif what == "pipe":
            self._ends = list(os.pipe())
        else:
            self._ends = [os.open(os.devnull, os.O_WRONLY)]
        if what == "fifo":
            os.mkfifo(directory / "fifo")
            self.access_log = str(directory / "fifo")
        self.fd = self._ends[-1]

    def close(self) -> None:
        for fd in self._ends:
            os.close(fd)


@pytest.fixture(params=["pipe", "terminal", "fifo"])
def sink(request: pytest.FixtureRequest, root: Path) -> Iterator[Sink]:
    made = Sink(request.param, root)
    yield made
    made.close()


def start(root: Path, port: int, kind: str, stderr: int | None, *arguments: str) -> subprocess.Popen[bytes]:
    close = "exec 2>&-; " if stderr is None else ""
    popen = subprocess.Popen(
        ["sh", "-c", f'{close}exec "$@"', "sh", *command("--port", str(port), *arguments)],
        cwd=root,
        env=environment(kind, root / "state"),
        stderr=subprocess.DEVNULL if stderr is None else stderr,
    )
    deadline = time.monotonic() + END_S
    while not answers(port):
        assert popen.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return popen


def ask_much(port: int) -> None:
    with Client(port) as client:
        for _ in range(MANY // 20):
            client.send(request("/a.txt", AGENT) * 20)
            for _ in range(20):
                assert client.reply().status == 200


@pytest.mark.parametrize("kind", SIDES)
def test_access_log_that_is_not_read_stops_nothing_and_the_loss_is_told(
    root: Path, sink: Sink, kind: str, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    (port,) = free_ports(1)
    logs = ("--access-log", sink.access_log, "--error-log", "errors.txt")
    (root / "ws.conf").write_text(
        "DocumentRoot root\nListenPort 8080\nStatusPath /-/\nDefaultType text/plain\n"
    )
    popen = start(root, port, kind, sink.fd, "--config", "ws.conf", *logs)
    try:
        for number in (signal.SIGUSR1, signal.SIGHUP, None):
            ask_much(port)
            if number is not None:
                popen.send_signal(number)
        errors = root / "errors.txt"
        wait_until(lambda: "are being lost" in errors.read_text())
        wait_until(lambda: "configuration reloaded" in errors.read_text())
        found = re.search(rb'fastws_log_lines_lost_total{log="access"} (\d+)', get(port, "/-/metrics").body)
        assert found
        assert 0 < int(found[1]) <= 3 * MANY
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(END_S) == 0
        assert re.search(r"\d+ lines for \S+ were lost", errors.read_text())
    finally:
        popen.kill()
        popen.wait()


@pytest.mark.parametrize("kind", SIDES)
def test_error_log_that_is_not_read_stops_nothing(
    root: Path, kind: str, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    (port,) = free_ports(1)
    sink = Sink("pipe", root)
    popen = start(root, port, kind, sink.fd, "root", "--error-log", "-", "--access-log", "off")
    try:
        target = "/" + "b" * 800
        for _ in range(MANY // 20):
            with Client(port) as client:
                client.send(request(target) * 20)
                for _ in range(20):
                    assert client.reply().status == 404
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(END_S) == 0
    finally:
        popen.kill()
        popen.wait()
        sink.close()


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("error_log", ["-", "errors.txt"])
def test_server_starts_and_drains_without_standard_error(
    root: Path, kind: str, error_log: str, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    (port,) = free_ports(1)
    popen = start(root, port, kind, None, "root", "--error-log", error_log, "--access-log", "access.txt")
    try:
        with Client(port) as client:
            client.send(b"GET /a.txt HTTP/1.1\r\n")
            popen.send_signal(signal.SIGINT)
            wait_until(lambda: not answers(port))
            client.send(b"Host: a\r\n\r\n")
            assert client.reply().body == b"a file"
        assert popen.wait(END_S) == 0
        lines = (root / "access.txt").read_text().splitlines()
        assert lines
        assert all('"GET /a.txt HTTP/1.1"' in line for line in lines)  # and nothing that was for the terminal
    finally:
        popen.kill()
        popen.wait()


HELD = """
import sys, time
from fastws.operation import cli, process, server
process.END_S = 0.5
server.Server.stop = lambda *_, **__: time.sleep(1000)
sys.exit(cli.main())
"""


def test_second_signal_ends_a_process_that_something_holds_up(
    root: Path, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    (port,) = free_ports(1)
    words = [sys.executable, "-c", HELD, "root", "--port", str(port)]
    popen = subprocess.Popen(words, cwd=root, env=environment("pure", root / "state"), stderr=subprocess.PIPE)
    try:
        assert popen.stderr
        assert b"http://" in popen.stderr.readline() + popen.stderr.readline()
        popen.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            popen.wait(1)  # it is held up
        popen.send_signal(signal.SIGTERM)
        assert popen.wait(END_S) == 128 + signal.SIGTERM
    finally:
        popen.kill()
        popen.wait()
