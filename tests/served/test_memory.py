"""What compiled code must survive: misuse, failure in the middle of a turn, and numbers beyond its own."""

from __future__ import annotations

import math
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rawhttp import Client, put

from fastws import Server, backend
from fastws.files.identity import identity_of
from fastws.http.errors import HTTPError
from fastws.http.messages import Limits
from fastws.seam import OUTPUT, PARTIAL, READ, Filled, PartialSend, Published, ReplaySettings

BODY = b"published" * 10
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n"
REQUEST = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"
UNDER_ASAN = "asan" in os.environ.get("LD_PRELOAD", "")


@pytest.fixture
def reactor(side: backend.Backend) -> Iterator[backend.Reactor]:
    with closing(configured(side)) as made:
        yield made


def configured(side: backend.Backend, log_format: str = "off", cache_bytes: int = 1 << 22) -> backend.Reactor:
    made = side.reactor()
    made.configure(
        ReplaySettings(
            limits=Limits(),
            methods=("GET", "HEAD"),
            versions=("HTTP/1.0", "HTTP/1.1"),
            cache_bytes=cache_bytes,
            log_format=log_format,
            default_codings=0,
        ),
        lambda *_: Filled.UNDECIDED,
    )
    return made


def publish(reactor: backend.Reactor, path: str, body: bytes = BODY, depends: Any = ()) -> None:
    not_modified = b"HTTP/1.1 304 Not Modified\r\n"
    reactor.publish(Published(path, -1, HEAD, not_modified, body, '"tag"', "", depends, None))


class Peers:
    """Connections of a reactor without a server: ``ours`` are watched, ``theirs`` are the clients' ends."""

    def __init__(self, reactor: backend.Reactor, count: int) -> None:
        self.reactor = reactor
        pairs = [socket.socketpair() for _ in range(count)]
        self.ours, self.theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        self.owners = [SimpleNamespace(fd=sock.fileno()) for sock in self.ours]
        for owner in self.owners:
            os.set_blocking(owner.fd, False)
            reactor.add(owner.fd, owner, "unix:")

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self.ours:
            self.reactor.remove(sock.fileno())
        for sock in (*self.ours, *self.theirs):
            sock.close()


def soon() -> float:
    return time.monotonic() + 5


@pytest.fixture
def compiled() -> backend.Backend:
    if os.environ.get("FASTWS_NO_EXTENSIONS") == "1":
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    return backend.load(pure=False, required=True)


# Misuse is an exception


@pytest.mark.parametrize("fd", [3, 900, 1 << 30])
def test_descriptor_that_nobody_watches_is_a_key_error(reactor: backend.Reactor, fd: int) -> None:
    calls: list[Callable[[], object]] = [
        lambda: reactor.remove(fd),
        lambda: reactor.set_interest(fd, OUTPUT),
        lambda: reactor.last_activity(fd),
        lambda: reactor.remove_listener(fd),
    ]
    for call in calls:
        with pytest.raises((KeyError, ValueError)):
            call()


def test_closed_sockets_descriptor_is_refused(reactor: backend.Reactor) -> None:
    with pytest.raises(ValueError, match="Invalid file descriptor"):
        reactor.add_listener(-1, None)
    for call in (reactor.remove_listener, reactor.remove, reactor.last_activity):
        with pytest.raises((KeyError, ValueError)):
            call(-1)


def test_removing_a_connection_twice_is_a_key_error(reactor: backend.Reactor) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reactor.add(ours.fileno(), ours, "unix:")
        reactor.remove(ours.fileno())
        with pytest.raises(KeyError):
            reactor.remove(ours.fileno())


@pytest.mark.parametrize("start", [-1, 5, 1 << 40])
def test_head_that_begins_outside_its_data_is_an_index_error(side: backend.Backend, start: int) -> None:
    with pytest.raises(IndexError):
        side.parser.parse_request(b"GET ", start, 0, Limits())


def test_sides_agree_on_empty_lines_that_were_scanned_before(side: backend.Backend) -> None:
    assert side.parser.parse_request(b"\r\n\r\n", 0, 4, Limits()) is None
    with pytest.raises(HTTPError):
        side.parser.parse_request(b"\r\n\r\n", 0, 3, Limits())


# Time


def test_endless_deadline_waits_until_woken(compiled: backend.Backend) -> None:
    with closing(configured(compiled)) as reactor:
        for deadline in (math.inf, 1e300, time.monotonic() + 1e9):
            woken = threading.Timer(0.05, reactor.wake)
            woken.start()
            assert list(reactor.wait(deadline)) == []
            woken.join()


def test_deadline_counts_from_now_however_long_python_took(reactor: backend.Reactor) -> None:
    pause_s, waited_s = 0.3, []
    for _ in range(3):
        reactor.wait(0)
        time.sleep(pause_s)  # it stands for Python at work, which nothing announces
        begun = time.monotonic()
        reactor.wait(begun + pause_s / 6)
        waited_s.append(time.monotonic() - begun)
    assert min(waited_s) < pause_s


@pytest.fixture
def timeless() -> Iterator[Path]:
    """A directory whose files may have any time: Linux's tmpfs keeps 64 bits of seconds."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:
        yield Path(directory)


@pytest.mark.parametrize("year", [-500, 1600, 1900, 2400, 9000])
def test_file_from_far_away_in_time_is_served(
    serve: Callable[..., Server], timeless: Path, year: int
) -> None:
    root = put(timeless, {"page.html": BODY})
    seconds = (year - 1970) * 31_556_952
    try:
        os.utime(root / "page.html", (seconds, seconds))
    except (OSError, OverflowError):
        pytest.skip("this system does not know such times")
    with Client(serve(root=root)) as client:
        for _ in range(3):
            reply = client.get("/page.html")
            assert (reply.status, reply.body) == (200, BODY)


def test_published_file_that_moves_far_away_in_time_is_stale(
    compiled: backend.Backend, timeless: Path
) -> None:
    page = timeless / "page"
    page.write_bytes(BODY)
    with closing(configured(compiled)) as reactor, Peers(reactor, 1) as peers:
        publish(reactor, "/page", depends=((str(page), identity_of(os.stat(page))),))
        peers.theirs[0].send(REQUEST)
        reactor.wait(0)
        assert peers.theirs[0].recv(4096).endswith(BODY)
        os.utime(page, (1e11, 1e11))
        peers.theirs[0].send(REQUEST)
        [(_, kind, data)] = reactor.wait(soon())
        assert (kind, data) == (READ, REQUEST)


# A turn's bounds


def test_as_many_full_reads_as_the_arena_holds_and_a_wake(compiled: backend.Backend) -> None:
    with closing(configured(compiled)) as reactor, Peers(reactor, 200) as peers:
        data = b"x" * 16384
        for sock in peers.theirs:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
            sock.sendall(data)
        reactor.wake()
        taken = 0
        while taken < len(peers.ours):
            for _, kind, read in reactor.wait(soon()):
                assert (kind, read) == (READ, data)
                taken += 1


def test_replaying_goes_on_when_requests_of_many_turns_exceed_the_arena(compiled: backend.Backend) -> None:
    with closing(configured(compiled)) as reactor, Peers(reactor, 1) as peers:
        publish(reactor, "/page")
        request = REQUEST[:-2] + b"X: " + b"y" * 15000 + b"\r\n\r\n"
        ended = []

        def ask() -> None:
            for _ in range(400):
                peers.theirs[0].sendall(request)
                got = b""
                while not got.endswith(BODY):
                    got += peers.theirs[0].recv(4096)
            ended.append(True)
            reactor.wake()

        thread = threading.Thread(target=ask)
        thread.start()
        # A stall lasts until a deadline: with one that is far away, the first would be the end.
        assert list(reactor.wait(time.monotonic() + 30)) == []
        assert ended
        thread.join()


def test_failure_while_reporting_leaves_nothing_behind(
    compiled: backend.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastws import _reactor

    def fails(**_: object) -> PartialSend:
        raise MemoryError

    with closing(configured(compiled)) as reactor, Peers(reactor, 300) as peers:
        publish(reactor, "/page", body=b"x" * (1 << 21))
        for sock in peers.theirs:
            sock.send(REQUEST)
        with monkeypatch.context() as patched:
            patched.setattr(_reactor, "PartialSend", fails)
            with pytest.raises(MemoryError):
                reactor.wait(soon())
        for sock in peers.theirs:
            sock.send(REQUEST)
        kinds = []
        while len(kinds) < 300:
            kinds += [kind for _, kind, _ in reactor.wait(soon())]
        assert set(kinds) <= {READ, PARTIAL}


@pytest.mark.skipif(UNDER_ASAN, reason="AddressSanitizer keeps what was freed")
def test_log_buffer_that_grew_is_given_back(compiled: backend.Backend) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with closing(configured(compiled, "combined")) as reactor:
        before = resident()
        reactor.log(b"x" * (64 << 20))
        assert len(reactor.take_log()) == 64 << 20
        assert resident() - before < 32 << 20


# The table


def test_evictions_while_answers_are_being_sent_in_part(compiled: backend.Backend) -> None:
    """What a partial answer needs outlives the entry that it came from."""
    bodies = {f"/{number}": bytes([number]) * (1 << 19) for number in range(8)}
    with (
        closing(configured(compiled, cache_bytes=1 << 21)) as reactor,
        Peers(reactor, 64) as peers,
        ExitStack() as stack,
    ):
        stack.callback(reactor.take_log)
        for turn in range(20):
            path = f"/{turn % 8}"
            for name, body in bodies.items():
                if name != path:
                    publish(reactor, name, body)
            publish(reactor, path, bodies[path])
            with Peers(reactor, 4) as readers:
                for sock in readers.theirs:
                    sock.send(REQUEST.replace(b"/page", path.encode()))
                events = list(reactor.wait(soon()))
                for name, body in bodies.items():
                    publish(reactor, name, body)
                assert len(events) == 4
                for _, kind, partial in events:
                    assert kind == PARTIAL
                    assert partial.body == bodies[path]
        assert reactor.counters().evicted > 50
        assert reactor.counters().entry_bytes <= 1 << 21
        assert peers.ours
