"""Identities and contents of files: what is certain about a file, and when it is not."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import put

from fastws import backend, portable
from fastws.files import root as files
from fastws.files.root import Content, Contents, Root, entity_tag, identity_of, is_settled
from fastws.http.errors import HTTPError
from fastws.http.messages import Identity

NOW_NS = 1_000_000_000_000_000_000
MS_NS = 1_000_000


@pytest.mark.parametrize(
    ("modified_ms", "changed_ms", "expected"),
    [
        (20, 1000, False),
        (1000, 20, False),
        (0, 1000, False),
        (1000, 0, False),
        (1000, -1000, False),  # a clock that was set back
        (-1000, 20, False),
        (-1000, 1000, True),  # a time in the future was set, and says nothing of when
        (20.001, 20.001, True),
        (1000, 1000, True),
    ],
)
def test_file_is_settled_when_both_its_times_are_20_ms_ago(
    modified_ms: float, changed_ms: float, expected: bool
) -> None:
    modified, changed = (NOW_NS - int(ms * MS_NS) for ms in (modified_ms, changed_ms))
    assert is_settled(Identity(1, 2, 3, modified, changed), NOW_NS) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its tick")
def test_time_to_settle_is_longer_than_a_tick() -> None:
    """What stamps files advances once in a tick of the kernel, which is 10 ms where it is longest."""
    clock_realtime_coarse = 5  # which Python does not name
    assert time.clock_getres(clock_realtime_coarse) * 1e9 < files.SETTLED_NS


Change = Callable[[], None]


def read_while(
    monkeypatch: pytest.MonkeyPatch, path: Path, *, before: Change | None = None, after: Change | None = None
) -> Content:
    """Load ``path``; run ``before`` and ``after`` around each read of it."""
    pread = portable.read_at

    def pread_and_change(fd: int, size: int, offset: int) -> bytes:
        if before is not None:
            before()
        data = pread(fd, size, offset)
        if after is not None:
            after()
        return data

    with Root(str(path.parent)) as root, monkeypatch.context() as patch:
        file = root.open(path.name)
        patch.setattr(portable, "read_at", pread_and_change)
        return Contents(1 << 20).load(file)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    os.utime(path, (1, 1))
    return path


@pytest.mark.parametrize("when", ["before", "after"])
def test_file_that_changes_once_while_it_is_read_is_read_again(
    page: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    changes = [b"new"]  # as long as the old, so that only its times tell

    def change() -> None:
        if changes:
            page.write_bytes(changes.pop())

    if when == "before":
        content = read_while(monkeypatch, page, before=change)
    else:
        content = read_while(monkeypatch, page, after=change)
    assert (content.body, content.etag) == (b"new", entity_tag(b"new"))
    assert content.identity == identity_of(os.stat(page))


def test_file_that_grows_while_it_is_read_is_read_again(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [b"and longer"]

    def grow() -> None:
        if changes:
            page.write_bytes(page.read_bytes() + changes.pop())

    content = read_while(monkeypatch, page, before=grow)
    assert content.body == b"oldand longer"
    assert content.identity == identity_of(os.stat(page))


def test_file_that_changes_at_every_look_is_sent_but_not_kept(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The times alone change, and lie long ago: a content that was taken for consistent would be settled.
    times = iter(range(2, 1000))

    def touch() -> None:
        second = next(times)
        os.utime(page, (second, second))

    monkeypatch.setattr(files, "is_settled", lambda identity, at_ns=None: True)
    content = read_while(monkeypatch, page, after=touch)
    assert (content.body, content.etag, content.is_settled) == (b"old", entity_tag(b"old"), False)


class Clock:
    """A clock that stands still until it is moved, in place of the one by which files are judged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self._changed_ns = os.stat(path).st_ctime_ns
        self.age_ns = 0
        monkeypatch.setattr(files, "time", self)

    def time_ns(self) -> int:
        return self._changed_ns + self.age_ns


def test_content_is_read_once_from_when_it_is_settled(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, clock = Contents(1 << 20), Clock(monkeypatch, page)
    with Root(str(page.parent)) as root:
        file = root.open(page.name)
        clock.age_ns = files.SETTLED_NS
        young = contents.load(file)
        clock.age_ns = files.SETTLED_NS + 1
        held = contents.load(file)
        assert held is not young
        assert contents.load(file) is held
        assert contents.tag(file) == (held.etag, held.identity)


def test_content_is_as_settled_as_its_file_was_before_it_was_read(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, page)

    def grow_older() -> None:
        clock.age_ns += files.SETTLED_NS

    clock.age_ns = 1
    assert not read_while(monkeypatch, page, before=grow_older).is_settled
    assert read_while(monkeypatch, page, before=grow_older).is_settled


@pytest.mark.parametrize("name", ["none", "none/below", "page.txt/below", "x" * 256, "out", "fifo"])
def test_what_is_not_there_or_not_to_be_seen_is_found_to_be_nothing(
    side: backend.Backend, tmp_path: Path, name: str
) -> None:
    put(tmp_path / "root", {"page.txt": b"inside"})
    put(tmp_path, {"outside.txt": b"outside"})
    (tmp_path / "root" / "out").symlink_to("../outside.txt")
    os.mkfifo(tmp_path / "root" / "fifo")
    with Root(str(tmp_path / "root"), side.opener) as root:
        assert root.find(name) is None
        with pytest.raises(HTTPError, match="404: There is no such file"):
            root.open(name)
        assert root.find("page.txt") is not None
