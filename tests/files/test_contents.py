"""Contents of files and their entity tags: what is certain about a file, and when it is not."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rawhttp import put, settle

from fastws import backend, portable
from fastws.files import contents as module
from fastws.files import identity
from fastws.files.contents import Content, Contents, Tagged, entity_tag
from fastws.files.identity import SETTLED_NS, identity_of
from fastws.files.root import Nothing, Root
from fastws.http.errors import HTTPError
from fastws.http.messages import Identity

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

    with Root(str(path.parent), opener, Nothing()) as root, monkeypatch.context() as patch:
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
    with Root(str(page.parent), opener, Nothing()) as root:
        file = root.open(page.name)
        clock.age_ns = SETTLED_NS
        young = contents.load(file)
        clock.age_ns = SETTLED_NS + 1
        held = contents.load(file)
        assert held is not young
        assert contents.load(file) is held
        assert contents.tag(file) == (held.etag, held.identity, True)


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
        with Root(str(tmp_path), opener, Nothing()) as opened:
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
    with Root(str(tmp_path), opener, Nothing()) as opened:
        assert not contents.load(opened.open("page.txt")).is_settled


def test_file_written_twice_in_one_second_is_read_again_where_times_are_whole_seconds(
    opener: backend.Opener, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(fd: int) -> tuple[int, Identity]:
        mode, found = opener.look(fd)
        return mode, found._replace(mtime_ns=found.mtime_ns // 10**9 * 10**9, ctime_ns=second)

    second = os.stat(page).st_ctime_ns // 10**9 * 10**9
    coarse = SimpleNamespace(**{name: getattr(opener, name) for name in ("side", "DEEPEST", "open_beneath")})
    coarse.look = look
    contents = Contents(1 << 20, coarse)
    monkeypatch.setattr(time, "time_ns", lambda: second + 10**9)
    for content in (b"old", b"new"):
        page.write_bytes(content)
        os.utime(page, (1_000_000_000, 1_000_000_000))
        with Root(str(page.parent), coarse, Nothing()) as root:
            file = root.open(page.name)
            assert contents.load(file).body == content
            assert contents.tag(file).etag == entity_tag(content)


# Large files


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(1000))
    os.utime(path, (1, 1))
    return path


def tag_of(opener: backend.Opener, path: Path, **options: bool) -> Tagged:
    with Root(str(path.parent), opener, Nothing()) as root:
        return Contents(100, opener, **options).tag(root.open(path.name))


def test_tag_of_a_large_file_is_the_same_until_it_changes(
    opener: backend.Opener, large: Path, tmp_path: Path
) -> None:
    settle(large)
    first = tag_of(opener, large)
    assert first.is_settled
    assert re.fullmatch('"3e8-[0-9a-f]{24}"', first.etag)
    assert tag_of(opener, large) == first
    large.write_bytes(b"x" * 1000)
    os.utime(large, (1, 1))
    settle(large)
    assert tag_of(opener, large).etag != first.etag


def test_tag_of_a_large_file_is_another_for_another_file(opener: backend.Opener, large: Path) -> None:
    other = large.with_name("other.bin")
    other.write_bytes(b"x" * 1000)
    os.utime(other, (1, 1))
    settle(large, other)
    assert tag_of(opener, large).etag != tag_of(opener, other).etag
    by_times = {tag_of(opener, path, by_times=True).etag for path in (large, other)}
    assert by_times == {f'"3e8-{10**9:x}"'}


@pytest.mark.parametrize("by_times", [False, True])
def test_tag_of_a_large_file_that_may_still_change_is_of_the_moment(
    opener: backend.Opener, large: Path, by_times: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = os.stat(large).st_ctime_ns
    tags = set()
    for age_ns in (0, 1, SETTLED_NS):
        monkeypatch.setattr(time, "time_ns", lambda age_ns=age_ns: now_ns + age_ns)
        found = tag_of(opener, large, by_times=by_times)
        assert not found.is_settled
        tags.add(found.etag)
    assert len(tags) == 3


# Made up and growing


def test_log_that_grows_all_the_time_is_what_it_was_at_one_moment(page: Path, read_while: Read) -> None:
    def grow() -> None:
        with page.open("ab") as log:
            log.write(b"\nline")

    content = read_while(before=grow)
    assert content.body in (b"old" + b"\nline" * count for count in range(10))
    assert (content.identity.size, content.is_settled) == (len(content.body), False)


@pytest.mark.skipif(not Path("/proc/sys/kernel/ostype").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", ["sys/kernel/ostype", "cpuinfo", "kallsyms"])
def test_file_that_says_it_is_empty_is_read_to_its_end(opener: backend.Opener, name: str) -> None:
    expected = Path("/proc", name).read_bytes()
    with Root("/proc", opener, Nothing()) as root:
        content = Contents(1 << 20, opener).load(root.open(name))
    assert len(content.body) == len(expected) > 1
    assert not content.is_settled


def test_file_without_an_end_is_refused(
    page: Path, opener: backend.Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.write_bytes(b"")
    monkeypatch.setattr(portable, "read_at", lambda fd, count, offset: b"x" * count)
    with (
        Root(str(page.parent), opener, Nothing()) as root,
        pytest.raises(HTTPError, match="more than 16 MiB"),
    ):
        Contents(1 << 20, opener).load(root.open(page.name))
