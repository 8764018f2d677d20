"""WSGI applications (PEP 3333) over the wire."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import struct
import sys
import threading
import wsgiref.validate
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Client, ProtocolError, be_at_rest, get, open_descriptors, put, request, wait_until
from wsgi_programs import probe

from fastws import Server
from fastws.application import body as body_module
from fastws.application import loan as loan_module

Serve = Callable[..., Server]
Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], None]]
PLAIN = [("Content-Type", "text/plain")]


def says(*pieces: bytes, status: str = "200 OK", fields: Any = PLAIN) -> Callable[[Environ, Start], Any]:
    """An application that answers every request with these pieces."""

    def application(environ: Environ, start: Start) -> list[bytes]:
        start(status, list(fields))
        return list(pieces)

    return application


def show(environ: Environ, start: Start) -> list[bytes]:
    """Answers with the environ, and with the body that was read, as JSON."""
    data = environ["wsgi.input"].read()
    texts = {name: value for name, value in environ.items() if isinstance(value, str | bool)}
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(texts | {"body": data.decode("latin-1")}).encode()]


def shown(server: Server, target: str = "/", *lines: str, method: str = "GET", body: bytes = b"") -> Any:
    return json.loads(get(server, target, *lines, method=method, body=body).body)


class Errors:
    """The error log of a server, as far as it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, text: str) -> bool:
        """Wait for ``text``."""
        wait_until(lambda: text in self.path.read_text(), f"{text!r} in the error log")
        return True


@pytest.fixture
def errors(tmp_path: Path) -> Errors:
    return Errors(tmp_path / "errors.txt")


# Who answers


def test_longest_prefix_decides(serve: Serve, tmp_path: Path) -> None:
    put(tmp_path / "root", {"shop": b"the file", "shopping.txt": b"a file"})
    server = serve(applications={"/shop": says(b"shop"), "/shop/api/": says(b"api")})
    for target, expected in (
        ("/shop", b"shop"),
        ("/shop/", b"shop"),
        ("/shop/apis", b"shop"),
        ("/shop/api", b"api"),
        ("/shop/api/v1", b"api"),
        ("/shopping.txt", b"a file"),
    ):
        assert get(server, target).body == expected, target


def test_application_of_the_whole_site_answers_before_the_files(serve: Serve, tmp_path: Path) -> None:
    put(tmp_path / "root", {"a.txt": b"a file"})
    server = serve(applications={"/": says(b"the application")})
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/a.txt").body == b"the application"
            assert client.get("/nothing.txt").body == b"the application"


def test_missing_files_of_a_type_seen_before_are_still_the_applications(serve: Serve, tmp_path: Path) -> None:
    put(tmp_path / "root", {"a.txt": b"a file", "b.txt": b"b"})
    server = serve(applications={"/app": says(b"the application")})
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/a.txt").status == client.get("/b.txt").status == 200
            assert client.get("/missing.txt").status == 404
            assert client.get("/app/missing.txt").body == b"the application"


def test_redirects_hidden_paths_and_status_pages_go_before(serve: Serve) -> None:
    server = serve("Redirect /old /new", "StatusPath /-/", applications={"/": says(b"the application")})
    assert get(server, "/old").status == 302
    assert get(server, "/.git/config").status == 404
    assert get(server, "/-/healthz").body.strip() == b"ok"
    assert get(server, "/.well-known/x").body == b"the application"


def test_password_is_asked_for_and_the_user_handed_on(serve: Serve, tmp_path: Path) -> None:
    bcrypt = pytest.importorskip("bcrypt")
    (tmp_path / "users").write_bytes(b"anna:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)) + b"\n")
    server = serve(f"BasicAuth /admin* {tmp_path}/users", applications={"/": show})
    assert get(server, "/admin/x").status == 401
    assert get(server, "//admin").status == 401
    assert get(server, "/x/../%61dmin").status == 401
    right = "Authorization: Basic YW5uYTpzM2NyZXQ="
    assert shown(server, "/admin/x", right)["REMOTE_USER"] == "anna"
    assert shown(server, "/admin/x", right)["AUTH_TYPE"] == "Basic"
    assert "REMOTE_USER" not in shown(server, "/free", right)


@pytest.mark.plain
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "POST"])
def test_every_method_is_the_applications(serve: Serve, method: str) -> None:
    server = serve(applications={"/app": show})
    assert shown(server, "/app", method=method)["REQUEST_METHOD"] == method
    assert get(server, "/elsewhere", method=method).status in (404, 501)
    with Client(server) as client:
        assert client.get("*", method="OPTIONS").status == 501


@pytest.mark.plain
def test_connect_is_no_applications_for_what_follows_its_answer_would_be_a_tunnel(serve: Serve) -> None:
    server = serve(applications={"/": show})
    for _ in range(2):  # also once the path is known
        assert get(server, "/app", method="CONNECT").status == 501
        assert get(server, "/app").status == 200


# What the application is told


def test_environ_tells_the_request(serve: Serve, request: pytest.FixtureRequest) -> None:
    scheme = "https" if request.node.callspec.params["side"].endswith("-tls") else "http"
    server = serve(applications={"/app": show})
    environ = shown(
        server, "/app/a%20b?x=%20&y", "X-Test: 1", "X-Test: 2", "Content-Type: text/x", body=b"ab"
    )
    expected = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "x=%20&y",
        "REQUEST_URI": "/app/a%20b?x=%20&y",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "HTTP_X_TEST": "1, 2",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "2",
        "wsgi.url_scheme": scheme,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "body": "ab",
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert environ.get("HTTPS") == ("on" if scheme == "https" else None)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("target", "script_name", "path_info"),
    [
        ("/app", "/app", ""),
        ("/app/", "/app", "/"),
        ("/app?x", "/app", ""),
        ("/app/a%2Fb", "/app", "/a/b"),
        ("/app/%FF%C3%A9", "/app", "/\xff\xc3\xa9"),
        ("/app//a///b/", "/app", "//a///b/"),
        ("//app/a", "/app", "/a"),
        ("/%61pp/x", "/app", "/x"),
        ("/app/a/../b", "/app", "/b"),
        ("/x/..//app/./b", "/app", "/b"),
        ("/app/a//..//b", "/app", "/b"),
        ("http://localhost/app//x?y", "/app", "//x"),
        ("http://localhost", "", "/"),
        ("/", "", "/"),
        ("//a//b", "", "//a//b"),
    ],
)
def test_path_is_split_where_the_mount_ends(
    serve: Serve, target: str, script_name: str, path_info: str
) -> None:
    server = serve(applications={"/app": show, "/": show})
    environ = shown(server, target)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def test_host_of_a_target_goes_before_the_host_field(serve: Serve) -> None:
    server = serve(applications={"/": show})
    assert shown(server, "http://other:81/a?b")["HTTP_HOST"] == "other:81"
    assert shown(server, "/http://other/")["HTTP_HOST"] == "localhost"
    with Client(server) as client:
        client.send(b"GET http://other/ HTTP/1.0\r\n\r\n")
        assert json.loads(client.reply().body)["HTTP_HOST"] == "other"


def test_path_that_leaves_the_root_is_refused(serve: Serve) -> None:
    server = serve(applications={"/": show})
    for target in ("/../x", "/%2e%2e/x", "/a%00b", "/%zz"):
        assert get(server, target).status == 400


def test_names_that_could_be_forged_are_left_out(serve: Serve) -> None:
    server = serve(applications={"/": show})
    environ = shown(server, "/", "X_Forwarded_For: forged", "X-Forwarded-For: true", "Proxy: http://evil/")
    assert environ["HTTP_X_FORWARDED_FOR"] == "true"
    assert "HTTP_PROXY" not in environ


def test_cookies_of_several_lines_are_one(serve: Serve) -> None:
    server = serve(applications={"/": show})
    assert shown(server, "/", "Cookie: a=1", "Cookie: b=2")["HTTP_COOKIE"] == "a=1; b=2"


@pytest.mark.plain
def test_unix_socket_has_names_too(serve: Serve, tmp_path: Path) -> None:
    serve(f"Listen unix:{tmp_path}/s", applications={"/": show})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{tmp_path}/s")
        sock.sendall(request("/", "Connection: close"))
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    environ = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == ("localhost", "80", "")


# The body of the request


def test_body_for_a_page_is_a_form_on_a_connection_that_an_application_has_used(
    serve: Serve, tmp_path: Path
) -> None:
    put(tmp_path / "root", {"form.html": b"<pre></pre>"})
    server = serve("RequestMethods GET,POST", applications={"/app": probe})
    kind = "Content-Type: application/x-www-form-urlencoded"
    with Client(server) as client:
        for _ in range(2):
            assert client.get("/app/count", method="POST", body=b"x" * 9).body == b"9"
            assert client.get("/form.html", kind, method="POST", body=b"n=1").body == b"<pre>n: 1</pre>"


BODIES = [b"", b"x", b"line\nline\r\nlast", b"0123456789" * 6553, b"ab\n" * 100_000]


@pytest.mark.parametrize("body", BODIES, ids=len)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_body_is_read_in_every_way(serve: Serve, body: bytes, is_chunked: bool) -> None:
    found: dict[str, Any] = {}

    def application(environ: Environ, start: Start) -> list[bytes]:
        stream = environ["wsgi.input"]
        way = environ["PATH_INFO"]
        if way == "/all":
            got = stream.read()
        elif way == "/minus":
            got = stream.read(-1)
        elif way == "/pieces":
            got = b"".join(iter(lambda: stream.read(7000), b""))
        elif way == "/lines":
            got = b"".join(stream)
        elif way == "/readlines":
            got = b"".join(stream.readlines()) + b"".join(stream.readlines(5))
        else:
            got = b"".join(iter(lambda: stream.readline(10), b""))
        found[way] = got, stream.read(), stream.read(5), stream.readline(), environ.get("CONTENT_LENGTH")
        start("204 No Content", [])
        return []

    server = serve(applications={"/": application})
    with Client(server) as client:
        for way in ("/all", "/minus", "/pieces", "/lines", "/readlines", "/readline"):
            lines = ["Transfer-Encoding: chunked"] if is_chunked else []
            sent = chunked(body) if is_chunked else body
            assert client.get(way, *lines, method="POST", body=sent).status == 204
            length = str(len(body)) if body else None
            assert found[way] == (body, b"", b"", b"", length)


def chunked(body: bytes) -> bytes:
    chunks = [body[start : start + 5000] for start in range(0, len(body), 5000)]
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


def test_body_that_is_not_read_is_no_next_request(serve: Serve) -> None:
    server = serve(applications={"/": says(b"unread")})
    with Client(server) as client:
        for body in (b"GET /forged HTTP/1.1\r\n\r\n", b"x" * 200_000):
            assert client.get("/", method="POST", body=body).body == b"unread"
        assert client.get("/").body == b"unread"


def test_large_body_waits_in_a_file_without_a_name(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = []

    def application(environ: Environ, start: Start) -> list[bytes]:
        data = environ["wsgi.input"].read()
        seen.append((len(data), sorted(path.name for path in tmp_path.iterdir())))
        return says(b"ok")(environ, start)

    server = serve(applications={"/": application})
    before = open_descriptors()
    assert get(server, method="POST", body=b"x" * 500_000).status == 200
    be_at_rest(server)
    assert seen[0][0] == 500_000
    assert not [name for name in seen[0][1] if name.startswith("tmp")]
    wait_until(lambda: open_descriptors() <= before, "the end of what was open")


def test_body_for_which_there_is_no_room_is_507(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    server = serve(applications={"/": show})
    with Client(server) as client:
        client.send(request("/", "Content-Length: 500000", method="POST") + b"x" * 70_000)
        assert client.reply().status == 507
    assert get(server).status == 200


def test_too_large_body_is_413_before_the_application(serve: Serve) -> None:
    server = serve("MaxBodySize 10", applications={"/": show})
    assert get(server, method="POST", body=b"x" * 11).status == 413
    assert shown(server, method="POST", body=b"x" * 10)["body"] == "x" * 10


def test_expectation_is_answered_before_the_body(serve: Serve) -> None:
    server = serve(applications={"/": show})
    with Client(server) as client:
        client.send(request("/", "Expect: 100-continue", "Content-Length: 2", method="POST"))
        assert client.head()[0] == 100
        client.send(b"ok")
        environ = json.loads(client.reply().body)
    assert environ["body"] == "ok"
    assert "HTTP_EXPECT" not in environ


def test_slow_uploads_hold_no_thread(serve: Serve) -> None:
    server = serve("ApplicationThreads 1", applications={"/": show})
    with Client(server) as slow:
        slow.send(request("/", "Content-Length: 10", method="POST") + b"12345")
        for _ in range(3):
            assert shown(server)["body"] == ""
        slow.send(b"67890")
        assert json.loads(slow.reply().body)["body"] == "1234567890"


# The answer


def test_status_line_and_fields_are_the_applications(serve: Serve) -> None:
    fields = [("Content-Type", "text/x"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Odd", " \xe9 ")]
    server = serve(applications={"/": says(b"x", status="299 Rather Good", fields=fields)})
    reply = get(server)
    assert (reply.status, reply.reason, reply["Content-Length"]) == (299, "Rather Good", "1")
    assert reply.all("Set-Cookie") == ["a=1", "b=2"]
    assert (reply["X-Odd"], reply["Content-Type"], reply["Server"]) == ("\xe9", "text/x", "fastws")
    assert reply.all("Cache-Control") == []


def test_nothing_is_said_for_the_application_that_it_does_not_say(serve: Serve) -> None:
    reply = get(serve(applications={"/": says(b"x", fields=[("Content-Type", "text/x")])}))
    assert sorted(name for name, _ in reply.fields) == [
        "Connection", "Content-Length", "Content-Type", "Date", "Server",
    ]  # fmt: skip


def test_configured_fields_are_added_where_the_application_has_none(serve: Serve) -> None:
    fields = [("x-frame-options", "DENY"), ("Server", "mine"), ("Date", "Mon, 02 Jan 2006 15:04:05 GMT")]
    server = serve(
        'Header X-Frame-Options SAMEORIGIN "/*"', 'Header X-More yes "/*"',
        applications={"/": says(b"x", fields=fields)},
    )  # fmt: skip
    reply = get(server)
    assert reply["X-Frame-Options"] == "DENY"
    assert (reply["X-More"], reply["Server"]) == ("yes", "mine")
    assert reply["Date"] == "Mon, 02 Jan 2006 15:04:05 GMT"


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ((), b""),
        ((b"",), b""),
        ((b"ab",), b"ab"),
        ((b"", b"a", b"", b"b", b""), b"ab"),
        ((b"x" * 999_999,), None),
    ],
    ids=["none", "empty", "one", "several", "large"],
)
def test_list_has_a_known_length(serve: Serve, pieces: tuple[bytes, ...], body: bytes | None) -> None:
    server = serve(applications={"/": says(*pieces)})
    with Client(server) as client:
        for _ in range(2):
            reply = client.get()
            assert reply.body == (b"".join(pieces) if body is None else body)
            assert reply["Content-Length"] == str(len(reply.body))


def test_generator_is_chunked_and_the_connection_kept(serve: Serve) -> None:
    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        yield b""
        yield b"first, "
        yield b""
        yield b"x" * 100_000
        yield b" last"

    server = serve(applications={"/": application})
    with Client(server) as client:
        for _ in range(3):
            reply = client.get()
            assert reply.body == b"first, " + b"x" * 100_000 + b" last"
            assert reply["Transfer-Encoding"] == "chunked"


def test_generator_ends_the_connection_of_http_1_0(serve: Serve) -> None:
    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        yield b"first, "
        yield b"last"

    server = serve(applications={"/": application})
    with Client(server) as client:
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        status, _, fields = client.head()
        assert status == 200
        assert ("Connection", "close") in fields
        assert "transfer-encoding" not in {name.lower() for name, _ in fields}
        assert client.read(11) == b"first, last"
        assert client.is_over()


def test_known_length_keeps_the_connection_of_http_1_0(serve: Serve) -> None:
    server = serve(applications={"/": says(b"ab")})
    with Client(server) as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            reply = client.reply()
            assert (reply.body, reply["Connection"]) == (b"ab", "keep-alive")


class Sized:
    """An iterable of one piece whose length is known."""

    def __init__(self, piece: bytes) -> None:
        self.piece = piece

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        yield self.piece


def test_only_piece_of_a_sized_iterable_tells_the_length(serve: Serve) -> None:
    def application(environ: Environ, start: Start) -> Sized:
        start("200 OK", PLAIN)
        return Sized(b"only")

    assert get(serve(applications={"/": application}))["Content-Length"] == "4"


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_head_has_the_fields_and_no_body(serve: Serve, kind: str) -> None:
    pulled = []

    def application(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", [*PLAIN, ("X-Way", "1")])
        return [b"abc"] if kind == "list" else (pulled.append(n) or b"abc" for n in range(100))

    server = serve(applications={"/": application})
    with Client(server) as client:
        for _ in range(2):
            client.send(request("/", method="HEAD"))
            status, _, fields = client.head()
            assert status == 200
            assert ("X-Way", "1") in fields
            assert "Transfer-Encoding" not in dict(fields)
            assert dict(fields).get("Content-Length") == ("3" if kind == "list" else None)
        assert client.get().body[:3] == b"abc"
    assert pulled.count(99) == (kind == "generator")


@pytest.mark.plain
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("length", [[], [("Content-Length", "5")]], ids=["", "length"])
def test_answers_without_a_body_have_none(serve: Serve, status: str, length: list[tuple[str, str]]) -> None:
    server = serve(applications={"/": says(b"a body", status=status, fields=length)})
    with Client(server) as client:
        for _ in range(2):
            reply = client.get()
            assert reply.status == int(status[:3])
            expected = ["5"] if length and reply.status == 304 else []
            assert (reply.all("Content-Length"), reply.all("Transfer-Encoding")) == (expected, [])


def test_longer_than_announced_is_cut(serve: Serve, errors: Errors) -> None:
    length = [("Content-Length", "3")]

    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", length)
        yield b"ab"
        yield b"cde"
        yield b"fg"

    server = serve(
        applications={"/": application, "/list": says(b"abcdef", fields=length)}, error_log=str(errors.path)
    )
    with Client(server) as client:
        for target in ("/", "/list", "/"):
            assert client.get(target).body == b"abc"
    assert errors.has("gave more than its Content-Length for /list")


def test_shorter_than_announced_is_an_error_or_ends_the_connection(serve: Serve, errors: Errors) -> None:
    length = [("Content-Length", "9")]

    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", length)
        yield b"abc"

    server = serve(
        applications={"/": application, "/list": says(b"abc", fields=length)}, error_log=str(errors.path)
    )
    assert get(server, "/list").status == 500
    with Client(server) as client, pytest.raises(ProtocolError):
        client.get("/")
    assert errors.has("6 bytes less than its Content-Length")


BAD_HEADS: list[tuple[Any, Any]] = [
    ("200 OK", [("Bad Name", "x")]),
    ("200 OK", [("", "x")]),
    ("200 OK", [("X-Split", "a\r\nSet-Cookie: forged=1")]),
    ("200 OK", [("X-Split", "a\nb")]),
    ("200 OK", [("X-Null", "\0")]),
    ("200 OK", [("X-Wide", "\u20ac")]),
    ("200 OK", [("X-Bytes", b"x")]),
    ("200 OK", [(b"X-Bytes", "x")]),
    ("200 OK", [("X-Number", 1)]),
    ("200 OK", [("X-Single",)]),
    ("200 OK", [("Content-Length", "1"), ("Content-Length", "1")]),
    ("200 OK", [("Content-Length", "-1")]),
    ("200 OK", [("Content-Length", "1, 1")]),
    ("200 OK", [("Connection", "close")]),
    ("200 OK", [("Transfer-Encoding", "chunked")]),
    ("200 OK", [("Upgrade", "websocket")]),
    ("200 OK", [("proxy-connection", "keep-alive")]),
    ("200 OK\r\nX: y", []),
    ("200 \u20ac", []),
    ("100 Continue", []),
    ("101 Switching Protocols", []),
    ("99 Low", []),
    ("600 High", []),
    ("OK", []),
    (200, []),
    (b"200 OK", []),
    (None, []),
]


@pytest.mark.plain
@pytest.mark.parametrize(("status", "fields"), BAD_HEADS, ids=lambda value: ascii(value))
def test_head_that_cannot_be_sent_is_500(serve: Serve, errors: Errors, status: Any, fields: Any) -> None:
    server = serve(applications={"/": says(b"x", status=status, fields=fields)}, error_log=str(errors.path))
    with Client(server) as client:
        reply = client.get("/this")
        assert (reply.status, reply.all("Set-Cookie")) == (500, [])
        assert client.get("/that").status == 500
    assert errors.has("application / failed at GET /this")


@pytest.mark.plain
@pytest.mark.parametrize("piece", ["text", None, 5, bytearray(b"x")], ids=ascii)
def test_body_that_is_not_bytes_is_500(serve: Serve, errors: Errors, piece: Any) -> None:
    server = serve(applications={"/": says(piece)}, error_log=str(errors.path))
    assert get(server).status == 500
    assert errors.has("the body is made of bytes")


def test_start_response_that_is_never_called_is_500(serve: Serve, errors: Errors) -> None:
    server = serve(applications={"/": lambda environ, start: [b"x"]}, error_log=str(errors.path))
    for _ in range(2):
        assert get(server).status == 500
    assert errors.has("has not called start_response")


def test_start_response_may_be_called_by_the_first_next(serve: Serve) -> None:
    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        yield b""
        start("201 Created", PLAIN)
        yield b"late"

    reply = get(serve(applications={"/": application}))
    assert (reply.status, reply.body) == (201, b"late")


def test_second_start_response_is_an_error(serve: Serve, errors: Errors) -> None:
    def application(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", PLAIN)
        start("200 OK", PLAIN)
        return [b"x"]

    assert get(serve(applications={"/": application}, error_log=str(errors.path))).status == 500
    assert errors.has("start_response was called a second time")


def test_exc_info_replaces_a_head_that_is_not_sent(serve: Serve) -> None:
    def application(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [("X-First", "1")])
        try:
            raise KeyError
        except KeyError:
            import sys

            start("503 Sorry", PLAIN, sys.exc_info())
        return [b"sorry"]

    reply = get(serve(applications={"/": application}))
    assert (reply.status, reply.reason, reply.body, reply.all("X-First")) == (503, "Sorry", b"sorry", [])


def test_exc_info_after_output_ends_the_connection(serve: Serve, errors: Errors) -> None:
    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        import sys

        start("200 OK", PLAIN)
        yield b"begun"
        try:
            raise KeyError("too late")
        except KeyError:
            start("500 Oops", PLAIN, sys.exc_info())
        yield b"never"

    server = serve(applications={"/": application}, error_log=str(errors.path))
    with Client(server) as client, pytest.raises(ProtocolError):
        client.get("/")
    assert errors.has("KeyError: 'too late'")


def test_write_sends_before_what_is_returned(serve: Serve) -> None:
    def application(environ: Environ, start: Start) -> list[bytes]:
        write = start("200 OK", PLAIN)
        write(b"written, ")
        write(b"")
        write(b"twice, ")
        return [b"returned"]

    with Client(serve(applications={"/": application})) as client:
        for _ in range(2):
            assert client.get().body == b"written, twice, returned"


def test_exception_before_output_is_500_and_the_traceback_in_the_log(serve: Serve, errors: Errors) -> None:
    def application(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", PLAIN)
        raise ValueError("the reason")

    server = serve(applications={"/": application}, error_log=str(errors.path))
    with Client(server) as client:
        for _ in range(2):
            reply = client.get()
            assert reply.status == 500
            assert b"the reason" not in reply.body
    assert errors.has("ValueError: the reason")
    assert "[application-0]" in errors.path.read_text()


@pytest.mark.plain
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_thread_survives_every_exception(serve: Serve, error: type[BaseException]) -> None:
    def application(environ: Environ, start: Start) -> list[bytes]:
        if environ["PATH_INFO"] == "/bad":
            raise error
        return says(b"fine")(environ, start)

    server = serve("ApplicationThreads 1", applications={"/": application})
    for _ in range(3):
        assert get(server, "/bad").status == 500
        assert get(server, "/good").body == b"fine"


def test_exception_after_output_ends_the_connection(serve: Serve) -> None:
    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        yield b"begun"
        raise ValueError

    with Client(serve(applications={"/": application})) as client:
        client.send(request())
        assert client.head()[0] == 200
        with pytest.raises(ProtocolError):
            client._read_chunks()


def test_configured_page_of_an_error_is_sent(serve: Serve, tmp_path: Path) -> None:
    put(tmp_path / "root", {"sorry.html": b"sorry"})
    server = serve("ErrorPage 500 /sorry.html", applications={"/": lambda environ, start: 1 / 0})
    reply = get(server)
    assert (reply.status, reply.body) == (500, b"sorry")


class Closing:
    """Yields pieces and counts the calls of ``close``; a piece may be an exception to be raised."""

    def __init__(self, *pieces: Any, on_close: Exception | None = None) -> None:
        self.pieces = pieces
        self.closed = 0
        self.on_close = on_close

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1
        if self.on_close is not None:
            raise self.on_close


@pytest.mark.plain
@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Closing(b"a", b"b"), 200),
        (Closing(), 200),
        (Closing(ValueError()), 500),
        (Closing("text"), 500),
        (Closing(b"a", on_close=ValueError("in close")), 200),
    ],
    ids=["whole", "empty", "raises", "text", "close raises"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_is_called_once(serve: Serve, result: Closing, status: int, method: str) -> None:
    def application(environ: Environ, start: Start) -> Closing:
        result.closed = 0
        start("200 OK", [])
        return result

    server = serve(applications={"/": application})
    with Client(server) as client:
        client.send(request("/", method=method))
        assert client.head()[0] == status
    wait_until(lambda: result.closed == 1)
    assert get(server, "/").status == status
    wait_until(lambda: result.closed == 1)


@pytest.mark.parametrize("target", ["/list", "/generator", "/write", "/empty", "/file", "/head"])
@pytest.mark.filterwarnings("ignore")
def test_validator_of_the_standard_library_finds_nothing(
    serve: Serve, errors: Errors, target: str, tmp_path: Path
) -> None:
    put(tmp_path / "root", {"a.txt": b"0123456789"})

    def application(environ: Environ, start: Start) -> Any:
        write = start("200 OK", PLAIN)
        environ["wsgi.input"].read(5)
        environ["wsgi.errors"].write("noted\n")
        if target == "/list":
            return [b"a", b"b"]
        if target == "/write":
            write(b"a")
        if target == "/file":
            return environ["wsgi.file_wrapper"](open(tmp_path / "root" / "a.txt", "rb"), 3)
        return (piece for piece in (() if target == "/empty" else (b"x", b"y")))

    server = serve(applications={"/": wsgiref.validate.validator(application)}, error_log=str(errors.path))
    with Client(server) as client:
        for _ in range(2):
            reply = client.get(target, method="POST", body=b"1234567")
            assert reply.status == 200, errors.path.read_text()
    assert errors.has("application /: noted")


# Files


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("start_at", [0, 4])
def test_file_is_sent_from_where_it_stands(serve: Serve, tmp_path: Path, size: int, start_at: int) -> None:
    content = os.urandom(size)
    path = put(tmp_path, {"content.bin": content}) / "content.bin"
    files = []

    def application(environ: Environ, start: Start) -> Any:
        file = open(path, "rb")  # noqa: SIM115
        files.append(file)
        file.read(start_at)
        start("200 OK", [("Content-Length", "3")] if environ["PATH_INFO"] == "/part" else [])
        return environ["wsgi.file_wrapper"](file, 1000)

    server = serve(applications={"/": application})
    before = open_descriptors()
    with Client(server) as client:
        for _ in range(2):
            reply = client.get("/whole")
            assert (reply.body, reply["Content-Length"]) == (content[start_at:], str(size - start_at))
            assert client.get("/part").body == content[start_at : start_at + 3]
        client.send(request("/whole", method="HEAD"))
        assert ("Content-Length", str(size - start_at)) in client.head()[2]
    be_at_rest(server)
    wait_until(lambda: all(file.closed for file in files))
    wait_until(lambda: open_descriptors() <= before, "the end of what was open")


@pytest.mark.parametrize("kind", ["memory", "pipe", "text"])
def test_what_is_no_regular_file_is_read(serve: Serve, kind: str) -> None:
    def application(environ: Environ, start: Start) -> Any:
        start("200 OK", PLAIN)
        if kind == "text":
            return environ["wsgi.file_wrapper"](io.StringIO("text"))
        if kind == "memory":
            return environ["wsgi.file_wrapper"](io.BytesIO(b"x" * 200_000))
        reading, writing = os.pipe()
        os.write(writing, b"x" * 60_000)
        os.close(writing)
        return environ["wsgi.file_wrapper"](os.fdopen(reading, "rb"))

    reply = get(serve(applications={"/": application})) if kind == "text" else None
    if reply is not None:
        assert reply.status == 500
        return
    with Client(serve(applications={"/": application})) as client:
        assert len(client.get().body) == (200_000 if kind == "memory" else 60_000)


class Transforming(io.BufferedReader):
    """A file that reads something else than its descriptor has."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size).upper()


class Holder:
    """A file that holds another, as those of Django do."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


OPENERS: dict[str, Callable[[str], Any]] = {
    "gzip": gzip.open,
    "bz2": bz2.open,
    "lzma": lzma.open,
    "gzip behind a buffer": lambda path: io.BufferedReader(gzip.open(path)),  # type: ignore[arg-type]  # noqa: SIM115
    "gzip held": lambda path: Holder(gzip.open(path)),  # noqa: SIM115
    "plain": lambda path: open(path, "rb"),  # noqa: SIM115
    "unbuffered": lambda path: open(path, "rb", buffering=0),  # noqa: SIM115
    "plain held": lambda path: Holder(Holder(open(path, "rb"))),  # noqa: SIM115
    "transforming": lambda path: Transforming(io.FileIO(path)),
}


@pytest.mark.parametrize("kind", OPENERS)
def test_what_a_file_reads_is_what_is_sent(serve: Serve, tmp_path: Path, kind: str) -> None:
    content = b"the content of a file\n" * 1000
    path = str(tmp_path / "file")
    stored = {"gzip": gzip.compress, "bz2": bz2.compress, "lzma": lzma.compress}.get(kind.split()[0], bytes)
    Path(path).write_bytes(stored(content))

    def application(environ: Environ, start: Start) -> Any:
        start("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](OPENERS[kind](path))

    with Client(serve(applications={"/": application})) as client:
        reply = client.get()
    assert reply.body == (content.upper() if kind == "transforming" else content)
    is_sent_as_one = kind.startswith(("plain", "unbuffered"))
    assert reply.all("Content-Length") == ([str(len(content))] if is_sent_as_one else [])


def is_shorter_than_it_says(path: Path) -> bool:
    try:
        return 0 < len(path.read_bytes()) < path.stat().st_size
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
@pytest.mark.parametrize("where", ["/proc/sys/kernel", "/sys/kernel", "/sys/kernel/mm/transparent_hugepage"])
@pytest.mark.parametrize("start_at", [0, 2, 6000])
def test_file_that_is_not_as_long_as_it_says_is_read(serve: Serve, where: str, start_at: int) -> None:
    made_up = [path for path in sorted(Path(where).glob("*")) if is_shorter_than_it_says(path)]
    path = Path("/proc/sys/kernel/ostype") if where.startswith("/proc") else next(iter(made_up), None)
    if path is None:
        pytest.skip("this machine has no such file")

    def application(environ: Environ, start: Start) -> Any:
        start("200 OK", PLAIN)
        file = path.open("rb")
        file.seek(start_at)
        return environ["wsgi.file_wrapper"](file)

    with Client(serve(applications={"/": application})) as client:
        for _ in range(2):
            assert client.get().body == path.read_bytes()[start_at:]
            client.send(request("/", method="HEAD"))
            assert "Content-Length" not in dict(client.head()[2])


def test_file_shorter_than_announced_ends_the_connection(serve: Serve, tmp_path: Path) -> None:
    path = put(tmp_path, {"short.bin": b"0123456789"}) / "short.bin"

    def application(environ: Environ, start: Start) -> Any:
        start("200 OK", [("Content-Length", "20")])
        return environ["wsgi.file_wrapper"](open(path, "rb"))

    with Client(serve(applications={"/": application})) as client, pytest.raises(ProtocolError):
        client.get()


# Streams, slow readers, and clients that go away


def test_pieces_are_sent_as_they_come(serve: Serve) -> None:
    may_go_on = threading.Event()

    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/event-stream")])
        yield b"data: 1\n\n"
        may_go_on.wait(30)
        yield b"data: 2\n\n"

    with Client(serve(applications={"/": application})) as client:
        client.send(request())
        client.head()
        assert client.read(len(b"9\r\ndata: 1\n\n\r\n")) == b"9\r\ndata: 1\n\n\r\n"
        may_go_on.set()
        assert client._read_chunks() == b"data: 2\n\n"


def test_client_that_goes_away_ends_the_iterator(serve: Serve) -> None:
    ended = threading.Event()

    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.set()

    server = serve(applications={"/": application})
    with Client(server) as client:
        client.send(request())
        client.head()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert ended.wait(30)
    be_at_rest(server)


def test_close_is_called_once_when_the_client_goes_away(serve: Serve) -> None:
    made: list[Closing] = []

    def application(environ: Environ, start: Start) -> Closing:
        start("200 OK", PLAIN)
        made.append(Closing(*[b"x" * 65536] * 10_000))
        return made[-1]

    server = serve("ApplicationThreads 1", applications={"/app": application, "/": says(b"next")})
    with Client(server) as client:
        client.send(request("/app"))
        client.head()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert get(server).body == b"next"  # by the thread that has closed
    assert [each.closed for each in made] == [1]


def test_reader_that_reads_nothing_holds_no_thread(serve: Serve) -> None:
    large = b"x" * 20_000_000
    server = serve("ApplicationThreads 1", applications={"/large": says(large), "/small": says(b"small")})
    with Client(server, receive_buffer=4096) as slow:
        slow.send(request("/large"))
        slow.head()
        for _ in range(3):
            assert get(server, "/small").body == b"small"
        assert slow.read(len(large)) == large


def test_stream_waits_for_its_reader(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loan_module, "AHEAD_BYTES", 1000)
    yielded = [0]

    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        for _ in range(400):
            yielded[0] += 1
            yield b"x" * 100_000

    server = serve(applications={"/": application})
    with Client(server, receive_buffer=4096) as client:
        client.send(request())
        client.head()
        wait_until(lambda: yielded[0] > 3)
        assert yielded[0] < 399
        assert len(client._read_chunks()) == 40_000_000
        assert client.get("/").status == 200


@pytest.mark.parametrize("size", [1, 7, 1100])
@pytest.mark.parametrize("length", [False, True], ids=["chunked", "length"])
def test_pieces_may_be_more_than_one_call_takes(serve: Serve, size: int, length: bool) -> None:
    pieces = [bytes([65 + number % 26]) * size for number in range(2500)]  # IOV_MAX is 1024

    def application(environ: Environ, start: Start) -> Iterable[bytes]:
        start("200 OK", PLAIN)
        return pieces if length else iter(pieces)

    server = serve(applications={"/": application})
    with Client(server) as client:
        for _ in range(3):
            client.send(request())
            assert client.reply().body == b"".join(pieces)


def test_pipelined_requests_are_answered_in_their_order(serve: Serve, tmp_path: Path) -> None:
    put(tmp_path / "root", {"a.txt": b"a file"})
    server = serve(applications={"/app": show})
    with Client(server) as client:
        for _ in range(3):
            client.send(b"".join(request(target) for target in ("/app/1", "/a.txt", "/app/2", "/a.txt")))
            answers = [client.reply().body for _ in range(4)]
            assert answers[1] == answers[3] == b"a file"
            assert [json.loads(answer)["PATH_INFO"] for answer in answers[::2]] == ["/1", "/2"]


# Threads, queue and time


class Gate:
    """An application that answers when it is opened; ``waiting`` counts the requests that are in it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.waiting = 0

    def __call__(self, environ: Environ, start: Start) -> list[bytes]:
        self.waiting += 1
        self.opened.wait(60)
        return says(b"at last")(environ, start)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


def test_files_are_served_while_every_thread_is_busy(serve: Serve, gate: Gate, tmp_path: Path) -> None:
    put(tmp_path / "root", {"a.txt": b"a file"})
    server = serve("ApplicationThreads 2", "ApplicationQueue 1", applications={"/app": gate})
    clients = [Client(server) for _ in range(3)]
    for client in clients:
        client.send(request("/app"))
    wait_until(lambda: gate.waiting == 2 and len(server._takers._threads._waiting) == 1)
    assert get(server, "/a.txt").body == b"a file"
    reply = get(server, "/app")
    assert (reply.status, reply["Retry-After"]) == (503, "5")
    gate.opened.set()
    for client in clients:
        assert client.reply().body == b"at last"
        client.sock.close()
    assert get(server, "/app").body == b"at last"


def test_application_that_takes_too_long_is_504_and_what_waits_503(serve: Serve, gate: Gate) -> None:
    server = serve("ApplicationThreads 1", "ApplicationTimeout 0.2", applications={"/": gate})
    with Client(server) as first, Client(server) as second:
        first.send(request())
        wait_until(lambda: gate.waiting == 1)
        second.send(request())
        assert first.reply().status == 504
        assert second.reply().status == 503
        server.reload(lambda: server.config.with_overrides(application_timeout_s=60.0))
        gate.opened.set()
        for client in (first, second):
            assert client.get().body == b"at last"
    assert gate.waiting == 3


def test_stream_that_stands_still_is_cut_off(serve: Serve, errors: Errors) -> None:
    opened = threading.Event()

    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", PLAIN)
        yield b"begun"
        opened.wait(60)
        yield b"late"

    server = serve("ApplicationTimeout 1", applications={"/": application}, error_log=str(errors.path))
    with Client(server) as client, pytest.raises(ProtocolError):
        client.get()
    opened.set()
    assert errors.has("nothing more of an answer came in time")


def test_access_line_has_status_and_bytes_of_the_body(serve: Serve, tmp_path: Path) -> None:
    def application(environ: Environ, start: Start) -> Iterator[bytes]:
        start("207 Multi", PLAIN)
        yield b"abc"
        yield b"defg"

    log = tmp_path / "access.txt"
    server = serve(applications={"/": application}, access_log=str(log))
    get(server, "/streamed")
    wait_until(lambda: '"GET /streamed HTTP/1.1" 207 7 ' in log.read_text())


def test_drain_waits_for_the_application(serve: Serve, gate: Gate) -> None:
    server = serve(applications={"/": gate})
    with Client(server) as client:
        client.send(request())
        wait_until(lambda: gate.waiting == 1)
        stopping = threading.Thread(target=server.stop, kwargs={"timeout_s": 30.0, "grace_s": 0.0})
        stopping.start()
        wait_until(lambda: server.is_draining)
        gate.opened.set()
        reply = client.reply()
        assert (reply.body, reply["Connection"]) == (b"at last", "close")
        stopping.join()


def test_body_in_memory_is_bounded() -> None:
    assert body_module.MEMORY_BYTES == 65536


# The file


def test_application_of_the_file_is_imported_from_its_directory(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"named_{os.getpid()}_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(
        "def application(environ, start):\n    start('200 OK', [])\n    return [b'plain']\n"
        "def create():\n    return lambda environ, start: start('200 OK', []) and [b'made']\n"
    )
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    server = serve(f"Application / {name}:application", f"Application /made {name}:create()")
    assert get(server, "/").body == b"plain"
    assert get(server, "/made/x").body == b"made"


def test_metrics_count_threads_and_the_queue(serve: Serve, gate: Gate) -> None:
    server = serve("StatusPath /-/", "ApplicationThreads 1", applications={"/app": gate})

    def metric(name: str) -> float:
        page = get(server, "/-/metrics").body.decode()
        (line,) = [line for line in page.splitlines() if line.startswith(f"fastws_application_{name} ")]
        return float(line.rpartition(" ")[2])

    assert (metric("busy"), metric("waiting"), metric("processes")) == (0, 0, 0)
    with Client(server) as first, Client(server) as second:
        for client in (first, second):
            client.send(request("/app"))
        wait_until(lambda: metric("busy") == metric("waiting") == 1)
        gate.opened.set()
        for client in (first, second):
            assert client.reply().status == 200
    wait_until(lambda: metric("busy") == 0)
    assert metric("requests_total") == 2
    assert metric("waiting_seconds_total") > 0
    assert metric("seconds_total") > 0
