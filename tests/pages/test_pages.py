from __future__ import annotations

import json
import os
from html.parser import HTMLParser
from http import HTTPStatus
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.files.directory import ORDERS, SORTS, Entry, Listing, View, arrange, natural_key
from fastws.http.vocabulary import reason_phrase
from fastws.pages.listing import human_size, parse_view
from fastws.pages.listing import listing_json as json_of
from fastws.pages.listing import listing_page as page_of
from fastws.pages.message import error_page, redirect_page

VOID = {"meta", "link", "br", "img", "input"}


def sort_entries(entries: list[Entry], sort: str, order: str) -> list[Entry]:
    return arrange(sorted(entries, key=lambda entry: natural_key(entry.name)), sort, order)


def listing_page(path: str, entries: list[Entry], sort: str = "name", order: str = "asc") -> bytes:
    listed = sort_entries(entries, sort, order)
    return page_of(path, Listing(listed, View(sort, order), 1, len(listed)))


def listing_json(path: str, entries: list[Entry]) -> bytes:
    listed = sort_entries(entries, "name", "asc")
    return json_of(path, Listing(listed, View(), 1, len(listed)))


class Page(HTMLParser):
    """Reads a page, insists on well-nested tags, and keeps what the tests look at."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.links: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page.decode("utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.append((dict(attrs)["href"], ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if "a" in self.open:
            href, text = self.links.pop()
            self.links.append((href, text + data))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def entry(name: str, size: int = 0, mtime: int = 0, *, directory: bool = False) -> Entry:
    return Entry(name, directory, size, mtime)


def names_listed(page: bytes) -> list[str]:
    rows = [link for link in Page(page).links if not link[0].startswith(("/", "?"))]
    return [text for _, text in rows]


def test_reason_phrases_are_those_of_the_rfc():
    assert reason_phrase(404) == "Not Found"
    assert reason_phrase(413) == "Content Too Large"  # HTTPStatus had older names before Python 3.13
    assert reason_phrase(299) == ""
    renamed = {413, 414, 416, 422}
    for status in set(HTTPStatus) - renamed:
        assert reason_phrase(status) in (status.phrase, "")


@pytest.mark.parametrize("status", [400, 403, 404, 405, 408, 412, 413, 414, 416, 431, 500, 501, 503])
def test_an_error_page_names_status_phrase_and_detail(status):
    page = Page(error_page(status, "What was wrong."))
    for text in (str(status), reason_phrase(status), "What was wrong."):
        assert text in page.text


def test_an_error_page_leads_home_and_is_centred():
    page = error_page(404, "There is no such file.")
    assert Page(page).links == [("/", "Go to the start page")]
    assert b"text-align:center" in page


def test_an_error_page_escapes_its_detail():
    page = error_page(404, "<script>alert('&\"')</script>")
    assert b"<script" not in page
    assert "<script>alert('&\"')</script>" in Page(page).text


def test_a_redirect_page_links_to_its_location():
    location = "/a/?q=\"><script>'&x=1"
    page = redirect_page(301, location)
    assert b"<script" not in page
    assert Page(page).links == [(location, location)]
    assert "Moved Permanently" in Page(page).text


ALL_PAGES = [
    error_page(500, "x"),
    redirect_page(308, "/x"),
    listing_page("/a/", [entry("b")], "name", "asc"),
    listing_page("/", [], "name", "asc"),
]


@pytest.mark.parametrize("page", ALL_PAGES)
def test_pages_stand_alone_and_fit_phones_and_dark_rooms(page):
    parsed = Page(page)
    assert page.startswith(b"<!DOCTYPE html>")
    assert {"charset": "utf-8"} in parsed.all("meta")
    assert any(meta.get("name") == "viewport" for meta in parsed.all("meta"))
    assert b"prefers-color-scheme:dark" in page
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object"}
    assert b"url(" not in page
    assert b"@import" not in page
    assert parsed.all("html") == [{"lang": "en"}]
    assert len(page) < 5000


def test_directories_come_first_and_numbers_count_as_numbers():
    entries = [entry(name) for name in ("file10", "File2", "file1", "a")] + [entry("z", directory=True)]
    assert names_listed(listing_page("/", entries, "name", "asc")) == [
        "z/",
        "a",
        "file1",
        "File2",
        "file10",
    ]
    assert names_listed(listing_page("/", entries, "name", "desc")) == [
        "z/",
        "file10",
        "File2",
        "file1",
        "a",
    ]


def test_a_listing_is_sorted_by_size_and_time_then_name():
    entries = [entry("a", 5, 30), entry("b", 9, 10), entry("c", 5, 20), entry("d", 1, 4096, directory=True)]

    def sorted_by(sort: str, order: str) -> str:
        return "".join(one.name for one in sort_entries(entries, sort, order))

    assert sorted_by("size", "asc") == "dacb"
    assert sorted_by("size", "desc") == "dbac"
    assert sorted_by("time", "asc") == "dbca"
    assert sorted_by("time", "desc") == "dacb"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (None, View()),
        ("", View()),
        ("sort=size&order=desc&page=7", View("size", "desc", 7)),
        ("page=0", View()),
        ("page=-1&sort=x&order=y", View()),
        ("page=1e9&sort=NAME", View()),
        ("page=9999999999", View()),
        ("page=²", View()),
        ("sort=%22%3E<script>&order='", View()),
    ],
)
def test_what_a_query_cannot_mean_is_the_first(query, expected):
    assert parse_view(query) == expected


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    ("order", "other", "state"), [("asc", "desc", "ascending"), ("desc", "asc", "descending")]
)
def test_the_headings_sort_and_turn_round_without_a_link(sort, order, other, state):
    page = Page(listing_page("/", [entry("a")], sort, order))
    assert [(field["name"], field["value"]) for field in page.all("input")] == [
        ("order", other if column == sort else "asc") for column in SORTS
    ]
    assert [(button["name"], button["value"]) for button in page.all("button")] == [
        ("sort", column) for column in SORTS
    ]
    assert page.all("form") == [{}] * 3  # without an action that a crawler could fetch
    assert not [href for href, _ in page.links if "?" in href]
    assert [heading.get("aria-sort") for heading in page.all("th")] == [
        state if column == sort else None for column in SORTS
    ]


def test_only_the_listing_by_name_is_for_search_engines():
    robots = {"name": "robots", "content": "noindex,nofollow"}
    for sort in SORTS:
        for order in ORDERS:
            page = Page(listing_page("/", [entry("a")], sort, order))
            assert (robots in page.all("meta")) == ((sort, order) != ("name", "asc"))


def test_pages_are_linked_near_and_far():
    listed = [entry("a")]

    def links(view: View, pages: int) -> list[tuple[str, str]]:
        page = Page(page_of("/", Listing(listed, view, pages, pages * 1000)))
        seen = [link for link in page.links if link[0].startswith(("?", "./"))]
        assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]  # above and below
        return seen[: len(seen) // 2]

    assert links(View(), 1) == []
    assert links(View(), 2) == [("./", "1"), ("?page=2", "2"), ("?page=2", "Next")]
    assert [text for _, text in links(View(page=50), 100)] == [
        *("Previous", "1", "48", "49", "50", "51", "52", "100", "Next")
    ]
    assert links(View("size", "desc", 2), 2)[0] == ("?sort=size&order=desc", "Previous")
    sorted_page = Page(page_of("/", Listing(listed, View("size", "desc"), 3, 3000)))
    pages = [tag for tag in sorted_page.all("a") if tag["href"].startswith("?")]
    assert all("nofollow" in tag["rel"].split() for tag in pages)


def test_json_links_to_the_pages_beside_it():
    def neighbours(view: View, pages: int) -> tuple[str | None, str | None]:
        read = json.loads(json_of("/", Listing([entry("a")], view, pages, pages * 1000)))
        assert (read["page"], read["pages"], read["total"]) == (view.page, pages, pages * 1000)
        return read["previous"], read["next"]

    assert neighbours(View(), 1) == (None, None)
    assert neighbours(View(), 3) == (None, "?page=2")
    assert neighbours(View(page=2), 3) == ("./", "?page=3")
    assert neighbours(View("time", "desc", 3), 3) == ("?sort=time&order=desc&page=2", None)


def test_times_say_their_zone():
    assert "Modified (UTC)" in Page(listing_page("/", [entry("a")])).text


def test_sizes_are_humanised_and_exact_and_times_are_machine_readable():
    page = Page(listing_page("/", [entry("a", 1_234_567, 1_700_000_000)], "name", "asc"))
    assert "1.2 MiB" in page.text
    assert {"title": "1,234,567 bytes"} in page.all("td")
    assert page.all("time")[0]["datetime"] == "2023-11-14T22:13:20Z"
    assert "2023-11-14 22:13" in page.text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024 - 1, "10 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1536 * 1024, "1.5 MiB"),
        (100 * 1024**3, "100 GiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_human_sizes(size, text):
    assert human_size(size) == text


def test_the_parent_is_linked_only_where_asked():
    assert ("../", "..") in Page(listing_page("/a/", [], "name", "asc")).links
    assert ("../", "..") not in Page(listing_page("/", [], "name", "asc")).links


def test_every_directory_of_the_path_is_a_link():
    page = Page(listing_page("/a b/<c>/ü/", [], "name", "asc"))
    links = [link for link in page.links if link[0].startswith("/")]
    assert links == [
        ("/", "root"),
        ("/a%20b/", "a b"),
        ("/a%20b/%3Cc%3E/", "<c>"),
        ("/a%20b/%3Cc%3E/%C3%BC/", "ü"),
    ]


def test_no_link_leads_to_another_host():
    page = Page(listing_page("//evil.example/", [entry("/evil"), entry("javascript:x")], "name", "asc"))
    for href, _ in page.links:
        assert not href.startswith("//")
        assert ":" not in href


def test_an_empty_directory_says_so():
    assert "empty" in Page(listing_page("/", [], "name", "asc")).text


def test_directories_and_files_are_counted():
    entries = [entry("a", 1024), entry("b", 1024), entry("c", 4096, directory=True)]
    assert "1 directory · 2 files, 2.0 KiB" in Page(listing_page("/", entries, "name", "asc")).text


NAMES = st.binary(min_size=1, max_size=20).map(
    lambda name: os.fsdecode(name.replace(b"/", b"_").replace(b"\0", b"_"))
)
ENTRIES = st.lists(
    st.builds(Entry, NAMES, st.booleans(), st.integers(0, 2**63 - 1), st.integers(-(2**63), 2**63 - 1)),
    max_size=6,
)


@given(ENTRIES, st.sampled_from(SORTS), st.sampled_from(ORDERS))
def test_links_lead_to_the_very_bytes_of_each_name(entries, sort, order):
    page = Page(listing_page("/d/", entries, sort, order))
    base = "http://host/d/"
    hrefs = [urljoin(base, href) for href, _ in page.links if href != "../" and not href.startswith("/")]
    wanted = [
        b"/d/" + os.fsencode(one.name) + b"/" * one.is_directory for one in sort_entries(entries, sort, order)
    ]
    # "." and ".." never come out of listdir, and a browser resolves them before it asks.
    if not any(one.name in (".", "..") for one in entries):
        assert [unquote_to_bytes(href.removeprefix("http://host")) for href in hrefs] == wanted


@given(ENTRIES)
def test_the_json_listing_has_every_entry(entries):
    listing = json.loads(listing_json("/ü/", entries))
    assert listing["path"] == "/ü/"
    assert len(listing["entries"]) == len(entries)
    for listed, one in zip(listing["entries"], sort_entries(entries, "name", "asc"), strict=True):
        assert unquote_to_bytes(listed["href"]) == os.fsencode(one.name) + b"/" * one.is_directory
        assert listed["type"] == ("directory" if one.is_directory else "file")
        assert listed["size"] == (None if one.is_directory else one.size_bytes)
        assert len(listed["modified"]) == 20


@given(ENTRIES, st.sampled_from(SORTS), st.sampled_from(ORDERS))
def test_sorting_keeps_every_entry_and_puts_directories_first(entries, sort, order):
    listed = sort_entries(entries, sort, order)
    assert sorted(listed) == sorted(entries)
    kinds = [one.is_directory for one in listed]
    assert kinds == sorted(kinds, reverse=True)


def test_a_detail_with_bytes_that_are_no_text_still_makes_a_page():
    assert Page(error_page(404, os.fsdecode(b"/\xff"))).text
