"""Keeps served certificates current: their files are looked at once a minute, and their end is announced."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .settings import TLSSettings

if TYPE_CHECKING:
    from .pairs import Expiry, State

# ``pairs`` is imported by the functions that read files: a server without TLS has none.

DAY_S = 86400.0

LOOK_S = 60.0
"""How often the files are looked at: some ``stat`` calls."""

SETTLE_S = 2.0
"""How long a renewal may take to put all of its files in place. certbot swaps one link after another."""


END_S = 1.0
"""How long ``close`` waits for the thread: a file system may hang."""


class Keeper:
    """One server's certificates. ``renew`` is called by its thread, when the files have changed and are right.

    A pair that is wrong leaves the old one in place, which the workers hold in memory; the log says so, once for
    each state of the files. Any thread may call.
    """

    def __init__(self, logger: logging.Logger, renew: Callable[[], None]) -> None:
        self._logger = logger
        self._renew = renew
        self._lock = threading.Lock()
        self._paths: tuple[str, ...] = ()
        self.settings: TLSSettings | None = None
        """What is served, as it was when it was taken over."""
        self._state: State = ()
        self._warn_at = 0.0
        self._has_ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.expiries: tuple[Expiry, ...] = ()
        """When the certificates that are served expire."""

    def adopt(self, settings: TLSSettings | None) -> None:
        """These are served from now on, None for none; the state of their files is the present one."""
        with self._lock:
            self.settings = settings
            self._paths = () if settings is None else _paths_of(settings)
            self._state = _state_of(self._paths)
            self.expiries = () if settings is None else tuple(_expiries(settings))
        self._warn_at = time.time() + DAY_S  # the server's doubts have said it for today
        if settings is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="certificates", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread, which may be about to look."""
        self._has_ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(END_S)

    def _run(self) -> None:
        while not self._has_ended.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                self._logger.exception("the certificates' files could not be looked at; it is tried again")

    def look(self) -> None:
        """Renew if the files have changed, and warn once a day of certificates that expire."""
        now = time.time()
        if now >= self._warn_at:
            self.warn(now)
        with self._lock:
            settings, paths, before = self.settings, self._paths, self._state
        state = _state_of(paths)
        if settings is None or state == before:
            return
        if _problems(settings):
            self._has_ended.wait(SETTLE_S)
            state = _state_of(paths)
        problems = _problems(settings)
        if not problems:
            self._renew()  # which calls ``adopt``
            self._logger.info("the certificates have changed; new connections get the new ones")
            return
        for problem in problems:
            self._logger.error(
                "a certificate has changed and is not used, the one before it stays: %s", problem
            )
        with self._lock:
            self._state = state

    def warn(self, now: float) -> None:
        """Log each certificate that expires soon; ``now`` is in seconds since the epoch."""
        from .pairs import expiry_warning

        self._warn_at = now + DAY_S
        for expiry in self.expiries:
            if text := expiry_warning(expiry, now):
                self._logger.warning("%s", text)


def _paths_of(settings: TLSSettings) -> tuple[str, ...]:
    paths = [path for pair in settings.pairs for path in (pair.certificate, pair.key)]
    return tuple(paths if settings.client_ca is None else [*paths, settings.client_ca])


def _state_of(paths: tuple[str, ...]) -> State:
    if not paths:
        return ()
    from .pairs import state_of

    return state_of(paths)


def _problems(settings: TLSSettings) -> list[str]:
    from .pairs import authority_problem, problem_of

    found = [problem_of(pair.certificate, pair.key) for pair in settings.pairs]
    if settings.client_ca is not None:
        found.append(authority_problem(settings.client_ca))
    return [problem for problem in found if problem]


def _expiries(settings: TLSSettings) -> Iterable[Expiry]:
    from .pairs import expiry_of

    for pair in settings.pairs:
        try:
            yield expiry_of(pair)
        except ValueError:
            continue  # it has changed since it was looked at; the next look tells
