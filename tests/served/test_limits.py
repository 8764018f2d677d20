"""Every limit on what a client may send, take, open or wait for: answer, close, and a line in the log."""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from launch import REPOSITORY, running
from rawhttp import Client, ProtocolError, get, is_readable, put, request, wait_until

from fastws import Server, defaults, portable
from fastws.engine.states import FIRST_LOOK
from fastws.http.messages import Limits

Serve = Callable[..., Server]
PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
LIMITS = Limits()
KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    page = {"index.html": b"<pre></pre>", "a.txt": b"a file", "m.bin": b"m" * MIB}
    return put(tmp_path / "root", page | {"big.bin": b"b" * (16 * MIB)})


def error_log(server: Server) -> str:
    """What the error log holds now."""
    return Path(server.config.error_log).read_text()


def check_logged(server: Server, pattern: str) -> None:
    """Wait for a line of the error log that matches ``pattern`` and names the client."""
    peer = re.escape("127.0.0.1: ")
    wait_until(lambda: re.search(f"{peer}.*{pattern}", error_log(server)), f"a log line with {pattern}")


def refused(server: Server, data: bytes, status: int) -> None:
    """Send ``data``, which must be answered with ``status``, a close and a log line that says why."""
    with Client(server) as client:
        client.send(data)
        reply = client.reply()
        assert reply.status == status
        assert reply["Connection"] == "close"
        assert client.is_over()
    check_logged(server, f"{status} .+")


# What a client may send


def test_request_line_of_8_kib_is_read_and_one_more_byte_is_414_and_logged(serve: Serve, root: Path) -> None:
    server = serve("ErrorLog errors.txt")
    frame = len(b"GET /a.txt? HTTP/1.1")  # the line end does not count
    target = "/a.txt?" + "q" * (LIMITS.request_line_bytes - frame)
    assert get(server, target).body == b"a file"
    refused(server, request(target + "q"), 414)


def test_endless_request_line_is_414_before_it_ends(serve: Serve, root: Path) -> None:
    refused(serve("ErrorLog errors.txt"), b"GET /" + b"a" * (LIMITS.request_line_bytes + 1), 414)


def test_head_of_16_kib_is_read_and_one_more_byte_is_431_and_logged(serve: Serve, root: Path) -> None:
    server = serve("ErrorLog errors.txt")
    lines = ["Connection: close", f"A: {'a' * 8000}", "B: "]
    lines[-1] += "b" * (LIMITS.head_bytes - len(request("/a.txt", *lines)))
    assert len(request("/a.txt", *lines)) == LIMITS.head_bytes
    assert get(server, "/a.txt", *lines[1:-1], lines[-1][: -len(lines[0]) - 2]).body == b"a file"
    with Client(server) as client:
        client.send(request("/a.txt", *lines))
        assert client.reply().body == b"a file"
    lines[-1] += "b"
    refused(server, request("/a.txt", *lines), 431)


def test_100_fields_are_read_and_one_more_is_431_and_logged(serve: Serve, root: Path) -> None:
    server = serve("ErrorLog errors.txt")
    lines = [f"X-{i}: {i}" for i in range(LIMITS.field_count - 2)]  # Host and Connection are added
    assert get(server, "/a.txt", *lines).body == b"a file"
    refused(server, request("/a.txt", *lines, "Y: 1", "Z: 1"), 431)


def test_body_beyond_max_body_size_is_413_and_logged(serve: Serve, root: Path) -> None:
    server = serve("MaxBodySize 1000", "ErrorLog errors.txt")
    refused(server, request("/", "Content-Length: 1001", method="POST"), 413)
    chunk = b"3E9\r\n" + b"x" * 1001
    refused(server, request("/", "Transfer-Encoding: chunked", method="POST") + chunk, 413)


def test_body_of_all_too_many_chunks_is_413_and_logged(serve: Serve, root: Path) -> None:
    server = serve("ErrorLog errors.txt", "MaxBodySize 8K")
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    refused(server, head + b"1\r\na\r\n" * (16 * KIB // 5 + 1), 413)


# How long it may take


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: y"])
def test_head_not_complete_within_request_timeout_is_408_and_logged(
    serve: Serve, root: Path, part: bytes
) -> None:
    refused(serve("RequestTimeout 0.2", "ErrorLog errors.txt"), part, 408)


def test_dripping_does_not_put_off_the_deadline_of_a_head(serve: Serve, root: Path) -> None:
    server = serve("RequestTimeout 0.3", "KeepaliveTime 60", "ErrorLog errors.txt")
    with Client(server) as client:
        client.send(b"GET / HTTP/1.1\r\nX: ")
        while not is_readable(client.sock, 0.02):
            client.send(b"x")
        assert client.reply().status == 408
    check_logged(server, "408 ")


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_body_below_min_rate_is_408_and_logged(serve: Serve, root: Path, framing: str) -> None:
    server = serve("StallTime 0.8", "MinRate 100K", "ErrorLog errors.txt")
    with Client(server) as client:
        client.send(request("/", framing, method="POST") + b"F0000\r\n" * framing.endswith("chunked"))
        while not is_readable(client.sock, 0.02):
            client.send(b"x")
        assert client.reply().status == 408
        assert client.is_over()
    check_logged(server, "408 ")


@pytest.mark.parametrize("target", ["/big.bin", "/m.bin"])
def test_reader_of_one_byte_a_second_is_dropped_and_logged(serve: Serve, root: Path, target: str) -> None:
    server = serve("StallTime 1", "MinRate 10K", "ErrorLog errors.txt")
    with Client(server, receive_buffer=4096) as client:
        client.send(request(target) * 20)  # more than any socket buffer takes of the smaller file
        due = time.monotonic()

        def is_dropped() -> bool:
            nonlocal due
            if time.monotonic() >= due:
                assert client.sock.recv(1)
                due += 1
            return not server.connection_count()

        wait_until(is_dropped, "the end of a reader that is too slow")
    check_logged(server, "reads too slowly")


def test_reader_above_min_rate_gets_everything(serve: Serve, root: Path) -> None:
    server = serve("StallTime 1.5", "MinRate 1K", "WorkerThreads 1")
    with Client(server, receive_buffer=4096) as client:
        client.send(request("/m.bin") * 8)
        body = 0
        for _ in range(8):
            client.head()
            for _ in range(16):
                body += len(client.read(MIB // 16))
                time.sleep(0.02)  # the pace of the reader: longer than RequestTimeout in all
        assert body == 8 * MIB


def test_min_rate_0_waits_for_a_reader(serve: Serve, root: Path) -> None:
    server = serve("StallTime 0.1", "MinRate 0")
    with Client(server, receive_buffer=4096) as client:
        client.send(request("/big.bin"))
        client.head()
        time.sleep(0.6)  # many times what a floor would allow
        assert len(client.read(16 * MIB)) == 16 * MIB


def test_idle_connection_is_closed_after_keepalive_time_and_logged_once(serve: Serve, root: Path) -> None:
    server = serve("KeepaliveTime 1", "ErrorLog errors.txt")
    with Client(server) as client:
        assert client.get("/a.txt").status == 200
        assert client.is_over()
    with Client(server) as client:
        assert client.is_over()  # and so is one that never asked
    check_logged(server, "idle connection closed: KeepaliveTime")
    assert error_log(server).count("KeepaliveTime\n") == 2


# How many


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    """Whoever enters here is closed at the end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.plain
def test_connection_beyond_max_connections_is_503_closed_and_logged(serve: Serve, root: Path) -> None:
    server = serve("MaxConnections 2", "ErrorLog errors.txt")
    with Client(server) as one, Client(server) as two:
        assert [one.get("/a.txt").status, two.get("/a.txt").status] == [200, 200]
        refused(server, request("/a.txt"), 503)
        assert one.is_open()
    check_logged(server, "503 The server has too many connections open")


@pytest.mark.plain
def test_connection_beyond_what_the_platform_watches_is_503_and_the_rest_goes_on(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows select takes 512 sockets, and raises an error for one more."""
    monkeypatch.setattr(portable, "CONNECTIONS_MOST", 2)
    monkeypatch.setattr(portable, "WATCHED_MOST", 3)
    server = serve("MaxConnections 100", "WorkerThreads 1", "ErrorLog errors.txt")
    with Client(server) as first, Client(server) as second:
        assert first.get("/a.txt").status == second.get("/a.txt").status == 200
        with Client(server) as third, Client(server) as fourth:
            assert third.get("/a.txt").status == 503
            with contextlib.suppress(OSError, ProtocolError):  # not answered where it cannot be watched
                assert fourth.get("/a.txt").status == 503
        assert first.get("/a.txt").status == second.get("/a.txt").status == 200
    wait_until(lambda: server.connection_count() == 0)
    assert get(server, "/a.txt").status == 200
    assert "Traceback" not in error_log(server)


@pytest.mark.plain
@pytest.mark.parametrize("threads", [1, 2])
def test_connections_up_to_the_limit_are_let_in_and_no_more(
    serve: Serve, root: Path, opened: contextlib.ExitStack, threads: int
) -> None:
    """Far from the limit the compiled reactor keeps them, near it Python looks at each."""
    most = 64 * threads + 20
    server = serve(f"MaxConnections {most}", f"WorkerThreads {threads}")
    clients = [opened.enter_context(Client(server)) for _ in range(most)]
    assert {client.get("/a.txt").status for client in clients} == {200}
    wait_until(lambda: server.connection_count() == most)
    refused(server, request("/a.txt"), 503)
    clients.pop().sock.close()
    wait_until(lambda: server.connection_count() == most - 1)
    assert get(server, "/a.txt").status == 200


@pytest.mark.plain
def test_connections_of_a_moment_ago_are_counted_when_a_reload_limits_them(
    serve: Serve, root: Path, opened: contextlib.ExitStack
) -> None:
    server = serve()
    clients = [opened.enter_context(Client(server)) for _ in range(3)]
    wait_until(lambda: server.connection_count() == 3)
    server.reload(lambda: server.config.with_overrides(max_connections_per_address=3))
    assert server._pool.connections_from("127.0.0.1") == 3
    refused(server, request("/a.txt"), 503)
    assert {client.get("/a.txt").status for client in clients} == {200}


def connect_from(source: str, server: Server) -> Client:
    """A client whose address is ``source``, one of the loopback network."""
    client = Client.__new__(Client)
    client.sock = socket.create_connection(("127.0.0.1", server.port), 20, source_address=(source, 0))
    client.buffer = b""
    return client


@pytest.mark.plain
@pytest.mark.parametrize("threads", [1, 4])
def test_connection_beyond_max_connections_per_address_is_503_closed_and_logged(
    serve: Serve, root: Path, opened: contextlib.ExitStack, threads: int
) -> None:
    server = serve("MaxConnectionsPerAddress 3", f"WorkerThreads {threads}", "ErrorLog errors.txt")
    clients = [opened.enter_context(Client(server)) for _ in range(3)]
    assert [client.get("/a.txt").status for client in clients] == [200] * 3
    refused(server, request("/a.txt"), 503)
    check_logged(server, "503 Your address has too many connections open")
    for _ in range(3):
        other = opened.enter_context(connect_from("127.0.0.2", server))
        assert other.get("/a.txt").status == 200
    with connect_from("127.0.0.2", server) as fourth:
        assert fourth.get("/a.txt").status == 503
    clients.pop().sock.close()
    wait_until(lambda: server._pool.connections_from("127.0.0.1") == 2)
    assert get(server, "/a.txt").status == 200
    assert [client.get("/a.txt").status for client in clients] == [200] * 2


def test_connections_are_counted_down_to_none(serve: Serve, root: Path) -> None:
    server = serve("MaxConnectionsPerAddress 2")
    for _ in range(20):
        assert get(server, "/a.txt").status == 200
        wait_until(lambda: server._pool.connections_from("127.0.0.1") == 0)


def test_addresses_are_not_limited_by_default(serve: Serve, root: Path, opened: contextlib.ExitStack) -> None:
    server = serve()
    clients = [opened.enter_context(Client(server)) for _ in range(100)]
    assert [client.get("/a.txt").status for client in clients] == [200] * 100


@pytest.mark.posix
def test_clients_of_a_unix_socket_have_no_address_to_be_limited(
    serve: Serve, root: Path, tmp_path: Path, opened: contextlib.ExitStack
) -> None:
    serve(f'Listen "unix:{tmp_path}/s"', "MaxConnectionsPerAddress 1")
    for _ in range(5):
        sock = opened.enter_context(socket.socket(socket.AF_UNIX))
        sock.connect(f"{tmp_path}/s")
        sock.sendall(request("/a.txt"))
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


# Pipelining depth, and memory


@pytest.mark.plain
def test_pipelined_requests_wait_in_the_clients_own_buffers(serve: Serve, root: Path) -> None:
    """The server reads no more while an answer waits for its reader, and then answers all, in order."""
    server = serve("WorkerThreads 1")
    one = request("/m.bin")
    with Client(server, receive_buffer=4096) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.sock.setblocking(False)
        sent = 0
        while select.select([], [client.sock], [], 0.5)[1]:  # until nothing moves for half a second
            data = (one * 200)[sent % len(one) :]
            with contextlib.suppress(BlockingIOError):
                sent += client.sock.send(data)
            assert sent < 64 * MIB, "the server reads without end"
        held = [
            len(c.speaker._buffer) for worker in server._pool.workers for c in worker.admission._connections
        ]
        assert held[0] <= 64 * KIB  # as much as one read, and no more than that
        client.sock.settimeout(20)
        for _ in range(5):
            assert client.reply().body == b"m" * MIB


def resident_bytes(pid: int) -> int:
    """The memory that the process has now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize("process_side", ["compiled", "pure"])
@pytest.mark.parametrize(
    ("sent", "most_bytes"),
    [
        (b"", 4 * KIB),  # idle
        (b"GET /" + b"a" * 1000, 8 * KIB),  # half a head
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 16000, 32 * KIB),  # a head that is all but too large
        (request("/", "Content-Length: 100000", method="POST") + b"a" * 50000, 160 * KIB),
    ],
    ids=["idle", "1 KiB of a head", "16 KiB of a head", "50 KB of a body"],
)
def test_memory_of_a_connection_is_bounded(
    tmp_path: Path, root: Path, process_side: str, sent: bytes, most_bytes: int
) -> None:
    if process_side == "compiled" and PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    count = 1000
    (tmp_path / "ws.conf").write_text(
        'DocumentRoot "root"\nListenPort 8080\nRequestTimeout 60\nKeepaliveTime 60\nLogLevel error\n'
        "DefaultType application/octet-stream\n"
    )
    with running(tmp_path, side=process_side) as server, contextlib.ExitStack() as stack:
        warm = [stack.enter_context(Client(server.port)) for _ in range(20)]
        for client in warm:
            assert client.get("/a.txt").status == 200
            client.send(sent)
        before = resident_bytes(server.popen.pid)
        for _ in range(count):
            stack.enter_context(Client(server.port)).send(sent)
        assert get(server.port, "/a.txt").status == 200
        wait_until(lambda: open_sockets(server.popen.pid) > count + 20, "all connections accepted")
        assert get(server.port, "/a.txt").status == 200
        each = (resident_bytes(server.popen.pid) - before) / count
        print(f"{process_side}: {each:.0f} bytes a connection after {len(sent)} bytes")
        assert each <= most_bytes


def open_sockets(pid: int) -> int:
    """How many descriptors the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


# The page


def test_security_page_names_tests_and_defaults_that_are_there() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text()
    tests = {path.name: path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py")}
    for name in re.findall(r"`(test_[\w*]+(?:\.py)?)`", page):
        pattern = re.escape(name).replace(r"\*", r"\w*")
        found = [key for key, text in tests.items() if re.search(rf"\b{pattern}\b", f"{key}\n{text}")]
        assert found, name
    table = page.split("## Limits")[1].split("## Measured")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", table, re.MULTILINE))
    assert rows["request line"] == f"{LIMITS.request_line_bytes >> 10} KiB"
    assert rows["request head"] == f"{LIMITS.head_bytes >> 10} KiB"
    assert rows["header fields"] == str(LIMITS.field_count)
    own = defaults()
    assert rows["request body"] == f"{own.max_body_bytes['*'] >> 20} MiB"
    assert rows["time for a head"].startswith(f"{own.request_timeout_s:g} s ")
    first_s = own.stall_time_s / FIRST_LOOK
    assert rows["speed of a body"] == f"{own.min_rate_bytes_s} bytes a second on average, after {first_s:g} s"
    assert rows["speed of a reader"].endswith(f"stand still for {own.stall_time_s:g} s")
    assert rows["idle connection"] == f"{own.keepalive_time_s:g} s"
    assert rows["open connections"] == f"{own.max_connections:,}"
    assert own.max_connections_per_address == 0
    assert rows["connections of one address"] == "none"
    assert rows["end of the server"] == f"{own.drain_timeout_s:g} s"
