"""Nothing is left behind: descriptors, memory and references stay flat over any number of requests."""

from __future__ import annotations

import gc
import os
import socket
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from launch import Process, running
from rawhttp import Client, be_at_rest, open_descriptors, put, request, settle, wait_until
from test_memory import BODY, HEAD, UNDER_ASAN, Peers, compiled, configured, publish, soon

from fastws import Server, backend
from fastws.engine.connection import Connection
from fastws.http.errors import HTTPError
from fastws.http.messages import Limits
from fastws.seam import AccessLine, Filled, Published, ReplaySettings

__all__ = ["compiled"]  # a fixture

Round = Callable[["Site"], int]

MEGABYTE = 1 << 20
BLOCKS_PER_REQUEST = 0.02
"""How many allocated blocks a request may leave behind on average. Every kind is at least one in twenty, so that
one that leaves something each time is seen."""

BLOCKS_PER_CHANGE = 20
"""A file's new entity tag is remembered with what it was made from; see ``contents.KNOWN_TAGS``."""

BLOCKS_IN_FLUX = 1000
"""What comes and goes with time, not with requests: the buckets of ``timers.py``, caches of the interpreter."""


class Site:
    """Two servers: ``big`` has room for everything in its table, ``full`` evicts all the time."""

    def __init__(self, serve: Callable[..., Server], root: Path) -> None:
        files = {
            "page.html": BODY,
            "big.bin": bytes(MEGABYTE),
            "form.html": b"<pre></pre>",
            "hot.txt": b"first",
        }
        self.many = [f"many{number}.bin" for number in range(24)]
        self.root = put(root, files | {name: bytes(60_000) for name in self.many})
        log = "AccessLog /dev/null"
        self.big = serve("CacheSize 8M", "WorkerThreads 2", log, root=root, error_log="off")
        self.full = serve("CacheSize 1M", "WorkerThreads 1", log, root=root, error_log="off")
        self.rounds = 0

    @property
    def servers(self) -> tuple[Server, Server]:
        return self.big, self.full


def pipelined(site: Site) -> int:
    """Hits: GET, HEAD and 304 mixed, many in one segment."""
    with Client(site.big) as client:
        etag = client.get("/page.html")["ETag"]
        lines = [
            ("/page.html", "GET", ()),
            ("/page.html?q", "HEAD", ()),
            ("/page.html", "GET", (f"If-None-Match: {etag}",)),
        ]
        client.send(b"".join(request(target, *extra, method=method) for target, method, extra in lines) * 30)
        for number in range(90):
            assert client.reply(lines[number % 3][1]).status == (304 if number % 3 == 2 else 200)
    return 91


def decided(site: Site) -> int:
    """Misses, one after another: not found, ranges, forms, refusals."""
    with Client(site.big) as client:
        for _ in range(10):
            assert client.get("/none").status == 404
            assert client.get("/page.html", "Range: bytes=1-5").status == 206
            assert client.get("/page.html", "Range: bytes=900-").status == 416
            form = "Content-Type: application/x-www-form-urlencoded"
            assert client.get("/form.html", form, method="POST", body=b"a=b&c=d").status == 200
            assert client.get("/page.html", method="DELETE").status == 501
    with Client(site.big) as client:
        client.send(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        assert client.reply().status == 400
    return 51


def half_closed(site: Site) -> int:
    for target in ("/page.html", "/none") * 6 + ("/big.bin",):
        with Client(site.big) as client:
            client.send(request(target))
            client.half_close()
            client.reply()
            assert client.is_over()
    return 13


def reset(site: Site) -> int:
    """Connections that end in the middle of an answer, of a head and of a body."""
    beginnings = [
        request("/big.bin") * 2,
        request("/page.html") * 20 + request("/big.bin"),
        b"GET /page.html HTTP/1.1\r\nHo",
        b"POST /form.html HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
    ]
    for _ in range(4):
        for data in beginnings:
            with Client(site.big, receive_buffer=4096) as client:
                client.send(data)
                if b"big" in data:
                    client.sock.recv(100)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return 16


def partial(site: Site) -> int:
    """A body far larger than the reader's buffer, so that the reactor hands the rest over to Python."""
    with Client(site.big, receive_buffer=4096) as client:
        client.send(request("/big.bin") + request("/page.html") * 10 + request("/none"))
        sizes = [len(client.reply().body) for _ in range(11)]
        assert sizes == [MEGABYTE] + [len(BODY)] * 10
        assert client.reply().status == 404
    return 12


def evicted(site: Site) -> int:
    with Client(site.full) as client:
        for name in site.many:
            assert len(client.get(f"/{name}").body) == 60_000
    return len(site.many)


def republished(site: Site) -> int:
    """A hot file changes, and is published again; not in every round, for it has to settle."""
    site.rounds += 1
    if site.rounds % 5:
        return 0
    path = site.root / "hot.txt"
    body = b"state %d" % site.rounds
    path.write_bytes(body)
    with Client(site.big) as client:
        assert client.get("/hot.txt").body == body
        settle(path)
        for _ in range(9):
            assert client.get("/hot.txt").body == body
    return 10


ROUNDS: tuple[Round, ...] = (pipelined, decided, half_closed, reset, partial, evicted, republished)


class Usage:
    """What the process holds at a moment of rest."""

    def __init__(self, site: Site) -> None:
        for server in site.servers:
            be_at_rest(server)
        self.changes = site.rounds // 5
        self.descriptors = open_descriptors()
        self.blocks = sys.getallocatedblocks()
        self.resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.connections = sum(isinstance(thing, Connection) for thing in gc.get_objects())


def run_rounds(site: Site, count: int) -> int:
    done = 0
    while done < count:
        for each in ROUNDS:
            done += each(site)
    return done


def check_flatness(site: Site, count: int) -> tuple[Usage, Usage, int]:
    """Do ``count`` requests, and over again if memory grew more than it may: what leaks does so each time.

    What comes and goes with time may just have come, above all on a slow machine.
    """
    run_rounds(site, max(1000, count // 10))
    workers = sum(server.worker_count for server in site.servers)
    after = Usage(site)
    for _ in range(3):
        before, done, after = after, run_rounds(site, count), Usage(site)
        assert after.descriptors == before.descriptors
        assert (
            max(before.connections, after.connections) <= workers
        )  # each loop's variables hold the last one
        allowed = (
            BLOCKS_IN_FLUX + done * BLOCKS_PER_REQUEST + (after.changes - before.changes) * BLOCKS_PER_CHANGE
        )
        grown = (after.blocks - before.blocks, after.resident - before.resident)
        # AddressSanitizer keeps what was freed.
        if grown[0] < allowed and (UNDER_ASAN or grown[1] < 6 * MEGABYTE):
            return before, after, done
    raise AssertionError(
        f"{grown[0]} blocks (allowed: {allowed:.0f}) and {grown[1]} bytes of memory are left"
    )


def test_descriptors_and_memory_stay_flat(
    serve: Callable[..., Server], side: backend.Backend, tmp_path: Path
) -> None:
    site = Site(serve, tmp_path / "root")
    check_flatness(site, 30_000 if side.reactor.side == "compiled" and not UNDER_ASAN else 4_000)
    if side.reactor.side == "compiled":
        hits = sum(status.cache_hits for status in site.big.worker_status())
        assert hits > (1_000 if UNDER_ASAN else 10_000)
        assert sum(worker.reactor.counters().evicted for worker in site.full._pool.workers) > 100


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_descriptors_and_memory_stay_flat_over_a_million_requests(
    serve: Callable[..., Server], side: backend.Backend, tmp_path: Path
) -> None:
    if side.reactor.side != "compiled":
        pytest.skip("a million requests are for the compiled side")
    count = 60_000 if os.environ.get("FASTWS_BOUNDED") else 1_000_000
    before, after, done = check_flatness(Site(serve, tmp_path / "root"), count)
    print(
        f"{done} requests: {after.descriptors} descriptors before and after, "
        f"{after.blocks - before.blocks:+d} blocks, {(after.resident - before.resident) / 1024:+.0f} KiB resident"
    )


# References


def check_leftover(work: Callable[[], object], times: int = 3_000) -> None:
    """Do ``work`` ``times`` times, and over again if that left something: a leak leaves it each time.

    What else goes on in this process, by other threads, does not.
    """
    for _ in range(300):
        work()
    for _ in range(3):
        blocks, size = leftover(work, times)
        if blocks < 100 and size < 20_000:
            return
    raise AssertionError(f"{blocks} blocks and {size} bytes are left")


def leftover(work: Callable[[], object], times: int) -> tuple[int, int]:
    """Return how many blocks and traced bytes ``work`` leaves behind when it is done ``times`` times."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        blocks, (size, _) = sys.getallocatedblocks(), tracemalloc.get_traced_memory()
        for _ in range(times):
            work()
        gc.collect()
        return sys.getallocatedblocks() - blocks, tracemalloc.get_traced_memory()[0] - size
    finally:
        tracemalloc.stop()


REQUEST_HEAD = (
    b"GET /a/b?c HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\naccept: x\r\nX-Never-Seen: \xe9t\xe9\r\n"
    b"A-Name-Beyond-What-The-Table-Of-Names-Holds: y\r\n\r\n"
)


def test_parsing_leaves_nothing(side: backend.Backend) -> None:
    def work() -> None:
        for data in (REQUEST_HEAD, b"M /x HTTP/1.0\r\n\r\n", b"GET /x HTTP/9.9\r\nA:\r\n\r\n", b"GET / HTTP"):
            side.parser.parse_request(data, 0, 0, Limits())
        for bad in (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"\r\n\r\n", b"\0"):
            with pytest.raises(HTTPError):
                side.parser.parse_request(bad, 0, 0, Limits())
        with pytest.raises(IndexError):
            side.parser.parse_request(b"", 1, 0, Limits())

    check_leftover(work)


def test_requests_own_their_parts_once(side: backend.Backend) -> None:
    method, target, version, fields, size = side.parser.parse_request(REQUEST_HEAD * 1, 0, 0, Limits()) or ()
    # The name here, the tuple is gone, and getrefcount's argument.
    assert sys.getrefcount(target) == 2
    assert sys.getrefcount(fields) == 2
    interned = [method, version, next(iter(fields))]
    counts = [sys.getrefcount(text) for text in interned]
    for _ in range(1000):
        side.parser.parse_request(REQUEST_HEAD, 0, 0, Limits())
    assert [sys.getrefcount(text) for text in interned] == counts
    assert size == len(REQUEST_HEAD)


def test_building_heads_and_lines_leaves_nothing(side: backend.Backend) -> None:
    fields = (("ETag", '"x"'), ("X-Long", "y" * 500))
    line = AccessLine("::1", "user", "time", "GET / HTTP/1.1", 200, 10**12, "é" * 40, "\\")

    def work() -> None:
        side.parser.build_head(200, fields)
        side.parser.check_given("200 OK", [*fields, ("Content-Length", "5")], fields)
        side.parser.format_access_line("combined", line)
        side.parser.format_access_line("json", line)
        with pytest.raises(ValueError, match="control"):
            side.parser.build_head(200, (*fields, ("A", "b\n")))
        with pytest.raises(KeyError):
            side.parser.build_head(999, ())
        with pytest.raises(ValueError, match="a character"):
            side.parser.check_given("200 OK", [("A", "b\n")], fields)

    check_leftover(work)


def test_publishing_and_evicting_leaves_nothing(compiled: backend.Backend) -> None:
    body, content = b"x" * 100_000, object()
    paths = [f"/{number}" for number in range(30)]
    depends = (("/", (1, 2, 3, 4, 5)),)
    with closing(configured(compiled, cache_bytes=1 << 20)) as reactor:

        def work() -> None:
            for path in paths:
                reactor.publish(Published(path, -1, HEAD, HEAD, body, '"t"', "", depends, content))
            reactor.publish(
                Published("/0", 1, HEAD, HEAD, body, '"t"', "", (("/", (1, 2, 3, 1 << 90, 5)),), content)
            )
            reactor.publish(Published("/0", 1, HEAD, HEAD, body, '"t"', "", depends * 9, content))
            reactor.learn_codings("gzip", 1)
            with pytest.raises(ValueError, match="unpack"):
                reactor.publish(Published("/0", 1, HEAD, HEAD, body, '"t"', "", (("/", (1,)),), content))

        bare = sys.getrefcount(body), sys.getrefcount(content)
        work()
        check_leftover(work, 300)
        counters = reactor.counters()
        assert counters.entries <= 10
        assert counters.evicted > 1_000
        assert sys.getrefcount(content) == bare[1] + counters.entries
        reactor.configure(
            ReplaySettings(
                limits=Limits(),
                methods=(),
                versions=(),
                cache_bytes=0,
                log_format="off",
                default_codings=0,
            ),
            lambda *_: Filled.UNDECIDED,
        )
        assert (sys.getrefcount(body), sys.getrefcount(content)) == bare


def test_replaying_leaves_nothing(compiled: backend.Backend) -> None:
    body = b"x" * (1 << 19)
    with closing(configured(compiled, "combined")) as reactor:
        publish(reactor, "/big", body)
        publish(reactor, "/page")

        def work() -> None:
            with Peers(reactor, 2) as peers:
                peers.theirs[0].send(request("/big") + request("/page"))
                peers.theirs[1].send(request("/page") * 3 + b"GET /none")
                seen = 0
                while seen < 2:
                    seen += len(reactor.wait(soon()))
            reactor.take_log()

        check_leftover(work, 500)
        assert reactor.counters().hits > 1_000


# No descriptor left


LIMIT = 60
EXHAUSTED = (
    "import os, resource, sys\n"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture(params=["compiled", "pure"])
def exhausted(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Process, list[socket.socket]]]:
    """A server that has no descriptor left, and more clients than it can accept."""
    if request.param == "compiled" and os.environ.get("FASTWS_NO_EXTENSIONS") == "1":
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    put(tmp_path, {"page.html": BODY})
    text = 'DocumentRoot "."\nListenPort 8080\nContentType .html text/html\nErrorLog error.log\nWorkerThreads 2\n'
    (tmp_path / "ws.conf").write_text(text)
    prefix = [sys.executable, "-c", EXHAUSTED]
    with (
        running(tmp_path, "--config", "ws.conf", side=request.param, prefix=prefix) as process,
        ExitStack() as stack,
    ):
        clients = []
        for _ in range(2 * LIMIT):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", process.port)))
            clients.append(client)
        log = tmp_path / "error.log"
        wait_until(lambda: "accepting rests" in log.read_text(), "the end of descriptors")
        yield process, clients


def processor_seconds(process: Process) -> float:
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_accepting_rests_and_comes_back(
    exhausted: tuple[Process, list[socket.socket]],
) -> None:
    process, clients = exhausted
    before = processor_seconds(process)
    clients[0].settimeout(1.0)
    with pytest.raises(TimeoutError):  # a second in which nothing happens
        clients[0].recv(1)
    assert processor_seconds(process) - before < 0.25
    for client in clients:
        client.close()
    with Client(process.port) as after:
        assert after.get("/page.html").status == 200
