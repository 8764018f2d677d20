"""What answers a path: the same to the site, which has a request at hand, and to filling, which has none."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from rawhttp import put

from fastws import backend, load
from fastws.files.root import Nothing
from fastws.http.urlpath import PLAIN
from fastws.seam import Filled
from fastws.site import site
from fastws.site.filling import Filling
from fastws.site.places import Places
from fastws.site.rules import Answerer, Rules

LINES = (
    "StatusPath /-/",
    "Redirect /old/* /new/*",
    "Redirect /.moved /new/",
    "BasicAuth /private/* users",
    "BasicAuth *.key users",
)
ANSWERERS = {
    "/-/": Answerer.STATUS,
    "/-/healthz": Answerer.STATUS,
    "/-/none": Answerer.STATUS,
    "/old/x": Answerer.MOVED,
    "/.moved": Answerer.MOVED,
    "/.git/x": Answerer.HIDDEN,
    "/private/.git": Answerer.HIDDEN,
    "/private/": Answerer.GUARDED,
    "/private/x": Answerer.GUARDED,
    "/a.key": Answerer.GUARDED,
    "/a.key.gz": Answerer.GUARDED,
    "/a.key.old": Answerer.FILE,
    "/private": Answerer.FILE,
    "/.well-known/x": Answerer.FILE,
    "/": Answerer.FILE,
    "/none": Answerer.FILE,
}


@pytest.fixture
def places(side: backend.Backend, tmp_path: Path) -> Places:
    put(tmp_path / "root", {"a.key": b"key"})
    (tmp_path / "users").touch()
    text = ["ListenPort 8080", "DocumentRoot root", *LINES]
    (tmp_path / "ws.conf").write_text("\n".join(text) + "\n")
    config = load(str(tmp_path / "ws.conf"))
    logger = logging.getLogger("test")
    return Places(config, logger, opener=side.opener, replays=True, hidden=Nothing())


@pytest.fixture
def rules(places: Places, tmp_path: Path) -> Rules:
    return Rules(load(str(tmp_path / "ws.conf")), places, logging.getLogger("test"))


@pytest.mark.parametrize("path", ANSWERERS)
def test_each_path_has_one_answerer(rules: Rules, path: str) -> None:
    assert rules.answerer(path) is ANSWERERS[path]


@pytest.mark.parametrize("path", [path for path, found in ANSWERERS.items() if found is Answerer.STATUS])
def test_where_no_status_page_is_shown_something_else_answers(rules: Rules, path: str) -> None:
    assert rules.answerer(path, shows_status=False) is Answerer.FILE


def test_every_answerer_is_known_to_the_site() -> None:
    assert set(site._ANSWERERS) == set(Answerer) - {Answerer.STATUS}


@pytest.mark.parametrize("path", [path for path in ANSWERERS if PLAIN.fullmatch(path)])
def test_only_what_files_answer_is_filled_in(
    side: backend.Backend, rules: Rules, places: Places, path: str
) -> None:
    filled = Filling(rules, places, logging.getLogger("test"))(side.parser, side.reactor(), path, 0)
    may_be_missing = ANSWERERS[path] is Answerer.FILE and not path.endswith("/")
    assert (filled is Filled.UNDECIDED) == (not may_be_missing)


@pytest.mark.parametrize("answerer", [each for each in Answerer if each is not Answerer.FILE])
def test_an_answerer_that_filling_has_not_heard_of_is_declined(
    side: backend.Backend,
    rules: Rules,
    places: Places,
    answerer: Answerer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "answerer", lambda path, **_: answerer)
    filling = Filling(rules, places, logging.getLogger("test"))
    assert filling(side.parser, side.reactor(), "/none", 0) is Filled.UNDECIDED


def test_server_field_may_be_left_out(places: Places, tmp_path: Path) -> None:
    config = load(str(tmp_path / "ws.conf"))
    logger = logging.getLogger("test")
    assert Rules(config, places, logger).common == (("Server", "fastws"),)
    assert Rules(config.with_overrides(server_header="off"), places, logger).common == ()
