"""Directory listings as clients see them."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urljoin

import browser
import pytest
from rawhttp import Client, get, put
from selenium import webdriver
from selenium.webdriver.common.by import By

from fastws import Server
from fastws.files import directory as listing

Serve = Callable[..., Server]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = {
        "files/b.txt": b"bb",
        "files/a file.txt": b"a",
        "files/ä&<.txt": b"umlaut",
        "files/javascript:alert(1).txt": b"?",
        "files/sub/deep.txt": b"deep",
        "files/.secret": b"hidden",
        "indexed/index.html": b"the index",
    }
    return put(tmp_path / "root", files)


def names(page: bytes) -> list[str]:
    """The names that a listing page links to, without the column headings and the way up."""
    body = page.decode().split("<tbody>")[1]
    hrefs = [unescape(href) for href in re.findall(r'href="([^"]*)"', body)]
    return [unquote(href) for href in hrefs if href != "../"]


def test_directory_without_index_is_404_unless_listing_is_on(serve: Serve, root: Path) -> None:
    assert get(serve(), "/files/").status == 404


def test_listing_shows_what_can_be_asked_for(serve: Serve, root: Path) -> None:
    server = serve("DirectoryListing on")
    reply = get(server, "/files/")
    assert reply.status == 200
    assert reply["Content-Type"] == "text/html; charset=utf-8"
    assert reply["Vary"] == "Accept"
    assert reply["Cache-Control"] == "no-cache"
    assert sorted(names(reply.body)) == sorted(
        ["sub/", "a file.txt", "b.txt", "javascript:alert(1).txt", "ä&<.txt"]
    )
    for href in re.findall(r'<td class="file"><a href="([^"]*)"', reply.body.decode()):
        assert get(server, urljoin("/files/", unescape(href))).status == 200


def test_index_goes_before_the_listing(serve: Serve, root: Path) -> None:
    assert get(serve("DirectoryListing on"), "/indexed/").body == b"the index"


def test_listing_is_never_replayed(serve: Serve, root: Path) -> None:
    with Client(serve("DirectoryListing on")) as client:
        for number in range(3):
            assert f"new{number}" not in names(client.get("/files/").body)
            (root / f"files/new{number}").touch()
            assert f"new{number}" in names(client.get("/files/").body)
            assert client.get("/files/", "Accept: application/json").body.startswith(b"{")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a file.txt", "b.txt"]),
        ("?sort=size&order=asc", ["a file.txt", "b.txt"]),
        ("?sort=size&order=desc", ["b.txt", "a file.txt"]),
        ("?order=desc&sort=name", ["b.txt", "a file.txt"]),
        ("?sort=time", ["b.txt", "a file.txt"]),
        ("?sort=%3Cscript%3E&order=%00", ["a file.txt", "b.txt"]),
    ],
)
def test_query_sorts(serve: Serve, root: Path, query: str, expected: list[str]) -> None:
    os.utime(root / "files/b.txt", (1000, 1000))
    page = get(serve("DirectoryListing on"), f"/files/{query}").body
    assert [name for name in names(page) if name in expected] == expected
    assert b"script>" not in page


def test_json_is_for_who_asks_for_it(serve: Serve, root: Path) -> None:
    server = serve("DirectoryListing on")
    reply = get(server, "/files/", "Accept: application/json")
    assert reply["Content-Type"] == "application/json"
    assert reply["Vary"] == "Accept"
    listed = json.loads(reply.body)
    assert (listed["path"], listed["omitted"]) == ("/files/", 0)
    assert {entry["name"]: entry["size"] for entry in listed["entries"]} == {
        "sub": None,
        "a file.txt": 1,
        "b.txt": 2,
        "ä&<.txt": 6,
        "javascript:alert(1).txt": 1,
    }
    assert get(server, "/files/", "Accept: text/html, */*")["Content-Type"].startswith("text/html")


def test_head_of_a_listing_has_the_same_fields(serve: Serve, root: Path) -> None:
    server = serve("DirectoryListing on")
    for accept in ("text/html", "application/json"):
        page = get(server, "/files/", f"Accept: {accept}")
        assert get(server, "/files/", f"Accept: {accept}", method="HEAD").without() == page.without()


def test_post_to_a_listing_is_405(serve: Serve, root: Path) -> None:
    reply = get(serve("DirectoryListing on"), "/files/", method="POST", body=b"a=b")
    assert (reply.status, reply["Allow"]) == (405, "GET, HEAD")


def test_what_leads_out_or_nowhere_is_not_shown(serve: Serve, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_bytes(b"outside")
    links = {
        "out": tmp_path / "outside.txt",
        "nowhere": Path("missing"),
        "in": root / "files/b.txt",
        "up": root,
    }
    for name, destination in links.items():
        (root / "files" / name).symlink_to(destination)
    os.mkfifo(root / "files/pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "files/socket"))
    listener.close()
    shown = names(get(serve("DirectoryListing on"), "/files/").body)
    assert {"in", "up/"} <= set(shown)
    assert not {"out", "nowhere", "pipe", "socket"} & {name.rstrip("/") for name in shown}


def test_the_servers_own_files_are_not_shown(serve: Serve, tmp_path: Path) -> None:
    put(tmp_path, {"plain.txt": b"x"})
    server = serve("DirectoryListing on", root=tmp_path, access_log=str(tmp_path / "access.txt"))
    shown = names(get(server, "/").body)
    assert "plain.txt" in shown
    assert not {"ws.conf", "access.txt", "log_webserver_error.txt"} & set(shown)


def test_names_beyond_the_limit_are_counted_and_not_shown(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, {f"many/file{n}.txt": b"x" for n in range(12)} | {"many/zoo/x": b"x"})
    monkeypatch.setattr(listing, "LISTED_MAX", 4)
    server = serve("DirectoryListing on")
    page = get(server, "/many/").body
    assert names(page) == ["zoo/", "file0.txt", "file1.txt", "file2.txt"]
    assert b"The first 4 of 13 names." in page
    listed = json.loads(get(server, "/many/", "Accept: application/json").body)
    assert [entry["name"] for entry in listed["entries"]] == ["zoo", "file0.txt", "file1.txt", "file2.txt"]
    assert listed["omitted"] == 9


def test_missing_directory_is_404_and_a_file_with_a_slash_too(serve: Serve, root: Path) -> None:
    server = serve("DirectoryListing on")
    assert get(server, "/missing/").status == 404
    assert get(server, "/files/b.txt/").status == 404
    assert get(server, "/files")["Location"] == "/files/"


def test_root_has_no_way_up_and_a_name_that_is_not_utf8_is_linked(serve: Serve, root: Path) -> None:
    (root / os.fsdecode(b"\xff.txt")).write_bytes(b"not utf-8")
    server = serve("DirectoryListing on")
    page = get(server, "/").body
    assert b'href="../"' not in page
    assert b'href="%FF.txt"' in page
    assert get(server, "/%FF.txt").body == b"not utf-8"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if browser.missing():
        pytest.skip(browser.missing())
    with browser.chromium(str(tmp_path_factory.mktemp("profile"))) as running:
        yield running


@pytest.mark.browser
def test_listing_works_in_chromium(serve: Serve, root: Path, driver: webdriver.Chrome) -> None:
    server = serve("DirectoryListing on")
    browser.resize(driver, 360, 640, mobile=True)
    browser.open_page(driver, f"{server.url}files/")
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    driver.find_element(By.LINK_TEXT, "Size").click()
    assert driver.current_url.endswith("/files/?sort=size&order=asc")
    driver.find_element(By.LINK_TEXT, "sub/").click()
    driver.find_element(By.LINK_TEXT, "deep.txt").click()
    assert "deep" in driver.page_source
    own = [seen for seen in browser.network_log(driver) if "/files/" in seen[0]]
    assert len(own) == 4
    assert {outcome for _, outcome in own} == {"200"}
