"""What a process that serves and the one that is to take its place say to each other: lines of JSON on a socket.

The old one begins with what the new one inherits (``ESTATE``). The new one says ``FAILED`` or ``READY``. To
that the old one answers ``GO``, and the new one says ``DONE`` when it has taken over.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

ESTATE, READY, FAILED, GO, DONE = "estate", "ready", "failed", "go", "done"


class Channel:
    """One end. Not for several threads at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def send(self, kind: str, value: Any = None) -> None:
        """Say ``kind``, with a value that JSON has. Does nothing where the other end is gone."""
        import json  # an upgrade alone needs it

        with suppress(OSError):
            self.sock.sendall(json.dumps([kind, value]).encode() + b"\n")

    def receive(self) -> tuple[str, Any]:
        """Wait for what the other end says next; ("", None) where it is gone. Raises ``TimeoutError``."""
        import json

        while b"\n" not in self._buffer:
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            if not data:
                return "", None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        kind, value = json.loads(line)
        return kind, value

    def close(self) -> None:
        """Say nothing more."""
        self.sock.close()
