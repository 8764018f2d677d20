"""The compiled hot path over long runs of hits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from rawhttp import Client, put

from fastws import Server

REQUEST = b"GET /page.html HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"f" * 900 + b"\r\n\r\n"
COUNT = 6000  # three times what the compiled reactor's arena holds
BATCH = 60


def _seconds_for_many_hits(server: Server) -> float:
    with Client(server) as client:
        for _ in range(3):
            client.get("/page.html")
        begun = time.monotonic()
        sender = threading.Thread(
            target=lambda: [client.send(REQUEST * BATCH) for _ in range(COUNT // BATCH)]
        )
        sender.start()
        for _ in range(COUNT):
            assert client.reply().status == 200
        sender.join()
        return time.monotonic() - begun


def test_a_long_run_of_hits_never_stalls(serve: Callable[..., Server], tmp_path: Path) -> None:
    root = put(tmp_path / "root", {"page.html": b"x" * 100})
    # With the log on, Python is entered for every full buffer; with it off, only at the deadline.
    logged = serve("WorkerThreads 1", root=root)
    silent = serve("WorkerThreads 1", "AccessLog off", root=root)
    ratios = [_seconds_for_many_hits(silent) / _seconds_for_many_hits(logged) for _ in range(3)]
    assert min(ratios) < 2.5, ratios
