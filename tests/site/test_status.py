"""StatusPath: health, readiness, metrics by Prometheus's own parser, and the live page in Chromium."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import browser
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rawhttp import Client, get, put, wait_until
from selenium import webdriver

from fastws import Config, Server, backend, load
from fastws.application.tally import ApplicationStatus
from fastws.files.root import Nothing
from fastws.http.messages import Request, Response
from fastws.record.tally import WorkerStatus
from fastws.seam import DURATION_BOUNDS_S
from fastws.site.publication import Decision
from fastws.site.site import Site
from fastws.site.status import About


class Source:
    """Two workers with known counts."""

    def __init__(self) -> None:
        self.is_draining = False
        self.start_time_s = 1_700_000_000.25
        self.is_reload_good = True
        self.turns = 0

    def about(self) -> About:
        build = {"version": "1.2", "parser": "compiled", "reactor": "pure"}
        return About(build, self.start_time_s, 3, 1_700_000_500.5, self.is_reload_good)

    def listener_queues(self) -> dict[str, tuple[int, int]]:
        return {"127.0.0.1:80": (5, 4096)}

    def application_status(self) -> ApplicationStatus:
        return ApplicationStatus(1, 2, 3, 0.5, 1.5, 4, {"hung": 5})

    def lost_lines(self) -> dict[str, int]:
        return {"access": 7, "error": 0}

    def certificate_ends(self) -> dict[str, float]:
        return {'/a "b".pem': 1_800_000_000.0}

    def worker_status(self) -> Sequence[WorkerStatus]:
        self.turns += 1
        durations = [0] * (len(DURATION_BOUNDS_S) + 1)
        durations[0], durations[3], durations[-1] = 90 * self.turns, 9, 1
        done = sum(durations)
        busy = WorkerStatus(7, (0, done - 4, 1, 2, 1), durations, 12.5, 5000 * self.turns, 60, 40, 4096)
        return [busy, WorkerStatus(0, (0,) * 5, [0] * len(durations), 0.0, 0, 0, 0, 0)]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    put(tmp_path / "root", {"index.html": b"index"})
    path = tmp_path / "ws.conf"
    path.write_text("ListenPort 8080\nDocumentRoot root\nStatusPath /-/\nFallback /index.html\n")
    return load(str(path))


def make_site(config: Config, **others: Any) -> Site:
    opener = backend.load().opener
    return Site(config, logging.getLogger("test"), opener=opener, hidden=Nothing(), **others)


def site(config: Config, source: Source | None = None) -> Site:
    return make_site(config, replays=False, status=source)


def decide(where: Site, target: str, peer: str = "127.0.0.1", method: str = "GET", **fields: str) -> Decision:
    names = {name.replace("_", "-"): value for name, value in fields.items()}
    return where.respond(Request(method, target, "HTTP/1.1", {"host": "x", **names}, 0), b"", peer)


def ask(where: Site, target: str, *others: str, **fields: str) -> Response:
    return decide(where, target, *others, **fields).response


def body(response: Response) -> bytes:
    return b"".join(piece for piece in response.body if isinstance(piece, bytes))


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels, as Prometheus's parser reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_healthz_and_readyz_say_so(config: Config) -> None:
    source = Source()
    ours = site(config, source)
    assert (ask(ours, "/-/healthz").status, body(ask(ours, "/-/healthz"))) == (200, b"ok\n")
    assert (ask(ours, "/-/readyz").status, body(ask(ours, "/-/readyz"))) == (200, b"ready\n")
    source.is_draining = True
    assert ask(ours, "/-/healthz").status == 200
    assert (ask(ours, "/-/readyz").status, body(ask(ours, "/-/readyz"))) == (503, b"draining\n")


def test_metrics_are_read_by_prometheus(config: Config) -> None:
    response = ask(site(config, Source()), "/-/metrics")
    assert ("Content-Type", "text/plain; version=0.0.4; charset=utf-8") in response.fields
    read = samples(body(response))
    one = ("worker", "0")
    assert read["fastws_connections", (one,)] == 7
    assert read["fastws_requests_total", (("class", "2xx"), one)] == 96
    assert read["fastws_requests_total", (("class", "5xx"), one)] == 1
    assert read["fastws_cache_hits_total", (one,)] == 60
    assert read["fastws_cache_misses_total", (one,)] == 40
    assert read["fastws_cache_bytes", (one,)] == 4096
    assert read["fastws_sent_body_bytes_total", (one,)] == 5000
    name = "fastws_request_duration_seconds"
    assert read[f"{name}_bucket", (("le", "0.0001"), one)] == 90
    assert read[f"{name}_bucket", (("le", "0.001"), one)] == 99
    assert read[f"{name}_bucket", (("le", "10.0"), one)] == 99
    assert read[f"{name}_bucket", (("le", "+Inf"), one)] == read[f"{name}_count", (one,)] == 100
    assert read[f"{name}_sum", (one,)] == 12.5
    assert read["fastws_connections", (("worker", "1"),)] == 0
    assert read["fastws_draining", ()] == 0
    info = (("parser", "compiled"), ("reactor", "pure"), ("version", "1.2"))
    assert read["fastws_build_info", info] == 1
    for log, lost in (("access", 7), ("error", 0)):
        assert read["fastws_log_lines_lost_total", (("log", log),)] == lost
    assert read["fastws_start_time_seconds", ()] == 1_700_000_000.25


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only where the platform tells")
def test_metrics_tell_of_the_process(config: Config) -> None:
    ours = site(config, Source())
    first = samples(body(ask(ours, "/-/metrics")))
    assert first["process_start_time_seconds", ()] < time.time()
    assert first["process_resident_memory_bytes", ()] > 1 << 20
    assert first["process_cpu_seconds_total", ()] > 0
    assert first["process_max_fds", ()] >= first["process_open_fds", ()]
    with socket.socket(), socket.socket():
        second = samples(body(ask(ours, "/-/metrics")))
    assert second["process_open_fds", ()] - first["process_open_fds", ()] == 2
    assert second["process_start_time_seconds", ()] == first["process_start_time_seconds", ()]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only where the platform tells")
def test_start_time_is_when_the_process_began() -> None:
    program = "from fastws.record.process_samples import process_samples; print(process_samples()[0].value)"
    before = time.time()
    shown = float(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout)
    assert before - 1 < shown < time.time() + 1  # the kernel's ticks are of 10 ms


def test_metrics_leave_out_what_the_platform_does_not_tell(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.record.process_samples.PROC", "/nonexistent")
    read = samples(body(ask(site(config, Source()), "/-/metrics")))
    assert ("process_resident_memory_bytes", ()) not in read
    assert ("process_cpu_seconds_total", ()) in read
    assert read["fastws_draining", ()] == 0


def test_metrics_have_help_and_type_and_end_with_a_line_feed(config: Config) -> None:
    text = body(ask(site(config, Source()), "/-/metrics"))
    assert text.endswith(b"\n")
    families = list(text_string_to_metric_families(text.decode()))
    assert all(family.documentation and family.type != "unknown" for family in families)
    assert len({family.name for family in families}) == len(families)


def test_without_a_source_there_are_pages_all_the_same(config: Config) -> None:
    for page in ("", "healthz", "readyz", "metrics"):
        assert ask(site(config), f"/-/{page}").status == 200


@pytest.mark.parametrize(
    ("peer", "fields", "is_shown"),
    [
        ("127.0.0.1", {}, True),
        ("127.8.9.10", {}, True),
        ("::1", {}, True),
        ("::ffff:127.0.0.1", {}, True),
        ("unix:", {}, True),
        ("192.0.2.1", {}, False),
        ("2001:db8::1", {}, False),
        ("fe80::1%eth0", {}, False),
        ("::ffff:192.0.2.1", {}, False),
        ("", {}, False),
        # What a proxy on this machine forwards is not from this machine.
        ("127.0.0.1", {"x_forwarded_for": "192.0.2.1"}, False),
        ("127.0.0.1", {"forwarded": "for=192.0.2.1"}, False),
        ("unix:", {"via": "1.1 proxy"}, False),
        ("127.0.0.1", {"x_real_ip": "192.0.2.1"}, False),
        ("127.0.0.1", {"x_forwarded_proto": "https"}, False),
        ("unix:", {"x_forwarded_host": "www.example.org"}, False),
        ("127.0.0.1", {"x_forwarder": "no proxy's"}, True),
    ],
)
def test_status_is_for_this_machine_alone(
    config: Config, peer: str, fields: dict[str, str], is_shown: bool
) -> None:
    # To others there is nothing: the fallback answers, as for any path.
    shown = body(ask(site(config), "/-/healthz", peer, **fields))
    assert (shown == b"ok\n") == is_shown


def test_file_below_status_path_is_not_replayed(config: Config, tmp_path: Path) -> None:
    # It is what others see there, and must not be replayed to those who are to see the page.
    put(tmp_path / "root", {"-/healthz": b"a file", "-/index.html": b"an index", "-/other.html": b"another"})
    config = config.with_overrides(default_type="application/octet-stream")
    ours = make_site(config, replays=True)
    for peer, fields in (("192.0.2.1", {}), ("127.0.0.1", {"x_forwarded_for": "192.0.2.1"})):
        for target, expected in (
            ("/-/healthz", b"a file"),
            ("/-/", b"an index"),
            ("/-/other.html", b"another"),
        ):
            response, published, _ = decide(ours, target, peer, **fields)
            assert body(response) == expected
            assert published is None, target
    assert body(ask(ours, "/-/healthz")) == b"ok\n"
    assert decide(ours, "/index.html").publication is not None


def test_served_status_is_not_hidden_by_a_file_of_its_name(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    put(tmp_path / "root", {"-/healthz": b"a file"})
    with Client(serve("StatusPath /-/", "WorkerThreads 1")) as client:
        for _ in range(3):
            assert client.get("/-/healthz", "X-Forwarded-For: 192.0.2.1").body == b"a file"
            assert client.get("/-/healthz").body == b"ok\n"


def test_status_allow_lets_others_in(config: Config) -> None:
    ours = site(config.with_overrides(status_allow=("192.0.2.0/24", "2001:db8::/32")))
    for peer in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "127.0.0.1"):
        assert body(ask(ours, "/-/healthz", peer)) == b"ok\n"
    assert body(ask(ours, "/-/healthz", "192.0.2.7", forwarded="for=203.0.113.1")) == b"ok\n"
    assert body(ask(ours, "/-/healthz", "192.0.3.7")) != b"ok\n"


def test_post_is_405_and_unknown_pages_are_none(config: Config) -> None:
    ours = site(config.with_overrides(fallback=None))
    assert ask(ours, "/-/metrics", method="POST").status == 405
    assert ask(ours, "/-/metrics", method="HEAD").body == ()
    for target in ("/-/other", "/-/metrics/", "/-", "/-/healthz/../other"):
        assert ask(ours, target).status == 404


def test_status_is_off_by_default(config: Config) -> None:
    ours = site(config.with_overrides(status_path=None, fallback=None))
    assert ask(ours, "/-/healthz").status == 404


def test_status_is_never_kept(config: Config) -> None:
    for page in ("", "healthz", "readyz", "metrics"):
        response, published, _ = decide(site(config), f"/-/{page}")
        assert ("Cache-Control", "no-store") in response.fields
        assert published is None


def test_served_status_counts_compressed_bytes(serve: Callable[..., Server], tmp_path: Path) -> None:
    put(tmp_path / "root", {"index.html": b"x" * 5000})
    server = serve("StatusPath /-/")
    before = samples(get(server, "/-/metrics").body)
    assert before["fastws_compressed_bytes", ()] == 0
    wait_until(lambda: get(server, "/", "Accept-Encoding: gzip").all("Content-Encoding"))
    after = samples(get(server, "/-/metrics").body)
    assert after["fastws_compressed_bytes", ()] > 0
    workers = {dict(labels)["worker"] for name, labels in after if name == "fastws_connections"}
    assert len(workers) == server.worker_count
    assert get(server, "/-/metrics", method="HEAD").status == 200


def test_served_status_tells_when_the_server_began(serve: Callable[..., Server]) -> None:
    before = time.time()
    server = serve("StatusPath /-/")
    assert before <= samples(get(server, "/-/metrics").body)["fastws_start_time_seconds", ()] + 0.001
    assert server._condition.start_time_s <= time.time()


def test_served_counts_add_up_on_either_side(serve: Callable[..., Server], tmp_path: Path) -> None:
    put(tmp_path / "root", {"page.txt": b"twelve bytes"})
    server = serve("StatusPath /-/")
    with Client(server) as client:
        for _ in range(20):
            client.get("/page.txt")
        for _ in range(3):
            client.get("/missing")
        read = samples(client.get("/-/metrics").body)

    def total(name: str, **labels: str) -> float:
        return sum(v for (n, ls), v in read.items() if n == name and labels.items() <= dict(ls).items())

    assert total("fastws_requests_total", **{"class": "2xx"}) == 20
    assert total("fastws_requests_total", **{"class": "4xx"}) == 3
    assert total("fastws_request_duration_seconds_count") == 23
    assert total("fastws_request_duration_seconds_bucket", le="+Inf") == 23
    assert total("fastws_cache_hits_total") + total("fastws_cache_misses_total") == 23
    assert total("fastws_sent_body_bytes_total") > 240
    assert total("fastws_connections") == 1


@pytest.mark.browser
def test_live_page_draws_the_metrics_in_chromium(
    config: Config, driver: webdriver.Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()

    def known_source(*arguments: object, status: object = None, **others: object) -> Site:
        return Site(*arguments, status=source, **others)  # type: ignore[arg-type]

    monkeypatch.setattr("fastws.operation.server.Site", known_source)
    with Server(config.with_overrides(listen_ports=(0,))) as server:
        browser.resize(driver, 360, 640, mobile=True)
        browser.open_page(driver, f"{server.url}-/")
        browser.wait_for(driver, "document.querySelectorAll('#rate path').length === 2")
        assert driver.execute_script("return document.getElementById('state').textContent") == "is serving"
        cards = driver.execute_script("return document.getElementById('cards').textContent")
        assert "60.0 %" in cards
        assert "≤ 100 µs" in cards
        assert driver.execute_script("return document.querySelectorAll('#workers tr').length") == 2
        assert driver.execute_script("return document.querySelectorAll('#latency rect').length") == 13
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        table = "document.querySelector('.scroll')"
        assert driver.execute_script(f"return {table}.scrollWidth <= {table}.clientWidth")
        assert driver.execute_script("return document.getElementById('version').textContent") == "1.2"
        source.start_time_s = time.time() - 3 * 3600 - 62
        browser.wait_for(driver, "document.getElementById('uptime').textContent === 'up for 3 h 1 min'")
        source.is_reload_good = False
        browser.wait_for(
            driver, "document.getElementById('state').textContent === 'is serving; the last reload failed'"
        )
        means = driver.execute_script("return document.querySelector('dl').textContent")
        for heading in driver.execute_script(
            "return [...document.querySelectorAll('th')].map(e => e.innerText)"
        ):
            assert heading.removesuffix("s") in means.lower() or heading in ("requests", "5xx", "cache"), (
                heading
            )
        browser.resize(driver, 1280, 900)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        source.is_draining = True
        browser.wait_for(driver, "document.getElementById('state').textContent === 'is draining'")
    browser.wait_for(driver, "document.getElementById('state').textContent === 'does not answer'")
    assert [message for message in browser.console_errors(driver) if "ERR_CONNECTION" not in message] == []
