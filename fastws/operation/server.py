"""Build the parts; start, reload, drain, stop."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping

from .. import backend as backends
from .. import portable
from ..application.mounts import Application
from ..application.takers import Takers, needs_processes
from ..config.endpoints import PLAIN, REDIRECT, TLS
from ..config.secure import tls_settings
from ..config.settings import Config
from ..engine.pool import ANSWER_S, Pool
from ..engine.shared import Equipment
from ..http.errors import ConfigError, ListenError, Problem
from ..record.tally import WorkerStatus
from ..site.hidden import OwnFiles
from ..site.site import Site
from ..site.tohttps import Hosts
from ..tls.keeper import Keeper
from ..tls.settings import TLSSettings
from ..transport.listener import (
    ACTIVATED,
    Address,
    Listener,
    address_of,
    addresses_in,
    is_local,
    kind_of,
    manner_of,
    modes_in,
    open_listeners,
    reachable,
    turn_away,
    with_manners,
)
from ..work.fair_queue import FairQueues
from ..work.processors import processors
from .compiler import unused_compiler
from .condition import Condition
from .embedding import check_threads, note_end, note_start
from .logs import Logs
from .rights import drop_to
from .systemd import activated_listeners

GRACE_S = 0.5
"""How long an idle connection may still send a last request after the signal to stop."""

PROCESSES_END_S = 2.0
"""How long application processes may take to end once no connection is left."""

CLOSING_S = 0.2
"""How long the connections that were idle may take to be closed after it: a deadline is met 0.1 s late."""

_RANKS = {TLS: 0, PLAIN: 1, REDIRECT: 2}

_FIXED_AT_START = {"WorkerThreads": "worker_threads", "User": "user"}
"""The directives that a reload leaves as they were, and their fields."""


class Server:
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
        """``applications`` are by path, such as ``{"/": app}``, in addition to those that ``config`` names."""
        if not isinstance(config, Config):
            raise TypeError(
                f"{config!r} is no Config, such as fastws.defaults('public') or fastws.load('ws.conf') returns"
            )
        self.config = self._config_at_start = config
        self._backend = backend or backends.load()
        self.worker_count = config.worker_threads or self._backend.default_worker_count(processors())
        self._listeners: dict[Address, socket.socket] = {}
        self._left: list[socket.socket] = []  # nobody is let in there any more
        self._is_started = self._is_stopping = False
        self._is_urgent = threading.Event()  # nothing is waited for any more
        # Start and reload exclude each other; after the start of the end there is neither of them.
        self._lock = threading.Lock()
        self._logs = Logs(config)
        self.logger: logging.Logger = self._logs.error.logger
        self._queues = FairQueues(self.logger)
        self._given_applications = dict(applications or {})
        self._takers = Takers(self.logger, config)
        self._pool = Pool(
            Equipment(
                self._backend,
                self._logs.access,
                self._logs.error,
                self._queues,
                self._takers,
                self.worker_count,
            )
        )
        self._keeper = Keeper(self.logger, self._renew)
        self._condition = Condition(self._backend, self._logs, self._pool, self._keeper, self._takers)
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
                handed_over = {(ACTIVATED, n): sock for n, sock in enumerate(activated_listeners())}
                self._listeners = open_listeners(
                    addresses_in(self.config), handed_over, modes_in(self.config)
                )
                if self.config.user is not None:
                    if self.config.speaks_tls:
                        self._backend.tls()  # imports what the account may not be able to read
                    drop_to(self.config.user)
                    _check_pairs(self.config, self.config.user)
                self._takers.start(self.config)
                settings = _tls_of(self.config)
                self._secure(settings)
                self._allow(settings)
                self._pool.start(self.config, self._site, with_manners(self.config, self._listeners))
            self._takers.await_start(self.config)
        except BaseException:
            self._undo_start()
            raise
        self._condition.log_start(self.config, self._described())
        self.doubts = self._condition.log_doubts(self.config)

    def _secure(self, settings: TLSSettings | None) -> None:
        """Have the workers make handshakes as in ``settings``, from their next start or change on.

        Raises ``ConfigError`` if a file cannot be read any more; then nothing has changed.
        """
        if settings is None and self._keeper.settings is None:
            return
        try:
            self._pool.secure(settings)
        except (OSError, ImportError) as error:
            raise _wrong_certificate(self.config, error) from None
        self._keeper.adopt(settings)

    def _allow(self, settings: TLSSettings | None) -> None:
        """Have requests for the hosts of these certificates, and no others, sent on to https."""
        if settings is not None:
            from ..tls.pairs import addresses_of  # where there is no TLS nothing of it is needed

            names = frozenset([name for pair in settings.pairs for name in pair.names])
            addresses = frozenset([each for pair in settings.pairs for each in addresses_of(pair)])
            self._site.to_https.hosts = Hosts(names, addresses, self.port)

    def _renew(self) -> None:
        """Have new connections served with the certificates that are there now."""
        with self._lock:
            if not self._is_stopping:
                settings = _tls_of(self.config)
                self._secure(settings)
                self._allow(settings)
                self._pool.adopt(self.config, self._site, with_manners(self.config, self._listeners))

    def _described(self) -> list[str]:
        """Return the addresses, those of TLS and of redirects with what is spoken there."""
        kinds = [kind_of(self.config, address) for address in self._listeners]
        return [
            address if kind == PLAIN else f"{address} ({kind})"
            for address, kind in zip(self.addresses, kinds, strict=True)
        ]

    def _undo_start(self) -> None:
        with self._lock:
            self._is_stopping = True
        note_end(self)
        self._pool.abandon()
        self._leave(self.config, self._listeners)
        self._close()

    # What users ask

    @property
    def addresses(self) -> list[str]:
        """Where the server listens: ``127.0.0.1:8080``, ``[::1]:8080``, ``unix:/path``. Empty unless it runs."""
        return [address_of(listener) for listener in self._listeners.values()]

    @property
    def schemes(self) -> dict[str, str]:
        """The TCP addresses, as in ``addresses``, each with the scheme of its URL: ``http`` or ``https``."""
        return {
            address_of(listener): "https" if kind_of(self.config, address) == TLS else "http"
            for address, listener in self._listeners.items()
            if listener.family != portable.AF_UNIX
        }

    @property
    def port(self) -> int:
        """The first TCP port, the one assigned if 0 was requested; ``RuntimeError`` if there is none.

        One that speaks TLS goes before others, one that only redirects to it behind.
        """
        for listener in self._in_order():
            if listener.family != portable.AF_UNIX:
                return int(listener.getsockname()[1])
        raise RuntimeError("the server has a port only while it runs, and listens on TCP")

    @property
    def url(self) -> str:
        """The URL of the first address, of TLS if it is spoken; ``RuntimeError`` if the server does not run."""
        for listener in self._in_order():
            address = address_of(listener)
            scheme = self.schemes.get(address)
            return address if scheme is None else f"{scheme}://{reachable(address)}/"
        raise RuntimeError("the server has a URL only while it runs: inside its block, or after start()")

    @property
    def ca(self) -> str | None:
        """The path of what a client must trust for ``url``, None without TLS: the file of the first certificate.

        ``ssl.create_default_context(cafile=server.ca)`` takes it, if its chain ends in the authority's own
        certificate, or is one that signed itself.
        """
        return self.config.tls_certificates[0][0] if self.config.speaks_tls else None

    def is_first(self, address: str) -> bool:
        """Tell whether ``address``, one of ``addresses``, is that of ``url``."""
        return next(map(address_of, self._in_order()), None) == address

    def _in_order(self) -> list[socket.socket]:
        """Return the listeners: those that speak TLS, then plain ones, then those that redirect."""
        ranks = {address: _RANKS[kind_of(self.config, address)] for address in self._listeners}
        return [self._listeners[address] for address in sorted(self._listeners, key=ranks.__getitem__)]

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can connect, because it listens on a non-loopback address."""
        return not all(is_local(listener) for listener in self._listeners.values())

    def is_responsive(self, timeout_s: float) -> bool:
        """Tell whether a worker does what it is told within ``timeout_s``."""
        return self._pool.is_responsive(timeout_s)

    def observe_requests(self, observe: Callable[[bytes], None]) -> None:
        """Have ``observe`` called with lines of the access log, several at once. It neither waits nor raises."""
        self._logs.access.on_lines = observe

    def connection_count(self) -> int:
        """Return the number of open connections."""
        return self._pool.connection_count()

    @property
    def is_draining(self) -> bool:
        """Whether the server is stopping."""
        return self._is_stopping

    def worker_status(self) -> list[WorkerStatus]:
        """Return the counts of each worker."""
        return self._pool.status()

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
            try:
                config = read()
                settings = _tls_of(config)
                site = self._make_site(config)
                listeners = open_listeners(addresses_in(config), self._listeners, modes_in(config))
                self._change_takers(config, listeners, settings)
            except (ConfigError, ListenError) as error:
                self.logger.error("the configuration was not reloaded; what is wrong with it:")
                for line in str(error).splitlines():
                    self.logger.error("%s", line)
            except Exception:
                self.logger.exception("the configuration was not reloaded")
            else:
                self._adopt(config, site, listeners)

    def _change_takers(
        self, config: Config, listeners: Mapping[Address, socket.socket], settings: TLSSettings | None
    ) -> None:
        """Have applications and certificates of ``config`` ready; if they cannot be had, close what was opened."""
        try:
            self._takers.change(config)
            self._secure(settings)
        except BaseException:
            for address, listener in listeners.items():
                if address not in self._listeners:
                    listener.close()
            raise

    def _adopt(self, config: Config, site: Site, listeners: dict[Address, socket.socket]) -> None:
        dropped = {address: sock for address, sock in self._listeners.items() if address not in listeners}
        previous_config, self.config = self.config, config
        previous_site, self._site = self._site, site
        self._listeners = listeners
        self._allow(self._keeper.settings)
        self._logs.adopt(config, previous_config)
        are_let_go = self._pool.adopt(config, site, with_manners(config, listeners))
        self._leave(previous_config, dropped)
        if are_let_go:
            self._close_left()
        previous_site.close()
        for name, field in _FIXED_AT_START.items():
            if getattr(config, field) != getattr(self._config_at_start, field):
                self.logger.warning("%s was changed; that takes effect at the next start", name)
        if config.applications and needs_processes(config) != self._takers.has_processes:
            self.logger.warning(
                "ApplicationProcesses was changed from or to 0; that takes effect at the next start"
            )
        self.logger.info("configuration reloaded; listening on %s", ", ".join(self._described()))
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
    ) -> None:
        """Drain: stop accepting, finish the requests in flight, and end within ``timeout_s`` (None: DrainTimeout).

        All goes on as before for DrainDelay first, but for ``readyz``.
        An idle connection has ``grace_s`` for a last request (None: ``GRACE_S``). If connections are still busy
        then, ``on_wait`` is called with their number.
        """
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = self._condition.is_draining = True
        note_end(self)
        self._is_urgent.wait(self.config.drain_delay_s)
        timeout_s = self.config.drain_timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout_s
        grace_s = min(GRACE_S if grace_s is None else grace_s, timeout_s / 2)
        are_let_go = self._pool.drain(grace_s, timeout_s)
        listeners, self._listeners = self._listeners, {}
        self._leave(self.config, listeners)
        if are_let_go:
            self._close_left()
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
        listeners, self._listeners = self._listeners, {}
        for listener in listeners.values():
            listener.close()
        self._takers.forget()

    def abort(self) -> None:
        """Make a ``stop`` in progress end now, cutting off connections. For any thread and signal handler."""
        self._is_urgent.set()
        self._pool.stop()

    def _leave(self, config: Config, listeners: Mapping[Address, socket.socket]) -> None:
        """Let nobody in any more, and hand over what still waits in the listeners' queues."""
        for address, listener in listeners.items():
            if address[0] != ACTIVATED:  # with those the service manager may go on
                turn_away(listener)
            self._pool.accept_rest(Listener(listener, manner_of(config, address)))
            self._left.append(listener)

    def _close_left(self) -> None:
        """Close the listeners that were left, which no worker watches any more.

        One that hangs may still watch them: they stay open until it has done what it was told, or has ended.
        """
        left, self._left = self._left, []
        for listener in left:
            listener.close()

    def _close(self) -> None:
        self._keeper.close()
        self._close_left()
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


def _tls_of(config: Config) -> TLSSettings | None:
    """Return what ``config`` says of TLS, with the certificates' names as they are now; raises ``ConfigError``."""
    if not config.speaks_tls:
        return None
    try:
        return tls_settings(
            config.tls_certificates, config.tls_versions, config.tls_client_ca, config.tls_ticket_key
        )
    except ValueError as error:
        raise _wrong_certificate(config, error) from None


def _wrong_certificate(config: Config, error: Exception) -> ConfigError:
    place = config.given.get("TLSCertificate", (config.config_path or "configuration", 0))
    return ConfigError((Problem(*place, f"TLSCertificate: {error}"),))


def _check_pairs(config: Config, user: str) -> None:
    """Raise ``ConfigError`` where ``user``, which this process has become, cannot read what root could."""
    if not config.tls_certificates:
        return
    from ..tls.pairs import problem_of

    for pair in config.tls_certificates:
        if wrong := problem_of(*pair):
            text = f"TLSCertificate: {wrong}; {user} (User) reads it, now and at every renewal"
            raise ConfigError((Problem(*config.given["TLSCertificate"], text),))
