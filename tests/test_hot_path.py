"""The compiled hot path over long runs of hits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import Client, put

from fastws import Server, worker

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
