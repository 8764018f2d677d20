"""A server on a terminal: requests shown as they come, and what happens when the terminal is closed or stopped."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from launch import END_S, Terminal, answers
from rawhttp import put, wait_until

from fastws.operation.terminal import MOST_LINES, RequestLines, short_line, wants_colour

LINE = b'127.0.0.1 - - [29/Nov/2026:09:37:46 +0000] "GET /a.txt HTTP/1.1" 200 9 "-" "curl/8 \\"x\\""\n'
Start = Callable[..., tuple[Terminal, int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server of ``www`` on a terminal, and gives its port."""
    put(tmp_path / "www", {"a.txt": b"text of a"})
    with ExitStack() as stack:

        def on_terminal(*arguments: str, **variables: Any) -> tuple[Terminal, int]:
            terminal = Terminal(tmp_path, "www", "--port", "0", *arguments, **variables)
            stack.callback(terminal.close)
            return terminal, int(terminal.read_until(r"http://127\.0\.0\.1:([0-9]+)/.*\n")[1])

        yield on_terminal


def ask(port: int, target: str = "/a.txt", count: int = 1) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=END_S) as client:
        answer = client.makefile("rb")
        for number in range(count):
            last = b"Connection: close\r\n" if number == count - 1 else b""
            client.sendall(b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (target.encode(), last))
            if last:
                answer.read()
            else:
                size = 0
                while (field := answer.readline()) != b"\r\n":
                    if field.lower().startswith(b"content-length:"):
                        size = int(field.split()[1])
                answer.read(size)


@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_requests_are_shown_and_logged(start: Start, tmp_path: Path, kind: str) -> None:
    terminal, port = start(side=kind, TERM="xterm", NO_COLOR="")
    ask(port)
    terminal.read_until("[0-9:]{8} \x1b\\[32m200\x1b\\[0m GET /a.txt 9 B\r\n")
    ask(port, "/missing")
    terminal.read_until("\x1b\\[33m404\x1b\\[0m GET /missing ")
    terminal.popen.send_signal(signal.SIGTERM)
    assert terminal.popen.wait(END_S) == 0
    (log,) = (tmp_path / "state").rglob("log_webserver.txt")
    assert log.read_text().count('"GET ') == 2


@pytest.mark.parametrize("variables", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_is_left_out_where_it_is_not_wanted(start: Start, variables: dict[str, str]) -> None:
    terminal, port = start(**variables)
    ask(port)
    terminal.read_until("[0-9] 200 GET /a.txt 9 B")
    assert "\x1b" not in terminal.text


@pytest.mark.parametrize("arguments", [["--quiet"], ["-q"], ["--config", "ws.conf"]])
def test_nothing_is_shown_where_it_is_not_wanted(start: Start, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "ws.conf").write_text("ListenPort 8080\nDocumentRoot www\nAccessLog seen.txt\n")
    terminal, port = start(*arguments)
    ask(port)
    terminal.popen.send_signal(signal.SIGTERM)
    assert terminal.popen.wait(END_S) == 0
    assert "GET" not in terminal.rest()


def test_requests_are_shown_where_no_log_can_be_written(start: Start) -> None:
    terminal, port = start("--access-log", "off")
    ask(port)
    terminal.read_until("200.* GET /a.txt 9 B")
    assert "access log: off" in terminal.text


def test_stopped_terminal_holds_up_nobody(start: Start) -> None:
    terminal, port = start()
    # Nobody reads the terminal from here on: its buffer fills up, as it does after Ctrl-S.
    for _ in range(20):
        ask(port, "/" + "x" * 4000, 5)
    ask(port)
    terminal.popen.send_signal(signal.SIGTERM)
    assert terminal.popen.wait(END_S) == 0


def test_closing_the_terminal_ends_the_server(start: Start) -> None:
    terminal, port = start()
    terminal.hang_up()
    assert terminal.popen.wait(END_S) == 0
    assert not answers(port)


def test_sighup_on_a_terminal_that_is_open_reloads(start: Start, tmp_path: Path) -> None:
    terminal, _ = start("--error-log", "errors.txt")
    terminal.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in (tmp_path / "errors.txt").read_text(), "the reload")
    assert terminal.popen.poll() is None


def test_short_line_is_what_matters() -> None:
    assert short_line(LINE.decode(), is_coloured=False) == "09:37:46 200 GET /a.txt 9 B\n"
    assert short_line("what is this", is_coloured=False) == ""
    for line in (' "GET /\\"a HTTP/1.0" 304 - "" ""', ' "-" 400 5 "-" "-"'):
        whole = "::1 - a user [29/Nov/2026:09:37:46 +0000]" + line
        assert short_line(whole, is_coloured=True).startswith("09:37:46 \x1b[3")


def test_lines_that_nobody_takes_are_counted_and_not_kept() -> None:
    reader, writer = os.pipe()
    lines = RequestLines(writer, is_coloured=False)
    count = 0
    while not lines._left_out:
        lines.show(LINE * MOST_LINES)
        count += MOST_LINES
    with os.fdopen(reader) as output:
        for _ in range(count - MOST_LINES):
            assert output.readline().endswith(" GET /a.txt 9 B\n")
        lines.show(LINE)
        assert output.readline().endswith(" GET /a.txt 9 B\n")
        assert output.readline() == f"... {MOST_LINES} more requests\n"
        lines.close()


def test_no_more_is_shown_than_can_be_read() -> None:
    reader, writer = os.pipe()
    lines = RequestLines(writer, is_coloured=False)
    lines.show(LINE * (MOST_LINES + 3))
    lines.close()
    with os.fdopen(reader) as output:
        shown = output.readlines()
    assert (len(shown), shown[-1]) == (MOST_LINES + 1, "... 3 more requests\n")


def test_variables_that_decide_on_colour() -> None:
    assert wants_colour({"TERM": "xterm"})
    assert not wants_colour({"TERM": "xterm", "NO_COLOR": "1"})
    assert not wants_colour({})
