"""WSGI applications that tests run by their names, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import wsgiref.validate
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


def probe(environ: Environ, start: Start) -> Iterable[bytes]:
    """Do what the first segment of the path says; the query is its argument."""
    deed = environ["PATH_INFO"].split("/")[1] or "pid"
    return DEEDS[deed](environ, start, environ["QUERY_STRING"])


def tell(start: Start, text: str) -> list[bytes]:
    start("200 OK", PLAIN)
    return [text.encode()]


def tell_environ(environ: Environ, start: Start, argument: str) -> list[bytes]:
    texts = {name: value for name, value in environ.items() if isinstance(value, str | bool)}
    body = environ["wsgi.input"].read(-1).decode("latin-1")
    return tell(start, json.dumps(texts | {"body": body, "pid": os.getpid()}))


def tell_pid(environ: Environ, start: Start, argument: str) -> list[bytes]:
    return tell(start, str(os.getpid()))


def count_body(environ: Environ, start: Start, argument: str) -> list[bytes]:
    return tell(start, str(len(environ["wsgi.input"].read(-1))))


def kill(environ: Environ, start: Start, argument: str) -> list[bytes]:
    os.kill(os.getpid(), int(argument))
    time.sleep(60)
    return []


def leave(environ: Environ, start: Start, argument: str) -> list[bytes]:
    os._exit(int(argument))


def leave_by_exception(environ: Environ, start: Start, argument: str) -> list[bytes]:
    sys.exit(int(argument))


def crash(environ: Environ, start: Start, argument: str) -> list[bytes]:
    import ctypes

    ctypes.string_at(0)
    return []


def hang_in_this_function(environ: Environ, start: Start, argument: str) -> list[bytes]:
    while True:
        time.sleep(60)


def wait_for_file(environ: Environ, start: Start, argument: str) -> list[bytes]:
    """Say that it waits, by a file with a dot behind its name, and answer when the file itself is there."""
    Path(f"{argument}.{os.getpid()}").touch()
    deadline = time.monotonic() + 60
    while not os.path.exists(argument) and time.monotonic() < deadline:
        time.sleep(0.01)
    return tell(start, "at last")


def fail(environ: Environ, start: Start, argument: str) -> list[bytes]:
    environ["wsgi.errors"].write("about to fail\n")
    raise ValueError("the reason")


def stream(environ: Environ, start: Start, argument: str) -> Iterator[bytes]:
    """Yield pieces, the second when the file ``argument`` is there."""
    start("200 OK", [("Content-Type", "text/event-stream")])
    yield b"data: 1\n\n"
    while argument and not os.path.exists(argument):
        time.sleep(0.01)
    yield b"data: 2\n\n"


def stream_for_ever(environ: Environ, start: Start, argument: str) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    try:
        while True:
            yield b"x" * 65536
    finally:
        Path(argument).touch()


class Closing:
    """An endless answer that notes each call of ``close`` in a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    def close(self) -> None:
        with open(self._path, "a") as file:
            file.write("closed\n")


def close_counted(environ: Environ, start: Start, argument: str) -> Iterable[bytes]:
    start("200 OK", PLAIN)
    return Closing(argument)


def large(environ: Environ, start: Start, argument: str) -> list[bytes]:
    start("200 OK", PLAIN)
    return [b"x" * int(argument)]


def break_off(environ: Environ, start: Start, argument: str) -> Iterator[bytes]:
    start("200 OK", PLAIN)
    yield b"begun"
    if argument:
        os.kill(os.getpid(), int(argument))
        time.sleep(60)
    raise ValueError("in the middle")


def send_file(environ: Environ, start: Start, argument: str) -> Iterable[bytes]:
    file = open(argument, "rb")  # noqa: SIM115
    file.read(1)
    start("200 OK", PLAIN)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return wrapped


def fork_and_die(environ: Environ, start: Start, argument: str) -> list[bytes]:
    """Leave a child behind that holds all descriptors, and die."""
    if os.fork() == 0:
        Path(argument).write_text(str(os.getpid()))
        time.sleep(60)
        os._exit(0)
    while not os.path.exists(argument):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def take_signals(environ: Environ, start: Start, argument: str) -> list[bytes]:
    """Get what a service manager sends to all."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(os.getpid(), number)
    return tell(start, "alive")


def fork_and_return(environ: Environ, start: Start, argument: str) -> list[bytes]:
    """Leave a child that answers too."""
    pid = os.fork()
    if pid == 0:
        return tell(start, "the child")
    Path(argument).write_text(str(pid))
    return tell(start, "the parent")


def fork_and_end(environ: Environ, start: Start, argument: str) -> list[bytes]:
    """End children by signals, at once and when they are at rest; tell how each has ended."""
    said = []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        for rests_s in (0.0, 0.2):
            pid = os.fork()
            if pid == 0:
                time.sleep(20)
                os._exit(0)
            time.sleep(rests_s)
            os.kill(pid, number)
            said.append(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    return tell(start, " ".join(said))


def run_out_of_memory(environ: Environ, start: Start, argument: str) -> list[bytes]:
    """Ask for more than there may be."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + (32 << 20), before[1]))
    try:
        return tell(start, str(len(bytearray(256 << 20))))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def spawn_program(environ: Environ, start: Start, argument: str) -> list[bytes]:
    """Tell what signals do in a program that the application starts."""
    import subprocess

    program = "import signal; print([signal.getsignal(n) == signal.SIG_DFL for n in (15, 1, 10, 17)])"
    command = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        program,
    ]  # without a handler of coverage's
    return tell(start, subprocess.run(command, capture_output=True, text=True).stdout)


KEPT: list[bytes] = []


def grow(environ: Environ, start: Start, argument: str) -> list[bytes]:
    KEPT.append(os.urandom(int(argument)))
    return tell_pid(environ, start, argument)


def status(environ: Environ, start: Start, argument: str) -> list[bytes]:
    start(argument.replace("%20", " "), [])
    return [b"a body"]


DEEDS: dict[str, Callable[[Environ, Start, str], Iterable[bytes]]] = {
    "environ": tell_environ,
    "pid": tell_pid,
    "count": count_body,
    "kill": kill,
    "leave": leave,
    "exit": leave_by_exception,
    "crash": crash,
    "hang": hang_in_this_function,
    "wait": wait_for_file,
    "fail": fail,
    "stream": stream,
    "for-ever": stream_for_ever,
    "closing": close_counted,
    "large": large,
    "break": break_off,
    "file": send_file,
    "fork": fork_and_die,
    "signals": take_signals,
    "fork-return": fork_and_return,
    "fork-end": fork_and_end,
    "memory": run_out_of_memory,
    "program": spawn_program,
    "grow": grow,
    "status": status,
}

validated = wsgiref.validate.validator(probe)
