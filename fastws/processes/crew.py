"""The application processes that there are, and what all that deals with them has in common."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from typing import IO

from ..application.tally import Tally
from ..backend import Parser
from . import wire
from .child import RETIRING, SERVING, STARTING, Child, Settings

STACKS_S = 0.5
"""How long a process that hangs has to write its stacks before it is killed."""

STACKS: int = getattr(signal, "SIGUSR2", 0)
"""The signal at which a process writes its stacks."""

KILL: int = getattr(signal, "SIGKILL", 0)
"""The signal that ends a process that hangs or is broken."""


class Crew:
    """The processes by number. ``lock`` is held by what changes or reads anything here or of one of them."""

    settings: Settings
    """What they are to be; set before the first is started."""

    wake: Callable[[], None]
    """Have the courier look at what is due and what waits to be sent; any thread may call."""

    def __init__(self, logger: logging.Logger, parser: Parser) -> None:
        self.log = logger
        self.parser = parser
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Notified when a process serves, fails or is gone."""
        self.children: dict[int, Child] = {}
        self.tally = Tally()
        self.start_again_at = 0.0
        """When the next process may be started in place of one that failed."""
        self.is_closed = False
        self._untold: set[Child] = set()

    def tell(self, child: Child, data: bytes) -> None:
        """Send ``data`` now, or as soon as the socket takes it."""
        with self.lock:
            if not child.tell(data):
                self.wake()

    def tell_later(self, child: Child, data: bytes, file: IO[bytes] | None = None) -> None:
        """Have ``tell_on`` send ``data``, with what else there is for this process, then close ``file``."""
        child.tell_later(data, file)
        self._untold.add(child)

    @property
    def is_untold(self) -> bool:
        """Whether ``tell_on`` has anything to do."""
        return bool(self._untold)

    def tell_on(self) -> None:
        """Send what is there for each process."""
        while self._untold:
            if not self._untold.pop().tell_on():
                self.wake()

    def retire(self, child: Child) -> None:
        """Give a process no more requests; it ends after those that it has."""
        if child.state in (STARTING, SERVING):
            child.state = RETIRING
            child.is_expected_to_end = True
            child.finish_by = time.monotonic() + child.settings.finish_s
            child.end = "recycled" if child.is_due else "reloaded"
            self.tell(child, wire.pack(0, wire.QUIT))

    def stop(self, child: Child) -> None:
        """Have a process that hangs write its stacks, and kill it a little later."""
        if not child.kill_at:
            child.state, child.kill_at = RETIRING, time.monotonic() + STACKS_S
            child.end = "hung"
            child.spawner.kill(child.number, STACKS)
            self.wake()
