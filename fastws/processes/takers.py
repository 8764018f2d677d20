"""What takes requests on loan: threads of this process, or application processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..application.channel import Channel
from ..application.loading import load_all
from ..application.loan import Loan
from ..application.mounts import Application, Mounts
from ..application.tally import ApplicationStatus
from ..application.threads import Threads
from ..backend import Parser
from ..config.settings import Config

if TYPE_CHECKING:
    from .child import Settings
    from .processes import Processes


def needs_processes(config: Config) -> bool:
    """Tell whether applications that have a name run in processes."""
    return bool(config.applications) and (config.application_processes > 0 or config.application_reload)


class Takers:
    """Those of one server. ``has_processes`` tells whether applications that have a name run in processes."""

    def __init__(self, logger: logging.Logger, config: Config, parser: Parser) -> None:
        self._log = logger
        self._threads = Threads(logger, parser.check_given)
        self._threads.configure(config)
        self.has_processes = needs_processes(config)
        self._processes: Processes | None = None
        if self.has_processes:
            from .processes import Processes  # and with it what threads have no use for

            self._processes = Processes(logger, parser)

    def mounts(self, config: Config, given: Mapping[str, Application]) -> Mounts:
        """Return the mounts of ``config``, with applications ``given`` by path. Raises ``ConfigError``."""
        if self.has_processes:
            return Mounts(given, config.applications)
        return Mounts({**load_all(config, self._log), **given})

    def start(self, config: Config) -> None:
        """Start the processes, if there are to be any. Raises ``OSError``."""
        if self._processes is not None:
            self._processes.start(_settings(config))

    def offer_channels(self, offer: Callable[[Channel], bool]) -> None:
        """Have what processes say heard by what ``offer`` gives it to; that returns False where nothing hears."""
        if self._processes is not None:
            self._processes.offer_channels(offer)

    def await_start(self, config: Config, *, must_serve: bool = False) -> None:
        """Return when applications are served, or their import takes long. Raises ``ConfigError`` if it fails.

        It fails too where they ``must_serve`` and do not within ``CHANGE_S``.
        """
        if self._processes is not None:
            self._processes.await_start(config.given.get("Application"), must_serve=must_serve)

    def change(self, config: Config) -> None:
        """Use another configuration. Raises ``ConfigError``; then all is as it was."""
        if self._processes is not None:
            self._processes.change(_settings(config), config.given.get("Application"))
        self._threads.configure(config)

    def forget(self) -> None:
        """Let go of what belongs to the parent, in a forked child."""
        if self._processes is not None:
            self._processes.forget()

    def submit(self, loan: Loan) -> bool:
        """Have ``loan`` answered; False if too many others wait. ``send`` is called at the end of the turn."""
        if loan.call.mount.name and self._processes is not None:
            return self._processes.submit(loan)
        return self._threads.submit(loan)

    def send(self) -> None:
        """Send to the processes what a turn has left for them."""
        if self._processes is not None:
            self._processes.send()

    def status(self) -> ApplicationStatus:
        """Return what is counted of applications. Any thread may ask."""
        status = self._threads.status()
        return status if self._processes is None else status.plus(self._processes.status())

    def close(self, timeout_s: float) -> None:
        """End all of them; processes that are busy for longer than ``timeout_s`` by force."""
        self._threads.close()
        if self._processes is not None:
            self._processes.close(timeout_s)


def _settings(config: Config) -> Settings:
    from .child import Settings

    directory = os.getcwd() if config.config_path is None else os.path.dirname(config.config_path)
    return Settings(
        processes=max(config.application_processes, 1),
        threads=config.application_threads,
        waiting=config.application_queue,
        names=tuple(dict.fromkeys(config.applications.values())),
        directory=directory,
        preload=config.preload and not config.application_reload,  # what is to be imported anew is not kept
        recycle=config.application_recycle,
        reload=config.application_reload,
        finish_s=max(config.drain_timeout_s, config.application_timeout_s),
    )
