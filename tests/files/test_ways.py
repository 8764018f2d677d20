"""Ways into a document root: by an open directory, and by name as on Windows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rawhttp import put

from fastws import backend
from fastws.files import ways
from fastws.files.ways import Beneath, ByName, Found, Way

OPENER = backend.load(pure=True).opener


@pytest.fixture(params=[Beneath, ByName])
def way(request: pytest.FixtureRequest, root: Path) -> Way:
    return request.param(str(root), OPENER)  # type: ignore[no-any-return]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "outside", {"secret.txt": b"SECRET"})
    put(tmp_path / "rootless", {"secret.txt": b"SECRET"})  # its name begins with the root's
    root = put(tmp_path / "root", {"a.txt": b"top", "sub/deep/b.txt": b"below"})
    (root / "inner").symlink_to("sub/deep")
    (root / "out").symlink_to("../outside")
    (root / "out.txt").symlink_to(tmp_path / "rootless" / "secret.txt")
    (root / "gone").symlink_to("nowhere")
    os.mkfifo(root / "fifo")
    return root


def content(way: Way, relative: str) -> bytes | None:
    """What is read of the file that ``relative`` names, None for nothing that a client may see."""
    try:
        found = way.open(relative)
    except OSError:
        return None
    if found is None or found.fd < 0:
        return None
    try:
        return os.read(found.fd, 100)
    finally:
        os.close(found.fd)


def test_files_inside_are_opened_through_links_inside_too(way: Way) -> None:
    assert content(way, "a.txt") == b"top"
    assert content(way, "sub/deep/b.txt") == content(way, "inner/b.txt") == b"below"


@pytest.mark.parametrize(
    "relative", ["out/secret.txt", "out.txt", "gone", "nowhere", "sub/nowhere", "a.txt/x"]
)
def test_nothing_outside_and_nothing_missing_is_opened(way: Way, relative: str) -> None:
    assert content(way, relative) is None


def test_directories_are_found_and_listed(way: Way) -> None:
    for relative, names in (("", "sub"), ("sub/", "deep"), ("inner", "b.txt")):
        found = way.open(relative)
        assert found is not None
        with os.scandir(found.place) as entries:
            assert names in [entry.name for entry in entries]
        if found.fd >= 0:
            os.close(found.fd)


def test_has_sees_links_themselves(way: Way) -> None:
    assert way.has("a.txt")
    assert way.has("gone")
    assert not way.has("nowhere")


def test_by_name_opens_only_names_that_mean_themselves(root: Path) -> None:
    put(root, {"trailing.": b"x", "con": b"x", "a.txt::$DATA": b"x", "s\\a": b"x"})
    way = ByName(str(root), OPENER)
    for name in ("trailing.", "con", "a.txt::$DATA", "s\\a", "sub/../a.txt", "sub//deep", "C:/a.txt"):
        assert content(way, name) is None, name
        assert not way.has(name)
    assert content(way, "a.txt") == b"top"


def test_by_name_does_not_open_what_is_no_file(root: Path) -> None:
    assert ByName(str(root), OPENER).open("fifo") is None


class Folding:
    """A file system that ignores case and knows short names, put in place of ``realpath``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, aliases: dict[str, str]) -> None:
        self._real, self._root, self._aliases = os.path.realpath, str(root), aliases
        monkeypatch.setattr(ways.os.path, "realpath", self.realpath)

    def realpath(self, path: str, *, strict: bool = False) -> str:
        """Return the stored spelling of ``path``, as GetFinalPathNameByHandleW does."""
        if path.startswith(self._root + "/"):
            names = path[len(self._root) + 1 :].split("/")
            path = "/".join((self._root, *(self._aliases.get(name.lower(), name.lower()) for name in names)))
        return self._real(path, strict=strict)


def test_another_spelling_of_a_name_leads_to_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, {"private directory/page.txt": b"PRIVATE"})
    Folding(monkeypatch, root, {"privat~1": "private directory"})
    way = ByName(str(root), OPENER)
    assert (
        os.path.realpath(f"{root}/PRIVAT~1/Page.TXT") == f"{root}/private directory/page.txt"
    )  # it would lead there
    assert content(way, "private directory/page.txt") == b"PRIVATE"
    for other in (
        "PRIVAT~1/page.txt",
        "private directory/PAGE.TXT",
        "Private Directory/page.txt",
        "A.TXT",
        "SUB",
    ):
        assert content(way, other) is None, other
        assert way.has("a.txt")
    assert way.open("Sub/") is None


def test_another_spelling_below_a_link_leads_to_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Folding(monkeypatch, root, {})
    way = ByName(str(root), OPENER)
    assert content(way, "inner/b.txt") == b"below"
    assert content(way, "INNER/b.txt") is content(way, "inner/B.TXT") is None


@pytest.mark.parametrize("moment", ["resolved", "opened"])
def test_place_that_changes_under_the_way_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A directory on the way becomes a link to the outside, before or after the file is opened."""
    put(root, {"../outside/b.txt": b"SECRET"})
    resolve, opened = os.path.realpath, os.open

    def swap() -> None:
        if not (root / "sub" / "deep").is_symlink():
            (root / "sub" / "deep").rename(root / "sub" / "aside")
            (root / "sub" / "deep").symlink_to("../../outside")

    def resolve_and_swap(path: str, *, strict: bool = False) -> str:
        real = resolve(path, strict=strict)
        if moment == "resolved":
            swap()
        return real

    def open_and_swap(path: str, flags: int) -> int:
        fd = opened(path, flags)
        swap()
        return fd

    way = ByName(str(root), OPENER)
    with monkeypatch.context() as patch:
        patch.setattr(ways.os.path, "realpath", resolve_and_swap)
        if moment == "opened":
            patch.setattr(ways.os, "open", open_and_swap)
        assert way.open("sub/deep/b.txt") is None
    assert (root / "sub" / "deep").is_symlink()


def test_by_name_needs_a_directory(root: Path) -> None:
    with pytest.raises(NotADirectoryError):
        ByName(str(root / "a.txt"), OPENER)
    with pytest.raises(FileNotFoundError):
        ByName(str(root / "nowhere"), OPENER)


def test_root_of_a_drive_holds_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ByName("/", OPENER).open("proc" if os.path.isdir("/proc") else "tmp")
    assert isinstance(found, Found)
