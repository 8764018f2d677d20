"""POST over the wire: both form types, both framings, Expect, and what is answered to which page."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rawhttp import Client, Reply, put, request

from fastws import Server
from fastws.transport.plain import PlainTransport

Serve = Callable[..., Server]
FORM = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=b0undary"
FIELDS = b"name=J%C3%BCrgen+M&text=%3Cb%3E&empty="
PARTS = (
    b'--b0undary\r\nContent-Disposition: form-data; name="name"\r\n\r\nJ\xc3\xbcrgen M\r\n'
    b'--b0undary\r\nContent-Disposition: form-data; name="text"\r\n\r\n<b>\r\n'
    b'--b0undary\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n'
    b"--b0undary--\r\n"
)
SHOWN = "name: Jürgen M\ntext: &lt;b&gt;\nempty: "
FORMS = pytest.mark.parametrize(
    ("kind", "body"), [(FORM, FIELDS), (MULTIPART, PARTS)], ids=["urlencoded", "multipart"]
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    page = b"<title>form</title><pre></pre><pre></pre>"
    files = {"form.html": page, "plain.html": b"<p>no pre</p>", "a.txt": b"text", "sub/index.html": page}
    return put(tmp_path / "root", files | {"large.html": b"<pre></pre>" + b" " * 2000})


def chunked(body: bytes, size: int) -> bytes:
    """``body`` in chunks of ``size`` bytes, the last with an extension, and a trailer field."""
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    coded = b"".join(b"%X\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return coded + b'0;name="value"\r\nX-Sum: x\r\n\r\n'


def check_filled(reply: Reply) -> None:
    assert reply.status == 200
    assert reply["Content-Type"] == "text/html; charset=utf-8"
    assert reply.body.decode() == f"<title>form</title><pre>{SHOWN}</pre><pre></pre>"
    assert reply["Cache-Control"] == "no-store"


@FORMS
def test_form_comes_back_in_the_first_pre_escaped(serve: Serve, root: Path, kind: str, body: bytes) -> None:
    with Client(serve()) as client:
        for _ in range(3):
            check_filled(client.get("/form.html", kind, method="POST", body=body))
            # what was posted stays out of what others get
            assert client.get("/form.html").body == b"<title>form</title><pre></pre><pre></pre>"


@FORMS
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_chunked_form_is_the_same(serve: Serve, root: Path, kind: str, body: bytes, size: int) -> None:
    with Client(serve()) as client:
        for _ in range(2):
            data = chunked(body, size)
            check_filled(
                client.get("/form.html", kind, "Transfer-Encoding: chunked", method="POST", body=data)
            )
        assert client.is_open()


@FORMS
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_form_in_single_bytes_is_the_same(
    serve: Serve, root: Path, kind: str, body: bytes, framing: str
) -> None:
    if framing == "length":
        data = request("/form.html", kind, method="POST", body=body)
    else:
        coded = chunked(body, 5)
        data = request("/form.html", kind, "Transfer-Encoding: chunked", method="POST", body=coded)
    with Client(serve()) as client:
        for byte in data:
            client.send(bytes((byte,)))
        check_filled(client.reply())
        assert client.is_open()


def test_pipelined_forms_are_answered_each_by_its_own_body(serve: Serve, root: Path) -> None:
    bodies = [f"n={i}".encode() for i in range(5)]
    data = b"".join(request("/form.html", FORM, method="POST", body=body) for body in bodies)
    with Client(serve()) as client:
        client.send(data + request("/a.txt"))
        for i in range(5):
            assert f"<pre>n: {i}</pre>".encode() in client.reply().body
        assert client.reply().body == b"text"


@FORMS
def test_expect_100_continue_is_answered_before_the_body(
    serve: Serve, root: Path, kind: str, body: bytes
) -> None:
    with Client(serve()) as client:
        for expectation in ("100-continue", "100-Continue"):
            head = request(
                "/form.html", kind, f"Expect: {expectation}", f"Content-Length: {len(body)}", method="POST"
            )
            client.send(head)
            assert client.reply().status == 100
            client.send(body)
            check_filled(client.reply())


def test_connection_ends_where_only_a_part_of_100_continue_could_be_sent(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_a_part(self: PlainTransport, pieces: Sequence[bytes | memoryview], more: bool) -> int:
        return self._sock.send(pieces[0][:10])

    monkeypatch.setattr(PlainTransport, "send", send_a_part)
    with Client(serve()) as client:
        client.send(request("/form.html", FORM, "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert client.sock.recv(100) == b"HTTP/1.1 1"
        assert client.is_over()


def test_expect_100_continue_of_chunked_body(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        client.send(
            request("/form.html", FORM, "Expect: 100-continue", "Transfer-Encoding: chunked", method="POST")
        )
        assert client.reply().status == 100
        client.send(chunked(FIELDS, 10))
        check_filled(client.reply())


def test_no_continue_is_sent_where_the_answer_is_final(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        head = request("/form.html", FORM, "Expect: 100-continue", "Content-Length: 9999999", method="POST")
        client.send(head)
        assert client.reply().status == 413
        assert client.is_over()


def test_no_continue_is_sent_to_http_1_0_nor_without_a_body(serve: Serve, root: Path) -> None:
    server = serve()
    with Client(server) as client:
        client.send(b"POST /form.html HTTP/1.0\r\nExpect: 100-continue\r\n" + FORM.encode())
        client.send(b"\r\nContent-Length: 3\r\n\r\na=1")
        assert b"<pre>a: 1</pre>" in client.reply().body
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/form.html", "Expect: 100-continue").status == 200
            assert client.get("/form.html", "Expect: 100-continue", method="POST").status == 200


def test_body_that_came_with_its_head_needs_no_continue(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        client.send(request("/form.html", FORM, "Expect: 100-continue", method="POST", body=FIELDS))
        reply = client.reply()
        check_filled(client.reply() if reply.status == 100 else reply)


def test_page_without_a_pre_is_sent_as_it_is(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        reply = client.get("/plain.html", FORM, method="POST", body=FIELDS)
        assert (reply.status, reply.body) == (200, b"<p>no pre</p>")


def test_large_page_is_sent_as_it_is(serve: Serve, root: Path) -> None:
    with Client(serve("CacheMaxFile 1000")) as client:
        reply = client.get("/large.html", FORM, method="POST", body=FIELDS)
        assert (reply.status, len(reply.body)) == (200, 2011)
        assert client.is_open()


def test_form_to_a_directory_goes_to_its_index(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        check_filled(client.get("/sub/", FORM, method="POST", body=FIELDS))


def test_empty_post_is_the_page_with_nothing_in_it(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for lines in ((), ("Content-Length: 0",), (FORM, "Content-Length: 0")):
            reply = client.get("/form.html", *lines, method="POST")
            assert (reply.status, reply.body) == (200, b"<title>form</title><pre></pre><pre></pre>")


@pytest.mark.parametrize("target", ["/a.txt", "/a.txt?x"])
def test_post_to_anything_but_a_page_is_405(serve: Serve, root: Path, target: str) -> None:
    with Client(serve()) as client:
        for _ in range(2):
            reply = client.get(target, FORM, method="POST", body=FIELDS)
            assert (reply.status, reply["Allow"]) == (405, "GET, HEAD")
        assert client.is_open()


def test_post_to_nothing_is_404(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        assert client.get("/missing.html", FORM, method="POST", body=FIELDS).status == 404
        assert client.is_open()


def test_malformed_multipart_is_400_and_the_connection_goes_on(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for body in (b"no parts", PARTS[:-6], b"--b0undary\r\n\r\n\r\n--b0undary--\r\n"):
            assert client.get("/form.html", MULTIPART, method="POST", body=body).status == 400
        assert client.is_open()


def test_other_content_type_is_415(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for lines in ((), ("Content-Type: application/json",), ("Content-Type: text/plain",)):
            assert client.get("/form.html", *lines, method="POST", body=b"{}").status == 415
        assert client.is_open()


def test_script_in_a_form_comes_back_as_text(serve: Serve, root: Path) -> None:
    body = b"%3Cscript%3E=%3C/pre%3E%3Cscript%3Ealert(1)%3C/script%3E&a=%0D%0Ab:%20c"
    with Client(serve()) as client:
        reply = client.get("/form.html", FORM, method="POST", body=body)
    assert b"<script" not in reply.body
    assert reply.body.count(b"</pre>") == 2
    assert (
        reply.body.partition(b"<pre>")[2].partition(b"</pre>")[0].count(b"\n") == 1
    )  # two fields, two lines


def test_body_of_a_get_is_read_and_ignored(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for _ in range(3):
            assert client.get("/a.txt", body=b"GET /form.html HTTP/1.1\r\n\r\n").body == b"text"
        assert client.is_open()


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "options", [["-d", "a=1"], ["-F", "a=1"], ["-d", "a=1", "-H", "Transfer-Encoding: chunked"]]
)
def test_forms_of_curl_are_understood(serve: Serve, root: Path, options: list[str]) -> None:
    expectation = ["-H", "Expect: 100-continue"]
    url = f"{serve().url}form.html"
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", *options, *expectation, url], capture_output=True, timeout=30
    )
    assert b"<pre>a: 1</pre>" in done.stdout, done.stderr
