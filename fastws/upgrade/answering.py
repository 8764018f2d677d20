"""What ``fastws upgrade`` and the server say to each other: a signal there, one datagram back.

Both have an abstract Unix-domain socket (unix(7)) that is named by the server's process number. The server's tells
that the process is one, for SIGUSR2 would end many another. The command waits at its own, and believes no process
but that one. Only Linux has these; elsewhere the error log alone says what came of it.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from contextlib import suppress

DONE, FAILED = "done", "failed"

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def _name(pid: int) -> str:
    return f"\0fastws-upgrade-{_numbering()}-{pid}"


def _sign(pid: int) -> str:
    return f"\0fastws-server-{_numbering()}-{pid}"


def _numbering() -> int:
    """Return what process numbers belong to: containers on one network may have the same (pid_namespaces(7))."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def show_sign() -> socket.socket | None:
    """Have other processes see that this one is a server, until what is returned is closed."""
    if sys.platform != "linux":
        return None
    sign = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with suppress(OSError):  # somebody else has taken the name: then a signal is needed without the command
        sign.bind(_sign(os.getpid()))
    return sign


def is_server(pid: int) -> bool:
    """Tell whether the process is a server in this network namespace; True where that cannot be known."""
    if sys.platform != "linux":
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_sign(pid))
        except OSError:
            return False
    return True


def answer(kind: str, text: str) -> None:
    """Tell the command that waits for it, if there is one, what came of an upgrade of this process."""
    if sys.platform != "linux":
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(f"{kind} {text}".encode("utf-8", "backslashreplace"), _name(os.getpid()))


def _is_alive(pid: int) -> bool:
    """Tell whether the process runs; one that has ended may wait for its parent: proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


class Waiting:
    """The command, waiting for what process ``pid`` says. Raises ``OSError`` where another one does."""

    _receiver: socket.socket

    def __init__(self, pid: int) -> None:
        if sys.platform != "linux":
            raise OSError("only Linux has abstract sockets")
        self._pid = pid
        self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._receiver.bind(_name(pid))
        except BaseException:
            self._receiver.close()
            raise

    def wait(self, timeout_s: float) -> tuple[str, str] | None:
        """Return what the process says within ``timeout_s``, a kind and a text; None where it says nothing."""
        if sys.platform != "linux":
            raise OSError("only Linux has abstract sockets")
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0 and _is_alive(self._pid):
            self._receiver.settimeout(min(left, 1.0))
            try:
                data, ancillary, _, _ = self._receiver.recvmsg(65536, socket.CMSG_SPACE(_CREDENTIALS.size))
            except TimeoutError:
                continue
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    sender = _CREDENTIALS.unpack(value[: _CREDENTIALS.size])[0]
                    if sender == self._pid:
                        said, _, text = data.decode("utf-8", "replace").partition(" ")
                        return said, text
        return None

    def close(self) -> None:
        """Wait no more."""
        self._receiver.close()
