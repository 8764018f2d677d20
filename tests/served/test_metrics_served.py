"""StatusPath of a running server: counts agree with the access log, outlive a reload, and show a drain."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import port_of
from hammer import hammering, holding
from prometheus_client.parser import text_string_to_metric_families
from rawhttp import Client, ProtocolError, get, put, request, wait_until

from fastws import Config, ConfigError, Server
from fastws.http.errors import Problem
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


def test_reloads_are_counted_and_a_failed_one_is_seen(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/")

    def figures() -> tuple[float, float, float]:
        text = get(server, "/-/metrics").body
        names = ("generation", "last_reload_successful", "last_reload_success_timestamp_seconds")
        first, second, third = [total(text, f"fastws_config_{name}") for name in names]
        return first, second, third

    text = get(server, "/-/metrics").body
    first = figures()
    assert first == (1, 1, total(text, "fastws_start_time_seconds"))

    def wrong() -> Config:
        raise ConfigError((Problem("ws.conf", 1, "nothing is right"),))

    server.reload(wrong)
    assert figures() == (1, 0, first[2])
    server.reload(lambda: server.config)
    generation, is_good, at = figures()
    assert (generation, is_good) == (2, 1)
    assert at > first[2]


def test_connections_are_counted_by_what_they_do(serve: Serve, root: Path) -> None:
    server = serve("StatusPath /-/", "WorkerThreads 1")

    def states() -> dict[str, int]:
        found = next(
            family.samples
            for family in text_string_to_metric_families(get(server, "/-/metrics").body.decode())
            if family.name == "fastws_connection_states"
        )
        return {sample.labels["state"]: int(sample.value) for sample in found}

    # The one that asks is in its head, as far as the server knows, or has it behind it.
    with Client(server) as idle, Client(server) as half, Client(server) as body:
        assert idle.get("/page.txt").status == 200
        half.send(b"GET /page.txt HTTP/1.1\r\nHost")
        body.send(b"POST /page.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        wait_until(lambda: states()["body"] == 1)
        found = states()
        assert sum(found.values()) == 4
        assert found["idle"] + found["kept"] >= 1
        assert found["head"] >= 1
    wait_until(lambda: sum(states().values()) == 1)


@pytest.mark.posix
def test_queue_of_a_listener_is_seen(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("StatusPath /-/", f"Listen unix:{tmp_path / 'socket'}", "WorkerThreads 1")
    address = f"127.0.0.1:{server.port}"
    text = get(server, "/-/metrics").body
    if sys.platform != "linux":
        assert b"fastws_listener_queue" not in text
        return
    assert total(text, "fastws_listener_queue", address=address) == 0
    assert total(text, "fastws_listener_queue_limit", address=address) >= 128
    with holding(server), Client(server), Client(server):
        wait_until(lambda: server.listeners.queues()[address][0] == 2)
    wait_until(lambda: server.listeners.queues()[address][0] == 0)
