"""Application processes, as a server uses them: started, changed, asked, closed."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from ..application.channel import Channel
from ..application.loan import Loan
from ..application.tally import ApplicationStatus
from ..backend import Parser
from ..http.errors import ConfigError, Problem
from .child import SERVING, STARTING, Child, Settings
from .crew import Crew
from .handing import Handing
from .hearing import Hearing
from .upkeep import TICK_S, Upkeep

START_S = 5.0
"""How long a start waits for the applications to be imported; after that files are served meanwhile."""

CHANGE_S = 60.0
"""How long a reload waits for that."""

Where = tuple[str, int] | None
"""The file and line that gave the applications, for what is said of them."""


class Processes:
    """The application processes of one server, and the queue before them. Any thread may call."""

    def __init__(self, logger: logging.Logger, parser: Parser) -> None:
        self.crew = Crew(logger, parser)
        self._handing = Handing(self.crew)
        self.upkeep = Upkeep(self.crew, self._handing, Hearing(self.crew, self._handing))

    def start(self, settings: Settings) -> None:
        """Start the processes; they serve when they have imported the applications. Raises ``OSError``."""
        with self.crew.lock:
            self.crew.settings = settings
            self.upkeep.spawner = self.upkeep.start_spawner()
            for _ in range(settings.processes):
                self.upkeep.spawn(settings)
            self.upkeep.courier.start()

    def offer_channels(self, offer: Callable[[Channel], bool]) -> None:
        """Have the processes heard by what ``offer`` gives their channels to."""
        with self.crew.lock:
            self.upkeep.offer = offer
            for child in self.crew.children.values():
                self.upkeep.offer_channel(child)
            self.crew.wake()

    def await_start(self, where: Where, *, must_serve: bool = False) -> None:
        """Return when one process serves, or after ``START_S``. Raises ``ConfigError`` if one cannot.

        Where one ``must_serve`` it has ``CHANGE_S``, and later is too late.
        """
        with self.crew.lock:
            children = list(self.crew.children.values())
            self._await(children, CHANGE_S if must_serve else START_S, where)
            if must_serve and not any(child.state == SERVING for child in children):
                raise _failure(f"they were not imported within {CHANGE_S:g} s", where)

    def change(self, settings: Settings, where: Where) -> None:
        """Start processes anew, one after another, each before an old one ends; returns when the first serves.

        Raises ``ConfigError`` if it cannot; then all is as it was.
        """
        crew, upkeep = self.crew, self.upkeep
        with crew.lock:
            before = upkeep.spawner
            try:
                if settings.preload or crew.settings.preload:
                    upkeep.spawner = upkeep.start_spawner()  # which has not yet imported anything
                first = upkeep.first = upkeep.spawn(settings)
            except OSError as error:
                upkeep.return_to(before)
                raise _failure(f"no process could be started: {error.strerror or error}", where) from error
            crew.wake()
            try:
                try:
                    self._await([first], CHANGE_S, where)
                except ConfigError:
                    upkeep.spawner = before
                    raise
                if first.state == STARTING:
                    upkeep.spawner = before
                    crew.stop(first)
                    raise _failure(f"they were not imported within {CHANGE_S:g} s", where)
                crew.settings = settings
            finally:
                upkeep.first = None
            crew.wake()

    def _await(self, children: list[Child], timeout_s: float, where: Where) -> None:
        """Wait until one of them serves, or ``timeout_s`` are over; raises ``ConfigError`` if one cannot."""
        deadline = time.monotonic() + timeout_s
        while not any(child.state == SERVING for child in children):
            for child in children:
                if child.failure:
                    raise _failure(child.failure, where)
            left = deadline - time.monotonic()
            if left <= 0 or self.crew.is_closed:
                return
            self.crew.changed.wait(left)

    def submit(self, loan: Loan) -> bool:
        """Have ``loan`` answered; False if too many others wait."""
        return self._handing.submit(loan)

    def send(self) -> None:
        """Send what ``submit`` has left to be sent together."""
        self._handing.send()

    def status(self) -> ApplicationStatus:
        """Return the counts."""
        crew = self.crew
        with crew.lock:
            children = list(crew.children.values())
            busy = [min(len(child.busy), child.settings.threads) for child in children]
            waiting = self._handing.waiting + sum([len(child.busy) for child in children]) - sum(busy)
            serving = sum([child.state == SERVING for child in children])
            return crew.tally.status(sum(busy), waiting, serving)

    def close(self, timeout_s: float) -> None:
        """End the processes, those that are still busy after ``timeout_s`` by force."""
        crew, upkeep = self.crew, self.upkeep
        deadline = time.monotonic() + timeout_s
        with crew.lock:
            crew.is_closed = True
            for child in crew.children.values():
                crew.retire(child)
            while crew.children and (left := deadline - time.monotonic()) > 0:
                crew.changed.wait(left)
            crew.wake()
        upkeep.courier.close(TICK_S)
        if upkeep.spawner is not None:
            for spawner in {upkeep.spawner, *(child.spawner for child in crew.children.values())}:
                spawner.close()  # which kills what is left

    def forget(self) -> None:
        """Let go of all sockets without a word, in a forked child, in which no thread serves."""
        for child in self.crew.children.values():
            child.sock.close()
            if child.channel is not None:
                os.close(child.channel.fd)
            child.spawner.control.close()
        if self.upkeep.spawner is not None:
            self.upkeep.spawner.control.close()


def _failure(text: str, where: Where) -> ConfigError:
    """Return the error that says why the applications are not served."""
    file, line = where or ("configuration", 0)
    return ConfigError((Problem(file, line, f"Application: {text}"),))
