"""What may be replayed, and what a site remembers: nothing that could change unseen, or with the time alone.

The clock of these tests is their own, and the files' times stand in relation to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from fastws import backend
from fastws.config.settings import defaults
from fastws.files import contents
from fastws.files.identity import SETTLED_NS
from fastws.files.root import Nothing
from fastws.http.httpdate import format_http_date
from fastws.http.messages import Identity, Publication, Request, Response
from fastws.site import publication, site

SECOND_NS = 1_000_000_000
SECOND = 2_000_000_000
"""A second ahead of every real clock, so that the times that are set here are the newest that a file has."""

START_NS = SECOND * SECOND_NS
LONG_AGO_NS = START_NS - 100 * SECOND_NS


class Asked(NamedTuple):
    """An answer without its file."""

    response: Response
    publication: Publication | None
    etag: str

    @property
    def is_published(self) -> bool:
        return self.publication is not None

    def field(self, name: str) -> str | None:
        return dict(self.response.fields).get(name)


class Desk:
    """A site, asked at times that the test chooses."""

    def __init__(self, root: Path, opener: backend.Opener, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self._opener = opener
        self.now_ns = START_NS
        clock = SimpleNamespace(time_ns=lambda: self.now_ns)
        monkeypatch.setattr(site, "time", clock)
        monkeypatch.setattr(contents, "time", clock)
        # The times of change cannot be set: they are left out, as on a clock that has not ticked since.
        monkeypatch.setattr(publication, "identity_of", _without_change_time)
        self._site: site.Site | None = None
        self.configure()

    def configure(self, *, replays: bool = True, **overrides: object) -> None:
        """Have another site answer from now on."""
        self.close()
        config = defaults(str(self.root)).with_overrides(**overrides)
        self._site = site.Site(
            config,
            logging.getLogger("test"),
            replays=replays,
            opener=self._opener,
            hidden=Nothing(),
        )

    def put(self, name: str, content: bytes, at_ns: int = LONG_AGO_NS) -> Path:
        """Write a file that was modified at ``at_ns``, in a directory that was long ago."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(at_ns, at_ns))
        os.utime(path.parent, ns=(LONG_AGO_NS, LONG_AGO_NS))
        return path

    def ask(self, target: str, at_ns: int, **fields: str) -> Asked:
        """The answer to GET at ``at_ns``."""
        assert self._site is not None
        self.now_ns = at_ns
        names = {name.replace("_", "-"): value for name, value in fields.items()}
        response, published, _ = self._site.respond(
            Request("GET", target, "HTTP/1.1", {"host": "x", **names}, 0)
        )
        assert response.status == 200
        if response.file is not None:
            response.file.close()
        return Asked(response, published, dict(response.fields)["ETag"])

    def close(self) -> None:
        if self._site is not None:
            self._site.close()


def _without_change_time(info: os.stat_result) -> Identity:
    return Identity(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, 0)


@pytest.fixture
def desk(side: backend.Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    root = tmp_path / "root"
    root.mkdir()
    made = Desk(root, side.opener, monkeypatch)
    yield made
    made.close()


# Publications


def test_answer_is_published_once_its_file_is_settled(desk: Desk) -> None:
    desk.put("page.png", b"picture", START_NS - 1)  # in the second before, so that it is not held back
    assert not desk.ask("/page.png", START_NS).is_published
    assert not desk.ask("/page.png", START_NS - 1 + SETTLED_NS).is_published
    assert desk.ask("/page.png", START_NS + SETTLED_NS).is_published


def test_answer_is_published_once_the_second_of_its_file_is_over(desk: Desk) -> None:
    desk.put("page.png", b"picture", START_NS)
    assert not desk.ask("/page.png", START_NS + SECOND_NS - 1).is_published
    assert desk.ask("/page.png", START_NS + SECOND_NS).is_published


def second_name(desk: Desk) -> str:
    desk.configure(directory_index=("index.htm", "index.html"))
    desk.put("d/index.html", b"page")
    return "/d/"


def clean_url(desk: Desk) -> str:
    desk.configure(clean_urls=True)
    desk.put("d/page.html", b"page")
    return "/d/page"


def no_sidecar(desk: Desk) -> str:
    desk.put("d/page.html", b"page")
    return "/d/page.html"


@pytest.mark.parametrize("prepare", [second_name, clean_url, no_sidecar])
def test_answer_that_names_decided_is_published_once_the_directory_is_settled(
    desk: Desk, prepare: Callable[[Desk], str]
) -> None:
    target = prepare(desk)
    changed_ns = START_NS + 1
    os.utime(desk.root / "d", ns=(changed_ns, changed_ns))
    assert not desk.ask(target, changed_ns + SETTLED_NS, accept_encoding="gzip").is_published
    published = desk.ask(target, changed_ns + SETTLED_NS + 1, accept_encoding="gzip").publication
    assert published is not None
    assert str(desk.root / "d") in [path for path, _ in published.depends]


def test_sidecar_that_is_not_settled_is_not_published(desk: Desk) -> None:
    desk.put("page.html", b"page")
    desk.put("page.html.gz", b"packed", START_NS - 1)
    assert not desk.ask("/page.html", START_NS, accept_encoding="gzip").is_published
    found = desk.ask("/page.html", START_NS + SETTLED_NS, accept_encoding="gzip")
    assert (found.field("Content-Encoding"), found.is_published) == ("gzip", True)


def test_sidecar_of_a_file_that_is_not_settled_is_not_published(desk: Desk) -> None:
    desk.put("page.html", b"page", START_NS - 1)
    desk.put("page.html.gz", b"packed")
    os.utime(desk.root / "page.html.gz", ns=(START_NS - SECOND_NS, START_NS - SECOND_NS))
    assert not desk.ask("/page.html", START_NS, accept_encoding="gzip").is_published
    found = desk.ask("/page.html", START_NS + SETTLED_NS, accept_encoding="gzip")
    assert (found.field("Content-Encoding"), found.is_published) == ("gzip", True)


def test_fallback_is_not_published(desk: Desk) -> None:
    desk.configure(fallback="/page.png")
    desk.put("page.png", b"picture")
    assert desk.ask("/page.png", START_NS).is_published
    for target in ("/nowhere", "/d/nowhere.png", "/d/"):
        assert not desk.ask(target, START_NS).is_published


def test_index_behind_a_dangling_link_is_not_published(desk: Desk) -> None:
    target = second_name(desk)
    assert desk.ask(target, START_NS).is_published
    (desk.root / "d" / "index.htm").symlink_to("../elsewhere/index.htm")
    os.utime(desk.root / "d", ns=(LONG_AGO_NS, LONG_AGO_NS))
    assert not desk.ask(target, START_NS).is_published


def test_spelling_that_is_not_canonical_is_not_published(desk: Desk) -> None:
    desk.put("page.png", b"picture")
    for target in ("/%70age.png", "/./page.png", "/d/../page.png"):
        assert not desk.ask(target, START_NS).is_published
    assert desk.ask("/page.png", START_NS).is_published


# What a site remembers of a file with one form


def test_date_that_was_held_back_is_not_remembered_as_missing(desk: Desk) -> None:
    desk.configure(replays=False)
    desk.put("page.png", b"picture", START_NS)
    held_back = desk.ask("/page.png", START_NS + SETTLED_NS + 1)
    assert held_back.field("Last-Modified") is None
    later = desk.ask("/page.png", START_NS + SECOND_NS)
    assert later.field("Last-Modified") == format_http_date(SECOND)


def test_tag_of_a_file_that_is_not_settled_is_not_remembered(desk: Desk) -> None:
    desk.configure(replays=False)
    before_ns = START_NS - 1
    desk.put("page.png", b"first..", before_ns)
    first = desk.ask("/page.png", before_ns + SETTLED_NS)
    # Within the same tick: nothing tells the two states apart but that the first was young when it was read.
    desk.put("page.png", b"second.", before_ns)
    second = desk.ask("/page.png", before_ns + SETTLED_NS)
    assert (first.etag, second.etag) == (contents.entity_tag(b"first.."), contents.entity_tag(b"second."))


def test_what_is_known_of_a_settled_file_is_found_out_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.configure(replays=False)
    desk.put("page.png", b"picture")
    asked = desk.ask("/page.png", START_NS)
    monkeypatch.setattr(site.Site, "_find_out", None)
    assert desk.ask("/page.png", START_NS).response.fields == asked.response.fields


def test_field_that_no_head_takes_is_not_published(side: backend.Backend) -> None:
    class Refused:
        has = staticmethod(lambda *_: False)

        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} was asked for")

    bad = (("X", "a\r\nb"),)
    one = Publication("/a", -1, None, (), bad, '"a"', "", b"", None, -1, True, True)
    assert publication.publish(one, Refused(), side.parser, Refused()) is False  # type: ignore[arg-type]


def test_directory_that_is_gone_since_it_was_looked_at_is_nothing_to_rely_on(desk: Desk) -> None:
    desk.configure(directory_index=("first.html", "index.html"))
    desk.put("d/index.html", b"index")
    assert desk.ask("/d/", START_NS).is_published
    original = os.stat

    def gone(path: object, **options: object) -> os.stat_result:
        if str(path).rstrip("/").endswith("/d"):
            raise FileNotFoundError(path)
        return original(path, **options)  # type: ignore[call-overload, no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publication.os, "stat", gone)
        assert not desk.ask("/d/", START_NS).is_published
