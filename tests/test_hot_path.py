"""The compiled hot path over long runs of hits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from rawhttp import Client, put

from fastws import Server

REQUEST = b"GET /page.html HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"f" * 900 + b"\r\n\r\n"
SHORT = 600
LONG = 6000  # three times what the compiled reactor's arena holds
BATCH = 60


def _seconds_for_hits(server: Server, count: int) -> float:
    with Client(server) as client:
        for _ in range(3):
            client.get("/page.html")
        client.send(REQUEST)
        missing = count * len(client.sock.recv(65536))  # every answer has the same length
        begun = time.monotonic()
        sender = threading.Thread(
            target=lambda: [client.send(REQUEST * BATCH) for _ in range(count // BATCH)]
        )
        sender.start()
        while missing:
            missing -= len(client.sock.recv(1 << 20))
        sender.join()
        return time.monotonic() - begun


def test_a_long_run_of_hits_never_stalls(serve: Callable[..., Server], tmp_path: Path) -> None:
    root = put(tmp_path / "root", {"page.html": b"x" * 100})
    server = serve("WorkerThreads 1", "AccessLog off", root=root)
    short = min(_seconds_for_hits(server, SHORT) for _ in range(5))
    long = min(_seconds_for_hits(server, LONG) for _ in range(3))  # each of them fills the arena
    assert long < 5 * short * LONG / SHORT
