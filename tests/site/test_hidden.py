"""What is never served, while it is being replaced too."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Client, get, put, settle

from fastws import Server, backend, load
from fastws.config.settings import defaults
from fastws.files.folder import Folder
from fastws.files.root import OpenFile
from fastws.http.errors import HTTPError
from fastws.site.hidden import OwnFiles

SECRET = b"SECRET OF THE SERVER"


class Replacing:
    """An opener, with something that happens right after each file was opened or read."""

    def __init__(self, opener: backend.Opener) -> None:
        self._opener = opener
        self.side, self.DEEPEST, self.look = opener.side, opener.DEEPEST, opener.look
        self.after: Callable[[], object] = lambda: None

    def open_beneath(self, directory: int, path: str) -> int:
        fd = self._opener.open_beneath(directory, path)
        if path:
            self.after()
        return fd

    def read_beneath(self, root: bytes, path: bytes, most: int) -> Any:
        found = self._opener.read_beneath(root, path, most)
        self.after()
        return found


@pytest.fixture
def opener(side: backend.Backend) -> Replacing:
    return Replacing(side.opener)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"page.txt": b"page", "teacher.conf": b"lesson"})


@pytest.fixture
def server(side: backend.Backend, opener: Replacing, root: Path) -> Iterator[Server]:
    lines = "ListenPort 8080", "DocumentRoot .", "ContentType .conf text/plain", "ContentType .txt text/plain"
    (root / "ws.conf").write_bytes("\n".join(lines).encode() + b"\n# " + SECRET + b"\n")
    config = load(str(root / "ws.conf")).with_overrides(listen_ports=(0,), worker_threads=1)
    with ExitStack() as stack:
        yield stack.enter_context(Server(config, backend=side._replace(opener=opener)))


def replace(path: Path) -> None:
    """Put other content in its place, dated back, as an editor or a deployment does."""
    other = path.with_name("next")
    other.write_bytes(path.read_bytes())
    os.utime(other, (1_000_000_000, 1_000_000_000))
    other.replace(path)


@pytest.mark.parametrize("link", ["", "link.conf"])
def test_own_file_is_not_served_while_it_is_replaced(
    server: Server, opener: Replacing, root: Path, link: str
) -> None:
    if link:
        (root / link).symlink_to("ws.conf")
    with Client(server) as client:
        assert client.get("/teacher.conf").body == b"lesson"  # what Python decided is filled in for others
        settle(root / "ws.conf")
        opener.after = lambda: replace(root / "ws.conf")
        for _ in range(5):
            reply = client.get(f"/{link or 'ws.conf'}")
            assert (reply.status, SECRET in reply.body) == (404, False)
        opener.after = lambda: None
        assert client.get(f"/{link or 'ws.conf'}").status == 404
        assert client.get("/page.txt").body == b"page"


def test_page_is_served_while_it_is_replaced(server: Server, opener: Replacing, root: Path) -> None:
    changes = iter(range(3))
    opener.after = lambda: next(changes, None) is not None and replace(root / "page.txt")
    for _ in range(3):
        assert get(server, "/page.txt").body == b"page"


def test_page_that_is_another_each_time_is_not_found(server: Server, opener: Replacing, root: Path) -> None:
    opener.after = lambda: replace(root / "page.txt")
    assert get(server, "/page.txt").status == 404


def test_page_whose_names_cannot_be_counted_is_a_failure(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: OpenFile) -> os.stat_result:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(OpenFile, "status", fail)
        assert get(server, "/page.txt").status == 500
    assert get(server, "/page.txt").body == b"page"


def test_page_that_has_no_name_of_its_own_is_served(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems count no names."""

    class Nameless:
        st_nlink = 0

    monkeypatch.setattr(OpenFile, "status", lambda _: Nameless)
    assert get(server, "/page.txt").body == b"page"


def test_own_file_is_no_page_of_an_error(side: backend.Backend, root: Path) -> None:
    (root / "ws.conf").write_text("ListenPort 8080\nDocumentRoot .\n")
    config = load(str(root / "ws.conf"))
    folder = Folder(
        str(root),
        config,
        logging.getLogger("test"),
        opener=side.opener,
        replays=False,
        hidden=OwnFiles(config),
    )
    assert folder.page("/page.txt") == b"page"
    with pytest.raises(HTTPError, match="404"):
        folder.page("/ws.conf")


def test_own_files_are_inside_where_a_client_could_name_them(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "link").symlink_to("root")
    config = defaults(str(root))
    assert not OwnFiles(config).are_inside
    for path, expected in (
        (tmp_path / "users", False),
        (root / "users", True),
        (tmp_path / "link/users", True),
    ):
        path.touch()
        assert OwnFiles(config.with_overrides(basic_auth=(("*", str(path)),))).are_inside is expected
