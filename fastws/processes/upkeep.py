"""How many application processes there are: started, replaced by others, given up, and taken leave of."""

from __future__ import annotations

import functools
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

from ..application.channel import Channel
from ..application.loan import Loan
from ..http.errors import HTTPError
from . import wire
from .child import ENDED, RETIRING, SERVING, STARTING, Child, Files, Settings
from .courier import Courier
from .crew import KILL, Crew
from .handing import Handing
from .hearing import AGAIN_S, ChildChannel, Hearing
from .spawner import Spawner

END_S = 2.0
"""How long a process may take to end that has closed its channel: it runs what is due at its exit."""

TICK_S = 1.0
"""How often is looked at what is due."""

REPORT_BYTES = 65536
"""The most of a report that goes into the error log."""


class Upkeep:
    """Keeps a crew as large as its settings say. The crew's lock is held, but by the courier's thread.

    See ``courier.Errand``.
    """

    first: Child | None = None
    """Of the settings that are about to be those of all."""

    spawner: Spawner | None = None
    """Of the processes to come; those before it have their own."""

    offer: Callable[[Channel], bool] | None = None
    """Give a channel to a worker, which hears the process from then on; False if there is none."""

    def __init__(self, crew: Crew, handing: Handing, hearing: Hearing) -> None:
        self._crew = crew
        self._handing = handing
        self._hearing = hearing
        self._numbers = 0  # of processes
        self._warned_of: Settings | None = None  # that their bound of memory is too low
        self.courier = Courier(crew.log, self)
        crew.wake = self.courier.wake

    # Started

    def start_spawner(self) -> Spawner:
        """Return a spawner that has not yet imported anything. Raises ``OSError``."""
        spawner = Spawner()
        self.courier.watch(spawner.control, functools.partial(self._on_spawner, spawner))
        return spawner

    def spawn(self, settings: Settings) -> Child:
        """Have the spawner start a process."""
        import tempfile  # applications in processes alone need it

        assert self.spawner is not None
        self._numbers += 1
        number = self._numbers
        with ExitStack() as opened:
            files = Files(*[opened.enter_context(tempfile.TemporaryFile(buffering=0)) for _ in Files._fields])
            files.taken.write(bytes(wire.COUNTER.size))
            ours, its = socket.socketpair()
            opened.pop_all()
        ours.setblocking(False)
        its.setblocking(True)  # whatever socket.setdefaulttimeout was told
        child = Child(number, self.spawner, ours, files, settings)
        told = {
            "number": number,
            "threads": settings.threads,
            "names": settings.names,
            "directory": settings.directory,
            "reload": settings.reload,
            "preload": settings.preload,
            "path": sys.path,
            "is_pure": self._crew.parser.side == "pure",
        }
        try:
            self.spawner.spawn(number, told, its.fileno(), *[file.fileno() for file in files])
        finally:
            its.close()
        self._crew.children[number] = child
        self.courier.watch(ours, functools.partial(self._on_child, child))
        return child

    def return_to(self, before: Spawner | None) -> None:
        """Start processes by the spawner ``before`` again, for the one after it has started none."""
        if before is not None and self.spawner is not None and self.spawner is not before:
            failed, self.spawner = self.spawner, before
            self._close_unused(failed)

    # By the courier's thread

    def is_over(self) -> bool:
        """See ``Errand.is_over``."""
        return self._crew.is_closed and not self._crew.children

    def prepare(self) -> None:
        """See ``Errand.prepare``."""
        with self._crew.lock:
            for child in self._crew.children.values():
                if child.state == ENDED:
                    continue
                self.offer_channel(child)
                on_event = functools.partial(self._on_child, child)
                is_heard = child.channel is not None
                self.courier.expect(child.sock, on_event, reads=not is_heard, room=not child.is_told_all)

    def offer_channel(self, child: Child) -> None:
        """Have a worker hear a process that serves: its answers then wake no thread besides."""
        if self.offer is None or child.state in (STARTING, ENDED) or child.channel or child.is_couriers:
            return
        try:
            channel = ChildChannel(self._crew, self._hearing, child)
        except OSError:  # no descriptor is free; the courier hears it until there is one
            return
        child.channel = channel
        if not self.offer(channel):
            child.channel = None
            os.close(channel.fd)

    def keep_time(self, now: float) -> float:
        """See ``Errand.keep_time``."""
        crew = self._crew
        with crew.lock:
            for child in crew.children.values():
                if (
                    child.finish_by
                    and now >= child.finish_by
                    and child.state == RETIRING
                    and not child.kill_at
                ):
                    crew.log.error("%s was to end and has still requests; it is killed", child.name)
                    child.kill_at = now
                if child.kill_at and now >= child.kill_at:
                    child.kill_at = now + TICK_S
                    self._kill(child)
            if not crew.is_closed and now >= crew.start_again_at:
                self._replace(now)
            due = [child.kill_at for child in crew.children.values() if child.kill_at]
            due += [
                self._handing.recall(child, now)
                for child in crew.children.values()
                if child.recall_at and child.state != ENDED
            ]
            return min([now + TICK_S, *due])

    def _kill(self, child: Child) -> None:
        """End a process by force; where it was never forked, the spawner that still imports what it is to have.

        One that imports nothing is slow at worst: it forks, and then kills.
        """
        spawner = child.spawner
        if child.pid or not child.settings.preload:
            spawner.kill(child.number, KILL)
        elif not spawner.is_gone:
            self._crew.log.error("the spawner hangs in the import for %s; it is killed", child.name)
            spawner.end()

    def _replace(self, now: float) -> None:
        """Take one step to as many processes of the present settings as there should be."""
        crew, settings = self._crew, self._crew.settings
        present = [
            each
            for each in crew.children.values()
            if each.state in (STARTING, SERVING) and each is not self.first
        ]
        for each in present:
            if each.state == SERVING and each.settings.recycle and each.is_worn(now):
                each.is_due = True
            if each.is_large_by_nature and self._warned_of is not settings:
                self._warned_of = settings
                crew.log.warning(
                    "%s has %d MiB once it serves, more than ApplicationRecycle memory: that replaces none",
                    each.name,
                    each.first_bytes >> 20,
                )
        fresh = [each for each in present if each.settings is settings and not each.is_due]
        outdated = [each for each in present if each not in fresh]
        all_serve = all(each.state == SERVING for each in fresh)
        if len(present) > settings.processes and outdated and all_serve:
            crew.retire(outdated[0])
        elif len(fresh) > settings.processes:
            crew.retire(fresh[0])
        elif not outdated:
            self._start(settings, settings.processes - len(fresh), now)
        elif len(fresh) < settings.processes and all_serve:
            self._start(settings, 1, now)

    def _start(self, settings: Settings, count: int, now: float) -> None:
        """Start ``count`` processes, and the spawner first if it is gone. What fails is tried again."""
        try:
            if self.spawner is not None and self.spawner.is_gone:
                gone, self.spawner = self.spawner, self.start_spawner()
                self._close_unused(gone)
            for _ in range(count):
                self.spawn(settings)
        except OSError as error:
            self._crew.log.error("no application process could be started: %s", error.strerror or error)
            self._crew.start_again_at = now + AGAIN_S

    def _on_spawner(self, spawner: Spawner, _: int) -> None:
        if not spawner.receive():
            self.courier.leave(spawner.control)
            with self._crew.lock:
                self._replace_spawner(spawner)
            return
        try:
            for frame in spawner.reader.frames():
                self._take(frame)
        except wire.BrokenError as error:  # what it has imported for others has broken it
            self._crew.log.error("the spawner says what no spawner says, %s; it is killed", error)
            spawner.end()

    def _take(self, frame: wire.Frame) -> None:
        """Take what a spawner says. Raises ``BrokenError``."""
        child = self._crew.children.get(frame.stream)
        if frame.kind == wire.BORN:
            pid = wire.unpack_value(frame.payload, int)
            if child is not None:
                child.pid = pid
        elif frame.kind == wire.DEAD:
            reason = wire.unpack_value(frame.payload, str)
            if child is not None:
                while self._hear(child):  # what it said before it ended
                    pass
                self._end(child, reason)
        else:
            raise wire.BrokenError(f"a frame of the unknown kind {frame.kind}")

    def _replace_spawner(self, spawner: Spawner) -> None:
        """Start another spawner in place of one that is gone, and have it replace what that one has left."""
        crew = self._crew
        left = [each for each in crew.children.values() if each.spawner is spawner]
        if spawner is self.spawner and not crew.is_closed:
            crew.log.error("the spawner of application processes has ended; it and they are replaced")
            for child in left:
                child.is_due = True
            crew.wake()
        for child in left:
            if child.state == ENDED:
                self._forget(child, "it ended")

    def _on_child(self, child: Child, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            with self._crew.lock:
                child.tell_on()
        if events & selectors.EVENT_READ:
            with self._crew.lock:
                self._hear(child)
                self.offer_channel(child)  # before anybody learns that it serves

    def _hear(self, child: Child) -> bool:
        """Take what a process says; False if that is nothing."""
        is_open = self._hearing.receive(child)
        if is_open is False:
            self._end(child, "it ended" if child.spawner.is_gone else "")
        return bool(is_open)

    # Ended

    def _end(self, child: Child, reason: str) -> None:
        """A process is gone: answer what it had, and replace it. The reason may come a moment after the end."""
        crew = self._crew
        with crew.lock:
            if reason and child.state == ENDED:
                self._forget(child, reason)
                return
            if child.state == ENDED:
                return
            if child.state == STARTING:
                child.failure = child.failure or "it ended before the applications were imported"
            if not child.is_expected_to_end and time.monotonic() < child.begun_at + AGAIN_S:
                crew.start_again_at = time.monotonic() + AGAIN_S
            crew.changed.notify_all()
            self.courier.leave(child.sock)
            loans = child.close()
            self._fail(loans)
            if reason:
                self._forget(child, reason)
            else:
                child.kill_at = time.monotonic() + END_S

    def _fail(self, loans: list[Loan]) -> None:
        """Answer what a process had begun when it ended."""
        for loan in loans:
            self._crew.tally.end(loan)
            loan.fail(HTTPError(502, "The application's process ended."))

    def _forget(self, child: Child, reason: str) -> None:
        """Say how a process ended, and have it no more."""
        crew = self._crew
        if crew.children.pop(child.number, None) is None:
            return
        self._fail(child.take_begun())
        left = list(child.streams.values())
        if child.spawner.is_gone:
            self._fail(left)  # whether the process has ended for certain nobody tells
        else:
            self._handing.put_back(left)
        child.streams.clear()
        child.files.report.seek(0)
        report = child.files.report.read(REPORT_BYTES).decode("utf-8", "replace")
        for file in child.files:
            file.close()
        if not child.is_expected_to_end:
            crew.log.error("%s: %s", child.name, reason)
        for line in report.splitlines():
            crew.log.error("%s: %s", child.name, line)
        if not crew.is_closed:
            crew.tally.ends[child.end] += 1
        self._close_unused(child.spawner)
        crew.changed.notify_all()
        crew.wake()

    def _close_unused(self, spawner: Spawner) -> None:
        """Let go of a spawner, if it is of the past and nothing is left of what it has forked."""
        if spawner is self.spawner or any(each.spawner is spawner for each in self._crew.children.values()):
            return
        self.courier.leave(spawner.control)
        spawner.close()
