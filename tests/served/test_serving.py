"""What a client sees of files, directories, methods and versions. Each thing is asked for cold and hot."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import Client, get, put, request, settle, thrice, wait_until

from fastws import Server
from fastws.http.httpdate import format_http_date, parse_http_date

Serve = Callable[..., Server]
PAGE = b"<!DOCTYPE html><title>page</title>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small site, old enough for its answers to be cached."""
    return put(
        tmp_path / "root",
        {
            "index.html": PAGE,
            "a.txt": b"text of a",
            "empty.txt": b"",
            "sub/index.html": b"sub",
            "bare/x.txt": b"",
        },
    )


# Files


def test_file_is_200_with_every_field(serve: Serve, root: Path) -> None:
    reply = thrice(serve(), "/a.txt")
    assert (reply.status, reply.reason, reply.body) == (200, "OK", b"text of a")
    assert reply["Content-Type"] == "text/plain; charset=utf-8"
    assert reply["Content-Length"] == "9"
    assert reply["Last-Modified"] == format_http_date(int((root / "a.txt").stat().st_mtime))
    assert re.fullmatch(r'"[!#-~]+"', reply["ETag"])  # strong: no W/
    assert reply["Server"] == "fastws"
    assert reply["X-Content-Type-Options"] == "nosniff"
    assert reply["Cache-Control"] == "no-cache"
    assert reply["Accept-Ranges"] == "bytes"


def test_date_is_the_present_cold_and_hot(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for _ in range(3):
            before = int(time.time())
            date = parse_http_date(client.get("/a.txt")["Date"], before)
            assert date is not None
            assert before - 1 <= date <= time.time()


def test_date_moves_with_the_clock_on_a_hot_file(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        first = client.get("/a.txt")["Date"]
        wait_until(lambda: client.get("/a.txt")["Date"] != first, "another date")


def test_empty_file_is_200_of_length_0(serve: Serve, root: Path) -> None:
    reply = thrice(serve(), "/empty.txt")
    assert (reply.status, reply["Content-Length"], reply.body) == (200, "0", b"")


def test_every_size_around_the_buffers_arrives_whole(serve: Serve, root: Path) -> None:
    sizes = [1, 1023, 4096, 16384, 65535, 65537, 262145, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 7]
    contents = {f"{size}.bin": os.urandom(size) for size in sizes}
    put(root, contents)
    server = serve()
    for name, content in contents.items():
        assert thrice(server, f"/{name}").body == content


def test_many_files_over_one_connection(serve: Serve, root: Path) -> None:
    contents = {f"f/{i}.txt": f"content {i}".encode() * (i + 1) for i in range(100)}
    put(root, contents)
    with Client(serve()) as client:
        for _ in range(2):
            for name, content in contents.items():
                assert client.get(f"/{name}").body == content
        assert client.is_open()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("with space.txt", "/with%20space.txt"),
        ("grüße.txt", "/gr%C3%BC%C3%9Fe.txt"),
        ("grüße.txt", "/gr%c3%bc%c3%9fe.txt"),
        ("100%.txt", "/100%25.txt"),
        ("a+b.txt", "/a+b.txt"),
        pytest.param("a?b.txt", "/a%3Fb.txt", marks=pytest.mark.posix),
        ("a#b.txt", "/a%23b.txt"),
        pytest.param("back\\slash.txt", "/back%5Cslash.txt", marks=pytest.mark.posix),
        ("~user.txt", "/%7Euser.txt"),
        ("sub/deep.txt", "/sub/./x/../deep.txt"),
        ("sub/deep.txt", "//sub///deep.txt"),
    ],
)
def test_names_are_percent_decoded_once(serve: Serve, root: Path, name: str, target: str) -> None:
    put(root, {name: name.encode()})
    assert thrice(serve(), target).body == name.encode()


def test_name_that_is_not_utf8_is_served(serve: Serve, root: Path) -> None:
    path = os.fsencode(root) + b"/\xff\xfe.txt"
    with open(path, "wb") as file:
        file.write(b"odd")
    settle(Path(os.fsdecode(path)))
    assert thrice(serve(), "/%FF%FE.txt").body == b"odd"


def test_double_encoding_is_not_decoded_twice(serve: Serve, root: Path) -> None:
    put(root, {"%41.txt": b"literally"})
    server = serve()
    assert thrice(server, "/%2541.txt").body == b"literally"
    assert thrice(server, "/%41.txt").status == 404


def test_query_does_not_matter_to_a_file(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for target in ("/a.txt", "/a.txt?", "/a.txt?v=1", "/a.txt?v=2", "/a.txt?v=1"):
            assert client.get(target).body == b"text of a"


def test_rewritten_hot_file_is_new_at_once(serve: Serve, root: Path) -> None:
    path = root / "a.txt"
    with Client(serve()) as client:
        for number in range(30):
            content = f"content {number:03}".encode()  # the same length each time
            if number % 2:
                path.write_bytes(content)
            else:
                (root / "next").write_bytes(content)
                os.replace(root / "next", path)
            if number % 3 == 0:
                settle(path)
            tags = {client.get("/a.txt")["ETag"] for _ in range(3)}
            assert client.get("/a.txt").body == content
            assert len(tags) == 1


def test_deleted_hot_file_is_404_at_once_and_back_when_it_is(serve: Serve, root: Path) -> None:
    path = root / "a.txt"
    with Client(serve()) as client:
        for _ in range(3):
            assert [client.get("/a.txt").status for _ in range(3)] == [200] * 3
            path.unlink()
            assert client.get("/a.txt").status == 404
            path.write_bytes(b"text of a")
            settle(path)


# Entity tags and preconditions


def test_etag_is_the_same_for_equal_content_and_under_a_copy_with_times(serve: Serve, root: Path) -> None:
    put(root, {"one.bin": b"equal", "sub/two.bin": b"equal", "three.bin": b"other"})
    shutil.copy2(root / "one.bin", root / "copied.bin")
    server = serve()
    tag = thrice(server, "/one.bin")["ETag"]
    assert thrice(server, "/sub/two.bin")["ETag"] == tag
    assert thrice(server, "/copied.bin")["ETag"] == tag
    assert thrice(server, "/three.bin")["ETag"] != tag


@pytest.mark.posix  # a ctime of change
def test_etag_changes_with_content_even_where_size_and_times_do_not(serve: Serve, root: Path) -> None:
    path = root / "a.txt"
    server = serve()
    before = thrice(server, "/a.txt")["ETag"]
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(b"TEXT OF A")
    os.utime(path, ns=times)
    settle(path)
    assert thrice(server, "/a.txt")["ETag"] != before


def test_etag_of_a_touched_file_stays(serve: Serve, root: Path) -> None:
    server = serve()
    before = thrice(server, "/a.txt")
    os.utime(root / "a.txt", (1_000_000_000, 1_000_000_000))
    settle(root / "a.txt")
    after = thrice(server, "/a.txt")
    assert after["ETag"] == before["ETag"]
    assert after["Last-Modified"] == format_http_date(1_000_000_000)


@pytest.mark.parametrize("way", ["state", "times"])
def test_etag_of_a_large_file_is_of_its_state_or_of_its_times(serve: Serve, root: Path, way: str) -> None:
    put(root, {"one.bin": b"x" * 2000, "two.bin": b"y" * 2000, "three.bin": b"x" * 2001})
    for name in ("one", "two", "three"):
        os.utime(root / f"{name}.bin", ns=(1, 1_700_000_000_000_000_001))
        settle(root / f"{name}.bin")
    server = serve("CacheMaxFile 1000", f"LargeFileETag {way}")
    one, two, three = (thrice(server, f"/{name}.bin")["ETag"] for name in ("one", "two", "three"))
    assert (one == two, one == three) == (way == "times", False)
    os.utime(root / "one.bin", ns=(1, 1_700_000_000_000_000_002))
    settle(root / "one.bin")
    assert thrice(server, "/one.bin")["ETag"] != one


def test_matching_if_none_match_is_304_without_body(serve: Serve, root: Path) -> None:
    server = serve()
    whole = thrice(server, "/a.txt")
    for value in (whole["ETag"], f'"x", W/{whole["ETag"]}', "*"):
        reply = thrice(server, "/a.txt", f"If-None-Match: {value}")
        assert (reply.status, reply.body) == (304, b"")
        assert reply["ETag"] == whole["ETag"]
        assert reply["Cache-Control"] == whole["Cache-Control"]
        assert not reply.all("Content-Type")
    assert thrice(server, "/a.txt", 'If-None-Match: "x"').body == b"text of a"


def test_if_modified_since_is_304_from_last_modified_on(serve: Serve, root: Path) -> None:
    os.utime(root / "a.txt", (1_700_000_000, 1_700_000_000))
    server = serve()
    for offset, status in ((-1, 200), (0, 304), (1, 304)):
        field = f"If-Modified-Since: {format_http_date(1_700_000_000 + offset)}"
        assert thrice(server, "/a.txt", field).status == status
        # RFC 9110 section 13.1.3: ignored beside If-None-Match
        assert thrice(server, "/a.txt", field, 'If-None-Match: "x"').status == 200


def test_failed_if_match_and_if_unmodified_since_are_412(serve: Serve, root: Path) -> None:
    os.utime(root / "a.txt", (1_700_000_000, 1_700_000_000))
    server = serve()
    tag = thrice(server, "/a.txt")["ETag"]
    assert thrice(server, "/a.txt", f"If-Match: {tag}").status == 200
    assert thrice(server, "/a.txt", 'If-Match: "x"').status == 412
    early, late = format_http_date(1_699_999_999), format_http_date(1_700_000_001)
    assert thrice(server, "/a.txt", f"If-Unmodified-Since: {early}").status == 412
    assert thrice(server, "/a.txt", f"If-Unmodified-Since: {late}").status == 200


@pytest.mark.parametrize("limit", ["1M", "4"])
def test_range_is_206_with_its_bytes(serve: Serve, root: Path, limit: str) -> None:
    server = serve(f"CacheMaxFile {limit}")
    assert thrice(server, "/a.txt").status == 200
    for value, content_range, body in (
        ("bytes=0-3", "bytes 0-3/9", b"text"),
        ("bytes=0-0", "bytes 0-0/9", b"t"),
        ("bytes=-1", "bytes 8-8/9", b"a"),
        ("bytes=5-", "bytes 5-8/9", b"of a"),
    ):
        reply = thrice(server, "/a.txt", f"Range: {value}")
        assert (reply.status, reply["Content-Range"], reply.body) == (206, content_range, body)
    assert thrice(server, "/a.txt").body == b"text of a"  # the parts were not taken for the whole


def test_several_ranges_are_multipart(serve: Serve, root: Path) -> None:
    reply = get(serve(), "/a.txt", "Range: bytes=0-0,8-8")
    assert reply.status == 206
    boundary = reply["Content-Type"].removeprefix("multipart/byteranges; boundary=").strip('"')
    parts = reply.body.split(b"--" + boundary.encode())
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [b"t\r\n", b"a\r\n"]


def test_unsatisfiable_range_is_416(serve: Serve, root: Path) -> None:
    reply = thrice(serve(), "/a.txt", "Range: bytes=9-")
    assert (reply.status, reply["Content-Range"]) == (416, "bytes */9")


# HEAD


@pytest.mark.parametrize(
    "target", ["/a.txt", "/", "/empty.txt", "/sub", "/missing.txt", "/.hidden", "/large.bin", "/%"]
)
def test_head_is_get_without_the_body(serve: Serve, root: Path, target: str) -> None:
    put(root, {"large.bin": b"x" * 3_000_000})
    server = serve()
    whole = thrice(server, target)
    bare = thrice(server, target, method="HEAD")
    assert (bare.status, bare.body) == (whole.status, b"")
    assert bare.without() == whole.without()
    assert int(bare["Content-Length"]) == len(whole.body)


def test_head_first_and_get_after_it_has_its_body(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for method, body in (("HEAD", b""), ("GET", b"text of a")) * 3:
            assert client.get("/a.txt", method=method).body == body


# Directories


def test_directory_without_slash_redirects_and_keeps_the_query(serve: Serve, root: Path) -> None:
    server = serve()
    reply = thrice(server, "/sub?a=1&b=%20")
    assert (reply.status, reply["Location"]) == (301, "/sub/?a=1&b=%20")
    assert b"/sub/" in reply.body
    assert thrice(server, "/sub")["Location"] == "/sub/"
    assert thrice(server, "/sub?")["Location"] in ("/sub/?", "/sub/")
    assert thrice(server, "/sub/").body == b"sub"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//sub", "/sub/"),
        ("//evil.example", "/evil.example/"),
        ("///evil.example", "/evil.example/"),
        ("//evil.example/%2e%2e/sub", "/sub/"),
        ("/.//evil.example", "/evil.example/"),
        ("/%2fevil.example", "/evil.example/"),
        ("http://localhost//evil.example", "/evil.example/"),
        ("/with%20space", "/with%20space/"),
        ("/gr%c3%bcn", "/gr%C3%BCn/"),
        pytest.param("/a%3fb", "/a%3Fb/", marks=pytest.mark.posix),
        ("/a%23b", "/a%23b/"),
        pytest.param("/%5cevil.example", "/%5Cevil.example/", marks=pytest.mark.posix),
        ("/%73ub?q=//x", "/sub/?q=//x"),
    ],
)
def test_redirect_stays_on_this_site_and_is_encoded_anew(
    serve: Serve, root: Path, target: str, location: str
) -> None:
    for name in ("evil.example", "with space", "grün", "a?b", "a#b", "\\evil.example"):
        (root / name).mkdir()
    reply = thrice(serve(), target)
    assert (reply.status, reply["Location"]) == (301, location)


def test_index_names_are_tried_in_their_order(serve: Serve, root: Path) -> None:
    put(root, {"d/second.html": b"second"})
    server = serve("DirectoryIndex first.html, second.html")
    assert thrice(server, "/d/").body == b"second"
    put(root, {"d/first.html": b"first"})
    assert thrice(server, "/d/").body == b"first"
    (root / "d/first.html").unlink()
    assert thrice(server, "/d/").body == b"second"
    (root / "d/second.html").unlink()
    assert thrice(server, "/d/").status == 404


def test_index_that_is_a_directory_is_passed_over(serve: Serve, root: Path) -> None:
    (root / "bare" / "index.html").mkdir()
    assert thrice(serve(), "/bare/").status == 404


def test_file_with_a_slash_after_it_is_404(serve: Serve, root: Path) -> None:
    assert thrice(serve(), "/a.txt/").status == 404


# Request targets


def test_absolute_form_is_accepted_and_its_authority_replaces_host(serve: Serve, root: Path) -> None:
    server = serve()
    for target in ("http://localhost/a.txt", "HTTP://other.example:81/a.txt", "https://[::1]/a.txt?q"):
        assert thrice(server, target).body == b"text of a"
    assert thrice(server, "http://localhost").body == PAGE
    assert thrice(server, "http://localhost?q").body == PAGE


# Directives


def test_method_outside_request_methods_is_501(serve: Serve, root: Path) -> None:
    server = serve("RequestMethods GET,POST")
    for method in ("HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "BREW"):
        assert thrice(server, "/a.txt", method=method).status == 501
    assert thrice(server, "/a.txt").status == 200


def test_hot_file_does_not_answer_a_method_left_out(serve: Serve, root: Path) -> None:
    with Client(serve("RequestMethods GET")) as client:
        assert [client.get("/a.txt").status for _ in range(3)] == [200] * 3
        assert client.get("/a.txt", method="HEAD").status == 501


@pytest.mark.parametrize(
    ("allowed", "version", "status"),
    [
        ("HTTP/1.0,HTTP/1.1", b"HTTP/1.0", 200),
        ("HTTP/1.0,HTTP/1.1", b"HTTP/1.1", 200),
        ("HTTP/1.1", b"HTTP/1.0", 400),
        ("HTTP/1.0", b"HTTP/1.1", 400),
        ("HTTP/1.0,HTTP/1.1", b"HTTP/1.2", 400),
        ("HTTP/1.0,HTTP/1.1", b"HTTP/2.0", 400),
        ("HTTP/1.0,HTTP/1.1", b"HTTP/0.9", 400),
        ("HTTP/1.0,HTTP/1.1", b"http/1.1", 400),
        ("HTTP/1.0,HTTP/1.1", b"HTTP/1.10", 400),
    ],
)
def test_http_type_decides_which_versions_are_spoken(
    serve: Serve, root: Path, allowed: str, version: bytes, status: int
) -> None:
    server = serve(f"HTTPType {allowed}")
    good = allowed.rpartition(",")[2].encode()
    for warm in (good, good, version, version):
        with Client(server) as client:
            client.send(b"GET /a.txt %s\r\nHost: x\r\n\r\n" % warm)
            assert client.reply().status == (200 if warm == good else status)


@pytest.mark.parametrize(("line", "expected"), [("off", []), ('"Apache"', ["Apache"]), ("a b/1", ["a b/1"])])
def test_server_header_is_what_the_directive_says(
    serve: Serve, root: Path, line: str, expected: list[str]
) -> None:
    server = serve(f"ServerHeader {line}")
    for target in ("/a.txt", "/missing", "/sub", "/%"):
        assert thrice(server, target).all("Server") == expected


def test_content_type_is_the_directives(serve: Serve, root: Path) -> None:
    put(root, {"x.FOO": b"1", "x.tar.foo": b"2", "noextension": b"3", "x.other": b"4"})
    server = serve("ContentType .foo application/x-foo", "ContentType .html text/html")
    assert thrice(server, "/x.FOO")["Content-Type"] == "application/x-foo"
    assert thrice(server, "/x.tar.foo")["Content-Type"] == "application/x-foo"
    assert thrice(server, "/")["Content-Type"] == "text/html; charset=utf-8"
    for target in ("/x.other", "/noextension"):  # by the DefaultType
        assert thrice(server, target)["Content-Type"] == "application/octet-stream"


def test_cache_control_and_headers_follow_their_patterns(serve: Serve, root: Path) -> None:
    server = serve('CacheControl *.txt "max-age=60"', 'Header "X-Own" "yes" *.txt')
    text, page = thrice(server, "/a.txt"), thrice(server, "/")
    assert (text["Cache-Control"], text["X-Own"]) == ("max-age=60", "yes")
    assert (page["Cache-Control"], page.all("X-Own")) == ("no-cache", [])


def test_cache_size_0_serves_every_file_from_disk(serve: Serve, root: Path) -> None:
    server = serve("CacheSize 0")
    assert thrice(server, "/a.txt").body == b"text of a"
    assert thrice(server, "/a.txt", method="HEAD")["Content-Length"] == "9"


def test_every_listen_port_is_served(
    serve: Serve, root: Path, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    ports = free_ports(3)
    server = serve("WorkerThreads 2", listen_ports=ports)
    # Every worker accepts on every port: more connections than workers are answered on each.
    for port in ports:
        clients = [Client(port) for _ in range(4)]
        assert [client.get("/a.txt").status for client in clients] == [200] * 4
        for client in clients:
            client.sock.close()
    assert server.addresses == [f"127.0.0.1:{port}" for port in ports]


def test_ipv6_host_is_served(serve: Serve, root: Path) -> None:
    server = serve("Host ::1")
    assert thrice(server, "/a.txt").status == 200
    assert server.url == f"http://[::1]:{server.port}/"


def test_host_is_checked(serve: Serve, root: Path) -> None:
    server = serve()
    for host in ("localhost", "localhost:8080", "[::1]:8080", "127.0.0.1", ""):
        for _ in range(2):
            with Client(server) as client:
                client.send(f"GET /a.txt HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                assert client.reply().status == 200
    assert thrice(server, "/a.txt").status == 200


@pytest.mark.parametrize("host", ["", "Host: a\r\nHost: a\r\n", "Host: u@a\r\n"])
@pytest.mark.parametrize("method", ["GET", "PUT", "BREW"])
def test_bad_host_is_400_and_close_whatever_the_method(
    serve: Serve, root: Path, method: str, host: str
) -> None:
    """RFC 9112 section 3.2: any HTTP/1.1 request message."""
    with Client(serve()) as client:
        client.send(f"{method} /a.txt HTTP/1.1\r\n{host}\r\n".encode())
        reply = client.reply()
        assert (reply.status, reply["Connection"]) == (400, "close")
        assert client.is_over()


def test_unknown_fields_and_accept_do_not_change_a_file(serve: Serve, root: Path) -> None:
    server = serve()
    plain = thrice(server, "/a.txt")
    for line in ("X-Anything: y", "Accept: text/plain", "Accept: image/png", "Cookie: a=b", "DNT: 1"):
        reply = thrice(server, "/a.txt", line)
        assert (reply.status, reply.body, reply["ETag"]) == (200, plain.body, plain["ETag"])


def test_requests_of_browsers_are_answered(serve: Serve, root: Path) -> None:
    lines = (
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: de-DE,de;q=0.9,en;q=0.8",
        "Connection: keep-alive",
        "Upgrade-Insecure-Requests: 1",
        "Referer: http://localhost/",
        "Sec-Fetch-Dest: document",
        'sec-ch-ua: "Chromium";v="120"',
    )
    assert thrice(serve(), "/", *lines).body == PAGE


def test_request_in_single_bytes_is_answered(serve: Serve, root: Path) -> None:
    with Client(serve()) as client:
        for _ in range(3):
            for byte in request("/a.txt"):
                client.send(bytes((byte,)))
            assert client.reply().body == b"text of a"
