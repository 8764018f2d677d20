"""The pure reactor: readiness by ``selectors``, nothing replayed. Twin of ``_reactor.pyx``.

The contract of both is ``backend.Reactor``. It runs wherever Python has sockets.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from . import portable
from .http.messages import Prepared
from .replays_nothing import ReplaysNothing
from .seam import (
    ACCEPT,
    IDLE,
    INPUT,
    NOTHING,
    OUTPUT,
    PLAIN,
    READ,
    RESET,
    WRITE,
    Event,
    Filled,
    ReplaySettings,
    Transport,
)
from .transported import Transported

RECEIVE_BYTES = 65536
LOG_BYTES = 65536  # the buffer is handed over at this size; nginx: buffer=64k

_MASKS = {IDLE: selectors.EVENT_READ, INPUT: selectors.EVENT_READ, OUTPUT: selectors.EVENT_WRITE, NOTHING: 0}


def _shown(host: str) -> str:
    """Return an address without its zone; an IPv4 client of a socket that takes both kinds as an IPv4 address."""
    host = host.partition("%")[0]
    return host.removeprefix("::ffff:") if "." in host else host  # RFC 4291 section 2.5.5.2


class _Watched:
    """One connection as the reactor sees it."""

    __slots__ = ("active", "fd", "interest", "owner", "waits")

    def __init__(self, fd: int, owner: object) -> None:
        self.fd = fd
        self.owner = owner
        self.interest = IDLE
        self.waits = False  # for room, to send what its transport keeps
        self.active = time.monotonic()


def _mask(watched: _Watched) -> int:
    return selectors.EVENT_WRITE if watched.waits else _MASKS[watched.interest]


class Reactor(ReplaysNothing):
    """See ``backend.Reactor``."""

    side = "pure"

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watched: dict[int, _Watched] = {}
        self._transported = Transported()
        self._logs = False
        self._lines: list[bytes] = []
        self._line_bytes = 0
        # A socket pair rather than a pipe: select() of some platforms knows sockets only.
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ, None)

    @staticmethod
    def share_one_heap() -> None:
        """See ``backend.ReactorFactory.share_one_heap``. Nothing is done: this side has other costs than these."""

    @property
    def log_is_full(self) -> bool:
        """See ``backend.Reactor.log_is_full``."""
        return self._line_bytes >= LOG_BYTES

    def configure(
        self, settings: ReplaySettings, fill: Callable[[Reactor, str, int], Filled | Prepared]
    ) -> None:
        """See ``backend.Reactor.configure``."""
        self._logs = settings.log_format != "off"

    def add_listener(self, fd: int, owner: object, manner: int = PLAIN) -> None:
        """See ``backend.Reactor.add_listener``."""
        self._selector.register(fd, selectors.EVENT_READ, (owner,))

    def remove_listener(self, fd: int) -> None:
        """See ``backend.Reactor.remove_listener``."""
        self._selector.unregister(fd)

    def accept(self, listener: socket.socket, limit: int) -> Sequence[tuple[int, str]]:
        """See ``backend.Reactor.accept``."""
        accepted: list[tuple[int, str]] = []
        while len(accepted) < limit:
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except ConnectionError:
                continue  # the client was gone before it was accepted
            except OSError:
                if not accepted:
                    raise
                break
            sock.setblocking(False)
            peer = _shown(address[0]) if isinstance(address, tuple) else "unix:"
            accepted.append((sock.detach(), peer))
        return accepted

    def add(self, fd: int, owner: object, peer: str, transport: Transport | None = None) -> None:
        """See ``backend.Reactor.add``."""
        most = portable.WATCHED_MOST
        if most is not None and len(self._watched) >= most:
            raise OSError(errno.EMFILE, f"this platform watches no more than {most} connections at once")
        watched = _Watched(fd, owner)
        self._selector.register(fd, selectors.EVENT_READ, watched)
        self._watched[fd] = watched
        if transport is not None:
            self._transported.add(fd, transport)

    def remove(self, fd: int) -> None:
        """See ``backend.Reactor.remove``."""
        del self._watched[fd]
        self._transported.remove(fd)
        with suppress(
            KeyError
        ):  # with no interest, or after a change of interest that failed, it is not there
            self._selector.unregister(fd)

    def set_interest(self, fd: int, interest: int) -> None:
        """See ``backend.Reactor.set_interest``."""
        watched = self._watched[fd]
        before, watched.interest = _mask(watched), interest
        self._update(watched, before)

    def _update(self, watched: _Watched, before: int) -> None:
        """Watch for what is wanted by now, which was ``before`` until now."""
        fd, wanted = watched.fd, _mask(watched)
        if before == wanted:
            return
        if not wanted:  # a selector cannot wait for nothing
            self._selector.unregister(fd)
        elif not before:
            self._selector.register(fd, wanted, watched)
        else:
            self._selector.modify(fd, wanted, watched)

    def _look_at_kept(self, watched: _Watched) -> None:
        """Send what the transport keeps, and wait for room if it goes on keeping some."""
        if self._watched.get(watched.fd) is not watched or watched.fd not in self._transported:
            return  # reading has removed it
        before = _mask(watched)
        watched.waits = self._transported.waits(watched.fd)
        self._update(watched, before)

    def transfer(self, fd: int, file: int, offset: int, length: int) -> None:
        """See ``backend.Reactor.transfer``. Python sends all of it."""
        self.set_interest(fd, OUTPUT)

    def last_activity(self, fd: int) -> float:
        """See ``backend.Reactor.last_activity``."""
        return self._watched[fd].active

    def wait(self, deadline: float, room: int = 0) -> Sequence[Event]:
        """See ``backend.Reactor.wait``."""
        held_back = {fd for fd in self._transported.held_back if self._watched[fd].interest in (IDLE, INPUT)}
        now = time.monotonic()
        ready = self._selector.select(0.0 if held_back else max(0.0, deadline - now))
        now = time.monotonic()
        events: list[Event] = []
        for fd in held_back:
            self._read(self._watched[fd], now, events)
        for key, _ in ready:
            watched = key.data
            if isinstance(watched, _Watched):
                if watched.interest == OUTPUT:
                    events.append((watched.owner, WRITE, None))
                elif watched.waits:
                    self._look_at_kept(watched)
                elif watched.fd not in held_back:
                    self._read(watched, now, events)
            elif watched is None:
                self._drain_wakes()
            else:
                events.append((watched[0], ACCEPT, None))
        return events

    def _read(self, watched: _Watched, now: float, events: list[Event]) -> None:
        if watched.fd in self._transported:
            came = self._transported.read(watched.fd, RECEIVE_BYTES)
            self._look_at_kept(watched)
            if came:
                watched.active = now
                events.append((watched.owner, *came))
            return
        watched.active = now
        try:
            events.append((watched.owner, READ, portable.receive(watched.fd, RECEIVE_BYTES)))
        except BlockingIOError:
            pass  # readiness was a false alarm
        except OSError:
            events.append((watched.owner, RESET, None))

    def _drain_wakes(self) -> None:
        try:
            while self._wake_receiver.recv(4096):
                pass
        except BlockingIOError:
            pass

    def wake(self) -> None:
        """See ``backend.Reactor.wake``."""
        try:
            self._wake_sender.send(b"\0")
        except BlockingIOError:
            pass  # it is full of wakes that nobody has seen yet
        except OSError:
            pass  # closed: nobody waits any more

    def log(self, line: bytes) -> None:
        """See ``backend.Reactor.log``."""
        if self._logs:
            self._lines.append(line)
            self._line_bytes += len(line)

    def take_log(self) -> bytes:
        """See ``backend.Reactor.take_log``."""
        lines, self._lines, self._line_bytes = self._lines, [], 0
        return b"".join(lines)

    def close(self) -> None:
        """See ``backend.Reactor.close``."""
        self._selector.close()
        self._transported.clear()
        self._wake_receiver.close()
        self._wake_sender.close()
