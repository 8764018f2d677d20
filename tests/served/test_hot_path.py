"""The compiled hot path over long runs of hits."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import PURE_ONLY
from rawhttp import Client, put, wait_until

from fastws import Server, backend, load
from fastws.engine import worker
from fastws.files.identity import identity_of, is_settled

REQUEST = b"GET /page.html HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"f" * 900 + b"\r\n\r\n"
SHORT = 600
LONG = 6000  # three times what the compiled reactor's arena holds
BATCH = 60
FAR_S = 3600


def _processor_seconds_for_hits(server: Server, count: int) -> float:
    """What ``count`` hits cost this process, which is server and client; other processes do not count."""
    with Client(server) as client:
        for _ in range(3):
            client.get("/page.html")
        client.send(REQUEST)
        missing = count * len(client.sock.recv(65536))  # every answer has the same length
        begun = time.process_time()
        sender = threading.Thread(
            target=lambda: [client.send(REQUEST * BATCH) for _ in range(count // BATCH)]
        )
        sender.start()
        while missing:
            missing -= len(client.sock.recv(1 << 20))
        sender.join()
        return time.process_time() - begun


def test_a_long_run_of_hits_never_stalls(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stall lasts until a deadline of the worker: here all are so far away that the client would give up."""
    monkeypatch.setattr(worker, "FLUSH_S", FAR_S)
    root = put(tmp_path / "root", {"page.html": b"x" * 100})
    far = (f"KeepaliveTime {FAR_S}", f"RequestTimeout {FAR_S}")
    server = serve("WorkerThreads 1", "AccessLog off", *far, root=root)
    short = min(_processor_seconds_for_hits(server, SHORT) for _ in range(5))
    long = min(_processor_seconds_for_hits(server, LONG) for _ in range(3))
    assert long < 5 * short * LONG / SHORT


EVERYTHING = (
    "Compression on",
    "DirectoryListing on",
    "CleanUrls on",
    "Fallback /index.html",
    "ErrorPage 404 /404.html",
    "Redirect /old /new",
    "Header X-Style yes *.css",
    'CacheControl *.js "max-age=60"',
    "BasicAuth /private/* users",
    "StatusPath /-/",
)
CLIENTS = 16
TURNS, ROUNDS = 20, 31
ATTEMPTS = 6


class _Busy:
    """A server of one worker with clients that ask together, so that a turn of its loop answers many."""

    def __init__(self, stack: ExitStack, directory: Path, *lines: str) -> None:
        path = directory / "ws.conf"
        needed = ("ListenPort 8080", "DocumentRoot root", "DefaultType text/plain", "WorkerThreads 1")
        path.write_text("\n".join([*needed, *lines]) + "\n")
        config = load(str(path)).with_overrides(listen_ports=(0,))
        self._server = stack.enter_context(Server(config, backend=backend.load(pure=False, required=True)))
        self._clients = [stack.enter_context(Client(self._server)) for _ in range(CLIENTS)]
        for client in self._clients:
            for _ in range(3):
                assert client.get("/page.html", "Accept-Encoding: gzip, br").status == 200
        ident = self._server._pool.workers[0]._thread.ident
        assert ident is not None
        self._clock = time.pthread_getcpuclockid(ident)

    def measure(self) -> int:
        """The CPU time in ns that the worker thread takes for some turns."""
        begun = time.clock_gettime_ns(self._clock)
        for _ in range(TURNS):
            for client in self._clients:
                client.send(b"GET /page.html HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\n\r\n")
            for client in self._clients:
                client.sock.recv(65536)
        return time.clock_gettime_ns(self._clock) - begun

    @property
    def misses(self) -> int:
        """How many requests Python has answered."""
        return sum(status.cache_misses for status in self._server.worker_status())


@pytest.mark.skipif(PURE_ONLY, reason="FASTWS_NO_EXTENSIONS=1: nothing is replayed")
def test_all_features_together_cost_a_hit_at_most_5_percent(tmp_path: Path) -> None:
    put(tmp_path / "root", {"page.html": b"x" * 1000})
    (tmp_path / "users").write_text("")
    wait_until(lambda: is_settled(identity_of(os.stat(tmp_path / "root/page.html"))))
    with ExitStack() as stack:
        everything = _Busy(stack, tmp_path, *EVERYTHING)
        nothing = _Busy(stack, tmp_path, "Compression off")
        misses = everything.misses + nothing.misses
        # Measured in turn, and again if it seems too much: others on the machine disturb some rounds, not all.
        for _ in range(ATTEMPTS):
            cost = statistics.median([everything.measure() / nothing.measure() for _ in range(ROUNDS)])
            if cost <= 1.05:
                break
        assert everything.misses + nothing.misses == misses
    assert cost <= 1.05
