"""Work in the background: one thread, of low priority as a rule, which starts with the first job."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

_NICENESS = 10


class Background:
    """A daemon thread that does one job after another. A subclass holds the queue, guarded by ``_changed``.

    ``is_python`` tells that the jobs hold the interpreter. Their thread has the priority of all others: preempted
    with the interpreter in its hands, a thread of low priority would hold up everybody.
    """

    def __init__(self, name: str, *, is_python: bool = False) -> None:
        self._is_python = is_python
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._name = name

    def _has_work(self) -> bool:
        """Tell whether there is a job; ``_changed`` is held."""
        raise NotImplementedError

    def _work(self) -> None:
        """Take a job and do it. Raises nothing."""
        raise NotImplementedError

    def _drop_all(self) -> None:
        """Forget what waits, for all is over; ``_changed`` is held."""
        raise NotImplementedError

    def _announce(self) -> None:
        """Have the thread look at the queue; ``_changed`` is held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        if not self._is_python:
            _yield_to_others()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._has_work())
                if self._is_closed:
                    return
            self._work()

    def close(self) -> None:
        """Drop what waits; the thread ends after the job in progress, for which nobody waits."""
        with self._changed:
            self._is_closed = True
            self._drop_all()
            self._changed.notify_all()


def _yield_to_others() -> None:
    """Give this thread a lower priority where threads have one of their own: setpriority(2), C library notes."""
    if sys.platform == "linux":
        with suppress(OSError):  # it is only a courtesy
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
