"""The service manager's side of a start: listening sockets handed over, and readiness told back.

sd_listen_fds(3) and sd_notify(3); whoever speaks these protocols is a service manager here.
"""

from __future__ import annotations

import os
import socket

from .. import portable
from ..config.endpoints import is_socket_activated
from ..http.errors import ListenError

FIRST_FD = 3  # SD_LISTEN_FDS_START

NOTIFY_S = 1.0
"""How long a manager that reads nothing can hold up a start, a reload or an end."""


def activated_listeners() -> list[socket.socket]:
    """Return the listening sockets that were handed over, non-blocking, in their order.

    Raises ``ListenError`` for a descriptor that is none.
    """
    if not is_socket_activated():
        return []
    count = os.environ["LISTEN_FDS"]
    if not (count.isascii() and count.isdigit()):
        raise ListenError(f"LISTEN_FDS is {count!r}; the number of sockets handed over is needed")
    return [_activated(fd) for fd in range(FIRST_FD, FIRST_FD + int(count))]


def _activated(fd: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=fd)
        accepts = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"descriptor {fd} of LISTEN_FDS is not a socket: {error.strerror}") from None
    if not accepts or listener.type != socket.SOCK_STREAM:
        raise ListenError(f"descriptor {fd} of LISTEN_FDS is not a listening stream socket")
    os.set_inheritable(fd, False)
    listener.setblocking(False)
    if listener.family != portable.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def watchdog_interval_s() -> float | None:
    """Return how often the manager wants a sign of life, None if it does not: sd_watchdog_enabled(3).

    Half of the time after which it would end the server.
    """
    text = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        return None
    return int(text) / 2e6


def notify(state: str) -> None:
    """Tell the service manager, if there is one, a state such as ``READY=1``. Never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if portable.AF_UNIX is None or not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract name
    try:
        with socket.socket(portable.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(NOTIFY_S)
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError:
        pass  # the manager is gone, or never was; serving goes on
