"""Contents of files and their entity tags: what is certain about a file, and when it is not."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import put

from fastws import backend, portable
from fastws.files import contents as module
from fastws.files import identity
from fastws.files.contents import Content, Contents, entity_tag
from fastws.files.identity import SETTLED_NS, identity_of
from fastws.files.root import Root

Change = Callable[[], None]
Read = Callable[..., Content]


@pytest.fixture
def opener(side: backend.Backend) -> backend.Opener:
    return side.opener


@pytest.fixture
def read_while(opener: backend.Opener, page: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Content]:
    """Return a function that loads ``page``, and runs ``before`` and ``after`` around each read of it."""
    return functools.partial(_read_while, opener, page, monkeypatch)


def _read_while(
    opener: backend.Opener,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: Change | None = None,
    after: Change | None = None,
) -> Content:
    pread = portable.read_at

    def pread_and_change(fd: int, size: int, offset: int) -> bytes:
        if before is not None:
            before()
        data = pread(fd, size, offset)
        if after is not None:
            after()
        return data

    with Root(str(path.parent), opener) as root, monkeypatch.context() as patch:
        file = root.open(path.name)
        patch.setattr(portable, "read_at", pread_and_change)
        return Contents(1 << 20, opener).load(file)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")
    os.utime(path, (1, 1))
    return path


@pytest.mark.parametrize("when", ["before", "after"])
def test_file_that_changes_once_while_it_is_read_is_read_again(
    page: Path, read_while: Read, when: str
) -> None:
    changes = [b"new"]  # as long as the old, so that only its times tell

    def change() -> None:
        if changes:
            page.write_bytes(changes.pop())

    content = read_while(**{when: change})
    assert (content.body, content.etag) == (b"new", entity_tag(b"new"))
    assert content.identity == identity_of(os.stat(page))


def test_file_that_grows_while_it_is_read_is_read_again(page: Path, read_while: Read) -> None:
    changes = [b"and longer"]

    def grow() -> None:
        if changes:
            page.write_bytes(page.read_bytes() + changes.pop())

    content = read_while(before=grow)
    assert content.body == b"oldand longer"
    assert content.identity == identity_of(os.stat(page))


def test_file_that_changes_at_every_look_is_sent_but_not_kept(
    page: Path, read_while: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The times alone change, and lie long ago: a content that was taken for consistent would be settled.
    times = iter(range(2, 1000))

    def touch() -> None:
        second = next(times)
        os.utime(page, (second, second))

    monkeypatch.setattr(module, "is_settled", lambda identity, at_ns=None: True)
    content = read_while(after=touch)
    assert (content.body, content.etag, content.is_settled) == (b"old", entity_tag(b"old"), False)


class Clock:
    """A clock that stands still until it is moved, in place of the one by which files are judged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self._changed_ns = os.stat(path).st_ctime_ns
        self.age_ns = 0
        monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(identity, "time", self)

    def time_ns(self) -> int:
        return self._changed_ns + self.age_ns


def test_content_is_read_once_from_when_it_is_settled(
    opener: backend.Opener, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, clock = Contents(1 << 20, opener), Clock(monkeypatch, page)
    with Root(str(page.parent), opener) as root:
        file = root.open(page.name)
        clock.age_ns = SETTLED_NS
        young = contents.load(file)
        clock.age_ns = SETTLED_NS + 1
        held = contents.load(file)
        assert held is not young
        assert contents.load(file) is held
        assert contents.tag(file) == (held.etag, held.identity)


def test_content_is_as_settled_as_its_file_was_before_it_was_read(
    page: Path, read_while: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, page)

    def grow_older() -> None:
        clock.age_ns += SETTLED_NS

    clock.age_ns = 1
    assert not read_while(before=grow_older).is_settled
    assert read_while(before=grow_older).is_settled


def test_file_dated_in_the_future_is_read_once(
    opener: backend.Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {"page.txt": b"from the future"})
    os.utime(tmp_path / "page.txt", (time.time() + 1e6,) * 2)
    time.sleep(0.03)
    reads = []
    monkeypatch.setattr(
        module, "_read", lambda *which, read=module._read: reads.append(which) or read(*which)
    )
    contents = Contents(1 << 20, opener)
    for _ in range(3):
        with Root(str(tmp_path), opener) as opened:
            contents.tag(opened.open("page.txt"))
    assert len(reads) == 1


def test_write_after_the_read_is_not_taken_for_what_was_read(
    opener: backend.Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the clock of the files ticks slowly, only the time that has passed before reading tells."""
    put(tmp_path, {"page.txt": b"old bytes"})
    changed_ns = os.stat(tmp_path / "page.txt").st_ctime_ns
    now_ns = [changed_ns + SETTLED_NS // 2]

    def read_slowly(*arguments: int, read: Callable[..., bytes] = portable.read_at) -> bytes:
        now_ns[0] = changed_ns + 9 * SETTLED_NS
        return read(*arguments)

    monkeypatch.setattr(time, "time_ns", lambda: now_ns[0])
    monkeypatch.setattr(portable, "read_at", read_slowly)
    contents = Contents(1 << 20, opener)
    with Root(str(tmp_path), opener) as opened:
        assert not contents.load(opened.open("page.txt")).is_settled
