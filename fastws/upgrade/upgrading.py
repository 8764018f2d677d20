"""Upgrades as the main thread of a server sees them: one at a time, and what is said of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from ..transport.listeners import Listeners
from .answering import DONE, FAILED, answer, show_sign
from .attempt import Attempt, Outcome, command_of_this_process

FIRST_PROCESS = 1
"""The process whose end is that of its container."""


class Upgrading:
    """The upgrades of one process, which was started in ``directory``.

    ``wake`` is called by a thread when one has come to something.
    """

    def __init__(
        self,
        listeners: Listeners,
        logger: logging.Logger,
        show: Callable[[str], None],
        wake: Callable[[], None],
        directory: str,
    ) -> None:
        self._listeners = listeners
        self._log = logger
        self._show = show
        self._wake = wake
        self._command = command_of_this_process(directory)
        self._sign = show_sign()
        self._attempt: Attempt | None = None
        self._outcome: Outcome | None = None
        self.missed: set[int] = set()
        """The signals that have arrived while a new process started, which may have missed what they are about."""

    @property
    def successor(self) -> int:
        """The process that serves in place of this one, 0 while there is none."""
        return 0 if self._outcome is None else self._outcome.pid

    @property
    def is_going_on(self) -> bool:
        """Whether a new process is starting."""
        return self._attempt is not None

    def begin(self, user: str | None) -> None:
        """Start a new process, unless one is starting. ``user`` is the account that this process has become."""
        if self._attempt is not None:
            self._log.warning("SIGUSR2 while a new process starts already; that one is waited for")
            return
        if os.getpid() == FIRST_PROCESS:
            text = (
                "this process is the first of its container, which would end with it;"
                " start another container, and stop this one"
            )
            self._say_failure(text)
            return
        self._log.info("upgrade: %s is started", " ".join(self._command.words))
        hint = ""
        if user is not None:
            hint = f" (it runs as {user}, by User, which must be able to read what is installed)"
        command = self._command._replace(hint=hint)
        self._attempt = Attempt(command, self._listeners.by_address, self._show, self._wake)

    def take_outcome(self, arrived: set[int]) -> None:
        """Look at what has come of the attempt. Where it failed, what was ``missed`` has ``arrived`` now."""
        if self._attempt is None or self._attempt.outcome is None:
            return
        if self._attempt.outcome.pid:
            self._outcome = self._attempt.outcome
            return
        outcome, self._attempt = self._attempt.outcome, None
        self._say_failure(outcome.summary, outcome.details)
        arrived |= self.missed
        self.missed.clear()

    def hand_over(self, arrived: set[int]) -> None:
        """Have the new process take this one's place, and leave the listening sockets that it serves to it.

        It gets the signals that were ``missed`` or have just ``arrived``.
        """
        assert self._attempt is not None
        assert self._outcome is not None
        self._close_sign()
        self._attempt.confirm()
        self._listeners.share(self._outcome.addresses)
        for number in self.missed | arrived:
            with suppress(OSError):
                os.kill(self._outcome.pid, number)
        self._log.info("process %d has taken over; this one finishes what it has begun", self._outcome.pid)
        answer(
            DONE, f"process {self._outcome.pid} has replaced {os.getpid()}, which finishes what it has begun"
        )

    def cancel(self) -> None:
        """End a new process that is starting, as this one is about to end."""
        self._close_sign()
        if self._attempt is not None:
            self._attempt.cancel()
            self.take_outcome(set())

    def _close_sign(self) -> None:
        """Be no server any more, for the command."""
        if self._sign is not None:
            self._sign.close()

    def _say_failure(self, summary: str, details: Sequence[str] = ()) -> None:
        self._log.error("the upgrade failed, and this process goes on: %s", summary)
        for line in details:
            self._log.error("%s", line)
        answer(FAILED, f"the upgrade failed, and process {os.getpid()} goes on serving: {summary}")
