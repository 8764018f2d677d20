"""Bind and listen."""

from __future__ import annotations

import errno
import os
import socket

from .errors import ListenError

BACKLOG = 4096  # what Linux cuts to net.core.somaxconn, whose default is this

_REASONS = {
    errno.EADDRINUSE: "the port is in use by another program",
    errno.EADDRNOTAVAIL: "this machine does not have the address",
    errno.EACCES: "binding to it is not permitted",
}


def listen_tcp(host: str, port: int) -> socket.socket:
    """Return a non-blocking socket that listens on ``host`` (IPv4 or IPv6) and ``port`` (0: a free one).

    Raises ``ListenError``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it: an answer never waits for the acknowledgement of the one before.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        shown = f"[{host}]" if ":" in host else host
        reason = _REASONS.get(error.errno or 0, error.strerror)
        raise ListenError(f"cannot listen on {shown}:{port}: {reason}") from None
    return listener


def listen_unix(path: str) -> socket.socket:
    """Return a non-blocking socket that listens on the Unix-domain socket ``path``.

    A socket file that nobody listens on any more is replaced. Raises ``ListenError``.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            os.unlink(path)
        listener.bind(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = _REASONS.get(error.errno or 0, str(error.strerror)).replace("port", "path")
        raise ListenError(f"cannot listen on unix:{path}: {reason}") from None
    return listener


def _is_stale(path: str) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    finally:
        probe.close()
    return False


def address_of(listener: socket.socket) -> str:
    """Return where ``listener`` listens, as in a URL: ``127.0.0.1:8080``, ``[::1]:8080``, ``unix:/path``."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
