"""The server as a process of its own: for signals, exit statuses, terminals and other users."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
END_S = 60.0
"""No server takes that long to end."""

GRACE_S = 3.0
"""How long a connection may be idle while a patient server stops: longer than a busy machine keeps a client."""

PATIENT = f"""
import sys
from fastws.operation import cli, server
server.GRACE_S = {GRACE_S}
sys.exit(cli.main())
"""
"""The server as ``python -m fastws`` runs it, but patient."""


def _take_terminal() -> None:
    """Be the program that a shell starts: at its terminal, and with SIGHUP, which nohup(1) may have taken away."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Process:
    """A running ``python -m fastws``; ``banner`` is the line that names the URL."""

    def __init__(self, popen: subprocess.Popen[str], banner: str) -> None:
        self.popen = popen
        self.banner = banner
        found = re.search(r"https?://[^ ]*?:([0-9]+)/", banner)
        self.port = int(found[1]) if found else 0

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Return the exit status once the process has ended."""
        return self.popen.wait(END_S)

    def output(self) -> str:
        """Return what else was printed, once the process has ended."""
        assert self.popen.stderr is not None
        return self.popen.stderr.read()


def environment(side: str, state: Path, *, is_measured: bool = True) -> dict[str, str]:
    """The environment of a process on ``side`` that finds this package and leaves the user's files alone.

    Unless ``is_measured``, coverage.py does not measure it, which handles SIGTERM and writes a file at the end.
    """
    others = ("LISTEN_", "FASTWS_") if is_measured else ("LISTEN_", "FASTWS_", "COVERAGE_PROCESS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    own = {"PYTHONPATH": str(REPOSITORY), "XDG_STATE_HOME": str(state)}
    return kept | own | {"FASTWS_NO_EXTENSIONS": "1" if side == "pure" else "0"}


def command(*arguments: str, patient: bool = False) -> list[str]:
    """``python -m fastws`` with ``arguments``."""
    return [sys.executable, *(("-c", PATIENT) if patient else ("-m", "fastws")), *arguments]


def answers(port: int) -> bool:
    """Tell whether somebody listens on ``port`` of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Terminal:
    """A pseudo-terminal with a process on it, whose controlling terminal it is."""

    def __init__(self, directory: Path, *arguments: str, side: str = "pure", **variables: str) -> None:
        self.master, slave = pty.openpty()
        self.popen = subprocess.Popen(
            command(*arguments),
            cwd=directory,
            env=environment(side, directory / "state") | variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self.text = ""

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read what is shown until ``pattern`` is found in it."""
        while (found := re.search(pattern, self.text)) is None:
            assert select.select([self.master], [], [], END_S)[0], self.text
            self.text += os.read(self.master, 65536).decode()
        return found

    def rest(self) -> str:
        """Return all that was shown, once the process has ended."""
        with suppress(OSError):  # EIO is the end of it
            while data := os.read(self.master, 65536):
                self.text += data.decode()
        return self.text

    def hang_up(self) -> None:
        """Close the terminal, as a window that is closed."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        """End what is left."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(END_S)
        if self.master >= 0:
            os.close(self.master)


@contextmanager
def running(
    directory: Path,
    *arguments: str,
    side: str = "pure",
    prefix: Sequence[str] = (),
    patient: bool = False,
    **variables: str,
) -> Iterator[Process]:
    """Run the server in ``directory`` on a free port until the block ends; ``variables`` join its environment."""
    popen = subprocess.Popen(
        [*prefix, *command("--port", "0", *arguments, patient=patient)],
        cwd=directory,
        env=environment(side, directory / "state") | variables,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert popen.stderr is not None
    try:
        banner = next((line for line in popen.stderr if "://" in line or "unix:" in line), "")
        yield Process(popen, banner)
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait(END_S)
        popen.stderr.close()
