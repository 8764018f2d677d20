"""The load client against scripted servers: what it sends, notices, counts, logs and returns."""

from __future__ import annotations

import builtins
import contextlib
import os
import pty
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import CA

from fastws.client import connection as connection_module
from fastws.client.__main__ import Fetcher, Log, Target, main
from fastws.client.connection import Connection, ExchangeError
from fastws.client.createfile import file_name
from fastws.client.createfile import main as createfile
from fastws.client.report import Outcome, Phase, percentile
from fastws.client.secure import client_context
from fastws.tls.settings import TLSSettings, server_context

REPOSITORY = Path(__file__).resolve().parents[2]
LOG_LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d phase-(?P<phase>[12])/thread-(?P<thread>\d+) "
    r"port (?P<port>\d+) "
    r"(?:(?P<path>/\S+) (?P<status>\d{3}|-) (?P<bytes>\d+) bytes (?P<ms>\d+\.\d{3}|-) ms"
    r"(?: error: (?P<error>.+))?"
    r"|reconnect, before on port (?P<old>\d+): (?P<reason>.+)|error: (?P<problem>.+))"
)


class Peer:
    """The server's side of one connection."""

    def __init__(self, server: ScriptedServer, sock: socket.socket, index: int) -> None:
        self.index = index
        self.sock = sock
        self._server = server
        self._buffer = b""

    def read_request(self) -> str | None:
        """Return the path of the next request, None where the client closed."""
        while b"\r\n\r\n" not in self._buffer:
            received = self.sock.recv(65536)
            if not received:
                return None
            self._buffer += received
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        method, path, version = head.split(b"\r\n")[0].decode().split(" ")
        assert (method, version) == ("GET", "HTTP/1.1")
        self._server.seen.append((self.index, path))
        return path

    def requests(self) -> Iterator[str]:
        """Yield the paths until the client closes."""
        while (path := self.read_request()) is not None:
            yield path

    def answer(self, body: bytes, status: str = "200 OK", length: int | None = None, more: str = "") -> None:
        declared = len(body) if length is None else length
        self.sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {declared}\r\n{more}\r\n".encode() + body)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class ScriptedServer:
    """Runs ``script(peer)`` for every connection in a thread, then closes it; with a ``context`` over TLS."""

    def __init__(self, script: Callable[[Peer], None], context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self.seen: list[tuple[int, str]] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self.client_idle = threading.Semaphore(0)
        self.closed = threading.Semaphore(0)
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> ScriptedServer:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        assert self.failures == []

    def paths(self) -> Counter[str]:
        return Counter(path for _, path in self.seen)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = Peer(self, sock, self.connections)
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(peer,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, peer: Peer) -> None:
        try:
            if self._context is not None:
                peer.sock = self._context.wrap_socket(peer.sock, server_side=True)
            with peer.sock:
                self._script(peer)
        except (ConnectionError, ssl.SSLError):  # a client that does not trust this server
            pass
        except BaseException as error:
            self.failures.append(error)
        self.closed.release()


def body_of(path: str) -> bytes:
    return f"<p>{path}</p>".encode() * 50


def serve_all(peer: Peer) -> None:
    for path in peer.requests():
        peer.answer(body_of(path))


def serve_per_connection(count: int, more: str = "") -> Callable[[Peer], None]:
    """Return a script that closes after so many responses."""

    def script(peer: Peer) -> None:
        for number, path in enumerate(peer.requests(), 1):
            peer.answer(body_of(path), more=more if number == count else "")
            if number == count:
                return

    return script


def expected_paths(count: int) -> Counter[str]:
    """Return what both phases together fetch."""
    paths = Counter(f"/files/{file_name(n)}" for n in range(1, count + 1))
    paths["/files/file1.html"] += count
    return paths


class Run:
    """One run of the client in this process: exit status, output, parsed log."""

    def __init__(self, port: int, folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        log = folder / "log_client.txt"
        self.status = main(["--port", str(port), "--log", str(log), *arguments])
        self.out, self.err = capsys.readouterr()
        self.lines = [LOG_LINE.fullmatch(line) for line in log.read_text().splitlines()]
        assert all(self.lines), log.read_text()
        entries = [line.groupdict() for line in self.lines if line]
        self.requests = [entry for entry in entries if entry["path"]]
        self.reconnects = [entry for entry in entries if entry["old"]]
        self.problems = [entry["problem"] for entry in entries if entry["problem"]]
        self.errors = [entry["error"] for entry in self.requests if entry["error"]]

    def row(self, label: str) -> list[str]:
        """Return the cells of a row of the closing table."""
        (line,) = [line for line in self.out.splitlines() if line.startswith(f"{label} ")]
        return line.removeprefix(label).split()


@pytest.fixture
def client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    return lambda port, *arguments: Run(port, tmp_path, capsys, *arguments)


Client = Callable[..., Run]


def make_root(folder: Path, count: int) -> str:
    """Write the bodies that the scripted servers send."""
    (folder / "files").mkdir()
    for number in range(1, count + 1):
        (folder / "files" / file_name(number)).write_bytes(body_of(f"/files/{file_name(number)}"))
    return str(folder)


def test_every_file_once_then_one_file_as_often_over_a_connection_a_thread(client: Client) -> None:
    with ScriptedServer(serve_all) as server:
        run = client(server.port)
    assert (run.status, run.err) == (0, "")
    assert server.paths() == expected_paths(100)
    assert server.connections == 8  # four threads in each of two phases
    first = Counter(index for index, _ in server.seen[:100])
    assert sorted(first.values()) == [25, 25, 25, 25]
    assert run.row("requests") == ["100", "100"]
    assert run.row("errors") == ["0", "0"]
    assert run.row("reconnects") == ["0", "0"]


def test_log_has_a_line_a_request_with_the_port_that_the_server_saw(client: Client) -> None:
    ports: dict[int, int] = {}

    def script(peer: Peer) -> None:
        ports[peer.index] = peer.sock.getpeername()[1]
        serve_all(peer)

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "9", "--threads", "2")
    logged = Counter((entry["port"], entry["path"]) for entry in run.requests)
    assert logged == Counter((str(ports[index]), path) for index, path in server.seen)
    assert {entry["status"] for entry in run.requests} == {"200"}
    assert [int(e["bytes"]) for e in run.requests] == [len(body_of(e["path"])) for e in run.requests]
    assert Counter((e["phase"], e["thread"]) for e in run.requests) == {
        ("1", "1"): 5, ("1", "2"): 4, ("2", "1"): 5, ("2", "2"): 4,
    }  # fmt: skip


def test_more_threads_than_files_opens_no_idle_connection(client: Client) -> None:
    with ScriptedServer(serve_all) as server:
        assert client(server.port, "--count", "2", "--threads", "7").status == 0
    assert server.connections == 4


def test_server_that_closes_after_some_responses_costs_reconnects_and_no_request(client: Client) -> None:
    with ScriptedServer(serve_per_connection(4)) as server:
        run = client(server.port, "--count", "10", "--threads", "1")
    assert run.status == 0
    assert server.paths() == expected_paths(10)
    assert server.connections == 6  # 4 + 4 + 2 responses, twice
    assert [entry["path"] for entry in run.requests] == [path for _, path in server.seen]
    assert run.row("reconnects") == ["2", "2"]
    assert run.row("errors") == ["0", "0"]


def test_reconnect_is_logged_with_both_ports_and_they_differ(client: Client) -> None:
    with ScriptedServer(serve_per_connection(3)) as server:
        run = client(server.port, "--count", "6", "--threads", "1")
    ports = list(dict.fromkeys(entry["port"] for entry in run.requests if entry["phase"] == "1"))
    assert len(ports) == 2
    (reconnect,) = [entry for entry in run.reconnects if entry["phase"] == "1"]
    assert [reconnect["old"], reconnect["port"]] == ports


def test_announced_close_is_followed_by_a_new_connection(client: Client) -> None:
    script = serve_per_connection(2, more="Connection: close\r\n")
    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "4", "--threads", "1")
    assert run.status == 0
    assert server.paths() == expected_paths(4)
    assert [entry["reason"] for entry in run.reconnects] == ["close announced by the server"] * 2


class WaitForClose(threading.Event):
    """Stands for the delay between requests: it tells the server that it began, and ends when that closes."""

    def __init__(self, server: ScriptedServer) -> None:
        super().__init__()
        self._server = server

    def wait(self, timeout: float | None = None) -> bool:
        if timeout:
            self._server.client_idle.release()
            assert self._server.closed.acquire(timeout=30)
        return False


def fetch_with_closes(log: Path, paths: list[str], farewell: bytes) -> tuple[Fetcher, ScriptedServer]:
    """Fetch ``paths`` from a server that says ``farewell`` and closes while the client pauses."""

    def script(peer: Peer) -> None:
        peer.answer(body_of(str(peer.read_request())))
        if peer.index < len(paths) - 1:
            assert server.client_idle.acquire(timeout=30)
            peer.sock.sendall(farewell)
        else:
            assert peer.read_request() is None

    with ScriptedServer(script) as server, open(log, "w") as file:
        target = Target("127.0.0.1", server.port, timeout_s=30, delay_s=1)
        fetcher = Fetcher("phase-1/thread-1", paths, target, Log(file), WaitForClose(server))
        fetcher.start()
        fetcher.join(60)
    return fetcher, server


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_idle_close_is_noticed_before_the_next_request_is_sent(farewell: bytes, tmp_path: Path) -> None:
    paths = ["/a", "/b", "/c"]
    fetcher, server = fetch_with_closes(tmp_path / "log", paths, farewell)
    assert server.seen == [(0, "/a"), (1, "/b"), (2, "/c")]
    assert [(o.path, o.status, o.error) for o in fetcher.outcomes] == [(path, 200, "") for path in paths]
    assert (fetcher.reconnects, fetcher.problems) == (2, [])
    log = (tmp_path / "log").read_text()
    assert log.count(": idle connection closed by the server\n") == 2


def test_bytes_that_nobody_asked_for_are_an_error(tmp_path: Path) -> None:
    fetcher, server = fetch_with_closes(tmp_path / "log", ["/a", "/b"], b"stray")
    assert server.seen == [(0, "/a"), (1, "/b")]
    assert [outcome.error for outcome in fetcher.outcomes] == ["", ""]
    (problem,) = fetcher.problems
    assert problem.endswith(": unasked-for bytes b'stray'")
    assert " error: unasked-for bytes b'stray'\n" in (tmp_path / "log").read_text()


def test_delay_beyond_the_servers_timeout_loses_nothing(client: Client) -> None:
    def script(peer: Peer) -> None:
        with contextlib.suppress(TimeoutError):
            for path in peer.requests():
                peer.answer(body_of(path))
                peer.sock.settimeout(0.05)  # from the first answer on: a busy machine may be slow to ask

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "4", "--threads", "2", "--delay", "0.4")
    assert run.status == 0
    assert server.paths() == expected_paths(4)
    assert server.connections - 4 == len(run.reconnects) > 0


def test_request_swallowed_by_a_close_is_sent_again_and_counted_once(client: Client) -> None:
    def script(peer: Peer) -> None:
        peer.answer(body_of(str(peer.read_request())))
        if peer.index == 0:
            peer.read_request()

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "2", "--threads", "1")
    assert run.status == 0
    # The second file was asked for on connection 0, which closed, and again on connection 1.
    assert server.seen[:3] == [(0, "/files/file1.html"), (0, "/files/file2.html"), (1, "/files/file2.html")]
    assert Counter(entry["path"] for entry in run.requests) == expected_paths(2)
    assert run.row("errors") == ["0", "0"]
    assert "closed without a response" in run.reconnects[0]["reason"]


def test_new_connection_closed_without_a_response_is_an_error_and_not_tried_again(client: Client) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        if peer.index:
            raise ConnectionError  # closes
        peer.reset()

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "2", "--threads", "1")
    assert run.status == 1
    assert server.paths() == expected_paths(2)
    assert len(run.errors) == 4
    assert all(error.startswith("closed without a response") for error in run.errors)
    assert run.row("max ms") == ["-", "-"]


@pytest.mark.parametrize("reset", [False, True])
def test_response_cut_off_on_a_reused_connection_is_an_error_and_not_tried_again(
    reset: bool, client: Client
) -> None:
    def script(peer: Peer) -> None:
        for path in peer.requests():
            if path.endswith("file2.html"):
                peer.answer(b"x" * 100, length=200)
                if reset:
                    peer.reset()
                return
            peer.answer(body_of(path))

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "3", "--threads", "1")
    assert run.status == 1
    assert server.paths() == expected_paths(3)
    (failed,) = [entry for entry in run.requests if entry["error"]]
    assert (failed["path"], failed["status"], failed["ms"]) == ("/files/file2.html", "200", "-")
    if not reset:
        assert failed["error"] == "body ended after 100 of 200 bytes"
        assert run.err == f"fastws-client: 3 different files: /files/file2.html: {failed['error']}\n"
    assert run.row("errors") == ["1", "0"]
    assert run.row("reconnects") == ["1", "0"]


def test_bytes_beyond_content_length_are_an_error(client: Client) -> None:
    def script(peer: Peer) -> None:
        for path in peer.requests():
            body = body_of(path)
            peer.answer(body, length=len(body) - 3 * path.endswith("file2.html"))

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "3", "--threads", "1")
    assert run.status == 1
    length = len(body_of("/files/file2.html")) - 3
    assert run.errors == [f"3 bytes more than Content-Length {length}"]
    assert run.row("errors") == ["1", "0"]


@pytest.mark.parametrize(
    ("status_line", "fields", "wanted"),
    [
        ("HTTP/1.1 200 OK", "Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length ['2', '2']"),
        ("HTTP/1.1 200 OK", "Content-Length: two\r\n", "Content-Length ['two']"),
        ("HTTP/1.1 200 OK", "Content-Length: 0\r\nContent-Length: 0\r\n", "Content-Length ['0', '0']"),
        ("HTTP/1.1 200 OK", "Content-Length: +2\r\n", "Content-Length ['+2']"),
        ("HTTP/1.1 200 OK", "Content-Length: 1_0\r\n", "Content-Length ['1_0']"),
        ("HTTP/1.1 200 OK", "Content-Length: -1\r\n", "Content-Length ['-1']"),
        ("HTTP/1.1 200 OK", f"Content-Length: {'9' * 5000}\r\n", "status 200, Content-Length ['999"),
        (
            "HTTP/1.1 200 OK",
            "Content-Length: 999999999999999999\r\n",
            "body ended after 0 of 999999999999999999 bytes",
        ),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding ['gzip, chunked']"),
        (
            "HTTP/1.1 200 OK",
            "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
            "Transfer-Encoding ['chunked']",
        ),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", "body ended after 0 bytes"),
        ("HTTP/1.1 200 OK", "".join(f"X{n}: y\r\n" for n in range(200)), "got more than 100 headers"),
        ("HTTP/1.1 200 OK", f"X: {'y' * 70000}\r\n", "LineTooLong"),
        ("HTTP/9.9 200 OK", "", "UnknownProtocol"),
        ("HTTP/1.1 two OK", "", "BadStatusLine"),
        ("HTTP/1.1 103 Early Hints", "", "broken response"),
        ("HTTP/1.1 103 Early Hints\r\n\r\n" * 25, "", "more than 20 interim responses"),
        ("HTTP/1.1 103 Early Hints", "".join(f"X{n}: y\r\n" for n in range(200)), "too many fields"),
        ("HTTP/1.1 103 Early Hints", f"X: {'y' * 70000}\r\n", "a line too long"),
        ("HTTP/1.1 304 Not Modified", "Content-Length: 2\r\n", "status 304 instead of 200"),
        ("\x1b[31mboom", "", r"BadStatusLine('\x1b[31mboom"),
    ],
)
def test_response_without_a_certain_end_is_an_error(
    status_line: str, fields: str, wanted: str, client: Client
) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.sock.sendall(f"{status_line}\r\n{fields}\r\n".encode())

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "1", "--threads", "1", "--timeout", "30")
    assert run.status == 1
    assert wanted in run.errors[0]
    assert "\x1b" not in run.err


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def send_raw(response: bytes, *, then_close: bool = False, in_pieces: bool = False) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        for _ in peer.requests():
            for piece in (
                [response[i : i + 7] for i in range(0, len(response), 7)] if in_pieces else [response]
            ):
                peer.sock.sendall(piece)
            if then_close:
                return

    return script


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize(
    ("response", "body"),
    [
        (CHUNKED + b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello!"),
        (CHUNKED + b"0\r\n\r\n", b""),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"ok",
        ),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
            + CHUNKED
            + b"2\r\nok\r\n0\r\n\r\n",
            b"ok",
        ),
    ],
)
def test_chunked_and_interim_responses_are_read_and_the_connection_goes_on(
    response: bytes, body: bytes, in_pieces: bool, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "files" / file_name(number)).write_bytes(body)
    with ScriptedServer(send_raw(response, in_pieces=in_pieces)) as server:
        run = client(server.port, "--count", "3", "--threads", "1", "--root", str(tmp_path))
    assert (run.status, run.err, run.errors) == (0, "", [])
    assert server.connections == 2


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_body_that_ends_with_the_connection_is_read(version: str, client: Client, tmp_path: Path) -> None:
    root = make_root(tmp_path, 3)

    def script(peer: Peer) -> None:
        path = peer.read_request()
        peer.sock.sendall(f"HTTP/{version} 200 OK\r\n\r\n".encode() + body_of(str(path)))

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "3", "--threads", "1", "--root", root)
    assert (run.status, run.err) == (0, "")
    assert server.connections == 6


@pytest.mark.parametrize(
    ("rest", "error"),
    [
        (b"5\r\nhel", "body ended after 3 bytes"),
        (b"5\r\nhello\r\n", "body ended after 5 bytes"),
        (b"x\r\n", "broken response: A chunk size is not a hexadecimal number."),
        (b"7fffffffffffffff\r\n", "broken response: The body is larger than"),
        (b"2\r\nok\r\n0\r\n\r\nHTTP/1.1", "8 bytes more than the last chunk"),
    ],
)
def test_chunked_response_that_is_cut_or_malformed_is_an_error(
    rest: bytes, error: str, client: Client
) -> None:
    with ScriptedServer(send_raw(CHUNKED + rest, then_close=True)) as server:
        run = client(server.port, "--count", "1", "--threads", "1")
    assert run.status == 1
    assert run.errors[0].startswith(error)


def test_body_larger_than_memory_should_hold_is_an_error(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MOST_BODY_BYTES", 100_000)
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000
    with ScriptedServer(send_raw(endless, then_close=True)) as server:
        run = client(server.port, "--count", "1", "--threads", "1")
    assert run.errors[0] == "body longer than 100000 bytes"


@pytest.mark.parametrize(
    "host", ["a b", "a" * 70, "a..b", "\x7f", "\u2028", "host.invalid", "[::1", "\udcff"]
)
def test_host_that_is_none_is_one_line(host: str, client: Client) -> None:
    run = client(80, "--host", host, "--count", "1")
    assert run.status == 1
    assert len(run.err.splitlines()) == 1
    assert run.err.startswith("fastws-client: cannot connect to ")


PROGRAMS = {
    "client": ("fastws.client", ["--count", "2", "--threads", "1"]),
    "createfile": ("fastws.createfile", ["--count", "2", "--out", "made"]),
}


def run_in_shell(folder: Path, port: int, program: str, redirection: str, *more: str) -> tuple[int, str]:
    """Return the exit status of the program, and what it says on standard error."""
    module, arguments = PROGRAMS[program]
    words = [
        sys.executable,
        "-m",
        module,
        *arguments,
        *(("--port", str(port)) if program == "client" else ()),
        *more,
    ]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("program", sorted(PROGRAMS))
@pytest.mark.parametrize(
    ("redirection", "reason"),
    [(">&-", "closed"), (">/dev/full", "No space left on device"), ("3>&1 | :; exit 1", "")],
)
def test_standard_output_that_takes_nothing_is_one_line(
    tmp_path: Path, program: str, redirection: str, reason: str
) -> None:
    with ScriptedServer(serve_all) as server:
        status, said = run_in_shell(tmp_path, server.port, program, redirection)
    assert status == 1
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert len(said.splitlines()) <= 1
    if reason:
        assert said.startswith(f"fastws-{program}: ")
        assert reason in said


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_both_outputs_closed_are_an_exit_status(tmp_path: Path, program: str) -> None:
    with ScriptedServer(serve_all) as server:
        assert run_in_shell(tmp_path, server.port, program, ">&- 2>&-") == (1, "")


def test_log_that_cannot_be_written_in_the_end_is_one_line(tmp_path: Path) -> None:
    with ScriptedServer(serve_all) as server:
        status, said = run_in_shell(
            tmp_path, server.port, "client", "", "--log", "/dev/full", "--count", "200"
        )
    assert (status, said) == (1, "fastws-client: cannot write /dev/full: No space left on device\n")


def test_roots_that_cannot_be_read_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "root" / "files" / "file1.html").mkdir(parents=True)
    for root, reason in (("file", "Not a directory"), ("root", "Is a directory"), ("none", "No such file")):
        assert main(["--root", str(tmp_path / root), "--log", str(tmp_path / "log"), "--count", "1"]) == 1
        said = capsys.readouterr().err
        assert said.startswith("fastws-client: cannot open ")
        assert reason in said


def test_more_threads_than_there_can_be_are_one_line(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ScriptedServer(serve_all) as server:
        monkeypatch.setattr(Fetcher, "start", refuse)
        run = client(server.port, "--count", "5")
    assert run.status == 1
    assert run.err == "fastws-client: can't start new thread; --threads asks for fewer\n"


def test_fault_of_the_client_itself_is_a_line(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("planted")

    monkeypatch.setattr(Connection, "exchange", fail)
    with ScriptedServer(serve_all) as server:
        run = client(server.port, "--count", "5", "--threads", "1")
    assert run.status == 1
    assert "unexpected MemoryError('planted')" in run.err


def test_404_is_an_error_and_the_connection_goes_on(client: Client) -> None:
    def script(peer: Peer) -> None:
        for path in peer.requests():
            if path.endswith("file3.html"):
                peer.answer(b"gone", status="404 Not Found")
            else:
                peer.answer(body_of(path))

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "4", "--threads", "1")
    assert run.status == 1
    assert server.connections == 2
    assert server.paths() == expected_paths(4)
    assert run.err == "fastws-client: 4 different files: /files/file3.html: status 404 instead of 200\n"
    (failed,) = [entry for entry in run.requests if entry["error"]]
    assert (failed["status"], failed["bytes"]) == ("404", "4")


def test_many_errors_are_summed_up_on_stderr(client: Client) -> None:
    def script(peer: Peer) -> None:
        for _ in peer.requests():
            peer.answer(b"", status="404 Not Found")

    with ScriptedServer(script) as server:
        run = client(server.port, "--count", "20")
    lines = run.err.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "fastws-client: 35 more errors are in the log"
    assert run.row("errors") == ["20", "20"]


def test_empty_files_are_fetched(client: Client) -> None:
    def script(peer: Peer) -> None:
        for _ in peer.requests():
            peer.answer(b"")

    with ScriptedServer(script) as server:
        assert client(server.port, "--count", "3").status == 0
    assert server.paths() == expected_paths(3)


def test_bodies_equal_to_the_files_pass(client: Client, tmp_path: Path) -> None:
    root = make_root(tmp_path, 6)
    with ScriptedServer(serve_all) as server:
        assert client(server.port, "--count", "6", "--root", root).status == 0


def test_one_wrong_byte_is_found_with_root_and_only_with_it(client: Client, tmp_path: Path) -> None:
    def script(peer: Peer) -> None:
        for path in peer.requests():
            body = body_of(path)
            peer.answer(body[:-1] + b"!" if path.endswith("file5.html") else body)

    root = make_root(tmp_path, 6)
    with ScriptedServer(script) as server:
        assert client(server.port, "--count", "6").status == 0
        run = client(server.port, "--count", "6", "--root", root)
    assert run.status == 1
    assert run.errors == [f"body of {len(body_of('/files/file5.html'))} bytes differs from the file"]


def test_missing_file_under_root_is_named_before_anything_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_root(tmp_path, 2)
    with ScriptedServer(serve_all) as server:
        arguments = ["--port", str(server.port), "--count", "3", "--root", root]
        assert main([*arguments, "--log", str(tmp_path / "log")]) == 1
    assert server.connections == 0
    assert capsys.readouterr().err == (
        f"fastws-client: cannot open {root}/files/file3.html: No such file or directory\n"
    )


def test_log_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", str(tmp_path / "none" / "log")]) == 1
    assert "none/log: No such file or directory" in capsys.readouterr().err


def test_server_down_is_one_line_and_exit_1(
    client: Client, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    (port,) = free_ports(1)
    run = client(port)
    assert run.status == 1
    assert run.err == (
        f"fastws-client: cannot connect to 127.0.0.1:{port}: Connection refused (is the server running?)\n"
    )
    assert (run.out, run.lines) == ("", [])


def test_server_that_goes_down_between_ends_the_run_and_shows_what_was_done(client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def one_connection() -> None:
            sock, _ = listener.accept()
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            with sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        thread = threading.Thread(target=one_connection)
        thread.start()
        run = client(port, "--count", "3", "--threads", "1")
        thread.join(10)
    assert run.status == 1
    assert run.err.endswith("Connection refused (is the server running?)\n")
    assert run.row("requests") == ["1"]
    assert run.row("errors") == ["1"]  # "2 of 3 requests not made"
    assert len(run.requests) == 1


def test_silent_server_is_a_timeout_and_not_tried_again(client: Client) -> None:
    with ScriptedServer(lambda peer: [None for _ in peer.requests()] and None) as server:
        run = client(server.port, "--count", "1", "--timeout", "0.3")
    assert run.status == 1
    assert run.errors == ["timed out", "timed out"]
    assert server.paths() == {"/files/file1.html": 2}


def test_path_prefix_is_put_before_the_names(client: Client) -> None:
    with ScriptedServer(serve_all) as server:
        assert client(server.port, "--count", "2", "--path-prefix", "a%20b/c").status == 0
        assert client(server.port, "--count", "1", "--path-prefix", "/").status == 0
    assert server.paths() == {"/a%20b/c/file1.html": 3, "/a%20b/c/file2.html": 1, "/file1.html": 2}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "0"], ["--port", "65536"], ["--port", "http"], ["--threads", "0"], ["--count", "-3"],
        ["--delay", "-1"], ["--delay", "nan"], ["--timeout", "0"], ["--timeout", "soon"],
        ["--path-prefix", "/a b/"], ["--path-prefix", "/a\r\nX: y/"], ["--no-such-option"],
    ],
)  # fmt: skip
def test_bad_argument_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_interrupt_exits_130_and_the_log_is_whole(tmp_path: Path) -> None:
    third = threading.Event()

    def script(peer: Peer) -> None:
        for path in peer.requests():
            if path.endswith("file3.html"):
                third.set()
            else:
                peer.answer(body_of(path))

    log = tmp_path / "log"
    # A shell starts its background jobs with SIGINT ignored, and this test may run in one.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from fastws.client.__main__ import main; sys.exit(main(sys.argv[1:]))"
    with ScriptedServer(script) as server:
        command = [sys.executable, "-c", code, "--port", str(server.port), "--threads", "1"]
        process = subprocess.Popen([*command, "--log", str(log)], stderr=subprocess.PIPE, text=True)
        assert third.wait(30)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == f"fastws-client: interrupted; what was done is in {log}\n"
    lines = [LOG_LINE.fullmatch(line) for line in log.read_text().splitlines()]
    assert [line and line["path"] for line in lines] == ["/files/file1.html", "/files/file2.html"]


def run_in_terminal(port: int, log: Path, *before: str, status: int = 0) -> str:
    """Return what the client writes to a pseudo-terminal before it exits with ``status``."""
    arguments = ["--port", str(port), "--log", str(log), "--count", "20"]
    code = ";".join(
        [*before, "import sys", "from fastws.client.__main__ import main", "sys.exit(main(sys.argv[1:]))"]
    )
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=child, env=environment) as process:
        os.close(child)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other side has closed
            while received := os.read(parent, 65536):
                shown += received
        os.close(parent)
    assert process.returncode == status
    return shown.decode()


def test_terminal_gets_bars_and_a_table_by_rich(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    with ScriptedServer(serve_all) as server:
        shown = run_in_terminal(server.port, tmp_path / "log")
    assert "20/20" in shown
    assert "┃ 20 different files ┃ file1.html 20 times ┃" in re.sub(
        r"\x1b\[[\d;?]*[a-z]", "", shown, flags=re.I
    )


def test_terminal_gets_no_bars_when_the_server_is_down(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert run_in_terminal(port, tmp_path / "log", status=1) == ""


def test_terminal_without_rich_gets_plain_lines(tmp_path: Path) -> None:
    with ScriptedServer(serve_all) as server:
        shown = run_in_terminal(server.port, tmp_path / "log", "import sys", "sys.modules['rich'] = None")
    assert "\x1b" not in shown
    assert re.search(r"^requests +20 +20\r$", shown, re.M)


def test_pipe_gets_plain_lines_and_rich_is_not_imported(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: object) -> object:
        assert not name.startswith("rich")
        return original(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with ScriptedServer(serve_all) as server:
        run = client(server.port, "--count", "3")
    assert run.out.startswith("3 different files: 3 requests\nfile1.html 3 times: 3 requests\n")
    for label in ("p50 ms", "p90 ms", "p99 ms", "max ms"):
        assert len(run.row(label)) == 2


def test_closed_connection_never_reconnects_by_itself() -> None:
    with ScriptedServer(serve_all) as server:
        connection = Connection("127.0.0.1", server.port, timeout_s=30)
        assert connection.exchange("/a").status == 200
        connection.close()
        with pytest.raises(ExchangeError):
            connection.exchange("/b")
    assert (server.connections, server.seen) == (1, [(0, "/a")])


def test_phase_counts_failed_and_missing_requests_and_problems_of_connections() -> None:
    outcomes = (Outcome("/a", 200, 5, 1.0), Outcome("/b", 404, 5, 1.0, "status 404 instead of 200"))
    phase = Phase("title", 4, outcomes, ("port 1: stray",), 0, 1.0)
    assert phase.errors() == (
        "/b: status 404 instead of 200",
        "port 1: stray",
        "2 of 4 requests not made",
    )


@pytest.mark.parametrize(
    ("percent", "wanted"), [(50, 50.0), (90, 90.0), (99, 99.0), (100, 100.0), (1, 1.0), (0, 1.0)]
)
def test_percentile_is_a_measured_value_by_nearest_rank(percent: int, wanted: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], percent) == wanted
    assert percentile([7.0], percent) == 7.0


def test_generated_files_have_the_names_that_are_requested(client: Client, tmp_path: Path) -> None:
    assert createfile(["--count", "3", "--out", str(tmp_path / "files")]) == 0

    def script(peer: Peer) -> None:
        for path in peer.requests():
            peer.answer((tmp_path / path.lstrip("/")).read_bytes())

    with ScriptedServer(script) as server:
        assert client(server.port, "--count", "3", "--root", str(tmp_path)).status == 0


# TLS


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    folder = tmp_path / "ca"
    folder.mkdir()
    return CA(folder)


def context_of(ca: CA, *names: str) -> ssl.SSLContext:
    pair = ca.pair(*names)
    return server_context(TLSSettings((pair,)), pair)


def test_https_with_the_servers_authority_is_as_plain_http(client: Client, ca: CA) -> None:
    with ScriptedServer(serve_per_connection(10), context_of(ca, "127.0.0.1")) as server:
        run = client(server.port, "--ca", ca.path, "--threads", "2", "--count", "25")
    assert (run.status, run.err) == (0, "")
    assert server.paths() == expected_paths(25)
    assert run.row("errors") == ["0", "0"]
    assert int(run.row("reconnects")[0]) >= 2


def test_a_server_that_is_not_trusted_is_one_line_with_the_reason(client: Client, ca: CA) -> None:
    with ScriptedServer(serve_all, context_of(ca, "127.0.0.1")) as server:
        run = client(server.port, "--https")
    assert run.status == 1
    assert "cannot connect to 127.0.0.1" in run.err
    assert "unable to get local issuer certificate" in run.err
    assert run.err.count("\n") == 1


def test_a_certificate_for_another_host_is_refused_unless_that_is_meant(client: Client, ca: CA) -> None:
    with ScriptedServer(serve_all, context_of(ca, "elsewhere.example")) as server:
        run = client(server.port, "--ca", ca.path)
        assert run.status == 1
        assert "is not valid for '127.0.0.1'" in run.err
        assert client(server.port, "--insecure", "--count", "3").status == 0


def test_the_servers_own_certificate_is_enough_to_trust_it(client: Client, ca: CA) -> None:
    pair = ca.pair("127.0.0.1")
    with ScriptedServer(serve_all, server_context(TLSSettings((pair,)), pair)) as server:
        assert client(server.port, "--ca", pair.certificate, "--count", "3").status == 0


def test_a_ca_file_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no certificate")
    assert main(["--ca", str(tmp_path / "text"), "--log", str(tmp_path / "log")]) == 1
    assert f"cannot use {tmp_path}/text for --ca: it holds no certificate in PEM" in capsys.readouterr().err
    assert main(["--ca", str(tmp_path / "gone"), "--log", str(tmp_path / "log")]) == 1
    assert "for --ca: No such file or directory" in capsys.readouterr().err


def test_session_tickets_between_requests_are_no_unasked_for_bytes(ca: CA) -> None:
    context = client_context(ca.path, is_insecure=False)
    with ScriptedServer(serve_all, context_of(ca, "127.0.0.1")) as server:
        connection = Connection("127.0.0.1", server.port, 30, context)
        for path in ("/a", "/b"):
            assert connection.exchange(path).body == body_of(path)
            assert connection.check_idle() == connection.unusable == ""
        connection.close()


def test_bytes_that_nobody_asked_for_are_an_error_over_tls_too(ca: CA) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.answer(b"x")
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n")
        peer.read_request()

    with ScriptedServer(script, context_of(ca, "127.0.0.1")) as server:
        connection = Connection("127.0.0.1", server.port, 30, client_context(ca.path, is_insecure=False))
        assert connection.exchange("/a").body == b"x"
        select.select([connection._socket], [], [], 30)
        assert "unasked-for bytes" in connection.check_idle() or connection.unusable
        connection.close()
