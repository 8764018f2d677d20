"""Connections that are read through a transport: what both reactors do about them, with the GIL."""

from __future__ import annotations

from .seam import CLEAR, DONE, READ, RESET, ClearError, RuleBrokenError, Transport


class Transported:
    """The transports of one reactor's connections, by descriptor.

    ``held_back`` are the descriptors of those that may have bytes which no readiness of the socket announces.
    """

    def __init__(self) -> None:
        self._transports: dict[int, Transport] = {}
        self.held_back: set[int] = set()

    def __contains__(self, fd: int) -> bool:
        return fd in self._transports

    def add(self, fd: int, transport: Transport) -> None:
        """Read the connection ``fd`` through ``transport`` from now on."""
        self._transports[fd] = transport

    def remove(self, fd: int) -> None:
        """Forget the connection; one without a transport is none of this."""
        self._transports.pop(fd, None)
        self.held_back.discard(fd)

    def clear(self) -> None:
        """Forget all connections."""
        self._transports.clear()
        self.held_back.clear()

    def waits(self, fd: int) -> bool:
        """Send what the transport of ``fd`` has taken, and the socket has not; tell whether some of it is left."""
        try:
            self._transports[fd].send((), False)
        except BlockingIOError:
            return True
        except OSError:
            return False  # the next read says the same
        return False

    def read(self, fd: int, most: int) -> tuple[int, bytes | None] | None:
        """Read once; return (kind, data) as in an event, None if no plain bytes are there yet."""
        transport = self._transports[fd]
        self.held_back.discard(fd)
        try:
            data = transport.receive(most)
        except BlockingIOError:
            return None
        except RuleBrokenError:
            return DONE, b""
        except ClearError:
            return CLEAR, None
        except OSError:
            return RESET, None
        if (
            data and transport.holds_back and self._transports.get(fd) is transport
        ):  # reading may have ended it
            self.held_back.add(fd)
        return READ, data
