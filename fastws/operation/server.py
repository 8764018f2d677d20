"""Build the parts; start, reload, drain, stop."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping

from .. import backend as backends
from ..application.loading import checked
from ..application.mounts import Application
from ..config.settings import Config
from ..engine.pool import ANSWER_S, Pool
from ..engine.shared import Equipment
from ..http.errors import ConfigError, ListenError
from ..processes.takers import Takers
from ..site.hidden import OwnFiles
from ..site.site import Site
from ..transport.listener import Address
from ..transport.listeners import Listeners
from ..work.fair_queue import FairQueues
from ..work.processors import processors
from .condition import Condition
from .doubts import unheeded, unused_compiler
from .embedding import Embedded, check_threads, note_end, note_start
from .logs import Logs
from .rights import drop_to
from .securing import Securing, check_pairs
from .systemd import activated_listeners

GRACE_S = 0.5
"""How long an idle connection may still send a last request after the signal to stop."""

PROCESSES_END_S = 2.0
"""How long application processes may take to end once no connection is left."""

CLOSING_S = 0.2
"""How long the connections that were idle may take to be closed after it: a deadline is met 0.1 s late."""


class Server(Embedded):
    """A server of one configuration. A context manager that serves in threads of its own::

        with Server(config) as server:
            urllib.request.urlopen(server.url)

    Raises ``ListenError`` if a port is not available, ``OSError`` if a log file cannot be opened, ``ConfigError``
    if it cannot change to ``User`` or lacks what BasicAuth needs, ``ImportError`` if the compiled modules are
    required and missing. It starts only once.
    """

    def __init__(
        self,
        config: Config,
        *,
        backend: backends.Backend | None = None,
        applications: Mapping[str, Application] | None = None,
    ) -> None:
        """``applications`` are by path, such as ``{"/": app}``, in addition to those that ``config`` names.

        Raises ``ConfigError`` for what is no application.
        """
        if not isinstance(config, Config):
            raise TypeError(
                f"{config!r} is no Config, such as fastws.defaults('public') or fastws.load('ws.conf') returns"
            )
        self._given_applications = checked(applications or {})
        self.config = self._config_at_start = config
        self._backend = backend or backends.load()
        self.worker_count = config.worker_threads or self._backend.default_worker_count(processors())
        self.listeners = Listeners(config)
        self._is_started = self._is_stopping = False
        self._is_urgent = threading.Event()  # nothing is waited for any more
        # Start and reload exclude each other; after the start of the end there is neither of them.
        self._lock = threading.Lock()
        logs = self._logs = Logs(config)
        self.logger: logging.Logger = logs.error.logger
        self._queues = FairQueues(self.logger)
        self._takers = Takers(self.logger, config, self._backend.parser)
        equipment = Equipment(
            self._backend, logs.access, logs.error, self._queues, self._takers, self.worker_count
        )
        self._pool = Pool(equipment)
        self._securing = Securing(self.logger, self._pool, self._renew)
        self._condition = Condition(
            self._backend, logs, self._pool, self._securing.keeper, self._takers, self.listeners
        )
        try:
            self._site = self._make_site(config)
        except BaseException:
            self._logs.close()
            raise

    def _make_site(self, config: Config) -> Site:
        replays = config.cache_size_bytes > 0 and getattr(self._backend.reactor, "replays", False)
        return Site(
            config,
            self.logger,
            replays=replays,
            opener=self._backend.opener,
            hidden=OwnFiles(config, self._logs.access, self._logs.error.file),
            status=self._condition,
            mounts=self._takers.mounts(config, self._given_applications),
        )

    # Start

    def start(self) -> None:
        """Bind, listen and serve; returns at once. If that fails, everything is released."""
        with self._lock:
            if self._is_started or self._is_stopping:
                raise RuntimeError("a Server starts once; make another one of the same Config to start again")
            check_threads()
            self._is_started = True
            note_start(self, self._forget)
        self._condition.start_time_s = time.time()
        try:
            with self._lock:
                self.listeners.open(activated_listeners())
                if self.config.user is not None:
                    if self.config.speaks_tls:
                        self._backend.tls()  # imports what the account may not be able to read
                    drop_to(self.config.user)
                    check_pairs(self.config, self.config.user)
                self._takers.start(self.config)
                self._securing.adopt(self.config)
                self._allow_hosts()
                if self.listeners.shared:  # the process that serves them goes on until applications do
                    self._takers.await_start(self.config, must_serve=True)
                self._pool.start(self.config, self._site, self.listeners.with_manners())
            self._takers.await_start(self.config)
        except BaseException:
            self._undo_start()
            raise
        self._condition.log_start(self.config, self.listeners.described())
        self.doubts = self._condition.log_doubts(self.config)

    def _allow_hosts(self) -> None:
        """Have requests for the hosts of the certificates, and no others, sent on to https."""
        if self.config.speaks_tls:
            self._site.to_https.hosts = self._securing.hosts(self.port)

    def _renew(self) -> None:
        """Have new connections served with the certificates that are there now."""
        with self._lock:
            if not self._is_stopping:
                self._securing.adopt(self.config)
                self._allow_hosts()
                self._pool.adopt(self.config, self._site, self.listeners.with_manners())

    def _undo_start(self) -> None:
        with self._lock:
            self._is_stopping = True
        note_end(self)
        self._pool.abandon()
        self.listeners.leave_all(self._pool.accept_rest)
        self._close()

    # What is asked

    @property
    def is_draining(self) -> bool:
        """Whether the server is stopping."""
        return self._is_stopping

    def unused_compiler(self) -> str:
        """Return a sentence if pure Python runs although a C compiler is here, else ''."""
        return unused_compiler(self._backend)

    # Reload and stop

    def reload(self, read: Callable[[], Config]) -> None:
        """Change to the configuration that ``read`` returns, without losing a request; reopen the logs.

        Requests sent after this returns see the new configuration, except on a worker that hangs for more than
        ``ANSWER_S``: it changes when it goes on. If the configuration has errors, they are logged and the old one
        stays.
        """
        with self._lock:
            if self._is_stopping:
                return
            self._logs.reopen(self.config)
            is_good = False
            try:
                config = read()
                site = self._make_site(config)
                opened = self.listeners.opened_for(config)
                try:
                    self._takers.change(config)
                    self._securing.adopt(config)
                except BaseException:
                    self.listeners.give_back(opened)
                    raise
            except (ConfigError, ListenError) as error:
                self.logger.error("the configuration was not reloaded; what is wrong with it:")
                for line in str(error).splitlines():
                    self.logger.error("%s", line)
            except Exception:
                self.logger.exception("the configuration was not reloaded")
            else:
                self._adopt(config, site, opened)
                is_good = True
            self._condition.note_reload(is_good=is_good)

    def _adopt(self, config: Config, site: Site, opened: dict[Address, socket.socket]) -> None:
        previous_config, self.config = self.config, config
        previous_site, self._site = self._site, site
        dropped = self.listeners.adopt(config, opened)
        self._allow_hosts()
        self._logs.adopt(config, previous_config)
        are_let_go = self._pool.adopt(config, site, self.listeners.with_manners())
        self.listeners.leave(self._pool.accept_rest, dropped)
        if are_let_go:
            self.listeners.close_left()
        previous_site.close()
        for text in unheeded(config, self._config_at_start):
            self.logger.warning("%s", text)
        self.logger.info("configuration reloaded; listening on %s", ", ".join(self.listeners.described()))
        self.doubts = self._condition.log_doubts(config)

    def reopen_logs(self) -> None:
        """Close the logs and open them again, after a rotation has moved them."""
        with self._lock:
            if not self._is_stopping:
                self._logs.reopen(self.config)
                self.logger.info("logs reopened")

    def stop(
        self,
        timeout_s: float | None = None,
        *,
        grace_s: float | None = None,
        on_wait: Callable[[int], None] | None = None,
        is_replaced: bool = False,
    ) -> None:
        """Drain: stop accepting, finish the requests in flight, and end within ``timeout_s`` (None: DrainTimeout).

        All goes on as before for DrainDelay first, but for ``readyz``.
        An idle connection has ``grace_s`` for a last request (None: ``GRACE_S``). If connections are still busy
        then, ``on_wait`` is called with their number. Where ``is_replaced`` another process serves what this one
        did: nobody has to learn of its end, and an idle connection may stay as long as it could have.
        """
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = True
            self._condition.is_draining = not is_replaced
        note_end(self)
        self._is_urgent.wait(0.0 if is_replaced else self.config.drain_delay_s)
        timeout_s = self.config.drain_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        usual_s = self.config.keepalive_time_s if is_replaced else GRACE_S
        grace_s = min(usual_s if grace_s is None else grace_s, timeout_s / 2)
        are_let_go = self._pool.drain(grace_s, timeout_s)
        self.listeners.leave_all(self._pool.accept_rest)
        if are_let_go:
            self.listeners.close_left()
        self._pool.finish()
        if on_wait is not None and not self._pool.join(min(time.monotonic() + grace_s + CLOSING_S, deadline)):
            on_wait(self.connection_count())
        if not self._pool.join(deadline):
            self.logger.warning("connections still open after DrainTimeout are cut off")
            self.abort()
        if not self._pool.join(time.monotonic() + ANSWER_S):
            self.logger.error("a worker is stuck and was left behind")
        self.logger.info("fastws stopped")
        self._close()

    def _forget(self) -> None:
        """Let go of the listeners in a forked child, in which no thread serves and nothing is to be stopped."""
        self._lock = threading.Lock()  # it may have been held when the process was forked
        self._is_stopping = True
        self.listeners.forget()
        self._takers.forget()

    def abort(self) -> None:
        """Make a ``stop`` in progress end now, cutting off connections. For any thread and signal handler."""
        self._is_urgent.set()
        self._pool.stop()

    def _close(self) -> None:
        self._securing.close()
        self.listeners.close_left()
        self._site.close()
        self._queues.close()
        self._takers.close(PROCESSES_END_S)
        self._logs.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        # What was asked inside the block is answered; nobody is expected to ask after it.
        self.stop(grace_s=0.0)
