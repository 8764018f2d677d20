"""Each error status as a client meets it: its page, its length, and whether the connection goes on."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from launch import running
from rawhttp import Client, Reply, get, put, request, thrice, wait_until

from fastws import Server
from fastws.http.vocabulary import reason_phrase
from fastws.site.site import Site

Serve = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "index.html": b"<pre></pre>",
        "a.txt": b"text of a",
        ".hidden": b"secret",
        ".git/config": b"secret",
    }
    return put(tmp_path / "root", files | {".well-known/security.txt": b"contact", "d/.hidden": b"secret"})


def check_page(reply: Reply, status: int) -> None:
    """An error page names its status and reason, in HTML, and is nowhere cached."""
    assert reply.status == status
    assert reply.reason == reason_phrase(status)
    assert reply["Content-Type"] == "text/html; charset=utf-8"
    assert int(reply["Content-Length"]) == len(reply.body)
    assert reply["Cache-Control"] == "no-store"
    assert reply["Server"] == "fastws"
    assert str(status) in reply.body.decode()
    assert reason_phrase(status) in reply.body.decode()
    assert "<!doctype html>" in reply.body.decode().lower()


HEAD = b"Host: x\r\n"
CERTAIN = {
    "path escapes": (400, request("/../x")),
    "bad percent": (400, request("/%zz")),
    "hidden": (404, request("/.hidden")),
    "missing": (404, request("/missing")),
    "body read before": (404, request("/missing", method="POST", body=b"a=1")),
    "no form": (405, request("/a.txt", method="POST", body=b"a=1")),
    "precondition": (412, request("/a.txt", 'If-Match: "x"')),
    "no form type": (415, request("/", "Content-Type: text/plain", method="POST", body=b"a=1")),
    "range": (416, request("/a.txt", "Range: bytes=100-")),
    "method": (501, request("/a.txt", method="DELETE")),
    "method with body": (501, request("/a.txt", method="PUT", body=b"x" * 1000)),
}
UNCERTAIN = {
    "malformed": (400, b"GET\r\n\r\n"),
    "version": (400, b"GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
    "no host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two hosts": (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "bad host": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "bad length": (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    "large body": (413, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n"),
    "long line": (414, b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "expectation": (417, b"POST / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 1\r\n\r\na"),
    "large head": (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 17000 + b"\r\n\r\n"),
    "many fields": (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n"),
    "coding": (501, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
}


@pytest.mark.parametrize("case", CERTAIN)
def test_error_with_certain_framing_keeps_the_connection(serve: Serve, root: Path, case: str) -> None:
    status, data = CERTAIN[case]
    with Client(serve()) as client:
        for _ in range(3):
            client.send(data)
            reply = client.reply()
            check_page(reply, status)
            assert not reply.all("Connection")
        assert client.get("/a.txt").body == b"text of a"


@pytest.mark.parametrize("case", UNCERTAIN)
def test_error_with_uncertain_framing_ends_the_connection(serve: Serve, root: Path, case: str) -> None:
    status, data = UNCERTAIN[case]
    server = serve()
    for warm in (b"", request("/a.txt") * 3):
        with Client(server) as client:
            client.send(warm + data + request("/a.txt"))  # what comes after it is not answered
            for _ in range(3 if warm else 0):
                assert client.reply().status == 200
            reply = client.reply()
            check_page(reply, status)
            assert reply["Connection"] == "close"
            assert client.is_over()


@pytest.mark.parametrize(
    "case", [*CERTAIN, "version", "no host", "bad host", "bad length", "large body", "expectation", "coding"]
)
def test_error_to_head_has_no_body(serve: Serve, root: Path, case: str) -> None:
    _, data = {**CERTAIN, **UNCERTAIN}[case]
    with Client(serve()) as client:
        client.send(b"HEAD " + data.partition(b" ")[2])
        assert client.reply("HEAD").status >= 200
        client.half_close()
        assert client.is_over()


def test_405_names_what_is_allowed(serve: Serve, root: Path) -> None:
    assert thrice(serve(), "/a.txt", method="POST")["Allow"] == "GET, HEAD"


def test_405_allows_only_what_request_methods_do(serve: Serve, root: Path) -> None:
    assert thrice(serve("RequestMethods GET,POST"), "/a.txt", method="POST")["Allow"] == "GET"


# 400: targets


@pytest.mark.parametrize(
    "target",
    [
        "/..",
        "/../",
        "/../etc/passwd",
        "/a/../../etc/passwd",
        "/%2e%2e/etc/passwd",
        "/%2E%2E/etc/passwd",
        "/.%2e/etc/passwd",
        "/..%2fetc/passwd",
        "/%2e%2e%2fetc%2fpasswd",
        "/..%5cetc%5cpasswd",
        "/..\\..\\etc\\passwd",
        "/d/..%5c..%5c..%5cetc",
        "//../etc/passwd",
        "/%00",
        "/a.txt%00.html",
        "/%",
        "/%4",
        "/%4g",
        "/%u0041",
        "/a%",
        "/a#fragment",
        "a.txt",
        "*",
        "ftp://localhost/a.txt",
        "http:///a.txt",
        "http://user@localhost/a.txt",
        "localhost:80",
        "http://local host/",
    ],
)
def test_invalid_target_is_400(serve: Serve, root: Path, target: str) -> None:
    with Client(serve()) as client:
        for _ in range(2):
            client.send(request(target))
            reply = client.reply()
            check_page(reply, 400)
            if reply.all("Connection"):  # more than one space: not a request line at all
                assert " " in target
                return
        assert client.is_open()


# 404


@pytest.mark.parametrize(
    "target",
    [
        "/missing",
        "/.hidden",
        "/%2ehidden",
        "/.git/config",
        "/.git/",
        "/.git",
        "/d/.hidden",
        "/d/",
        "/index.html/x",
    ],
)
def test_missing_and_hidden_files_are_404_alike(serve: Serve, root: Path, target: str) -> None:
    server = serve()
    reply = thrice(server, target)
    check_page(reply, 404)
    assert reply.body == get(server, "/missing").body


def test_well_known_is_no_dotfile(serve: Serve, root: Path) -> None:
    put(root, {".well-known/.secret": b"x", "d/.well-known/x": b"x"})
    server = serve()
    assert thrice(server, "/.well-known/security.txt").body == b"contact"
    assert thrice(server, "/.well-known/.secret").status == 404
    assert thrice(server, "/d/.well-known/x").status == 404


def test_name_that_is_too_long_for_the_file_system_is_404(serve: Serve, root: Path) -> None:
    check_page(thrice(serve(), "/" + "a" * 300), 404)


# 403 and 500: the file system refuses

UNPRIVILEGED = (
    ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]
    if os.geteuid() == 0
    else []
)
needs_setpriv = pytest.mark.skipif(
    bool(UNPRIVILEGED) and shutil.which("setpriv") is None,
    reason="root reads every file, and setpriv is missing",
)


@needs_setpriv
@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_unreadable_file_is_403(root: Path, kind: str) -> None:
    put(root, {"locked.txt": b"x", "closed/x.txt": b"x", "closed/index.html": b"x"})
    (root / "locked.txt").chmod(0)
    (root / "closed").chmod(0)
    with running(root.parent, str(root), side=kind, prefix=UNPRIVILEGED) as server:
        for target in ("/locked.txt", "/closed/x.txt", "/closed/", "/closed"):
            check_page(thrice(server.port, target), 403)
        (root / "locked.txt").chmod(0o644)
        assert thrice(server.port, "/locked.txt").body == b"x"
        assert thrice(server.port, "/a.txt").status == 200
        (root / "a.txt").chmod(0)
        assert thrice(server.port, "/a.txt").status == 403
    (root / "closed").chmod(0o755)


@needs_setpriv
@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_root_that_becomes_unreadable_is_500_until_it_is_readable(root: Path, kind: str) -> None:
    with running(root.parent, str(root), side=kind, prefix=UNPRIVILEGED) as server:
        assert thrice(server.port, "/a.txt").status == 200
        root.chmod(0)
        try:
            check_page(thrice(server.port, "/a.txt"), 500)
            check_page(thrice(server.port, "/missing"), 500)
        finally:
            root.chmod(0o755)
        assert thrice(server.port, "/a.txt").status == 200


def test_root_that_is_gone_is_500_until_it_is_back(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("ErrorLog errors.txt")
    assert thrice(server, "/a.txt").status == 200
    root.rename(tmp_path / "elsewhere")
    for target in ("/a.txt", "/missing", "/"):
        reply = thrice(server, target)
        check_page(reply, 500)
        assert str(root).encode() not in reply.body  # the inside stays inside
    (tmp_path / "elsewhere").rename(root)
    assert thrice(server, "/a.txt").body == b"text of a"
    assert "document root" in (tmp_path / "errors.txt").read_text()


# 500: our own mistakes


def test_unexpected_exception_is_500_with_a_traceback_in_the_log(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake <of ours>")

    server = serve("ErrorLog errors.txt")
    with monkeypatch.context() as patch:
        patch.setattr(Site, "_decide", fail)
        with Client(server) as client:
            for _ in range(2):
                reply = client.get("/never-seen/")
                check_page(reply, 500)
                assert b"mistake" not in reply.body
            assert client.get("/never-seen/", method="HEAD").body == b""
    assert thrice(server, "/a.txt").status == 200
    log = (tmp_path / "errors.txt").read_text()
    assert log.count("RuntimeError: a mistake <of ours>") == 3
    assert "Traceback" in log


def test_exception_outside_of_answering_closes_one_connection_only(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a mistake in the engine")

    server = serve("ErrorLog errors.txt", "WorkerThreads 1")
    with Client(server) as other:
        assert other.get("/a.txt").status == 200
        with monkeypatch.context() as patch, Client(server) as client:
            patch.setattr(Site, "respond", fail)
            client.send(request("/never-seen/"))
            assert client.is_over()
        assert other.get("/a.txt").status == 200
    assert "a mistake in the engine" in (tmp_path / "errors.txt").read_text()


# 501


def test_extension_without_type_is_501_where_no_default_is_set(serve: Serve, root: Path) -> None:
    put(root, {"x.odd": b"1", "noextension": b"2", "<b>.odd<": b"3"})
    server = serve("ContentType .txt text/plain", default_type=None)
    for target in ("/x.odd", "/noextension", "/", "/%3Cb%3E.odd%3C"):
        reply = thrice(server, target)
        check_page(reply, 501)
        assert b"<b>" not in reply.body
    assert thrice(server, "/a.txt").status == 200
    assert thrice(server, "/missing.odd").status == 404


# 503


def test_connection_beyond_max_connections_is_503_and_closed(serve: Serve, root: Path) -> None:
    server = serve("MaxConnections 3", "WorkerThreads 2")
    clients = [Client(server) for _ in range(3)]
    assert [client.get("/a.txt").status for client in clients] == [200] * 3
    for _ in range(2):
        with Client(server) as refused:
            refused.send(request("/a.txt"))
            reply = refused.reply()
            check_page(reply, 503)
            assert reply["Connection"] == "close"
            assert int(reply["Retry-After"]) > 0
            assert refused.is_over()
    assert [client.get("/a.txt").status for client in clients] == [200] * 3
    clients.pop().sock.close()
    wait_until(lambda: server.connection_count() < 3)
    with Client(server) as client:
        assert client.get("/a.txt").status == 200
    for client in clients:
        client.sock.close()


# 408 and 413


def test_head_that_takes_too_long_is_408(serve: Serve, root: Path) -> None:
    server = serve("RequestTimeout 0.2")
    for warm in (b"", request("/a.txt") * 2):
        with Client(server) as client:
            client.send(warm + b"GET /a.txt HTTP/1.1\r\nHo")
            for _ in range(2 if warm else 0):
                assert client.reply().status == 200
            reply = client.reply()
            check_page(reply, 408)
            assert reply["Connection"] == "close"
            assert client.is_over()


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_body_that_takes_too_long_is_408(serve: Serve, root: Path, framing: str) -> None:
    with Client(serve("RequestTimeout 0.2", "StallTime 0.2")) as client:
        client.send(f"POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        check_page(client.reply(), 408)
        assert client.is_over()


def test_body_of_max_body_size_is_taken_and_one_more_byte_is_413(serve: Serve, root: Path) -> None:
    server = serve("MaxBodySize 1000")
    form = "Content-Type: application/x-www-form-urlencoded"
    with Client(server) as client:
        for _ in range(2):
            assert client.get("/", form, method="POST", body=b"a=" + b"x" * 998).status == 200
        check_page(client.get("/", form, method="POST", body=b"a=" + b"x" * 999), 413)
        assert client.is_over()


def test_chunked_body_beyond_max_body_size_is_413(serve: Serve, root: Path) -> None:
    with Client(serve("MaxBodySize 1000")) as client:
        client.send(request("/", "Transfer-Encoding: chunked", method="POST"))
        client.send(b"258\r\n" + b"x" * 600 + b"\r\n258\r\n")
        check_page(client.reply(), 413)
        assert client.is_over()


# Nothing of the request is echoed

SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "data",
    [
        request(f"/{SCRIPT}"),
        request("/%3Cscript%3Ealert(1)%3C/script%3E"),
        request(f"/?{SCRIPT}"),
        request("/%3Cscript%3E"),
        request(f"/a.txt/{SCRIPT}"),
        request(f"http://{SCRIPT}/"),
        request("/", f"Host: {SCRIPT}"),
        request("/a.txt", f"Range: {SCRIPT}", f"If-Match: {SCRIPT}"),
        request("/", f"Expect: {SCRIPT}", method="POST", body=b"x"),
        request("/", f"Content-Type: {SCRIPT}", method="POST", body=b"x"),
        request("/", f"Transfer-Encoding: {SCRIPT}"),
        request("/", f"Content-Length: {SCRIPT}"),
        f"{SCRIPT} / HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        f"GET / {SCRIPT}\r\nHost: x\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\n{SCRIPT}: x\r\n\r\n".encode(),
    ],
)
def test_nothing_of_the_request_is_echoed_unescaped(serve: Serve, root: Path, data: bytes) -> None:
    (root / "<script>").mkdir()
    server = serve()
    for _ in range(2):
        with Client(server) as client:
            client.send(data)
            reply = client.reply()
            assert b"<script" not in reply.body
            assert not any("<" in value for _, value in reply.fields)


# ErrorPage


def test_error_page_of_the_configuration_replaces_the_built_in_one(serve: Serve, root: Path) -> None:
    put(root, {"404.html": b"<h1>lost</h1>"})
    server = serve("ErrorPage 404 /404.html", "ErrorPage 400 /missing.html")
    reply = thrice(server, "/missing")
    assert (reply.status, reply.body) == (404, b"<h1>lost</h1>")
    assert thrice(server, "/missing", method="HEAD")["Content-Length"] == "13"
    check_page(thrice(server, "/%"), 400)  # its page is missing: the built-in one


def test_client_that_leaves_in_the_middle_is_no_error(serve: Serve, root: Path, tmp_path: Path) -> None:
    put(root, {"big.bin": b"x" * 8_000_000})
    server = serve("ErrorLog errors.txt")
    for _ in range(3):
        with Client(server, receive_buffer=4096) as client:
            client.send(request("/big.bin"))
            client.head()
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    wait_until(lambda: server.connection_count() == 0)
    assert "Traceback" not in (tmp_path / "errors.txt").read_text()
