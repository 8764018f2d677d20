"""Directory listings as clients see them."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urljoin

import browser
import pytest
from rawhttp import Client, get, put, wait_until
from selenium import webdriver
from selenium.webdriver.common.by import By

from fastws import Server
from fastws.files import directory as listing
from fastws.files.root import OpenFile, Root, error_from_errno
from fastws.http.messages import Request
from fastws.pages import listing as pages

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


@pytest.mark.posix  # a name with a colon
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


def test_names_beyond_the_limit_are_counted_and_the_first_are_shown(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, {f"many/file{n}.txt": b"x" for n in range(12)} | {"many/zoo/x": b"x"})
    monkeypatch.setattr(listing, "LISTED_MAX", 4)
    server = serve("DirectoryListing on")
    page = get(server, "/many/").body
    assert names(page) == ["zoo/", "file0.txt", "file1.txt", "file2.txt"]
    assert b"9 more are not listed." in page
    listed = json.loads(get(server, "/many/", "Accept: application/json").body)
    assert [entry["name"] for entry in listed["entries"]] == ["zoo", "file0.txt", "file1.txt", "file2.txt"]
    assert listed["omitted"] == 9


@pytest.fixture
def many(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is in /many/, in its order; eleven names on pages of three, so that a thread reads and sorts them."""
    put(root, {f"many/file{n}.txt": b"x" * n for n in range(10)} | {"many/zoo/x": b"x"})
    monkeypatch.setattr(listing, "PAGE_NAMES", 3)
    monkeypatch.setattr(pages, "PAGE_NAMES", 3)
    return ["zoo/", *(f"file{n}.txt" for n in range(10))]


def follow(client: Client, target: str) -> list[str]:
    """The names on all pages from ``target`` on, each found through the link of the one before it."""
    seen, query = [], target
    while True:
        page = client.get(f"/many/{query}").body
        body = page.decode().split("<tbody>")[1].split("</tbody>")[0]
        hrefs = [unquote(unescape(href)) for href in re.findall(r'href="([^"]*)"', body)]
        seen += [href for href in hrefs if href != "../"]
        following = re.search(r'<a href="([^"]*)"[^>]*>Next</a>', page.decode())
        if following is None:
            return seen
        query = unescape(following[1])


def test_many_names_are_sorted_before_they_are_cut_into_pages(serve: Serve, many: list[str]) -> None:
    with Client(serve("DirectoryListing on")) as client:
        assert follow(client, "") == many
        assert follow(client, "?sort=name&order=desc") == ["zoo/", *many[:0:-1]]
        assert follow(client, "?sort=size&order=asc") == many
        assert follow(client, "?sort=size&order=desc") == ["zoo/", *many[:0:-1]]
        assert b"Names 4 to 6 of 11." in client.get("/many/?page=2").body
        assert b"Names 10 to 11 of 11." in client.get("/many/?page=99").body
        query, seen = "", []
        while query is not None:
            listed = json.loads(client.get(f"/many/{query}", "Accept: application/json").body)
            seen += [entry["href"] for entry in listed["entries"]]
            query = listed["next"]
        assert seen == many


def test_many_names_are_read_anew_when_their_directory_changes(
    serve: Serve, root: Path, many: list[str]
) -> None:
    with Client(serve("DirectoryListing on")) as client:
        for number in range(5):
            (root / f"many/a{number}.txt").touch()
            assert f"a{number}.txt" in follow(client, "")
            (root / f"many/a{number}.txt").unlink()
            assert f"a{number}.txt" not in follow(client, "")


def test_a_remembered_page_shows_each_file_as_it_is(serve: Serve, root: Path, many: list[str]) -> None:
    with Client(serve("DirectoryListing on")) as client:
        assert follow(client, "") == many
        for size in (7, 8, 9):
            (root / "many/file0.txt").write_bytes(b"x" * size)  # which does not change the directory
            listed = json.loads(client.get("/many/", "Accept: application/json").body)
            assert {entry["name"]: entry["size"] for entry in listed["entries"]}["file0.txt"] == size
        (root / "many/file0.txt").rename(root / "many/.file0.txt")
        assert follow(client, "") == [name for name in many if name != "file0.txt"]


def test_remembered_names_are_not_read_again(
    serve: Serve, root: Path, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    read = listing._read_names
    monkeypatch.setattr(listing, "_read_names", lambda *given: calls.append(given) or read(*given))
    os.utime(root / "many", (1000, 1000))
    with Client(serve("DirectoryListing on")) as client:
        wait_until(lambda: not recent(root / "many"))
        follow(client, "")
        known = len(calls)
        assert known == 2  # as far as a page, then all of it in the background
        for query in ("", "?sort=size", "?sort=time&order=desc"):
            assert len(follow(client, query)) == len(many)
        assert len(calls) == known


def recent(path: Path) -> bool:
    return time.time_ns() - path.stat().st_ctime_ns < 50_000_000


def test_a_directory_that_never_rests_is_shown_all_the_same(
    serve: Serve, root: Path, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "is_settled", lambda *_: False)
    with Client(serve("DirectoryListing on")) as client:
        assert follow(client, "") == many
        assert follow(client, "?sort=size&order=desc") == ["zoo/", *many[:0:-1]]


def test_directory_that_cannot_be_read_in_the_background_is_its_error(
    serve: Serve, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = listing._read_names

    def fail(root: Root, relative: str, directory: OpenFile, most: int | None = None) -> object:
        if most is None:
            raise error_from_errno(OSError(errno.EIO, "Input/output error"), "scandir")
        return read(root, relative, directory, most)

    monkeypatch.setattr(listing, "_read_names", fail)
    assert get(serve("DirectoryListing on"), "/many/").status == 500


def test_others_are_answered_while_names_are_read(
    serve: Serve, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    learn = listing.Directories._learn_names
    monkeypatch.setattr(
        listing.Directories, "_learn_names", lambda *given: (gate.wait(20), learn(*given))[-1]
    )
    server = serve("DirectoryListing on", "WorkerThreads 1")
    with Client(server) as waiting, Client(server) as other:
        waiting.send(b"GET /many/ HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: server._queues.pending == 1)
        assert other.get("/files/b.txt").body == b"bb"
        assert other.get("/files/sub/").status == 200
        gate.set()
        assert waiting.reply().status == 200


def test_readers_of_one_page_share_its_bytes() -> None:
    made = pages.Listings()
    found = listing.Listing([listing.Entry("a", False, 1, 1)], listing.View(), 1, 1)
    request = Request("GET", "/", "HTTP/1.1", {}, 0)
    same = listing.Listing([listing.Entry("a", False, 1, 1)], listing.View(), 1, 1)
    assert made.render(request, "/", found)[1] is made.render(request, "/", same)[1]
    changed = listing.Listing([listing.Entry("a", False, 2, 1)], listing.View(), 1, 1)
    assert made.render(request, "/", changed)[1] is not made.render(request, "/", found)[1]


def test_sorted_listings_ask_not_to_be_indexed(serve: Serve, root: Path) -> None:
    server = serve("DirectoryListing on")
    for query in ("", "?", "?page=1", "?sort=name&order=asc"):
        assert get(server, f"/files/{query}").all("X-Robots-Tag") == []
    for query in ("?sort=size", "?order=desc", "?sort=time&order=asc"):
        assert get(server, f"/files/{query}")["X-Robots-Tag"] == "noindex, nofollow"


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("wget") is None, reason="not installed: wget")
def test_wget_fetches_each_page_and_file_once_and_nothing_sorted(
    serve: Serve, root: Path, tmp_path: Path, many: list[str]
) -> None:
    log = tmp_path / "access.txt"
    server = serve("DirectoryListing on", access_log=str(log))
    command = ["wget", "-q", "-r", "-l", "9", "-np", "-P", str(tmp_path / "copy"), f"{server.url}many/"]
    subprocess.run(command, timeout=60)  # 8: /robots.txt is 404
    server.stop(0)
    asked = re.findall(r'"GET (\S+) ', log.read_text())
    assert not [target for target in asked if "sort" in target]
    assert {f"/many/file{n}.txt" for n in range(10)} | {"/many/zoo/x"} <= set(asked)
    assert len(asked) == len(set(asked))


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


@pytest.mark.browser
def test_listing_works_in_chromium(serve: Serve, root: Path, driver: webdriver.Chrome) -> None:
    server = serve("DirectoryListing on")
    browser.resize(driver, 360, 640, mobile=True)
    browser.open_page(driver, f"{server.url}files/")
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    driver.find_element(By.CSS_SELECTOR, "button[value=size]").click()
    browser.wait_for(driver, "location.href.endsWith('/files/?order=asc&sort=size')")
    driver.find_element(By.LINK_TEXT, "sub/").click()
    driver.find_element(By.LINK_TEXT, "deep.txt").click()
    assert "deep" in driver.page_source
    own = [seen for seen in browser.network_log(driver) if "/files/" in seen[0]]
    assert len(own) == 4
    assert {outcome for _, outcome in own} == {"200"}
