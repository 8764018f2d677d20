"""Files asked for the first time: the compiled side publishes them within its loop, and answers as Python would.

The pure side fills nothing, so that its answers are the measure.
"""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import PURE_ONLY
from hammer import holding
from rawhttp import (
    TIMEOUT_S,
    Client,
    Reply,
    be_at_rest,
    finish_turns,
    get,
    open_descriptors,
    put,
    request,
    settle,
    wait_until,
)

from fastws import Server, backend, load
from fastws.files import contents
from fastws.files.identity import identity_of, is_settled
from fastws.http import ranges
from fastws.site import filling, site

LIMIT = 262144
OLD = 1_000_000_000

pytestmark = pytest.mark.skipif(PURE_ONLY, reason="FASTWS_NO_EXTENSIONS=1: nothing is filled")

TEACHERS = {
    f"teacher{extension}": b"lesson"
    for extension in (
        ".png",
        ".html",
        ".js",
        ".css",
        ".txt",
        ".conf",
        ".PNG",
        ".Png",
        ".gz",
        ".br",
        ".oddity",
        "",
    )
}

FILES = {
    "a.png": b"picture",
    "sub/b.png": b"picture in a directory",
    "one/two/three/four/five/d.png": b"deep down",
    "a.html": b"<p>page</p>",
    "a.js": b"let a;",
    "a.css": b"a {}",
    "a.txt": b"text",
    "a.oddity": b"?",
    "README": b"no extension",
    "sub/LICENSE": b"none either",
    "v1.2/file": b"a dot above",
    "a..png": b"two dots",
    "UPPER.PNG": b"upper case",
    "Mixed.Png": b"mixed case",
    "empty.png": b"",
    "empty.txt": b"",
    "limit.png": bytes(LIMIT),
    "a~b!$&'()*+,;=:@.png": b"all that needs no percent sign",
    "app.js": b"let app;",
    "app.js.gz": b"packed",
    "app.js.br": b"well packed",
    "style.css": b"newer than what is packed",
    "index.html": b"<p>index</p>",
    "sub/index.html": b"<p>index below</p>",
    "page.html": b"<p>clean</p>",
    "old/x.png": b"moved below",
    "moved.png": b"moved",
    "-/a.png": b"below the status pages",
    "large.txt": b"compressible " * 200,
}
"""What is there without any trick, and can be published within the loop if the configuration lets it."""

OTHER_FILES = {
    "too-big.png": bytes(LIMIT + 1),
    "sp ace.png": b"spaced",
    **{f"spaced {name}": content for name, content in TEACHERS.items()},
    "ü.png": b"beyond ASCII",
    "100%.css": b"b {}",
    ".hidden.png": b"hidden",
    ".well-known/x.png": b"known",
    "sub/.git/x.png": b"hidden too",
    "page.css/index.html": b"<p>index of a directory that is named like a file</p>",
    "only.css.gz": b"without the plain one",
    "style.css.gz": b"older than the plain one",
    "future.png": b"from the future",
    "epoch.png": b"without a date",
    "second.png": b"nearly without one",
    "users.txt": b"",
}
ODD_TARGETS = (
    *("/sp%20ace.png", "/%C3%BC.png", "/100%25.css", "/%61.png", "/a%2Epng", "/a.png%00", "/a.png%zz"),
    *("/.hidden.png", "/.well-known/x.png", "/sub/.git/x.png", "/a.png/", "/README/", "/sub/", "/sub", "/"),
    *("//a.png", "/./a.png", "/sub/../a.png", "/../a.png", "/a.png#x", "/page.css", "/page.css/", "/page"),
    *(
        "/only.css",
        "/only.css.gz",
        "/style.css.gz",
        "/too-big.png",
        "/future.png",
        "/epoch.png",
        "/second.png",
    ),
    *("/missing.png", "/missing", "/sub/missing.txt", "/a.png/below.png", "/inside.png", "/outside.png"),
    *("/ring.png", "/dangling.png", "/linked/b.png", "/away/secret.png", "/fifo.png", "/socket.png"),
    *("/ws.conf", "/copy.conf", "/log_webserver.txt", "/log.txt", "/users.txt", "/-/healthz", "/-/none.png"),
    *("/old/none.png", "/index.html/", "/" + "x" * 300 + ".png", "/" + "d/" * 60 + "a.png"),
)


def make_tree(root: Path) -> Path:
    """All kinds of files; those of TEACHERS and FILES are plain."""
    put(root, TEACHERS | FILES | OTHER_FILES)
    put(root.parent, {"outside/secret.png": b"secret"})
    os.utime(root / "style.css.gz", (OLD, OLD))
    os.utime(root / "future.png", (time.time() + 1e6,) * 2)
    os.utime(root / "epoch.png", (0, 0))
    os.utime(root / "second.png", (1, 1))
    (root / "inside.png").symlink_to("a.png")
    (root / "outside.png").symlink_to(root.parent / "outside/secret.png")
    (root / "ring.png").symlink_to("ring.png")
    (root / "dangling.png").symlink_to("nothing.png")
    (root / "linked").symlink_to("sub")
    (root / "away").symlink_to(root.parent / "outside")
    os.mkfifo(root / "fifo.png")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as sock:
        os.chdir(root)  # for the names of sockets are short
        try:
            sock.bind("socket.png")
        finally:
            os.chdir(here)
    settle(*(root / name for name in ("style.css.gz", "epoch.png", "second.png")))
    return root


Start = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a server on the compiled or the pure side, with one worker if not told."""
    with ExitStack() as stack:

        def begin(
            *lines: str, root: Path, pure: bool = False, where: Path = tmp_path, through: Any = None
        ) -> Server:
            text = [f'DocumentRoot "{root}"', "ListenPort 8080", "DefaultType application/octet-stream"]
            if not any(line.startswith("WorkerThreads") for line in lines):
                text.append("WorkerThreads 1")
            (where / "ws.conf").write_text("\n".join([*text, *lines]) + "\n")
            config = load(str(where / "ws.conf")).with_overrides(listen_ports=(0,))
            side = backend.load(pure=pure, required=not pure)
            if through is not None:
                side = side._replace(opener=through)
            return stack.enter_context(Server(config, backend=side))

        yield begin


def counted(server: Server, name: str = "") -> int:
    """A number of ``ReplayCounters`` once the turn is over in which the last answer was sent.

    By default of the answers for which a file was published.
    """
    finish_turns(server)
    counters = [worker.reactor.counters() for worker in server._pool.workers]
    return sum(int(getattr(each, name)) if name else each.filled - each.missing for each in counters)


def forget(server: Server) -> None:
    """Have nothing published and no template known, as after the start."""
    server.reload(lambda: server.config)


def teach(server: Server, *lines: str, names: tuple[str, ...] = tuple(TEACHERS)) -> None:
    with Client(server) as client:
        for name in names:
            client.get(f"/{name}", *lines)


class Watching:
    """The compiled opener, with something that happens before and after a file is read for a request."""

    def __init__(self) -> None:
        self._opener = backend.load(pure=False, required=True).opener
        self.side, self.DEEPEST = self._opener.side, self._opener.DEEPEST
        self.open_beneath, self.look = self._opener.open_beneath, self._opener.look
        self.reads: list[str] = []
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def read_beneath(self, root: bytes, path: bytes, most: int) -> Any:
        self.reads.append(path.decode())
        self.before()
        found = self._opener.read_beneath(root, path, most)
        self.after()
        return found


# The same answers as Python's

PLAIN = "GET {} HTTP/1.1\r\nHost: localhost\r\n"
VARIANTS = {
    "plain": PLAIN,
    "query": PLAIN.replace("{}", "{}?a=b&/c.png"),
    "HEAD": PLAIN.replace("GET", "HEAD"),
    "1.0": "GET {} HTTP/1.0\r\n",
    "1.0 persistent": "GET {} HTTP/1.0\r\nConnection: keep-alive\r\n",
    "close": PLAIN + "Connection: close\r\n",
    "two options": PLAIN + "Connection: keep-alive, close\r\n",
    "absolute": PLAIN.replace("{}", "http://localhost{}"),
    "other host": PLAIN.replace("localhost", "example.com:8080"),
    "bad host": PLAIN.replace("localhost", "a b"),
    "any tag": PLAIN + "If-None-Match: *\r\n",
    "other tag": PLAIN + 'If-None-Match: "other"\r\n',
    "since long ago": PLAIN + "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    "since the future": PLAIN + "If-Modified-Since: Sun, 06 Nov 2094 08:49:37 GMT\r\n",
    "range": PLAIN + "Range: bytes=1-3\r\n",
    "open range": PLAIN + "Range: bytes=2-\r\n",
    "last bytes": PLAIN + 'Range: bytes=-4\r\nIf-Range: "other"\r\n',
    "ranges": PLAIN + "Range: bytes=0-0,-1\r\n",
    "range outside": PLAIN + "Range: bytes=900000-\r\n",
    "range by HEAD": PLAIN.replace("GET", "HEAD") + "Range: bytes=1-3\r\n",
    "gzip": PLAIN + "Accept-Encoding: gzip\r\n",
    "br": PLAIN + "Accept-Encoding: gzip, deflate, br\r\n",
    "identity": PLAIN + "Accept-Encoding: identity\r\n",
    "no identity": PLAIN + "Accept-Encoding: gzip, identity;q=0\r\n",
    "identity first": PLAIN + "Accept-Encoding: gzip;q=0.1, identity;q=0.5\r\n",
    "no coding": PLAIN + "Accept-Encoding:\r\n",
    "authorized": PLAIN + "Authorization: Basic YTpi\r\nCookie: a=b\r\nAccept: image/*\r\n",
    "POST": "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n",
}
FILLED_VARIANTS = (
    *("plain", "query", "HEAD", "1.0", "1.0 persistent", "close", "other host", "gzip", "br", "identity"),
    *("no identity", "identity first", "no coding", "authorized", "range", "open range", "range by HEAD"),
    "other tag",
)
CODINGS = {"gzip": "gzip", "br": "gzip, deflate, br", "identity first": "gzip;q=0.1, identity;q=0.5"}

CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "nothing": ("Compression off",),
    "compression": ("Compression on",),
    "headers": (
        "Compression off",
        "Header X-Percent 100%d%% *",
        'Header X-Spaced yes "/spaced *"',
        "Header X-Page yes *.html",
        "Header Vary Cookie /sub/*",
        "Header X-Content-Length 7 *.txt",
        "CacheControl *.css no-store",
        "CacheControl /one/* max-age=60",
        "CacheControl * max-age=3600",
    ),
    "elsewhere": (
        "Compression on",
        "Redirect /moved.png /a.png 301",
        "Redirect /old/* https://example.com/*",
        "StatusPath /-/",
        "ServerHeader other",
    ),
    "names": (
        "Compression on",
        "CleanUrls on",
        "Fallback /index.html",
        "DirectoryListing on",
        "DirectoryIndex index.htm index.html",
        "ErrorPage 404 /a.html",
        "ContentType .oddity text/odd",
    ),
    "small": ("Compression off", "CacheMaxFile 16", "CacheSize 1m", "RequestMethods GET HEAD"),
    "users": ("Compression off", "BasicAuth /sub/* users.txt", "BasicAuth /app.js users.txt"),
    "two workers": ("Compression off", "WorkerThreads 2"),
}


class Asking:
    """A client of one server that connects again when it must."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        self.server, self._stack = server, stack
        self._client = stack.enter_context(Client(server))

    def __call__(self, data: bytes) -> Reply:
        """The answer, without its date; one that was closed after it has told so."""
        self._client.send(data)
        found = self._client.reply(data.partition(b" ")[0].decode())
        if "close" in found.all("connection"):
            assert self._client.is_over()
            self._client.sock.close()
            self._client = self._stack.enter_context(Client(self.server))
        fields = tuple(pair for pair in found.fields if pair[0] != "Date")
        assert len(fields) == len(found.fields) - 1
        return Reply(found.status, found.reason, fields, found.body)


@pytest.fixture
def pair(start: Start, root: Path, tmp_path: Path) -> Callable[..., tuple[Server, Server]]:
    """Return a function that starts both sides with the same configuration, which lies in the root."""
    make_tree(root)

    def begin(*lines: str) -> tuple[Server, Server]:
        compiled = start(*lines, root=root, where=root)
        pure = start(*lines, root=root, where=root, pure=True)
        os.link(root / "ws.conf", root / "copy.conf")
        os.link(root / "log_webserver.txt", root / "log.txt")
        return compiled, pure

    return begin


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_first_answer_is_the_one_that_python_gives(
    pair: Callable[..., tuple[Server, Server]], configuration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "new_boundary", lambda: "the-boundary")
    compiled, pure = pair(*CONFIGURATIONS[configuration])
    targets = [*(f"/{name}" for name in FILES), *ODD_TARGETS]
    for variant, text in VARIANTS.items():
        for server in (compiled, pure):
            forget(server)
        coding = CODINGS.get(variant)
        teach(compiled, names=tuple(f"spaced%20{name}" for name in TEACHERS))  # whose paths have other rules
        teach(compiled)
        if coding:
            teach(compiled, f"Accept-Encoding: {coding}")
        before = counted(compiled)
        with ExitStack() as stack:
            ask, measure = Asking(compiled, stack), Asking(pure, stack)
            for target in targets:
                data = f"{text.format(target)}\r\n".encode("latin-1")
                expected = measure(data)
                assert ask(data) == expected, (variant, target)
        assert (counted(compiled) - before > 0) == (variant in FILLED_VARIANTS), variant


ALL = frozenset(f"/{name}" for name in FILES) | {"/only.css.gz", "/style.css.gz", "/users.txt"}

GUARDED = frozenset(
    (
        *("/sub/b.png", "/sub/LICENSE", "/sub/index.html", "/sub/missing.txt"),
        *("/app.js", "/app.js.gz", "/app.js.br"),
    )
)


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("nothing", ALL),
        ("users", ALL - GUARDED - {"/users.txt"}),
        ("elsewhere", ALL - {"/moved.png", "/old/x.png", "/-/a.png"}),
        ("headers", ALL - {target for target in ALL if target.startswith(("/sub/", "/one/"))}),
        ("small", frozenset(target for target in ALL if len((FILES | OTHER_FILES)[target[1:]]) <= 16)),
    ],
)
def test_what_is_filled_is_what_is_plain(
    pair: Callable[..., tuple[Server, Server]], configuration: str, expected: frozenset[str]
) -> None:
    compiled, _ = pair(*CONFIGURATIONS[configuration])
    teach(compiled)
    filled = set()
    with Client(compiled) as client:
        for target in ALL.union(target for target in ODD_TARGETS if not re.search("[#%]|//", target)):
            before = counted(compiled)
            client.get(target)
            if counted(compiled) > before:
                filled.add(target)
    assert filled == expected


MISSING = frozenset(
    (
        *("/missing.png", "/missing", "/sub/missing.txt", "/a.png/below.png", "/old/none.png", "/-/none.png"),
        *("/page", "/-/healthz", "/" + "x" * 300 + ".png", "/" + "d/" * 60 + "a.png"),
        # What is there and may not be seen is answered in the same way, and as quickly.
        *("/outside.png", "/away/secret.png", "/dangling.png", "/ring.png", "/fifo.png", "/socket.png"),
        *("/ws.conf", "/copy.conf", "/log_webserver.txt", "/log.txt"),
    )
)


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("nothing", MISSING | {"/only.css"}),  # there is a sidecar for it
        ("compression", MISSING),
        ("headers", MISSING | {"/only.css"}),
        ("users", (MISSING | {"/only.css", "/users.txt"}) - GUARDED),
        ("elsewhere", MISSING - {"/old/none.png", "/-/none.png", "/-/healthz"}),
        # For others there is the fallback.
        ("names", frozenset(path for path in MISSING if "." in path) | {"/only.css"}),
    ],
)
def test_what_is_missing_is_answered_at_once(
    pair: Callable[..., tuple[Server, Server]], configuration: str, expected: frozenset[str]
) -> None:
    compiled, _ = pair(*CONFIGURATIONS[configuration])
    answered = set()
    with Client(compiled) as client:
        for target in ALL.union(target for target in ODD_TARGETS if not re.search("[#%]|//", target)):
            before = counted(compiled, "missing")
            status = client.get(target).status
            if counted(compiled, "missing") > before:
                answered.add(target)
                assert status == 404
    assert answered == expected


def test_missing_page_may_have_a_page_of_its_own_that_changes(start: Start, root: Path) -> None:
    put(root, {"404.html": b"not here", "a.html": b"page"})
    server = start("ErrorPage 404 /404.html", "Header X-Error yes /404.html", root=root)
    with Client(server) as client:
        for text in (b"not here", b"nor there"):
            (root / "404.html").write_bytes(text)
            reply = client.get("/missing.html")
            assert (reply.status, reply.body, reply["X-Error"]) == (404, text, "yes")
    assert counted(server, "missing") == 2


def test_failure_to_look_for_a_file_is_pythons(start: Start, root: Path, tmp_path: Path) -> None:
    put(root, {"a.html": b"page"})
    server = start(root=root)
    root.rename(tmp_path / "elsewhere")
    with Client(server) as client:
        assert client.get("/missing.html").status == 500
        (tmp_path / "elsewhere").rename(root)
        assert client.get("/missing.html").status == 404
    assert counted(server) == 0
    assert [list(each.requests) for each in server.worker_status()] == [[0, 0, 0, 1, 1]]


def test_page_that_cannot_be_sent_is_logged_once_for_each_answer(start: Start, root: Path) -> None:
    put(root, {"a.html": b"page"})
    server = start("ErrorPage 404 /404.html", root=root)
    with Client(server) as client:
        for lines in ((), ("Range: bytes=0-1",), ("Range: bytes=0-0,2-2", "If-Range: x")):
            reply = client.get("/missing.html", *lines)
            assert (reply.status, reply.body[:15]) == (404, b"<!DOCTYPE html>")
    assert counted(server, "missing") == 3
    server.stop()
    assert Path(server.config.error_log).read_text().count("the page /404.html for 404 cannot be sent") == 3


def test_file_is_there_as_soon_as_it_is_made(start: Start, root: Path) -> None:
    put(root, {"a.html": b"page"})
    server = start(root=root)
    with Client(server) as client:
        for number in range(200):
            assert client.get(f"/{number}.html").status == 404
            (root / f"{number}.html").write_bytes(b"now")
            assert client.get(f"/{number}.html").body == b"now"
            (root / f"{number}.html").unlink()
            assert client.get(f"/{number}.html").status == 404
    assert counted(server, "missing") >= 200


@pytest.mark.parametrize("part", ["_publish", "_refuse"])
def test_failure_while_filling_in_is_logged_and_python_answers(
    taught: Taught, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: object) -> bool:
        raise ValueError("on purpose")

    server = taught(numbered(1))
    monkeypatch.setattr(filling.Filling, part, fail)
    with Client(server) as client:
        assert client.get("/missing.png").status == 404
        assert client.get("/0.png").body == b"0."
    server.stop()
    log = Path(server.config.error_log).read_text()
    assert "unexpected exception while filling in /missing.png" in log
    assert "ValueError: on purpose" in log


def test_rules_of_the_path_that_came_first_do_not_keep_others_from_being_filled(
    start: Start, root: Path
) -> None:
    names = [f"{directory}{number}.png" for directory in ("", "sub/") for number in range(3)]
    put(root, {name: name.encode() for name in names})
    server = start("Header X-Sub yes /sub/*", root=root)
    with Client(server) as client:
        for name in names:
            reply = client.get(f"/{name}")
            assert (reply.body, bool(reply.all("X-Sub"))) == (name.encode(), name.startswith("sub"))
    assert counted(server) == 4


# Bursts


def numbered(count: int, size: int = 0) -> dict[str, bytes]:
    """That many pictures of at least ``size`` bytes, no two alike."""
    return {f"{n}.png": b"%d." % n * (1 + size // len(b"%d." % n)) for n in range(count)}


@pytest.fixture
def taught(start: Start, root: Path) -> Callable[..., Server]:
    """Return a function that starts a server of ``pictures``, which knows what one with that extension is like."""

    def begin(pictures: dict[str, bytes], *lines: str, **others: Any) -> Server:
        put(root, pictures | {"teacher.png": b"lesson"})
        server = start("Compression off", *lines, root=root, **others)
        teach(server, names=("teacher.png",))
        return server

    return begin


Taught = Callable[..., Server]
MIXED: tuple[Callable[[str], tuple[str, bytes]], ...] = (
    lambda name: ("GET", request(f"/{name}")),
    lambda name: ("GET", request("/teacher.png")),
    lambda name: ("HEAD", request(f"/{name}?again", method="HEAD")),
    lambda name: ("GET", request(f"/missing-{name}")),
    lambda name: ("POST", request(f"/{name}", method="POST", body=b"a=b")),
    lambda name: ("GET", request(f"/{name}", "Range: bytes=0-0")),
    lambda name: ("HEAD", request(f"/cold-{name}", method="HEAD")),
    lambda name: ("GET", request(f"/{name}", "If-None-Match: *")),
)


@pytest.mark.parametrize("size", [1 << 20, 700, 61])
def test_burst_of_all_kinds_is_answered_in_order(taught: Taught, start: Start, root: Path, size: int) -> None:
    pictures = numbered(30)
    server = taught(pictures | {f"cold-{name}": b"cold" for name in pictures})
    asked = [ask(name) for number, name in enumerate(pictures) for ask in MIXED[number % 3 :]]
    stream = b"".join(data for _, data in asked)
    with Client(server) as client, Client(start("Compression off", root=root, pure=True)) as measure:
        for begin in range(0, len(stream), size):
            client.send(stream[begin : begin + size])
        for method, data in asked:
            measure.send(data)
            expected, reply = measure.reply(method), client.reply(method)
            assert (reply.status, reply.without(), reply.body) == (
                expected.status,
                expected.without(),
                expected.body,
            )
        assert client.is_open()
    assert counted(server) > 0


def test_more_cold_files_than_one_turn_takes_are_answered_in_order(taught: Taught) -> None:
    pictures = numbered(300)
    server = taught(pictures)
    with Client(server) as client:
        with holding(server):
            client.send(b"".join(request(f"/{name}") for name in pictures))
        assert [client.reply().body for _ in pictures] == list(pictures.values())
    assert 0 < counted(server) <= 300


def test_each_of_many_connections_gets_its_cold_files_in_one_turn(taught: Taught) -> None:
    pictures = numbered(160)
    server = taught(pictures)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(40)]
        shares = [list(pictures)[i::40] for i in range(40)]
        for client in clients[::2]:
            assert client.is_open()  # Python's; the others are kept
        with holding(server):
            for client, share in zip(clients, shares, strict=True):
                client.send(b"".join(request(f"/{name}") for name in (*share[:3], "missing.png", share[3])))
        for client, share in zip(clients, shares, strict=True):
            assert [client.reply().body for _ in range(3)] == [pictures[name] for name in share[:3]]
            assert client.reply().status == 404
            assert client.reply().body == pictures[share[3]]


def test_file_that_many_lack_in_one_turn_is_read_once(taught: Taught) -> None:
    pictures, opener = numbered(2), Watching()
    server = taught(pictures, through=opener)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(20)]
        with holding(server):
            for client in clients:
                client.send(request("/0.png") + request("/1.png", method="HEAD"))
        for client in clients:
            assert client.reply().body == pictures["0.png"]
            assert client.reply("HEAD")["Content-Length"] == str(len(pictures["1.png"]))
    assert sorted(opener.reads) == ["0.png", "1.png"]
    assert counted(server) == 2


# Connections


@pytest.mark.parametrize("ending", [(), ("Connection: close",)])
def test_new_connections_that_ask_once_never_need_python(
    taught: Taught, ending: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = numbered(20)
    server = taught(pictures)
    monkeypatch.setattr(site.Site, "respond", None)
    for name, content in pictures.items():
        with Client(server) as client:
            reply = client.get(f"/{name}", *ending)
            assert (reply.status, reply.body) == (200, content)
            assert reply.all("Connection") == (["close"] if ending else [])
            assert not ending or client.is_over()
    assert counted(server) == 20


def test_client_that_half_closes_gets_its_answers(taught: Taught) -> None:
    pictures = numbered(20)
    server = taught(pictures)
    names = list(pictures)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(10)]
        with holding(server):
            for i, client in enumerate(clients):
                client.send(request(f"/{names[2 * i]}") + request(f"/{names[2 * i + 1]}"))
                client.half_close()
        for i, client in enumerate(clients):
            for name in names[2 * i : 2 * i + 2]:
                assert client.reply().body == pictures[name]
            assert client.is_over()
    wait_until(lambda: server.connection_count() == 0)


def test_client_that_is_gone_does_no_harm(taught: Taught) -> None:
    server = taught(numbered(40, 100_000))
    before = open_descriptors()
    for i in range(10):
        with holding(server):
            client = Client(server)
            client.send(b"".join(request(f"/{n}.png") for n in range(4 * i, 4 * i + 4)))
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
    assert get(server, "/0.png").body == numbered(1, 100_000)["0.png"]
    be_at_rest(server)
    assert open_descriptors() == before


def test_descriptors_are_closed_whatever_is_asked(
    pair: Callable[..., tuple[Server, Server]],
) -> None:
    compiled, _ = pair("Compression off")
    teach(compiled)
    be_at_rest(compiled)
    before = open_descriptors()
    with Client(compiled) as client:
        for target in ODD_TARGETS:
            client.get(target)
    be_at_rest(compiled)
    assert open_descriptors() == before


# A reload


def test_no_template_outlives_a_reload(taught: Taught) -> None:
    server = taught(numbered(12))
    for stamp in range(4):
        overrides = {"headers": (("X-Stamp", str(stamp), "*"),)}
        with Client(server) as old:
            assert old.is_open()
            server.reload(lambda overrides=overrides: server.config.with_overrides(**overrides))
            before = counted(server)
            replies = [old.get(f"/{3 * stamp + n}.png") for n in range(3)]
        assert [reply["X-Stamp"] for reply in replies] == [str(stamp)] * 3
        assert counted(server) == before + 2  # the first was decided anew


def test_protection_that_comes_by_reload_holds_at_once(taught: Taught, tmp_path: Path) -> None:
    server = taught(numbered(3))
    assert get(server, "/0.png").status == 200
    (tmp_path / "users").write_text("")
    server.reload(lambda: server.config.with_overrides(basic_auth=(("/1*", str(tmp_path / "users")),)))
    before = counted(server)
    assert [get(server, f"/{n}.png").status for n in range(3)] == [200, 401, 200]
    assert counted(server) == before + 1  # the first was decided anew, the second is guarded


# Counts and access lines


def test_filled_answer_is_one_miss(taught: Taught) -> None:
    server = taught(numbered(10))
    with Client(server) as client:
        client.send(b"".join(request(f"/{n}.png") for n in range(10)) + request("/0.png") * 5)
        sent = sum(len(client.reply().body) for _ in range(15)) + len(b"lesson")
    counted(server)
    status = server.worker_status()[0]
    assert (status.cache_misses, status.cache_hits) == (11, 5)
    assert (status.requests[1], sum(status.durations)) == (16, 16)
    assert status.body_bytes == sent


@pytest.mark.parametrize("log_format", ["combined", "combined_time", "json"])
def test_lines_of_the_logs_are_pythons(start: Start, root: Path, tmp_path: Path, log_format: str) -> None:
    put(root, numbered(5) | TEACHERS)
    lines, reasons = [], []
    for side in ("compiled", "pure"):
        (tmp_path / side).mkdir()
        server = start(f"AccessLogFormat {log_format}", root=root, where=tmp_path / side, pure=side == "pure")
        with Client(server) as client:
            client.get("/teacher.png")
            for n, method in enumerate(("GET", "HEAD", "GET", "HEAD")):
                fields = ("Referer: http://x/\xff", 'User-Agent: a "b" \\c') if n % 2 else ()
                client.get(f"/{n}.png?q={n}", *fields, method=method)
                client.get(f'/missing{n}?q="{n}', *fields, method=method)
            client.send(b"GET /4.png HTTP/1.0\r\n\r\n")
            client.reply()
        assert (counted(server) == 5) == (counted(server, "missing") == 4) == (side == "compiled")
        server.stop()
        text = Path(server.config.access_log).read_text()
        text = re.sub(r'"duration":\d+\.\d{6}|(?m: \d+\.\d{6}$)', "DURATION", text)
        lines.append(re.sub(r"\d\d\d\d-\d\d-\d\dT[^\"]*|\[[^]]*\]", "TIME", text))
        text = Path(server.config.error_log).read_text()
        reasons.append([line.partition("]")[2] for line in text.splitlines() if " 404 " in line])
    assert lines[0].count("\n") == 10
    assert lines[0] == lines[1]
    assert len(reasons[0]) == 4
    assert reasons[0] == reasons[1]


# Files that change


@pytest.fixture
def watched(taught: Taught) -> tuple[Server, Watching]:
    """A server of three taught pictures, and the opener that it reads them by."""
    opener = Watching()
    return taught(numbered(3), through=opener), opener


def replace(path: Path, content: bytes) -> None:
    """Put another file in its place, dated back."""
    beside = path.with_name("new")
    beside.write_bytes(content)
    os.utime(beside, (time.time() - 60,) * 2)
    beside.replace(path)


def test_file_replaced_before_it_is_read_is_the_new_one(watched: tuple[Server, Watching], root: Path) -> None:
    server, opener = watched
    opener.before = lambda: replace(root / "1.png", b"replaced")
    with Client(server) as client:
        assert [client.get("/1.png").body for _ in range(3)] == [b"replaced"] * 3
    assert opener.reads[0] == "1.png"


def test_missing_file_is_looked_for_once_and_filled_in_again_when_it_has_been_there(
    watched: tuple[Server, Watching], root: Path
) -> None:
    server, opener = watched
    with Client(server) as client:
        assert [client.get("/late.png").status for _ in range(3)] == [404] * 3
        assert opener.reads == ["late.png"]
        for content in (b"first", b"second"):
            replace(root / "late.png", content)
            wait_until(lambda: is_settled(identity_of(os.stat(root / "late.png"))))
            assert client.get("/late.png").body == content
        assert opener.reads == ["late.png"] * 2
        assert counted(server) == 1


def test_what_is_learned_ends_what_was_in_vain(taught: Taught, root: Path) -> None:
    server = taught(numbered(1) | {"one.css": b"one"})
    with Client(server) as client:
        assert client.get("/two.css").status == 404
        replace(root / "two.css", b"two")
        wait_until(lambda: is_settled(identity_of(os.stat(root / "two.css"))))
        teach(server, names=("one.css",))
        assert client.get("/two.css").body == b"two"
    assert counted(server) == 1


def test_memory_for_what_was_learned_is_bounded(taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "MAX_TEMPLATES", 1)
    server = taught(numbered(1) | {"one.css": b"one", "two.css": b"two"})
    with Client(server) as client:
        for name in ("one.css", "two.css"):
            assert client.get(f"/{name}").status == 200
        assert counted(server) == 0
        assert client.get("/0.png").status == 200
    assert counted(server) == 1


def test_memory_for_what_is_in_vain_is_bounded(taught: Taught, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "MAX_VAIN", 3)
    server = taught(numbered(1))
    with Client(server) as client:
        for number in range(10):
            assert client.get(f"/missing-{number}.png").status == 404
            assert 1 <= len(server._site.fill._vain) <= 3


def test_file_replaced_after_it_is_read_is_the_new_one_to_the_next(
    watched: tuple[Server, Watching], root: Path
) -> None:
    server, opener = watched
    opener.after = lambda: replace(root / "1.png", b"replaced")
    with Client(server) as client:
        assert client.get("/1.png").body == b"1."
        opener.after = lambda: None
        assert [client.get("/1.png").body for _ in range(3)] == [b"replaced"] * 3


@pytest.mark.parametrize("moment", ["before", "after"])
def test_file_deleted_meanwhile_is_missing_to_the_next(
    watched: tuple[Server, Watching], root: Path, moment: str
) -> None:
    server, opener = watched
    setattr(opener, moment, lambda: (root / "1.png").unlink(missing_ok=True))
    with Client(server) as client:
        assert client.get("/1.png").status == (404 if moment == "before" else 200)
        assert client.get("/1.png").status == 404


def test_directory_that_becomes_a_link_out_of_the_root_leads_nowhere(
    watched: tuple[Server, Watching], root: Path, tmp_path: Path
) -> None:
    server, opener = watched
    put(root, {f"sub/{n}.png": b"inside" for n in range(3)})
    put(tmp_path, {f"outside/{n}.png": b"secret" for n in range(3)})

    def swap() -> None:
        (root / "sub").rename(root / "moved")
        (root / "sub").symlink_to(tmp_path / "outside")

    with Client(server) as client:
        assert client.get("/sub/0.png").body == b"inside"
        opener.before = swap
        assert client.get("/sub/1.png").status == 404
        opener.before = lambda: None
        assert [client.get(f"/sub/{n}.png").status for n in range(3)] == [404] * 3
    assert counted(server) == 1


def test_file_that_changed_a_moment_ago_is_not_kept(watched: tuple[Server, Watching], root: Path) -> None:
    server, opener = watched
    path = root / "1.png"

    def is_young() -> bool:
        nonlocal kept
        kept = counted(server)
        replace(path, b"young")
        with Client(server) as client:
            assert client.get("/1.png").body == b"young"
        return not is_settled(identity_of(path.stat()))  # then it was not when it was read, either

    kept = 0
    wait_until(is_young, "an answer soon after the change")
    assert opener.reads
    assert counted(server) == kept


def test_file_of_the_present_second_is_pythons(watched: tuple[Server, Watching], root: Path) -> None:
    server, _ = watched
    date = time.time() + 1
    os.utime(root / "1.png", (date, date))
    settle(root / "1.png")
    with Client(server) as client:
        assert client.get("/1.png").all("Last-Modified") == []
        assert counted(server) == 0
        wait_until(lambda: time.time() >= int(date) + 1)
        assert len(client.get("/1.png").all("Last-Modified")) == 1


def test_answer_is_never_older_than_the_request(taught: Taught, root: Path) -> None:
    server = taught(numbered(20))
    with Client(server) as client, Client(server) as other:
        for turn in range(40):
            name, content = f"{turn % 20}.png", b"%d" % turn
            replace(root / name, content)
            if turn % 2:
                settle(root / name)
            asking = other if turn % 3 else client
            assert [asking.get(f"/{name}").body for _ in range(2)] == [content] * 2
    assert counted(server) > 0


# Several workers, a small cache


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_that_fill_at_once_give_each_file_its_own_bytes(
    taught: Taught, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(contents, "KNOWN_TAGS", 5)
    pictures = numbered(60, 40_000)
    server = taught(pictures, f"WorkerThreads {workers}", "CacheSize 1m")
    tags = {name: contents.entity_tag(content) for name, content in pictures.items()}
    wrong: list[str] = []

    def ask_all(seed: int) -> None:
        names = random.Random(seed).sample(list(pictures), 60) * 3
        with Client(server) as client:
            for begin in range(0, len(names), 4):
                client.send(b"".join(request(f"/{name}") for name in names[begin : begin + 4]))
                for name in names[begin : begin + 4]:
                    reply = client.reply()
                    if (reply.status, reply.body, reply["ETag"]) != (200, pictures[name], tags[name]):
                        wrong.append(name)

    threads = [threading.Thread(target=ask_all, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert wrong == []
    assert counted(server) > 100
    assert counted(server, "evicted") > 100
    assert len(server._site._places.root.folder.contents._known) <= 5 + workers


def test_slow_readers_get_what_is_evicted_meanwhile(taught: Taught) -> None:
    pictures = numbered(40, 250_000)
    server = taught(pictures, "CacheSize 1m")
    names = list(pictures)
    with ExitStack() as stack:
        slow = [stack.enter_context(Client(server, receive_buffer=4096)) for _ in range(6)]
        quick = [stack.enter_context(Client(server)) for _ in range(6)]
        for client in slow:
            client.get("/0.png")
        with holding(server):
            for client in slow:
                client.send(request("/0.png") * 2 + b"".join(request(f"/{name}") for name in names[1:20]))
            for i, client in enumerate(quick):
                client.send(b"".join(request(f"/{name}") for name in names[20 + i : 40 : 6]))
        for i, client in enumerate(quick):
            for name in names[20 + i : 40 : 6]:
                assert client.reply().body == pictures[name]
        for client in slow:
            for name in ("0.png", "0.png", *names[1:20]):
                assert client.reply().body == pictures[name]
    assert counted(server) > 0
    assert counted(server, "evicted") > 30


def test_cache_that_takes_no_file_leaves_all_to_python(taught: Taught) -> None:
    pictures = numbered(5, 200_000)
    server = taught(pictures, "CacheSize 1k")
    with Client(server) as client:
        assert [client.get(f"/{name}").body for name in pictures] == list(pictures.values())
    assert counted(server) == 0


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"A: 1\r\nETag: x\r\n\r\n", b"A: 1\r\nETag: %b\r\n\r\n"),
        (b"A: 100%\r\nETag: x\r\n\r\n", b"A: 100%%\r\nETag: %b\r\n\r\n"),
        (b"A: 1\r\n\r\n", None),
        (b"ETag: x\r\nETag: x\r\n\r\n", None),
    ],
)
def test_head_is_general_only_where_each_value_stands_in_it_once(head: bytes, expected: bytes | None) -> None:
    assert filling._generalise(head, b"ETag: x\r\n") == expected
