"""A server inside another program: what it tells, and what forks, ends and patches of the program do to it."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable

from ..config.settings import Config
from ..engine.pool import Pool
from ..record.tally import WorkerStatus
from ..transport.listeners import Listeners
from .logs import Logs

END_S = 1.0
"""How long responses in flight may take once the program has ended without stopping its server."""


class Embedded(ABC):
    """A server that runs in threads of this process: the part of it that its program asks, and ends."""

    config: Config
    """The configuration in force."""

    listeners: Listeners
    """The sockets that it listens on while it runs."""

    _pool: Pool
    _logs: Logs

    def is_responsive(self, timeout_s: float) -> bool:
        """Tell whether a worker does what it is told within ``timeout_s``."""
        return self._pool.is_responsive(timeout_s)

    def observe_requests(self, observe: Callable[[bytes], None]) -> None:
        """Have ``observe`` called with lines of the access log, several at once. It neither waits nor raises."""
        self._logs.access.on_lines = observe

    def connection_count(self) -> int:
        """Return the number of open connections."""
        return self._pool.connection_count()

    def worker_status(self) -> list[WorkerStatus]:
        """Return the counts of each worker."""
        return self._pool.status()

    @property
    def addresses(self) -> list[str]:
        """Where the server listens: ``127.0.0.1:8080``, ``[::1]:8080``, ``unix:/path``. Empty unless it runs."""
        return self.listeners.addresses()

    @property
    def port(self) -> int:
        """The first TCP port, the one assigned if 0 was requested; ``RuntimeError`` if there is none.

        One that speaks TLS goes before others, one that only redirects to it behind.
        """
        return self.listeners.port()

    @property
    def url(self) -> str:
        """The URL of the first address, of TLS if it is spoken; ``RuntimeError`` if the server does not run."""
        return self.listeners.url()

    @property
    def ca(self) -> str | None:
        """The path of what a client must trust for ``url``, None without TLS: the file of the first certificate.

        ``ssl.create_default_context(cafile=server.ca)`` takes it, if its chain ends in the authority's own
        certificate, or is one that signed itself.
        """
        return self.config.tls_certificates[0][0] if self.config.speaks_tls else None

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can connect, because it listens on a non-loopback address."""
        return self.listeners.are_exposed()

    @abstractmethod
    def stop(self, timeout_s: float | None = None, *, grace_s: float | None = None) -> None:
        """Drain and end; does nothing where that has been done."""


_running: weakref.WeakKeyDictionary[Embedded, Callable[[], None]] = weakref.WeakKeyDictionary()
"""The servers that run, and what lets go of the sockets of each without a word to its clients."""


def note_start(server: Embedded, forget: Callable[[], None]) -> None:
    """Have ``forget`` called in every forked child, and ``server`` stopped when the interpreter ends."""
    _running[server] = forget


def note_end(server: Embedded) -> None:
    """Leave it alone from now on."""
    _running.pop(server, None)


def check_threads() -> None:
    """Raise ``RuntimeError`` where threads are not those of the system.

    A worker waits in epoll_wait(2) itself: as a green thread, it would hold up all the others for ever.
    """
    for name in ("gevent", "eventlet"):
        if _has_patched_threads(name):
            raise RuntimeError(
                f"{name} has replaced the threads of this program, and a Server needs those of the system; run it"
                " in a process of its own (python -m fastws), or leave threads as they are:"
                f" {'monkey.patch_all(thread=False)' if name == 'gevent' else 'monkey_patch(thread=False)'}"
            )


def _has_patched_threads(name: str) -> bool:
    if name == "gevent":
        monkey = sys.modules.get("gevent.monkey")
        return monkey is not None and bool(monkey.is_module_patched("threading"))
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


def _forget_all() -> None:
    for forget in list(_running.values()):
        forget()
    _running.clear()


def _stop_all() -> None:
    for server in list(_running):
        server.stop(END_S, grace_s=0.0)


atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
