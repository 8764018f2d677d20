"""Connections that last: keep-alive, pipelining, HTTP/1.0, half-close, timeouts, and where a message ends."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import Client, is_readable, put, request, wait_until

from fastws import Server

Serve = Callable[..., Server]
BIG = bytes(range(256)) * 16384  # 4 MiB: more than any socket buffer takes at once


TEXTS = {f"{i}.txt": f"file {i}".encode() for i in range(10)} | {"index.html": b"<pre></pre>"}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A root without large files, for tests of many cases."""
    return put(tmp_path / "root", TEXTS)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", TEXTS | {"big.bin": BIG, "m.bin": BIG[: 1 << 20]})


# Persistence (RFC 9112 section 9.3)


@pytest.mark.parametrize(
    ("version", "lines", "expected"),
    [
        ("HTTP/1.1", "", None),
        ("HTTP/1.1", "Connection: keep-alive\r\n", None),
        ("HTTP/1.1", "Connection: x-other\r\n", None),
        ("HTTP/1.1", "Connection: close\r\n", "close"),
        ("HTTP/1.1", "Connection: Close\r\n", "close"),
        ("HTTP/1.1", "Connection: keep-alive, close\r\n", "close"),
        ("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", "close"),
        ("HTTP/1.0", "", "close"),
        ("HTTP/1.0", "Connection: x-other\r\n", "close"),
        ("HTTP/1.0", "Connection: keep-alive\r\n", "keep-alive"),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", "keep-alive"),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", "close"),
    ],
)
@pytest.mark.parametrize("target", ["/1.txt", "/missing", "/big.bin"])
def test_connection_lasts_as_version_and_connection_field_say(
    serve: Serve, root: Path, version: str, lines: str, expected: str | None, target: str
) -> None:
    server = serve()
    data = f"GET {target} {version}\r\nHost: x\r\n{lines}\r\n".encode()
    for _ in range(3):
        with Client(server) as client:
            client.send(data)
            reply = client.reply()
            assert reply.all("Connection") == ([expected] if expected else [])
            if expected == "close":
                assert client.is_over()
            else:
                client.send(data)
                assert client.reply().status == reply.status


def test_http_1_0_without_host_is_answered(serve: Serve, root: Path) -> None:
    server = serve()
    for _ in range(3):
        with Client(server) as client:
            client.send(b"GET /1.txt HTTP/1.0\r\n\r\n")
            assert client.reply().body == b"file 1"
            assert client.is_over()


def test_http_1_0_head_is_answered(serve: Serve, root: Path) -> None:
    server = serve()
    for _ in range(3):
        with Client(server) as client:
            client.send(b"HEAD /1.txt HTTP/1.0\r\n\r\n")
            assert client.reply("HEAD")["Content-Length"] == "6"
            assert client.is_over()


# Pipelining (section 9.3.2)


def test_pipelined_requests_are_answered_in_order(serve: Serve, root: Path) -> None:
    wanted = [i % 10 for i in range(200)]
    with Client(serve()) as client:
        for _ in range(3):
            client.send(b"".join(request(f"/{i}.txt") for i in wanted))
            assert [client.reply().body for _ in wanted] == [f"file {i}".encode() for i in wanted]
        assert client.is_open()


def test_pipelined_mixture_is_answered_in_order(serve: Serve, root: Path) -> None:
    mixture = [
        (request("/1.txt"), "GET", 200, 6),
        (request("/missing"), "GET", 404, None),
        (request("/2.txt", method="HEAD"), "HEAD", 200, 0),
        (request("/m.bin"), "GET", 200, 1 << 20),
        (request("/", method="POST"), "POST", 200, 11),
        (request("/big.bin"), "GET", 200, len(BIG)),
        (request("/2.txt", "Range: bytes=0-0"), "GET", 206, 1),
        (request("/big.bin", "Range: bytes=5-9"), "GET", 206, 5),
        (request("/2.txt", method="PUT", body=b"GET /1.txt HTTP/1.1\r\n\r\n"), "PUT", 501, None),
        (request("/2.txt", "If-None-Match: *"), "GET", 304, 0),
        (request("/3.txt"), "GET", 200, 6),
    ]
    data = b"".join(data for data, *_ in mixture)
    with Client(serve()) as client:
        for _ in range(3):
            client.send(data)
            for _, method, status, length in mixture:
                reply = client.reply(method)
                assert (reply.status, len(reply.body)) == (
                    status,
                    length if length is not None else len(reply.body),
                )
        assert client.is_open()


def test_pipelined_requests_after_close_are_not_answered(serve: Serve, root: Path) -> None:
    server = serve()
    for _ in range(3):
        with Client(server) as client:
            client.send(request("/1.txt") + request("/2.txt", "Connection: close") + request("/3.txt") * 3)
            assert [client.reply().body, client.reply().body] == [b"file 1", b"file 2"]
            assert client.is_over()


def test_pipelined_requests_split_anywhere_are_answered(serve: Serve, root: Path) -> None:
    one = request("/1.txt")
    data = one + request("/2.txt") + one
    with Client(serve()) as client:
        for cut in range(len(one) - 4, len(one) + 8):
            client.send(data[:cut])
            if cut >= len(one):
                assert client.reply().body == b"file 1"
            client.send(data[cut:])
            expected = [b"file 2", b"file 1"] if cut >= len(one) else [b"file 1", b"file 2", b"file 1"]
            assert [client.reply().body for _ in expected] == expected


def test_pipelined_large_answers_do_not_overtake_a_reader_that_waits(serve: Serve, root: Path) -> None:
    with Client(serve(), receive_buffer=8192) as client:
        client.send((request("/m.bin") + request("/1.txt") + request("/big.bin")) * 3)
        for _ in range(3):
            assert client.reply().body == BIG[: 1 << 20]
            assert client.reply().body == b"file 1"
            assert client.reply().body == BIG


def test_one_empty_line_before_a_request_is_tolerated(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for _ in range(3):
            client.send(b"\r\n" + request("/1.txt"))
            assert client.reply().body == b"file 1"
        client.send(b"\r\n\r\n" + request("/1.txt"))
        assert client.reply().status == 400


# Half-close


def test_client_that_half_closes_gets_its_answers(serve: Serve, root: Path) -> None:
    server = serve()
    for _ in range(3):
        with Client(server) as client:
            client.send(request("/1.txt") + request("/big.bin") + request("/2.txt"))
            client.half_close()
            assert client.reply().body == b"file 1"
            assert client.reply().body == BIG
            assert client.reply().body == b"file 2"
            assert client.is_over()


def test_half_request_and_half_close_end_the_connection(serve: Serve, root: Path) -> None:
    server = serve()
    for data in (b"", b"GET", request("/1.txt")[:-1], request("/", "Content-Length: 5", method="POST")):
        with Client(server) as client:
            client.send(data)
            client.half_close()
            assert client.is_over()


# Timeouts


def test_idle_connection_is_closed_after_keepalive_time_and_logged(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve("KeepaliveTime 1", "ErrorLog errors.txt")
    with Client(server) as fresh, Client(server) as used, Client(server) as hot:
        assert used.get("/1.txt").status == 200
        assert [hot.get("/1.txt").status for _ in range(2)] == [200] * 2
        since = time.monotonic()
        assert hot.get("/1.txt").status == 200
        assert fresh.is_over()
        assert used.is_over()
        assert hot.is_over()
        assert time.monotonic() - since > 0.5  # not at once
    wait_until(lambda: (tmp_path / "errors.txt").read_text().count("KeepaliveTime") >= 3 + 1)
    wait_until(lambda: server.connection_count() == 0)


def test_connection_in_use_outlives_keepalive_time(serve: Serve, root: Path) -> None:
    with Client(serve("KeepaliveTime 1.2")) as client:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert client.get("/1.txt").status == 200
            time.sleep(0.05)  # the pace of a client, not a wait for the server


def test_head_that_drips_is_refused_by_request_timeout(serve: Serve, root: Path) -> None:
    assert drip(Client(serve("RequestTimeout 0.4")), b"GET /1.txt HTTP/1.1\r\nX: " + b"a" * 2000) == 408


@pytest.mark.parametrize("framing", ["Content-Length: 2000", "Transfer-Encoding: chunked"])
def test_body_that_drips_below_min_rate_is_refused(serve: Serve, root: Path, framing: str) -> None:
    server = serve("StallTime 1.6", "MinRate 10K")
    head = request("/", framing, method="POST")
    assert drip(Client(server), b"7D0\r\n" * ("chunked" in framing) + b"a" * 1990, head) == 408


def drip(client: Client, data: bytes, head: bytes = b"") -> int:
    """Send ``head``, then a byte of ``data`` each 20 ms, until an answer comes; return its status."""
    with client:
        client.send(head)
        for byte in data:
            if is_readable(client.sock, 0.02):
                return client.reply().status
            client.send(bytes((byte,)))
    raise AssertionError("the server took all of it")


def test_slow_body_above_min_rate_is_taken(serve: Serve, root: Path) -> None:
    server = serve("StallTime 4.8", "MinRate 1")
    form = "Content-Type: application/x-www-form-urlencoded"
    with Client(server) as client:
        client.send(request("/", form, "Content-Length: 40", method="POST"))
        for byte in b"a=" + b"x" * 38:
            client.send(bytes((byte,)))
            time.sleep(0.05)  # 2 s in all
        assert client.reply().status == 200


@pytest.mark.parametrize("target", ["/big.bin", "/m.bin"])
def test_reader_that_takes_nothing_is_dropped_and_logged(
    serve: Serve, root: Path, tmp_path: Path, target: str
) -> None:
    server = serve("StallTime 0.6", "MinRate 100K", "ErrorLog errors.txt")
    with Client(server, receive_buffer=4096) as client:
        client.send(request(target) * 40)
        client.head()
        wait_until(
            lambda: server.connection_count() == 0, "the end of a connection whose client reads nothing"
        )
    assert "reads too slowly" in (tmp_path / "errors.txt").read_text()


# Lingering close (section 9.6)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("/", "Content-Length: 50000000", method="POST"), 413),
        (request("/", "Content-Length: -5", method="POST"), 400),
        (request("/", "Transfer-Encoding: chunked", method="POST") + b"xyz\r\n", 400),
        (b"POST / HTTP/1.1\r\n : \r\n\r\n", 400),
    ],
)
def test_client_sees_the_answer_although_it_is_still_sending(
    serve: Serve, root: Path, head: bytes, status: int
) -> None:
    with Client(serve()) as client:
        client.send(head)
        # The answer is there before the body: it must survive what is sent into the closing connection.
        assert is_readable(client.sock, 10)
        for _ in range(10):
            client.send(b"x" * 65536)
        assert client.reply().status == status
        assert client.is_over()


def send_forever(client: Client) -> None:
    for _ in range(5000):
        client.send(b"x" * 65536)


def test_client_that_only_sends_is_cut_off_and_still_finds_the_answer(serve: Serve, root: Path) -> None:
    server = serve()
    with Client(server) as client:
        client.send(request("/", "Content-Length: 500000000", method="POST"))
        with pytest.raises(ConnectionError):
            send_forever(client)
        assert client.reply().status == 413
    wait_until(lambda: server.connection_count() == 0)


# A body that nobody asked for is never the next request


@pytest.mark.parametrize(
    ("lines", "body", "statuses"),
    [
        # (field lines, what follows the head, the statuses of all answers until the connection ends)
        (["Content-Length: 30"], b"GET /1.txt HTTP/1.1\r\nHost: x\r\n", [415, 404]),
        (["Content-Length: 0"], b"", [200, 404]),
        (["Content-Length: 5", "Content-Length: 5"], b"aaaaa", [400]),
        (["Content-Length: 5", "Content-Length: 6"], b"aaaaaa", [400]),
        (["Content-Length: 5, 5"], b"aaaaa", [400]),
        (["Content-Length: +5"], b"aaaaa", [400]),
        (["Content-Length: -5"], b"aaaaa", [400]),
        (["Content-Length: 5 5"], b"aaaaa", [400]),
        (["Content-Length: 0x5"], b"aaaaa", [400]),
        (["Content-Length: 5_0"], b"a" * 50, [400]),
        (["Content-Length: 5.0"], b"aaaaa", [400]),
        (["Content-Length: \u00b2"], b"aa", [400]),
        (["Content-Length:"], b"", [400]),
        (["Content-Length: 18446744073709551621"], b"aaaaa", [400]),
        (["Content-Length: 99999999999999999999999999"], b"aaaaa", [400]),
        (["Content-Length : 5"], b"aaaaa", [400]),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked", "Content-Length: 5"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"0\r\n\r\n", [200, 404]),
        (["Transfer-Encoding: Chunked"], b"0\r\n\r\n", [200, 404]),
        (["Transfer-Encoding: chunked"], b"1;x=y\r\na\r\n0\r\nT: x\r\n\r\n", [415, 404]),
        (["Transfer-Encoding: chunked, chunked"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked, gzip"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: gzip, chunked"], b"0\r\n\r\n", [501]),
        (["Transfer-Encoding: gzip"], b"aaaaa", [400]),
        (["Transfer-Encoding: identity"], b"aaaaa", [400]),
        (["Transfer-Encoding: xchunked"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunkedx"], b"0\r\n\r\n", [400]),
        (['Transfer-Encoding: "chunked"'], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked;a=b"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding:\x0bchunked"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked\x00"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding : chunked"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding"], b"0\r\n\r\n", [400]),
        (["X: y\r\n Transfer-Encoding: chunked"], b"0\r\n\r\n", [400]),
        (["X: y\nTransfer-Encoding: chunked"], b"0\r\n\r\n", [400]),
        (["X: y\rTransfer-Encoding: chunked"], b"0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"5\r\naaaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"5\r\naaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"5\naaaaa\n0\n\n", [400]),
        (["Transfer-Encoding: chunked"], b"-5\r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"+5\r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"0x5\r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"5_\r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b" 5\r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"5 \r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"\r\n5\r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"10000000000000000\r\naaaaa\r\n0\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"ffffffffffffffff\r\naaaaa\r\n0\r\n\r\n", [413]),
        (["Transfer-Encoding: chunked"], b"0;" + b"x" * 300 + b"\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"0\r\nGET /1.txt HTTP/1.1\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"0\r\n folded: x\r\n\r\n", [400]),
        (["Transfer-Encoding: chunked"], b"0\r\n" + b"T: x\r\n" * 200 + b"\r\n", [431]),
    ],
)
@pytest.mark.parametrize("pieces", ["whole", "bytewise"])
def test_where_a_message_ends_is_certain_or_the_connection_does(
    serve: Serve, texts: Path, lines: list[str], body: bytes, statuses: list[int], pieces: str
) -> None:
    data = request("/", *lines, method="POST") + body + request("/smuggled-or-next")
    with Client(serve()) as client:
        assert client.get("/1.txt").status == 200
        if pieces == "whole":
            client.send(data)
        else:
            send_bytewise(client, data)
        found = [client.reply().status for _ in statuses]
        assert found == statuses
        if statuses[-1] != 404:
            assert client.is_over()


def send_bytewise(client: Client, data: bytes) -> None:
    for byte in data:
        try:
            client.send(bytes((byte,)))
        except ConnectionError:
            return  # refused already


def test_http_1_0_has_no_transfer_encoding(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        client.send(
            b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        assert client.reply().status == 400
        assert client.is_over()


def test_flood_of_pipelined_requests_does_not_starve_another_client(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 1")
    stop = threading.Event()

    def flood() -> None:
        with Client(server) as client:
            while not stop.is_set():
                client.send(request("/1.txt") * 500)
                for _ in range(500):
                    client.reply()

    flooder = threading.Thread(target=flood)
    flooder.start()
    try:
        for _ in range(20):
            with Client(server) as client:
                assert client.get("/2.txt").body == b"file 2"
    finally:
        stop.set()
        flooder.join()


def test_answers_are_not_delayed_by_nagle(serve: Serve, root: Path) -> None:
    server = serve()
    with Client(server) as client:
        assert client.get("/1.txt").status == 200
        accepted = [c.fd for worker in server._pool.workers for c in worker.admission._connections]
        assert len(accepted) == 1
        with socket.socket(fileno=os.dup(accepted[0])) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
