"""Never a stale byte: files change in every way there is while clients hammer them.

A site's history is a list of states, each with the body that a request must see (None: 404). A response is right
if it shows one of the states that were in force between sending the request and receiving the answer. A change
that is one step shows nothing else; of another it is listed what it may show on its way.

Files are dated back after each change, for what lies in the present second is not replayed. So one state of a file
differs from the next in little but its time of change. A change is only made while the answers are being replayed.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import pytest
from rawhttp import TIMEOUT_S, Client, ProtocolError, finish_turns, put, settle, wait_until

from fastws import Server
from fastws.files.variants import MEMORY_BYTES
from fastws.http.messages import Request
from fastws.site.publication import Decision
from fastws.site.site import Site as Answers

PACE_S = 0.025
"""How long changes are apart where nothing is replayed, so that there is nothing to wait for."""

DATE = time.time() - 60


class State(NamedTuple):
    """What is to be seen from some change on, and ``passing`` while that change goes on.

    A change ``in_place`` may be seen half done: a body may be put together of the states before and after, each
    byte at its own place.
    """

    body: bytes | None
    passing: tuple[bytes | None, ...] = ()
    in_place: bool = False


class History:
    """The states of one URL in the order in which they came into force.

    ``begin`` announces the next one before the change begins, ``complete`` says that it is over.
    """

    def __init__(self, url: str, body: bytes | None) -> None:
        self.url = url
        self.states = [State(body)]
        self.completed = 0

    @property
    def body(self) -> bytes | None:
        """What is in force, or about to be."""
        return self.states[-1].body

    def begin(self, state: State) -> None:
        self.states.append(state)

    def complete(self) -> None:
        self.completed = len(self.states) - 1

    def is_half_done_since(self, state: int) -> bool:
        """Whether since then something was changed that may have been seen half done."""
        return any(later.in_place for later in self.states[state + 1 :])

    def check(self, client: Client, asker: str) -> bytes | None:
        """Ask once, for all or a range that is all, and return the body.

        Fail on a state that was over before the request was sent.
        """
        lines = random.choice(((), (), ("Range: bytes=0-",)))
        oldest = self.completed
        reply = client.get(f"{self.url}?x={oldest}&by={asker}", *lines)
        is_all = not lines or not reply.body  # an empty file has no range, and is sent as it is
        assert reply.status in ((200, 404) if is_all else (206, 404)), reply
        body = None if reply.status == 404 else reply.body
        if reply.status == 206:
            assert reply["Content-Range"] == f"bytes 0-{len(reply.body) - 1}/{len(reply.body)}"
        states = self.states[oldest:]
        allowed = [state.body for state in states] + [each for state in states[1:] for each in state.passing]
        is_half_done = any(state.in_place for state in states[1:])
        if body not in allowed and not (is_half_done and body is not None and _is_made_of(body, allowed)):
            raise AssertionError(f"{self.url}: stale or wrong: got {body!r}, allowed {allowed!r}")
        if body is not None and not is_half_done:
            # A file written in place while it goes out by sendfile has no tag that could be right.
            assert reply["ETag"] == f'"{blake2b(body, digest_size=12).hexdigest()}"'
        return body


def _is_made_of(body: bytes, states: list[bytes | None]) -> bool:
    """Tell whether each byte is that of a state, at its own place."""
    position = 0
    while position < len(body):
        common = max(_common(body, state, position) for state in states if state is not None)
        if not common:
            return False
        position += common
    return True


def _common(body: bytes, state: bytes, begin: int) -> int:
    """Return how many bytes are the same from ``begin`` on."""
    least, most = 0, max(min(len(body), len(state)) - begin, 0)
    while least < most:
        middle = (least + most + 1) // 2
        if body[begin + least : begin + middle] == state[begin + least : begin + middle]:
            least = middle
        else:
            most = middle - 1
    return least


class Site:
    """A document root, and the ways in which its files change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.spare = root.parent / "spare"
        self.serial = itertools.count()
        files = {
            "plain/page.html": b"first",
            "parent/sub/page.html": b"parent",
            "other/sub/page.html": b"other!",
            "index/index.html": b"the second name",
            "targets/a.html": b"target a",
            "targets/b.html": b"target b",
        }
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            _write(root / name, content)
        self.file = root / "plain" / "page.html"
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

    def new_body(self, size: int) -> bytes:
        """A body that differs from every other in its first byte, most of the time, and in each eight."""
        token = f"{next(self.serial):07} "[::-1].encode()
        return (token * (size // 8 + 1))[:size]

    def any_size(self) -> int:
        """Sometimes one that is replayed from its file, by sendfile."""
        return random.choice((0, 0, 0, MEMORY_BYTES)) + random.randrange(8, 3000)

    def _do(self, history: History, state: State, deed: Callable[[], None]) -> None:
        history.begin(state)
        deed()
        history.complete()

    def rewrite(self) -> None:
        body = self.new_body(self.any_size())
        self._do(self.plain, State(body, in_place=True), lambda: _write(self.file, body))

    def rewrite_same_length(self) -> None:
        body = self.new_body(len(self.plain.body or b"12345678"))
        self._do(self.plain, State(body, in_place=True), lambda: _write(self.file, body))

    def replace(self) -> None:
        body = self.new_body(self.any_size())
        _write(self.spare, body)
        self._do(self.plain, State(body), lambda: os.replace(self.spare, self.file))

    def truncate(self) -> None:
        before = self.plain.body
        if not before:
            return self.rewrite()
        size = random.randrange(len(before))
        # What is cut off of a page that is on its way by sendfile becomes zeros.
        zeros = before[:size].ljust(len(before), b"\0")

        def cut() -> None:
            os.truncate(self.file, size)
            _date_back(self.file)

        return self._do(self.plain, State(before[:size], (zeros,), in_place=True), cut)

    def delete(self) -> None:
        if self.plain.body is None:
            return self.rewrite()
        return self._do(self.plain, State(None), lambda: os.unlink(self.file))

    def swap_parent(self) -> None:
        def swap() -> None:
            os.rename(self.root / "parent", self.root / "gone")
            os.rename(self.root / "other", self.root / "parent")
            os.rename(self.root / "gone", self.root / "other")

        body = b"other!" if self.parent.body == b"parent" else b"parent"
        self._do(self.parent, State(body, (None,)), swap)

    def swap_link(self) -> None:
        name = "b" if self.link.body == b"target a" else "a"
        fresh = self.root.parent / "fresh-link"
        fresh.symlink_to(f"targets/{name}.html")
        state = State(f"target {name}".encode())
        self._do(self.link, state, lambda: os.replace(fresh, self.root / "link.html"))

    def toggle_index(self) -> None:
        first = self.root / "index" / "index.htm"
        if self.index.body == b"the second name":
            _write(self.spare, b"the first name")
            self._do(self.index, State(b"the first name"), lambda: os.replace(self.spare, first))
        else:
            self._do(self.index, State(b"the second name"), lambda: os.unlink(first))


def _write(path: Path, body: bytes) -> None:
    with open(path, "wb") as file:
        file.write(body)
    _date_back(path)


def _date_back(path: Path) -> None:
    os.utime(path, (DATE, DATE))


Misses = Counter[tuple[str, str]]
"""How many requests Python has answered, by who asked for what; the reactor has answered the others."""


@pytest.fixture
def misses(monkeypatch: pytest.MonkeyPatch) -> Misses:
    counted: Misses = Counter()
    respond = Answers.respond

    def count_and_respond(self: Answers, request: Request, body: bytes = b"", peer: str = "") -> Decision:
        path, _, query = request.target.partition("?")
        counted[query.partition("by=")[2], path] += 1
        return respond(self, request, body, peer)

    monkeypatch.setattr(Answers, "respond", count_and_respond)
    return counted


class Asker:
    """Asks over connections of its own, and knows which of its answers were replayed."""

    def __init__(self, name: str, misses: Misses) -> None:
        self.name = name
        self.hits: Counter[str] = Counter()
        self._misses = misses

    def ask(self, client: Client, history: History) -> bool | None:
        """Ask once and tell whether the answer was replayed, None for a 404, which never is."""
        before = self._misses[self.name, history.url]
        body = history.check(client, self.name)
        if body is None:
            return None
        is_hit = self._misses[self.name, history.url] == before
        self.hits[history.url] += is_hit
        return is_hit


class Hammer(threading.Thread):
    """Asks for everything in turn until it is told to stop, and keeps what went wrong."""

    def __init__(self, server: Server, histories: list[History], asker: Asker) -> None:
        super().__init__(daemon=True)
        self.server, self.histories, self.asker = server, histories, asker
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
                    oldest = history.completed
                    try:
                        self.asker.ask(client, history)
                    except ProtocolError:
                        # A file that shrinks while it goes out by sendfile ends its connection.
                        if not history.is_half_done_since(oldest):
                            raise
                        return
                    self.asked += 1


def _replays(server: Server) -> bool:
    return any(worker.reactor.replays for worker in server._pool.workers)


def _hits(server: Server) -> int:
    """How many there were once the turn is over in which the last answer was sent."""
    finish_turns(server)
    return sum(worker.reactor.counters().hits for worker in server._pool.workers)


def _ask_until_most_is_replayed(asker: Asker, client: Client, histories: list[History]) -> None:
    """Ask for everything until each last answer was replayed, and more than half of all."""
    balance: Counter[str] = Counter()
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        answers = [(history.url, asker.ask(client, history)) for history in histories]
        balance.update({url: 1 if is_hit else -1 for url, is_hit in answers if is_hit is not None})
        if all(is_hit is None or (is_hit and balance[url] > 0) for url, is_hit in answers):
            return
        assert time.monotonic() < deadline, f"is not replayed: {answers}"


def _ask_for_a_while(asker: Asker, client: Client, histories: list[History]) -> None:
    deadline = time.monotonic() + PACE_S
    while time.monotonic() < deadline:
        for history in histories:
            asker.ask(client, history)


def _change_and_check(server: Server, root: Path, misses: Misses, count: int) -> None:
    site = Site(root)
    histories = [site.plain, site.parent, site.index, site.link]
    askers = [Asker(name, misses) for name in ("main", "hammer-1", "hammer-2")]
    hammers = [Hammer(server, histories, asker) for asker in askers[1:]]
    replays = _replays(server)
    ask = _ask_until_most_is_replayed if replays else _ask_for_a_while
    for hammer in hammers:
        hammer.start()
    with Client(server) as client:
        ask(askers[0], client, histories)
        for _ in range(count):
            random.choice(site.changes())()
            for history in histories:
                askers[0].ask(client, history)  # at once: the change is over, so nothing old may come
            ask(askers[0], client, histories)
            assert not any(hammer.failure for hammer in hammers), [h.failure for h in hammers]
    for hammer in hammers:
        hammer.stopping.set()
        hammer.join(30)
        assert hammer.failure is None
        assert hammer.asked > count / 10
    for asker in askers:
        for history in histories:
            assert (asker.hits[history.url] > 0) == replays, (asker.name, history.url)
    assert (_hits(server) > 0) == replays


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


def test_no_stale_byte_is_served_while_files_change(
    serve: Callable[..., Server], root: Path, misses: Misses
) -> None:
    _change_and_check(serve(*CONF), root, misses, int(os.environ.get("FASTWS_CHANGES", "250")))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_no_stale_byte_is_served_over_ten_thousand_changes(
    serve: Callable[..., Server], root: Path, misses: Misses
) -> None:
    _change_and_check(serve(*CONF), root, misses, 10_000)


def _ask_until_it_is_replayed(server: Server, client: Client, target: str, body: bytes) -> None:
    """Ask for ``target`` until the answer comes from the table, where there is one; it must be ``body``."""
    before = _hits(server)

    def is_replayed() -> bool:
        reply = client.get(target)
        assert (reply.status, reply.body) == (200, body)
        return _hits(server) > before

    if _replays(server):
        wait_until(is_replayed, f"a replayed {target}")
    else:
        assert not is_replayed()


def test_document_root_that_is_a_link_may_be_swapped(serve: Callable[..., Server], tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / name, {"page.html": f"release {name}".encode()})
    current = tmp_path / "current"
    current.symlink_to("one")
    server = serve(root=current)
    with Client(server) as client:
        for turn in range(30):
            name = ("two", "one")[turn % 2]
            (tmp_path / "fresh").symlink_to(name)
            os.replace(tmp_path / "fresh", current)
            _ask_until_it_is_replayed(server, client, "/page.html", f"release {name}".encode())


def test_document_root_that_vanishes_is_500_and_comes_back(serve: Callable[..., Server], root: Path) -> None:
    put(root, {"page.html": b"here"})
    server = serve()
    with Client(server) as client:
        for _ in range(3):
            _ask_until_it_is_replayed(server, client, "/page.html", b"here")
            shutil.move(root, root.with_name("away"))
            assert [client.get("/page.html").status for _ in range(2)] == [500] * 2
            shutil.move(root.with_name("away"), root)


def test_index_behind_a_dangling_link_is_seen_when_its_target_appears(
    serve: Callable[..., Server], root: Path
) -> None:
    put(root, {"index.html": b"second", "page.html": b"page"})
    (root / "index.htm").symlink_to("elsewhere/page.htm")
    (root / "elsewhere").mkdir()
    settle(root)
    server = serve(*CONF)
    with Client(server) as client:
        _ask_until_it_is_replayed(server, client, "/page.html", b"page")
        before = _hits(server)
        assert [client.get("/").body for _ in range(3)] == [b"second"] * 3
        assert _hits(server) == before  # it depends on more than is looked at
        put(root, {"elsewhere/page.htm": b"first"})
        assert [client.get("/").body for _ in range(2)] == [b"first"] * 2
