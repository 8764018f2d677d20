"""One application process, as the server has it: what it is for, what it has to do, how to speak to it."""

from __future__ import annotations

import collections
import os
import random
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from ..application.body import Spool
from ..application.channel import Channel
from ..application.loan import Loan, Piece
from ..http.messages import Given
from ..language.named_tuple import NamedTuple
from . import wire
from .spawner import Spawner

GATHER_BYTES = 262144
"""So much is sent in one call at most, but for what is larger as it comes."""

STARTING, SERVING, RETIRING, ENDED = range(4)


class Settings(NamedTuple):
    """What the processes are to be: so many of them, with so many threads each, for the applications ``names``.

    ``waiting`` requests may wait for one; modules are looked for in ``directory`` first. ``recycle`` tells when
    one is replaced that does well: after ``requests`` and up to ``jitter`` more, at ``age`` seconds, beyond
    ``memory`` bytes. ``reload``: when a file that was imported changes. ``preload``: the spawner imports the
    modules, so that the processes share them. One that is to end has ``finish_s`` for the requests that it has.
    """

    processes: int
    threads: int
    waiting: int
    names: tuple[str, ...]
    directory: str
    preload: bool
    recycle: Mapping[str, int]
    reload: bool
    finish_s: float


class Files(NamedTuple):
    """Files that a process shares with the server: its report, and how many requests it has taken."""

    report: IO[bytes]
    taken: IO[bytes]


class Coming:
    """What has come of one answer in what was received at once: its connection is woken once for all of it."""

    __slots__ = ("head", "is_over", "pieces")

    def __init__(self) -> None:
        self.head: Given | None = None
        self.pieces: list[Piece] = []
        self.is_over = False


class Child:
    """One application process. The crew's lock is held wherever it is changed."""

    def __init__(
        self,
        number: int,
        spawner: Spawner,
        sock: socket.socket,
        files: Files,
        settings: Settings,
    ) -> None:
        self.number = number
        self.spawner = spawner
        self.sock = sock
        self.files = files
        self.settings = settings
        self.reader = wire.Reader(sock)
        self.state = STARTING
        self.channel: Channel | None = None
        """While a worker hears it; the courier does otherwise."""
        self.is_couriers = False
        """Whether no worker is to hear it any more."""
        self.pid = 0
        self.streams: dict[int, Loan] = {}
        """The loans that it has."""
        self.coming: dict[int, Coming] = {}
        self.busy: set[int] = set()
        """Of the streams: those that occupy a thread, or wait for one in the process."""
        self.ahead = 0
        """How many may wait there; their answers come one close behind another, where applications are quick."""
        self.recall_at = 0.0
        """When those that wait there are called back, for no answer has come since; 0: none wait."""
        self.sent = 0
        """How many requests it has got; the number of a stream is that of the request."""
        self.begun_at = time.monotonic()
        self.first_bytes = 0
        """Its memory when it was first looked at."""
        self.kill_at = 0.0
        """When it is killed, having been asked for its stacks; 0: it hangs not."""
        self.finish_by = 0.0
        """When it is killed although it has requests, for it is to end; 0: it is not."""
        self._unsent: collections.deque[tuple[bytes, IO[bytes] | None]] = collections.deque()  # with a file
        self.failure = ""
        """Why it does not serve."""
        self.is_expected_to_end = False
        self.is_broken = False
        """Whether it has said what no process says: nothing more of it is heard."""
        self.is_due = False
        """Whether it is to be replaced."""
        self.end = "crashed"
        """Its end as it is counted."""
        requests = settings.recycle.get("requests", 0)
        self.left = requests + random.randint(0, settings.recycle.get("jitter", 0)) if requests else 0

    @property
    def name(self) -> str:
        """What the error log calls it."""
        return f"application process {self.number} ({self.pid})"

    def is_worn(self, now: float) -> bool:
        """Tell whether it has grown too old or too large."""
        age, memory = self.settings.recycle.get("age"), self.settings.recycle.get("memory")
        if memory is not None and self.pid > 0:
            size = _memory_of(self.pid)
            self.first_bytes = self.first_bytes or size
            if size > memory >= self.first_bytes:
                return True
        return age is not None and now >= self.begun_at + age

    @property
    def is_large_by_nature(self) -> bool:
        """Whether it had outgrown its bound when it was first looked at: another would be as large."""
        return self.first_bytes > self.settings.recycle.get("memory", sys.maxsize)

    def has_room(self, body: Spool | None = None) -> bool:
        """Tell whether it may have another request now. One with this ``body`` must not wait there in vain."""
        count, threads = len(self.busy), self.settings.threads
        if self.state != SERVING or count >= threads + self.ahead:
            return False
        return count < threads or body is None or body.fileno() < 0

    @property
    def is_ahead(self) -> bool:
        """Whether requests wait in it for a thread."""
        return len(self.busy) > self.settings.threads

    def has(self, loan: Loan) -> bool:
        """Tell whether it has the application that ``loan`` is for."""
        return loan.call.mount.name in self.settings.names

    def has_begun(self, number: int) -> bool:
        """Tell whether a thread has taken the request with that number. It is not run by then: it may be now."""
        if sys.platform == "win32":
            raise NotImplementedError
        taken = os.pread(self.files.taken.fileno(), wire.COUNTER.size, 0)
        return len(taken) == wire.COUNTER.size and number <= wire.COUNTER.unpack(taken)[0]

    # What it is told

    @property
    def is_told_all(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._unsent

    def tell(self, data: bytes) -> bool:
        """Send ``data`` now, or what the socket does not take by ``tell_on``; False if that has to be called."""
        if self.state == ENDED:
            return True
        self._unsent.append((data, None))
        return len(self._unsent) > 1 or self.tell_on()

    def tell_later(self, data: bytes, file: IO[bytes] | None = None) -> None:
        """Have ``tell_on`` send ``data`` and the descriptor of ``file``, which is closed after it."""
        if self.state != ENDED:
            self._unsent.append((data, file))
        elif file is not None:
            file.close()

    def tell_on(self) -> bool:
        """Send what waits; False if something is left."""
        while self._unsent:
            data, file = self._gather()
            try:
                sent = wire.send(self.sock, data, () if file is None else (file.fileno(),))
            except BlockingIOError:
                self._unsent.appendleft((data, file))
                return False
            except OSError:  # its end will be read
                sent = len(data)
            if file is not None:
                file.close()
            if sent < len(data):
                self._unsent.appendleft((data[sent:], None))
        return True

    def _gather(self) -> tuple[bytes, IO[bytes] | None]:
        """Take what is next, and with it what else can be sent in the same call."""
        data, file = self._unsent.popleft()
        if file is not None or not self._unsent:
            return data, file
        gathered, size = [data], len(data)
        while self._unsent and self._unsent[0][1] is None and size < GATHER_BYTES:
            data, _ = self._unsent.popleft()
            gathered.append(data)
            size += len(data)
        return b"".join(gathered), None

    def close(self) -> list[Loan]:
        """It has ended: let go of the channel; return the loans that it had begun, and keep the others."""
        self.state = ENDED
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # seen by the worker that waits for it
        self.sock.close()
        for fd in self.reader.take_fds():
            os.close(fd)
        for _, file in self._unsent:
            if file is not None:
                file.close()
        self._unsent.clear()
        self.busy.clear()
        return self.take_begun()

    def take_begun(self) -> list[Loan]:
        """Return the loans that its threads have taken, or have begun to answer, and keep the others."""
        return [
            self.streams.pop(number)
            for number, loan in list(self.streams.items())
            if loan.owed is not None or self.has_begun(number)
        ]


def _memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes, 0 where the platform does not tell."""
    if sys.platform == "win32":
        return 0
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
