"""StatusPath of a running server: counts agree with the access log, outlive a reload, and show a drain."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import port_of
from hammer import hammering
from prometheus_client.parser import text_string_to_metric_families
from rawhttp import Client, ProtocolError, get, put, request, wait_until

from fastws import Server
from fastws.tls.settings import CertificatePair

Serve = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"page.txt": b"x" * 1000, "big.bin": bytes(4 << 20)})


def total(text: bytes, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have ``labels``."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_counts_agree_with_the_access_log(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/", "WorkerThreads 2")
    with Client(server) as client:
        etag = client.get("/page.txt")["ETag"]
    with hammering(server.port, "/page.txt", "/page.txt?q"):
        pass
    with hammering(server.port, "/page.txt", lines=[f"If-None-Match: {etag}"], check=lambda _: None):
        pass
    with Client(server) as client:
        client.get("/missing")
        client.get("/page.txt", "Range: bytes=0-9")
    wait_until(lambda: server.connection_count() == 0)
    text = get(server, "/-/metrics").body
    server.stop()
    lines = [line.split() for line in Path(server.config.access_log).read_text().splitlines()]
    lines = [line for line in lines if line[6] != "/-/metrics"]  # which did not count itself
    statuses = [line[8] for line in lines]
    for status_class in "2345":
        seen = total(text, "fastws_requests_total", **{"class": f"{status_class}xx"})
        assert seen == sum(status.startswith(status_class) for status in statuses)
    sent = sum(int(line[9]) for line in lines if line[9] != "-")
    assert total(text, "fastws_sent_body_bytes_total") == sent
    assert total(text, "fastws_request_duration_seconds_count") == len(lines)
    hits, misses = (total(text, f"fastws_cache_{kind}_total") for kind in ("hits", "misses"))
    assert hits + misses == len(lines)
    assert (hits > 200) == getattr(server._backend.reactor, "replays", False)
    assert total(text, "fastws_connections") == 1


def test_each_thread_has_its_own_numbers(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/", "WorkerThreads 2")
    with Client(server) as first, Client(server) as second:
        for client in (first, second):
            client.get("/page.txt")
        # An answer is counted when it is sent, a moment before or after it has arrived.
        wait_until(lambda: [sum(worker.requests) for worker in server.worker_status()] == [1, 1])
        text = first.get("/-/metrics").body
        for worker in "01":
            assert total(text, "fastws_connections", worker=worker) == 1
            assert total(text, "fastws_requests_total", worker=worker) == 1


def test_counts_go_on_after_a_reload_and_the_cache_begins_anew(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/", "WorkerThreads 1")
    with Client(server) as client:
        for _ in range(5):
            client.get("/page.txt")
        before = client.get("/-/metrics").body
        server.reload(lambda: server.config)
        after = client.get("/-/metrics").body
    name = "fastws_requests_total"
    assert total(after, name) == total(before, name) + 1
    assert total(after, "fastws_cache_bytes") == 0
    assert (total(before, "fastws_cache_bytes") > 0) == getattr(server._backend.reactor, "replays", False)


def test_status_path_comes_and_goes_by_reload(serve: Serve, root: Path) -> None:
    server = serve()
    with Client(server) as client:
        assert client.get("/-/healthz").status == 404
        server.reload(lambda: server.config.with_overrides(status_path="/-/"))
        assert client.get("/-/healthz").status == 200
        server.reload(lambda: server.config.with_overrides(status_path=None))
        assert client.get("/-/healthz").status == 404


@pytest.mark.usefixtures("patient")
def test_readiness_ends_with_the_drain(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/")
    with Client(server, receive_buffer=4096) as busy, Client(server) as health, Client(server) as ready:
        busy.send(request("/big.bin"))
        busy.head()
        assert (health.get("/-/healthz").status, ready.get("/-/readyz").status) == (200, 200)
        thread = threading.Thread(target=server.stop, daemon=True)
        thread.start()
        wait_until(lambda: server.is_draining)
        reply = ready.get("/-/readyz")
        assert (reply.status, reply.body) == (503, b"draining\n")
        assert health.get("/-/healthz").status == 200
        with suppress(ProtocolError, OSError):  # until an answer was the last
            while True:
                assert total(health.get("/-/metrics").body, "fastws_draining") == 1
        busy.read(4 << 20)
    thread.join(30)
    assert not thread.is_alive()


def test_latency_is_that_of_the_answer_not_of_the_wait_for_the_request(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/", "WorkerThreads 1", "KeepaliveTime 5")
    with Client(server) as slow, Client(server) as client:
        client.get("/page.txt")
        slow.send(b"GET /page.txt HTTP/1.1\r\nHo")
        client.get("/page.txt")
        wait_until(lambda: server.worker_status()[0].connections == 2)
        threading.Event().wait(0.8)  # what must not be counted
        slow.send(b"st: x\r\n\r\n")
        assert slow.reply().status == 200
        text = client.get("/-/metrics").body
    assert total(text, "fastws_request_duration_seconds_count") == 3
    assert total(text, "fastws_request_duration_seconds_sum") < 0.8


def test_operations_page_lists_every_metric(serve: Serve, root: Path, pair: CertificatePair) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    listed = dict(re.findall(r"^\| `((?:fastws|process)_\w+)` \| ([^|]*?) ?\|", page, re.MULTILINE))
    server = serve("StatusPath /-/", listen="0 tls", tls_certificates=[(pair.certificate, pair.key)])
    text = get(port_of(server, "plain"), "/-/metrics").body.decode()
    served = {}
    for family in text_string_to_metric_families(text):
        (kind,) = re.findall(f"^# TYPE ({family.name}(?:_total)?) ", text, re.MULTILINE)
        labels = [name for name in family.samples[0].labels if name != "le"]
        served[kind] = ", ".join(labels)
    # What the platform does not tell is not there.
    untold = {name: "" for name in listed.keys() - served.keys() if name.startswith("process_")}
    assert listed == served | untold
