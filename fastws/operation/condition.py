"""What one server tells of itself: to the status pages, and in the log when it starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from ..application.tally import ApplicationStatus
from ..backend import Backend
from ..config.settings import Config
from ..engine.pool import Pool
from ..http.errors import Problem
from ..processes.takers import Takers
from ..record.tally import WorkerStatus
from ..site.status import About
from ..tls.keeper import Keeper
from ..transport.listeners import Listeners
from ..version import __version__
from .doubts import doubts_of
from .logs import Logs


class Condition:
    """How a server does; a ``StatusSource``. The server sets ``start_time_s`` and ``is_draining``."""

    def __init__(
        self,
        backend: Backend,
        logs: Logs,
        pool: Pool,
        keeper: Keeper,
        takers: Takers,
        listeners: Listeners,
    ) -> None:
        self._backend = backend
        self._logs = logs
        self._pool = pool
        self._keeper = keeper
        self._takers = takers
        self._listeners = listeners
        self._generation, self._configured_at_s, self._is_reload_good = 1, 0.0, True
        self._logger = logs.error.logger
        self.start_time_s = 0.0
        """When the server began, in seconds since the epoch; 0 before the start."""
        self.is_draining = False
        """Whether the server is stopping."""

    def about(self) -> About:
        """Return the version, the sides of the parser and the reactor, and what is known of the configuration."""
        build = {
            "version": __version__,
            "parser": self._backend.parser.side,
            "reactor": self._backend.reactor.side,
            "python": "{}.{}.{}".format(*sys.version_info),
        }
        configured_at_s = self._configured_at_s or self.start_time_s
        return About(build, self.start_time_s, self._generation, configured_at_s, self._is_reload_good)

    def note_reload(self, *, is_good: bool) -> None:
        """Count a reload, which has taken another configuration or has failed."""
        self._is_reload_good = is_good
        if is_good:
            self._generation += 1
            self._configured_at_s = time.time()

    def listener_queues(self) -> dict[str, tuple[int, int]]:
        """Return how many connections wait at each TCP address, and how many may, where the system tells."""
        return self._listeners.queues()

    def worker_status(self) -> list[WorkerStatus]:
        """Return the counts of each worker."""
        return self._pool.status()

    def application_status(self) -> ApplicationStatus:
        """Return the counts of applications."""
        return self._takers.status()

    def lost_lines(self) -> dict[str, int]:
        """Return how many lines each log has lost since the start."""
        return self._logs.lost_lines()

    def certificate_ends(self) -> dict[str, float]:
        """Return when each certificate that is served expires, in seconds since the epoch, by its path."""
        return {expiry.path: expiry.not_after for expiry in self._keeper.expiries}

    def log_start(self, config: Config, addresses: Sequence[str]) -> None:
        """Say in the log what starts, where, and how it is configured."""
        count = self._pool.worker_count
        self._logger.info("fastws %s starts: %s", __version__, self._backend.describe())
        self._logger.info("listening on %s", ", ".join(addresses))
        if self._pool.speaks_tls:
            self._logger.info("TLS: %s", self._backend.describe_tls())
        self._logger.info(
            "serving %s with %s worker thread%s, KeepaliveTime %g s, RequestTimeout %g s",
            config.what_is_served,
            count,
            "" if count == 1 else "s",
            config.keepalive_time_s,
            config.request_timeout_s,
        )

    def log_doubts(self, config: Config) -> list[Problem]:
        """Say in the log what is probably a mistake in ``config``, and return it."""
        doubts = doubts_of(config, self._backend.opener)
        for doubt in doubts:
            self._logger.warning("%s", doubt)
        return doubts
