"""Never a stale byte: files change in every way there is while clients hammer them.

A site's history is a list of states, each the body that a request must see (None: 404). A response is right if
it shows one of the states that were in force between sending the request and receiving the answer.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import pytest
from rawhttp import Client, ProtocolError, Reply

from fastws import Server
from fastws.variants import MEMORY_BYTES

SETTLE_S = 0.025  # a file is published when it is older than the clock's tick; see files.SETTLED_NS


class History:
    """The bodies of one URL in the order in which they came into force.

    ``begin`` announces the next body before the change begins, ``complete`` says that it is over.
    """

    def __init__(self, url: str, body: bytes | None) -> None:
        self.url = url
        self.bodies = [body]
        self.completed = 0

    def begin(self, body: bytes | None) -> None:
        self.bodies.append(body)

    def complete(self) -> None:
        self.completed = len(self.bodies) - 1

    def check(self, client: Client) -> None:
        """Ask once; fail on a state that was over before the request was sent."""
        oldest = self.completed
        reply = client.get(f"{self.url}?x={oldest}")
        newest = len(self.bodies) - 1
        body = _body(reply)
        allowed = self.bodies[oldest : newest + 1]
        in_change = newest > oldest
        if body not in allowed and not in_change:
            raise AssertionError(f"{self.url}: stale or wrong: got {body!r}, allowed {allowed!r}")
        if reply.status == 200:
            assert reply["Content-Length"] == str(len(reply.body))
        if reply.status == 200 and not in_change:
            # A file written in place while it goes out by sendfile has no tag that could be right.
            assert reply["ETag"] == f'"{blake2b(reply.body, digest_size=12).hexdigest()}"'


def _body(reply: Reply) -> bytes | None:
    assert reply.status in (200, 404), reply
    return reply.body if reply.status == 200 else None


class Site:
    """A document root, and the ways in which its files change. Each returns the body to come and the deed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spare = root.parent / "spare"
        self.serial = itertools.count()
        for folder in ("plain", "parent/sub", "other/sub", "index", "targets"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.file = root / "plain" / "page.html"
        self.file.write_bytes(b"first")
        (root / "parent" / "sub" / "page.html").write_bytes(b"parent")
        (root / "other" / "sub" / "page.html").write_bytes(b"other!")
        (root / "index" / "index.html").write_bytes(b"the second name")
        (root / "targets" / "a.html").write_bytes(b"target a")
        (root / "targets" / "b.html").write_bytes(b"target b")
        (root / "link.html").symlink_to("targets/a.html")
        self.plain = History("/plain/page.html", b"first")
        self.parent = History("/parent/sub/page.html", b"parent")
        self.index = History("/index/", b"the second name")
        self.link = History("/link.html", b"target a")

    def changes(self) -> list[Callable[[], None]]:
        return [
            self.rewrite,
            self.rewrite_same_length,
            self.replace,
            self.truncate,
            self.delete,
            self.swap_parent,
            self.swap_link,
            self.toggle_index,
        ]

    def new_body(self) -> bytes:
        """Sometimes one that is replayed from its file, by sendfile."""
        size = random.choice((0, 0, 0, MEMORY_BYTES)) + random.randrange(3000)
        return b"body %d " % next(self.serial) + b"." * size

    def _do(self, history: History, body: bytes | None, deed: Callable[[], None]) -> None:
        history.begin(body)
        deed()
        history.complete()

    def rewrite(self) -> None:
        body = self.new_body()
        self._do(self.plain, body, lambda: _write(self.file, body))

    def rewrite_same_length(self) -> None:
        size = len(self.plain.bodies[-1] or b"12345678")
        body = (b"%08d" % next(self.serial)).ljust(size, b"=")[:size] or b"x"
        self._do(self.plain, body, lambda: _write(self.file, body))

    def replace(self) -> None:
        body = self.new_body()
        self.spare.write_bytes(body)
        self._do(self.plain, body, lambda: os.replace(self.spare, self.file))

    def truncate(self) -> None:
        before = self.plain.bodies[-1]
        if before is None:
            return self.rewrite()
        size = random.randrange(len(before) + 1)
        return self._do(self.plain, before[:size], lambda: os.truncate(self.file, size))

    def delete(self) -> None:
        if self.plain.bodies[-1] is None:
            return self.rewrite()
        return self._do(self.plain, None, lambda: os.unlink(self.file))

    def swap_parent(self) -> None:
        body = b"other!" if self.parent.bodies[-1] == b"parent" else b"parent"

        def swap() -> None:
            os.rename(self.root / "parent", self.root / "gone")
            os.rename(self.root / "other", self.root / "parent")
            os.rename(self.root / "gone", self.root / "other")

        self._do(self.parent, body, swap)

    def swap_link(self) -> None:
        name = b"b" if self.link.bodies[-1] == b"target a" else b"a"
        fresh = self.root.parent / "fresh-link"
        fresh.symlink_to(f"targets/{name.decode()}.html")
        self._do(self.link, b"target " + name, lambda: os.replace(fresh, self.root / "link.html"))

    def toggle_index(self) -> None:
        first = self.root / "index" / "index.htm"
        if self.index.bodies[-1] == b"the second name":
            self.spare.write_bytes(b"the first name")
            self._do(self.index, b"the first name", lambda: os.replace(self.spare, first))
        else:
            self._do(self.index, b"the second name", lambda: os.unlink(first))


def _write(path: Path, body: bytes) -> None:
    with open(path, "wb") as file:
        file.write(body)


class Hammer(threading.Thread):
    """Asks for everything in turn until it is told to stop, and keeps what went wrong."""

    def __init__(self, server: Server, histories: list[History]) -> None:
        super().__init__(daemon=True)
        self.server, self.histories = server, histories
        self.failure: BaseException | None = None
        self.stopping = threading.Event()
        self.asked = 0

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self._ask_over_one_connection()
        except BaseException as error:
            self.failure = error

    def _ask_over_one_connection(self) -> None:
        with Client(self.server) as client:
            while not self.stopping.is_set():
                for history in self.histories:
                    at_rest = history.completed + 1  # as many bodies as there are while nothing changes
                    before = len(history.bodies)
                    try:
                        history.check(client)
                    except ProtocolError:
                        # A file that shrinks while it goes out by sendfile ends its connection.
                        if len(history.bodies) == before == at_rest:
                            raise
                        return
                    self.asked += 1


def _hits(server: Server) -> float:
    return sum(worker.reactor.counters().hits for worker in server._workers)


def _change_and_check(server: Server, root: Path, count: int) -> None:
    site = Site(root)
    histories = [site.plain, site.parent, site.index, site.link]
    hammers = [Hammer(server, histories) for _ in range(2)]
    for hammer in hammers:
        hammer.start()
    replays = any(worker.reactor.replays for worker in server._workers)
    hot = 0
    with Client(server) as client:
        for _ in range(count):
            random.choice(site.changes())()
            for history in histories:
                history.check(client)  # at once: the change is over, so nothing old may come
            before, deadline = _hits(server), time.monotonic() + SETTLE_S
            while time.monotonic() < deadline:
                for history in histories:
                    history.check(client)
            hot += _hits(server) > before
            assert not any(hammer.failure for hammer in hammers), [h.failure for h in hammers]
    for hammer in hammers:
        hammer.stopping.set()
        hammer.join(30)
        assert hammer.failure is None
        assert hammer.asked > count / 10
    # The changes hit answers that were being replayed, or the test would prove nothing.
    assert not replays or hot > count / 2


CONF = (
    "DirectoryIndex index.htm index.html",
    "AccessLog off",
    "WorkerThreads 2",
    "ContentType .htm text/html",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def test_no_stale_byte_is_served_while_files_change(serve: Callable[..., Server], root: Path) -> None:
    _change_and_check(serve(*CONF), root, int(os.environ.get("FASTWS_CHANGES", "250")))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_stale_byte_is_served_over_ten_thousand_changes(serve: Callable[..., Server], root: Path) -> None:
    _change_and_check(serve(*CONF), root, 10_000)


def test_document_root_that_is_a_link_may_be_swapped(serve: Callable[..., Server], tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "page.html").write_text(f"release {name}")
    current = tmp_path / "current"
    current.symlink_to("one")
    server = serve(root=current)
    with Client(server) as client:
        for turn in range(30):
            name = ("two", "one")[turn % 2]
            (tmp_path / "fresh").symlink_to(name)
            os.replace(tmp_path / "fresh", current)
            for _ in range(3):
                reply = client.get("/page.html")
                assert reply.body == f"release {name}".encode()
            time.sleep(SETTLE_S)


def test_document_root_that_vanishes_is_500_and_comes_back(serve: Callable[..., Server], root: Path) -> None:
    (root / "page.html").write_text("here")
    server = serve()
    time.sleep(SETTLE_S)
    with Client(server) as client:
        assert [client.get("/page.html").status for _ in range(3)] == [200] * 3
        shutil.move(root, root.with_name("away"))
        assert [client.get("/page.html").status for _ in range(2)] == [500] * 2
        shutil.move(root.with_name("away"), root)
        assert [client.get("/page.html").status for _ in range(2)] == [200] * 2


def test_index_behind_a_dangling_link_is_seen_when_its_target_appears(
    serve: Callable[..., Server], root: Path
) -> None:
    (root / "index.html").write_text("second")
    (root / "index.htm").symlink_to("elsewhere/page.htm")
    (root / "elsewhere").mkdir()
    server = serve(*CONF)
    time.sleep(SETTLE_S)
    with Client(server) as client:
        assert [client.get("/").body for _ in range(3)] == [b"second"] * 3
        (root / "elsewhere" / "page.htm").write_text("first")
        assert [client.get("/").body for _ in range(2)] == [b"first"] * 2
