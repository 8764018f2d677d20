"""TLS on the wire: what comes and goes, what is refused, and that no client costs more than it may."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import termios
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import CA
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from rawhttp import TIMEOUT_S, Client, be_at_rest, finish_turns, put, request, wait_until
from tlsclient import TLSSocket

from fastws import Server, backend, seam
from fastws.engine.states import SENDING
from fastws.tls.settings import SUITE_NAMES, CertificatePair, TLSSettings

Serve = Callable[..., Server]
BIG = os.urandom(3 << 20)
ALERT, HANDSHAKE, DATA = 21, 22, 23
"""Types of records: RFC 8446 section 5.1."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"a.txt": b"a file", "big.bin": BIG, "page.txt": b"p" * 60_000})


@pytest.fixture
def secured(serve: Serve, root: Path) -> Callable[..., Server]:
    """Return a function that starts a server which speaks TLS."""
    return lambda *lines: serve("WorkerThreads 1", *lines)


def failures(server: Server) -> dict[str, int]:
    counts = dict.fromkeys(seam.TLS_FAILURES, 0)
    for worker in server.worker_status():
        for reason, count in zip(seam.TLS_FAILURES, worker.tls.failures, strict=True):
            counts[reason] += count
    return {reason: count for reason, count in counts.items() if count}


def wait_for_failure(server: Server, **expected: int) -> None:
    wait_until(lambda: failures(server) == expected, f"{expected}, and not {failures(server)}")


def connect(server: Server, **settings: Any) -> TLSSocket:
    """Connect as a client with other settings of its context than the usual ones."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in settings.items():
        setattr(context, name, value)
    return TLSSocket(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S), context)


def still_serves(server: Server) -> bool:
    with Client(server) as client:
        return client.get("/a.txt").body == b"a file"


def read_to_the_end(sock: Any) -> bytes:
    came = b""
    while piece := sock.recv(1 << 16):
        came += piece
    return came


# What comes and goes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions_are_served_and_counted(secured: Serve, version: ssl.TLSVersion) -> None:
    server = secured()
    with connect(server, minimum_version=version, maximum_version=version) as sock:
        sock.sendall(request("/a.txt", "Connection: close"))
        assert read_to_the_end(sock).endswith(b"a file")
        assert not sock.is_cut
        assert sock.tls.cipher()[0] in SUITE_NAMES
    tls = server.worker_status()[0].tls
    assert (tls.version_1_2, tls.version_1_3) == ((1, 0) if version == ssl.TLSVersion.TLSv1_2 else (0, 1))


def test_old_versions_are_refused_with_an_alert_and_counted(secured: Serve) -> None:
    server = secured()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python deprecates them too
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    sock = TLSSocket(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S), context)
    with sock, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        sock.shake_hands()
    wait_for_failure(server, version=1)
    assert still_serves(server)


def test_weak_suites_are_refused(secured: Serve) -> None:
    server = secured()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESCCM:ECDHE+SHA1:@SECLEVEL=0")
    sock = TLSSocket(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S), context)
    with sock, pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        sock.shake_hands()
    wait_for_failure(server, cipher=1)


def test_sessions_are_resumed_by_any_worker(serve: Serve, root: Path, authority: CA) -> None:
    server = serve("WorkerThreads 2")
    context, session = authority.client(), None
    for _ in range(6):
        raw = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as sock:
            sock.sendall(request("/a.txt", "Connection: close"))
            assert read_to_the_end(sock).endswith(b"a file")
            session = sock.session
    be_at_rest(server)
    counts = [worker.tls for worker in server.worker_status()]
    assert sum(each.version_1_3 for each in counts) == 6
    assert sum(each.resumed for each in counts) == 5


def test_client_that_does_not_trust_us_is_counted(secured: Serve) -> None:
    server = secured()
    with connect(server, verify_mode=ssl.CERT_REQUIRED) as sock:
        with pytest.raises(ssl.SSLCertVerificationError):
            sock.shake_hands()
        sock.flush()
        assert sock.wire.recv(1) == b""
    wait_for_failure(server, refused_by_client=1)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)],
)
def test_alpn_is_http_1_1(secured: Serve, offered: list[str], chosen: str | None) -> None:
    server = secured()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(offered)
    with TLSSocket(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S), context) as sock:
        sock.shake_hands()
        assert sock.tls.selected_alpn_protocol() == chosen


def test_certificate_is_that_of_the_name(
    side: backend.Backend, serve: Serve, root: Path, authority: CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = tuple(
        authority.pair(*names) for names in (["a.example"], ["b.example", "*.c.example"], ["*.b.example"])
    )
    server = serve("WorkerThreads 1", settings=TLSSettings(pairs))
    expected = {
        "a.example": 0, "B.Example": 1, "x.c.example": 1, "c.example": 0, "x.y.c.example": 0, "x.b.example": 2,
        "nowhere.example": 0, None: 0,
    }  # fmt: skip
    for name, index in expected.items():
        context = authority.client(check_hostname=False)
        raw = socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S)
        with context.wrap_socket(raw, server_hostname=name) as sock:
            found = sock.getpeercert()
            assert found is not None
            names = {value.lower() for kind, value in found["subjectAltName"]}  # type: ignore[misc]
            assert names == set(pairs[index].names), name


def test_client_needs_a_certificate_where_an_authority_is_named(
    serve: Serve, root: Path, authority: CA
) -> None:
    own = authority.pair("someone")
    settings = TLSSettings((authority.pair("localhost"),), client_ca=authority.path)
    server = serve("WorkerThreads 1", settings=settings)
    context = authority.client()
    sock = TLSSocket(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S), context)
    sock.shake_hands()  # in TLS 1.3 the client's side of it is over before its certificate is judged
    with sock, pytest.raises((ssl.SSLError, ConnectionError)):
        sock.recv(1)
    wait_for_failure(server, client_certificate=1)
    context.load_cert_chain(own.certificate, own.key)
    for _ in range(2):
        with TLSSocket(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S), context) as sock:
            sock.sendall(request("/a.txt", "Connection: close"))
            assert read_to_the_end(sock).endswith(b"a file")


# Half of a connection


def test_every_byte_of_a_request_in_a_record_of_its_own(secured: Serve) -> None:
    server = secured()
    with Client(server) as client:
        for byte in request("/a.txt"):
            client.send(bytes([byte]))
        assert client.reply().body == b"a file"


def test_every_byte_of_the_wire_in_a_segment_of_its_own(secured: Serve) -> None:
    server = secured()
    with Client(server) as client:
        sock: Any = client.sock
        sock.flush = lambda: [sock.wire.sendall(bytes([byte])) for byte in sock.outgoing.read()]
        for _ in range(3):
            assert client.get("/a.txt").body == b"a file"


def test_requests_with_close_notify_behind_them_are_answered(secured: Serve) -> None:
    server = secured()
    with Client(server) as client:
        sock: Any = client.sock
        sock.shake_hands()
        for target in ("/a.txt", "/big.bin", "/a.txt"):
            sock.tls.write(request(target))
        sock.goodbye()  # all of it leaves at once, and the socket stays open
        assert client.reply().body == b"a file"
        assert client.reply().body == BIG
        assert client.reply().body == b"a file"
        assert client.is_over()
    be_at_rest(server)


def test_close_notify_alone_ends_a_connection(secured: Serve) -> None:
    server = secured()
    with Client(server) as client:
        assert client.get("/a.txt").body == b"a file"
        client.sock.goodbye()  # type: ignore[attr-defined]
        assert client.is_over()
    be_at_rest(server)


def test_end_without_close_notify_ends_it_too(secured: Serve) -> None:
    server = secured()
    with Client(server) as client:
        client.send(request("/a.txt") + b"GET /")
        client.sock.wire.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined]
        assert client.reply().body == b"a file"
        assert client.is_over()
    be_at_rest(server)


@pytest.mark.parametrize("target", ["/a.txt", "/page.txt", "/big.bin"])
def test_last_answer_is_read_to_its_end_by_a_slow_reader(secured: Serve, target: str) -> None:
    server = secured()
    for _ in range(3):  # decided, published, replayed
        with Client(server, receive_buffer=4096) as client:
            client.send(request(target, "Connection: close"))
            time.sleep(0.1)  # what the socket does not take is kept by then
            body = client.reply().body
            assert body == {"/a.txt": b"a file", "/page.txt": b"p" * 60_000, "/big.bin": BIG}[target]
            assert client.is_over()
    be_at_rest(server)


def test_pipelined_answers_to_a_slow_reader_come_in_their_order(secured: Serve) -> None:
    server = secured()
    with Client(server) as client:
        assert client.get("/page.txt").status == 200
    with Client(server, receive_buffer=4096) as client:
        client.send((request("/page.txt") + request("/a.txt")) * 40)
        for _ in range(40):
            time.sleep(0.002)
            assert client.reply().body == b"p" * 60_000
            assert client.reply().body == b"a file"
    be_at_rest(server)


# What breaks a rule


def test_plain_http_is_answered_in_plain_text(secured: Serve) -> None:
    server = secured()
    for data in (request("/a.txt"), b"G", b"POST / HTTP/1.1\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock:
            sock.sendall(data)
            answer = read_to_the_end(sock)
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert b"This port speaks HTTPS" in answer
    wait_for_failure(server, plain_http=3)
    be_at_rest(server)


@pytest.mark.parametrize(
    "data", [b"\x80\x2e\x01\x00\x02" + bytes(41), b"\n\n\n\n\n\n", bytes(range(128, 256)) * 300]
)
def test_what_is_no_tls_is_refused(secured: Serve, data: bytes) -> None:
    server = secured("RequestTimeout 1")  # an old hello that is not complete is waited for
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock:
        sock.sendall(data)
        assert b"HTTP" not in read_to_the_end(sock)
    wait_until(lambda: sum(failures(server).values()) == 1)
    be_at_rest(server)
    assert still_serves(server)


def record(client: Client, data: bytes) -> bytes:
    """Return a record with ``data``, as the client would send it."""
    sock: Any = client.sock
    sock.shake_hands()
    sock.tls.write(data)
    return bytes(sock.outgoing.read())


@pytest.mark.parametrize("place", [0, 1, 3, 5, 20, -1])
def test_forged_record_ends_the_connection_with_an_alert(secured: Serve, place: int) -> None:
    server = secured()
    with Client(server) as client:
        assert client.get("/a.txt").body == b"a file"
        forged = bytearray(record(client, request("/a.txt")))
        forged[place] ^= 0x40
        client.sock.wire.sendall(bytes(forged))  # type: ignore[attr-defined]
        if place == 3:  # a length beyond every bound, or more than comes
            client.sock.wire.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined]
        with pytest.raises((ssl.SSLError, AssertionError, ConnectionError)):
            client.reply()
    be_at_rest(server)
    assert still_serves(server)


def test_forged_record_behind_a_request_ends_the_connection_too(secured: Serve) -> None:
    server = secured()
    with Client(server) as client:
        good = record(client, request("/a.txt"))
        forged = record(client, request("/a.txt"))
        client.sock.wire.sendall(good + forged[:-1] + bytes([forged[-1] ^ 1]))  # type: ignore[attr-defined]
        with pytest.raises((ssl.SSLError, AssertionError, ConnectionError)):
            client.reply()
    wait_for_failure(server, records=1)
    be_at_rest(server)
    assert still_serves(server)


@pytest.mark.parametrize("kept", [1, 4, 5, 6, 30])
def test_record_that_is_cut_is_no_request(secured: Serve, kept: int) -> None:
    server = secured()
    with Client(server) as client:
        client.sock.wire.sendall(record(client, request("/a.txt"))[:kept])  # type: ignore[attr-defined]
        client.sock.wire.shutdown(socket.SHUT_WR)  # type: ignore[attr-defined]
        assert client.is_over()
    be_at_rest(server)
    assert still_serves(server)


def test_alert_of_the_client_ends_the_connection(secured: Serve) -> None:
    server = secured()
    with connect(server) as sock:
        sock.wire.sendall(bytes([ALERT, 3, 1, 0, 2, 2, 40]))  # a fatal handshake_failure
        read_to_the_end(sock.wire)
    wait_until(lambda: sum(failures(server).values()) == 1)
    be_at_rest(server)


def openssl(server: Server, commands: bytes, *options: str) -> str:
    """Return what s_client shows, which takes letters at the beginning of a line for orders."""
    run = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", *options],
        input=commands,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    return (run.stdout + run.stderr).decode("latin-1")


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@needs_openssl
def test_renegotiation_is_refused(secured: Serve) -> None:
    server = secured()
    assert "no renegotiation" in openssl(server, b"R\n", "-tls1_2")
    be_at_rest(server)
    assert still_serves(server)


def update_keys(server: Server, letter: bytes, times: int) -> None:
    """Send so many KeyUpdates (RFC 8446 section 4.6.3); an upper-case letter asks for one in return."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_3"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdin is not None
        wait_until(lambda: sum(worker.tls.version_1_3 for worker in server.worker_status()) > 0)
        with suppress(BrokenPipeError):
            for _ in range(times):
                process.stdin.write(letter)
                wait_until(lambda: not unread(process) or process.poll() is not None)
            process.stdin.write(b"Q\n")
        process.stdin.close()
        process.wait(TIMEOUT_S)


def unread(process: subprocess.Popen[bytes]) -> int:
    """How much of what was written to a process it has not read: of what one read finds it obeys a letter."""
    assert process.stdin is not None
    size = fcntl.ioctl(process.stdin.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(size, sys.byteorder)


def expand(secret: bytes, label: str, size: int) -> bytes:
    """HKDF-Expand-Label: RFC 8446 section 7.1."""
    name = b"tls13 " + label.encode()
    info = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return HKDFExpand(SHA384(), size, info).derive(secret)


def records_of(secret: bytes, data: Sequence[bytes]) -> bytes:
    """Return records with ``data``, the first that a client sends by TLS_AES_256_GCM_SHA384 with that secret."""
    cipher, iv = AESGCM(expand(secret, "key", 32)), int.from_bytes(expand(secret, "iv", 12), "big")
    made = b""
    for number, piece in enumerate(data):
        plain = piece + bytes([DATA])
        head = bytes([DATA, 3, 3]) + (len(plain) + 16).to_bytes(2, "big")
        made += head + cipher.encrypt((iv ^ number).to_bytes(12, "big"), plain, head)
    return made


@pytest.mark.parametrize("count", [40, 100])
def test_empty_records_are_skipped_and_a_flood_of_them_ends_the_connection(
    secured: Serve, tmp_path: Path, count: int
) -> None:
    server = secured()
    with connect(server, keylog_filename=str(tmp_path / "keys")) as sock:
        sock.shake_hands()
        assert sock.tls.cipher()[0] == "TLS_AES_256_GCM_SHA384"
        lines = (tmp_path / "keys").read_text().splitlines()
        secret = next(line.split()[2] for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0 "))
        asked = [request("/a.txt", "Connection: close")]
        # OpenSSL itself takes no more than 32 of them one after another.
        data = [b""] * (count // 2) + [asked[0][:9]] + [b""] * (count // 2) + [asked[0][9:]]
        with suppress(ConnectionError):
            sock.wire.sendall(records_of(bytes.fromhex(secret), data))
            answer = b""
            with suppress(ssl.SSLError):
                answer = read_to_the_end(sock)
            assert answer.endswith(b"a file") == (count == 40)
    be_at_rest(server)
    assert failures(server) == ({} if count == 40 else {"records": 1})


@needs_openssl
@pytest.mark.parametrize("letter", [b"K\n", b"k\n"])
def test_key_updates_are_taken_and_a_flood_of_them_ends_the_connection(secured: Serve, letter: bytes) -> None:
    server = secured()
    update_keys(server, letter, 10)
    be_at_rest(server)
    assert failures(server) == {}
    update_keys(server, letter, 100)
    wait_for_failure(server, records=1)
    be_at_rest(server)
    assert still_serves(server)


def test_handshake_that_stands_still_is_ended_by_request_timeout(secured: Serve) -> None:
    server = secured("RequestTimeout 0.5", "KeepaliveTime 60")
    with connect(server) as sock:
        with pytest.raises(ssl.SSLWantReadError):
            sock.tls.do_handshake()
        hello = sock.outgoing.read()
        for byte in hello[:-1]:
            try:
                sock.wire.sendall(bytes([byte]))
            except ConnectionError:
                break
            time.sleep(0.01)
        with pytest.raises((ConnectionError, StopIteration)):
            raise StopIteration if sock.wire.recv(1) == b"" else AssertionError
    wait_for_failure(server, timeout=1)
    be_at_rest(server)
    assert "RequestTimeout, in the TLS handshake" in Path(server.config.error_log).read_text()


def test_client_that_only_connects_is_ended_by_request_timeout_too(secured: Serve) -> None:
    server = secured("RequestTimeout 0.5", "KeepaliveTime 60")
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as sock:
        assert sock.recv(1) == b""
    wait_for_failure(server, timeout=1)


def test_idle_connection_is_closed_after_keepalive_time_with_close_notify(secured: Serve) -> None:
    server = secured("RequestTimeout 60", "KeepaliveTime 0.5")
    with Client(server) as client:
        client.sock.shake_hands()  # type: ignore[attr-defined]
        assert client.is_over()
    assert failures(server) == {}


def test_client_that_leaves_in_the_handshake_is_counted(secured: Serve) -> None:
    server = secured()
    with connect(server) as sock:
        with pytest.raises(ssl.SSLWantReadError):
            sock.tls.do_handshake()
        sock.wire.sendall(sock.outgoing.read()[:100])
    wait_for_failure(server, closed=1)
    be_at_rest(server)


def test_flood_of_handshakes_leaves_turns_to_others(secured: Serve) -> None:
    server = secured("MaxConnections 2000")
    with Client(server) as client:
        assert client.get("/a.txt").body == b"a file"
        hellos = []
        for _ in range(200):
            sock = connect(server)
            with pytest.raises(ssl.SSLWantReadError):
                sock.tls.do_handshake()
            hellos.append((sock, sock.outgoing.read()))
        for sock, hello in hellos:
            sock.wire.sendall(hello)
        for _ in range(20):
            assert client.get("/a.txt").body == b"a file"
        for sock, _ in hellos:
            sock.close()
    be_at_rest(server)
    assert still_serves(server)


def test_connection_beyond_the_limit_is_closed_before_the_handshake(secured: Serve) -> None:
    server = secured("MaxConnections 1")
    with Client(server) as client:
        assert client.get("/a.txt").status == 200
        with connect(server) as sock, pytest.raises((ConnectionError, ssl.SSLError)):
            sock.shake_hands()
        assert client.get("/a.txt").status == 200


def test_reader_that_reads_nothing_is_cut_off_and_costs_a_bounded_memory(secured: Serve) -> None:
    server = secured("StallTime 1", "MinRate 1000000")
    with Client(server, receive_buffer=4096) as client:
        client.send(request("/big.bin") * 50)
        wait_until(lambda: server.connection_count() == 0)
    assert "the client reads too slowly" in Path(server.config.error_log).read_text()


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")
def test_memory_of_a_connection_is_bounded(secured: Serve) -> None:
    """What the socket has not taken is kept, up to 64 KiB of it enciphered; the rest stays in the file."""
    server = secured("RequestTimeout 60")
    count = 60
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server, receive_buffer=4096)) for _ in range(count)]
        for client in clients:
            assert client.get("/a.txt").body == b"a file"
        before = private_bytes()
        for client in clients:
            client.send(request("/big.bin") * 3)
        connections = server._pool.workers[0].admission._connections
        wait_until(lambda: sum(each.state == SENDING for each in list(connections)) == count)
        assert (private_bytes() - before) / count < 160 << 10


def private_bytes() -> int:
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty:"))


# What is said of it


def test_json_lines_have_version_and_suite_of_hits_and_misses(secured: Serve) -> None:
    server = secured("AccessLogFormat json")
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/a.txt").status == 200
        assert client.get("/nowhere").status == 404
    be_at_rest(server)
    server.stop()
    found = [json.loads(line) for line in Path(server.config.access_log).read_text().splitlines()]
    assert len(found) == 4
    assert {entry["tls_version"] for entry in found} == {"TLSv1.3"}
    assert {entry["tls_cipher"] for entry in found} <= SUITE_NAMES


def test_hits_are_replayed_by_the_compiled_side(secured: Serve, side: backend.Backend) -> None:
    server = secured()
    with Client(server) as client:
        for _ in range(10):
            assert client.get("/a.txt").body == b"a file"
    finish_turns(server)
    hits = sum(worker.cache_hits for worker in server.worker_status())
    assert hits == (9 if side.reactor.side == "compiled" else 0)


def test_metrics_count_tls(secured: Serve) -> None:
    server = secured("StatusPath /-/")
    with Client(server) as client:
        text = client.get("/-/metrics").body.decode()
    assert re.search(r'^fastws_tls_handshakes_total\{worker="0",version="1.3"\} 1$', text, re.MULTILINE)
    assert re.search(r'^fastws_tls_failures_total\{worker="0",reason="timeout"\} 0$', text, re.MULTILINE)


# Reload, and the other side


def test_new_handshakes_get_a_new_certificate_and_old_connections_go_on(
    serve: Serve, root: Path, authority: CA, pair: CertificatePair
) -> None:
    server = serve("WorkerThreads 1")
    other = authority.pair("localhost")
    with Client(server) as old:
        assert old.get("/a.txt").status == 200
        before = old.sock.tls.getpeercert(True)  # type: ignore[attr-defined]
        for settings in (TLSSettings((other,)), TLSSettings((pair,)), TLSSettings((other,))):
            server._pool.secure(settings)
            server.reload(lambda: server.config)
            assert old.get("/a.txt").status == 200
        with Client(server) as new:
            assert new.get("/a.txt").status == 200
            assert new.sock.tls.getpeercert(True) != before  # type: ignore[attr-defined]
        assert old.get("/a.txt").status == 200
    be_at_rest(server)


def test_pair_that_does_not_match_is_an_error(serve: Serve, root: Path, authority: CA) -> None:
    server = serve("WorkerThreads 1")
    one, other = authority.pair("localhost"), authority.pair("localhost")
    wrong = CertificatePair(one.certificate, other.key)
    for pair in (wrong, one._replace(key="/nowhere"), one._replace(certificate="/nowhere")):
        with pytest.raises(OSError, match=r"\w"):
            server._pool.secure(TLSSettings((pair,)))
    server.reload(lambda: server.config)
    assert still_serves(server)


def test_without_its_library_tls_runs_on_the_pure_side(
    serve: Serve, root: Path, side: backend.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(side), "_compiled_tls", lambda _: NoLibrary)
    monkeypatch.setenv(backend.REQUIRED, "1")
    with pytest.raises(ImportError, match="it is not OpenSSL"):
        side.tls()
    monkeypatch.delenv(backend.REQUIRED)
    assert side.tls().side == "pure"
    assert side.describe_tls().endswith("as it is not OpenSSL")
    server = serve("WorkerThreads 1")
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/a.txt").body == b"a file"
        assert client.get("/big.bin").body == BIG
    assert sum(worker.tls.version_1_3 for worker in server.worker_status()) == 1
    be_at_rest(server)


class NoLibrary:
    side = "compiled"

    @staticmethod
    def find() -> str:
        return "it is not OpenSSL"


# Anything at all


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Return ``data`` with some bytes changed, left out, repeated or put in."""
    made = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        place = chance.randrange(len(made) + 1)
        match chance.randrange(5):
            case 0:
                made[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del made[place : place + chance.choice([1, 2, 50])]
            case 2:
                made[place:place] = made[place : place + chance.choice([1, 5, 100])]
            case 3:
                made[place:place] = chance.randbytes(chance.choice([1, 3, 300]))
            case _:
                made[3:5] = chance.randbytes(2)  # the length of the first record
    return bytes(made)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_mutated_handshakes_and_requests_end_quietly(secured: Serve, version: ssl.TLSVersion) -> None:
    server = secured("RequestTimeout 1", "KeepaliveTime 1")
    for seed in range(150):
        chance = random.Random(seed)
        sock = connect(server, minimum_version=version, maximum_version=version)
        # One flight is changed: the hello, what ends the handshake, or a request.
        victim, flights = chance.randrange(3), 0

        def flush(sock: TLSSocket = sock, chance: random.Random = chance, victim: int = victim) -> None:
            nonlocal flights
            if data := sock.outgoing.read():
                sock.wire.sendall(mutated(chance, data) if flights == victim else data)
                flights += 1

        sock.flush = flush  # type: ignore[method-assign]
        with sock, suppress(ssl.SSLError, OSError):
            sock.settimeout(0.05)
            sock.sendall(request("/a.txt", "Connection: close"))
            came = read_to_the_end(sock)
            assert not came or came.startswith(b"HTTP/1.1 ")
    be_at_rest(server)
    assert still_serves(server)
    assert "unexpected exception" not in Path(server.config.error_log).read_text()
