"""Logs that are pipes, FIFOs, sockets and terminals: nobody waits for them; what they do not take is counted."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import socket
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rawhttp import wait_until

from fastws.record import stream
from fastws.record.logfile import ErrorLog, LogFile
from fastws.record.stream import FINISH_S, WAITING_BYTES, may_stop

LINE = b"x" * 99 + b"\n"
MANY = 2 * WAITING_BYTES // len(LINE)


@contextlib.contextmanager
def standard_error(fd: int) -> Iterator[None]:
    """Have ``fd`` in place of standard error, -1: none at all."""
    kept = os.dup(2)
    if fd < 0:
        os.close(2)
    else:
        os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


KINDS = ["pipe", "socket", "terminal", "fifo"]


@contextlib.contextmanager
def unread(kind: str, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The path of a log that is not read, and the descriptor that would read it."""
    if kind == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        yield str(path), reader
        os.close(reader)
        return
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "socket":
        reader, writer = (sock.detach() for sock in socket.socketpair())
    else:
        reader, writer = pty.openpty()
        termios.tcflow(writer, termios.TCOOFF)  # what Ctrl-S does
    with standard_error(writer):
        yield "-", reader
    if kind == "terminal":
        termios.tcflow(writer, termios.TCOON)
    os.close(writer)
    os.close(reader)


def read_all(reader: int, taken: bytearray) -> None:
    """Read until the end, however that is told."""
    while True:
        try:
            data = os.read(reader, 65536)
        except OSError:
            return
        if not data:
            return
        taken += data


@pytest.mark.parametrize("kind", KINDS)
def test_log_that_is_not_read_keeps_nobody_waiting_and_the_loss_is_counted(kind: str, tmp_path: Path) -> None:
    with unread(kind, tmp_path) as (path, _):
        said: list[str] = []
        log = LogFile(path, said.append)
        if kind != "terminal":  # which takes nothing: what the kernel takes is taken before anything is lost
            log.write(LINE * (WAITING_BYTES // 2 // len(LINE)))
            assert log._stream is not None
            wait_until(lambda: not log._stream._is_ready())  # type: ignore[union-attr]
        for number in range(MANY):
            (log.put if number % 2 else log.write)(LINE)
            log.flush()
        assert re.fullmatch(r"lines for .* are being lost: nothing reads it, or too slowly", said[0])
        assert len(said) == 1
        assert 0 < log.lost < MANY
        log.close()
        assert said[-1] == f"{log.lost} lines for {path} were lost"


@pytest.mark.parametrize("kind", ["pipe", "socket", "fifo"])
def test_what_waited_is_read_later_whole_and_in_order(kind: str, tmp_path: Path) -> None:
    with unread(kind, tmp_path) as (path, reader):
        log = LogFile(path, [].append)
        count = WAITING_BYTES // 2 // 100
        for number in range(count):
            log.write(b"%098d.\n" % number)
        taken = bytearray()
        reading = threading.Thread(target=read_all, args=(reader, taken), daemon=True)
        reading.start()
        wait_until(lambda: taken.count(b"\n") == count)
        assert taken.splitlines() == [b"%098d." % number for number in range(count)]
        assert log.lost == 0
        log.close()


def test_terminal_that_goes_on_gets_what_waited_and_the_loss_is_said_to_be_over() -> None:
    said: list[str] = []
    reader, writer = pty.openpty()
    termios.tcflow(writer, termios.TCOOFF)
    with standard_error(writer):
        log = LogFile("-", said.append)
        for _ in range(MANY):
            log.write(LINE)
        taken = bytearray()
        threading.Thread(target=read_all, args=(reader, taken), daemon=True).start()
        assert not taken
        termios.tcflow(writer, termios.TCOON)
        wait_until(lambda: taken.count(b"\n") >= MANY - log.lost)
        wait_until(lambda: len(said) == 2)
        assert said[1] == f"- takes lines again; {log.lost} were lost"
        log.close()
    os.close(writer)


def test_fifo_whose_reader_has_gone_is_written_again_for_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    log = LogFile(str(path), [].append)  # which waits for no reader
    log.write(b"before any reader\n")
    with open(path, "rb", buffering=0) as reader:
        assert reader.readline() == b"before any reader\n"
    log.write(b"between two readers\n")
    log.reopen(str(path))
    log.write(b"after a rotation\n")
    with open(path, "rb", buffering=0) as reader:
        assert reader.readline() == b"between two readers\n"
        assert reader.readline() == b"after a rotation\n"
    assert log.lost == 0
    log.close()


@pytest.mark.parametrize("kind", KINDS)
def test_many_rotations_of_a_log_that_is_not_read_leave_one_thread_and_one_descriptor(
    kind: str, tmp_path: Path
) -> None:
    with unread(kind, tmp_path) as (path, _):
        log = LogFile(path, [].append)
        for _ in range(MANY):
            log.write(LINE)
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            log.reopen(path)
            log.write(LINE)
        assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)
        log.close()


def test_change_from_an_unread_fifo_to_a_file_is_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    log = LogFile(str(tmp_path / "fifo"), [].append)
    for _ in range(MANY):
        log.write(LINE)
    log.reopen(str(tmp_path / "file"))
    log.write(b"in the file\n")
    assert (tmp_path / "file").read_bytes() == b"in the file\n"
    lost = log.lost
    wait_until(lambda: log.lost > lost)  # what waited for the FIFO is given up
    assert log.lost <= MANY
    log.close()


def test_pipe_whose_reader_has_gone_loses_lines_and_says_why() -> None:
    said: list[str] = []
    reader, writer = os.pipe()
    with standard_error(writer):
        log = LogFile("-", said.append)
        os.close(reader)
        log.write(LINE * 3)
        wait_until(lambda: log.lost == 3)
        assert said == ["lines for - are being lost: Broken pipe"]
        log.close()
    os.close(writer)
    assert said[1:] == ["3 lines for - were lost"]


def test_closed_standard_error_is_a_log_that_takes_everything() -> None:
    with standard_error(-1):
        log = ErrorLog("-", "debug")
        for _ in range(10):
            log.logger.error("lost to the world")
        log.close()


def test_error_log_that_loses_lines_says_so_on_standard_error_that_is_not_read_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "FINISH_S", 0.1)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, LINE):
            pass
    os.set_blocking(writer, True)
    with standard_error(writer):
        log = ErrorLog("/dev/full", "debug")
        for _ in range(10):
            log.logger.error("there is no room")
        log.close()
    os.close(writer)
    os.close(reader)


def test_file_and_devices_that_take_everything_are_written_at_once(tmp_path: Path) -> None:
    for path in (tmp_path / "file", "/dev/null"):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        assert not may_stop(fd)
        os.close(fd)
    for end in os.pipe():
        assert may_stop(end)
        os.close(end)


def test_the_end_waits_for_a_reader_that_is_slow_and_not_for_ever() -> None:
    reader, writer = os.pipe()
    with standard_error(writer):
        log = LogFile("-", [].append)
        log.write(LINE * 2000)
        taken = bytearray()
        threading.Timer(FINISH_S / 4, read_all, (reader, taken)).start()
        log.close()
    os.close(writer)
    wait_until(lambda: len(taken) == 2000 * len(LINE))
    assert log.lost == 0


def test_lines_longer_than_what_a_pipe_takes_at_once_are_whole() -> None:
    reader, writer = os.pipe()
    lines = b"".join(b"%d%s\n" % (number, b"y" * (number * 700)) for number in range(40))
    taken = bytearray()
    with standard_error(writer):
        log = LogFile("-", [].append)
        log.write(lines)
        threading.Thread(target=read_all, args=(reader, taken), daemon=True).start()
        log.close()
    os.close(writer)
    wait_until(lambda: taken == lines)


def test_stream_that_is_never_used_has_no_thread() -> None:
    reader, writer = os.pipe()
    before = threading.active_count()
    with standard_error(writer):
        log = LogFile("-", [].append)
        assert threading.active_count() == before
        started = time.monotonic()
        log.close()
        assert time.monotonic() - started < FINISH_S
    os.close(writer)
    os.close(reader)
