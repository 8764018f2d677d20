"""Parts of a server without the server: what the workers share, and books to look at."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastws import Config, backend, defaults
from fastws.engine.shared import Equipment
from fastws.files.root import Nothing
from fastws.processes.takers import Takers
from fastws.record.logfile import ErrorLog, LogFile
from fastws.site.site import Site
from fastws.work.fair_queue import FairQueues


def make_config(tmp_path: Path, **overrides: object) -> Config:
    """Return the configuration of a root with one file, ``a.txt``."""
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (root / "a.txt").write_bytes(b"a file")
    logs = {"access_log": str(tmp_path / "access.txt"), "error_log": str(tmp_path / "errors.txt")}
    return defaults(str(root)).with_overrides(listen_ports=(0,), **logs | overrides)


@contextmanager
def equipped(
    side: backend.Backend, config: Config, worker_count: int = 1
) -> Iterator[tuple[Equipment, Site]]:
    """Yield what the workers of a server of ``config`` share, and its site."""
    error_log = ErrorLog(config.error_log, config.log_level)
    access_log = LogFile(config.access_log, error_log.logger.error)
    queues = FairQueues(error_log.logger)
    applications = Takers(error_log.logger, config, side.parser)
    site = Site(
        config,
        error_log.logger,
        replays=side.reactor.side == "compiled",
        opener=side.opener,
        hidden=Nothing(),
    )
    try:
        yield Equipment(side, access_log, error_log, queues, applications, worker_count), site
    finally:
        site.close()
        queues.close()
        access_log.close()
        error_log.close()


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Yield a socket that listens on a free port and does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
