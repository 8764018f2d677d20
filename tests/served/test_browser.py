"""The demo site in headless Chromium: every page, every link, every form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import browser
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from fastws import Server, load
from fastws.backend import Backend

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing()),
]

ROOT = Path(__file__).resolve().parents[2]
LINKS = """
    const links = [...document.querySelectorAll("a[href]")].map((a) => a.href.split("#")[0]);
    return [...new Set(links)].filter((href) => new URL(href).origin === location.origin);
"""
FETCH = """
    fetch(arguments[0]).then(async (r) => [r.status, r.headers.get("Content-Type"), (await r.blob()).size])
        .then(arguments[1], (error) => arguments[1]([0, String(error), 0]));
"""
UNSEEN = "return [...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.src)"
MISSING = "/no-such-file.html"  # the start page links to it, and the lab asks for it, to show a 404
TESTSITE = ["index", "about", "projects", "post", "contact"]


@pytest.fixture
def site(side: Backend, tmp_path: Path) -> Iterator[str]:
    """The demo as ``ws.conf`` serves it, on each side; afterwards its access log must tell of no failure."""
    access_log = tmp_path / "access.txt"
    config = load(str(ROOT / "ws.conf")).with_overrides(
        listen_ports=(0,), access_log=str(access_log), error_log=str(tmp_path / "error.txt")
    )
    with Server(config, backend=side) as server:
        yield server.url
    answers = re.findall(r'"\w+ (\S+) HTTP/1\.1" (\d+) ', access_log.read_text())
    assert answers
    assert [answer for answer in answers if answer[1] >= "400" and answer[0] != MISSING] == []


@pytest.fixture
def driver(driver: webdriver.Chrome) -> webdriver.Chrome:
    """The browser with a desktop's window, an empty page and empty logs."""
    driver.get("about:blank")
    browser.resize(driver, 1280, 900)
    browser.network_log(driver)
    browser.console_errors(driver)
    return driver


def crawl(driver: webdriver.Chrome, start: str) -> tuple[list[str], dict[str, tuple[int, str, int]]]:
    """Follow every link from ``start``: the pages that were opened, and (status, type, bytes) of each link.

    What is not HTML is fetched by the page that links to it, for a browser saves some of it to disk.
    """
    pages, seen, waiting = [], {}, [start]
    while waiting:
        page = waiting.pop(0)
        pages.append(page)
        browser.open_page(driver, page)
        for link in driver.execute_script(LINKS):
            if link not in seen and not link.endswith(MISSING):
                seen[link] = tuple(driver.execute_async_script(FETCH, link))
                if seen[link][1].startswith("text/html") and link != start:
                    waiting.append(link)
    return pages, seen


def submitted(driver: webdriver.Chrome) -> list[str]:
    """Press the form's button and return the lines of the answer."""
    driver.find_element(By.CSS_SELECTOR, "main form .button").click()
    browser.wait_for(
        driver, "document.querySelector('pre')?.textContent && document.readyState == 'complete'"
    )
    return driver.find_element(By.TAG_NAME, "pre").text.split("\n")


def assert_clean(driver: webdriver.Chrome) -> None:
    """Neither a failed request nor a console error since the logs were emptied."""
    requests = browser.network_log(driver)
    assert requests
    assert [r for r in requests if not r[1].startswith(("2", "3"))] == []
    assert browser.console_errors(driver) == []


def test_every_link_is_answered_without_failed_request_or_console_error(
    driver: webdriver.Chrome, site: str
) -> None:
    pages, links = crawl(driver, site)
    assert [link for link in links.items() if link[1][0] != 200 or not link[1][2]] == []
    assert {f"{site}html/testsite/{name}.html" for name in TESTSITE} <= set(pages)
    assert {f"{site}html/form.html", f"{site}html/upload.html", f"{site}files/"} <= set(pages)
    assert_clean(driver)


def test_every_page_shows_its_pictures_and_fits_any_width(driver: webdriver.Chrome, site: str) -> None:
    pages, _ = crawl(driver, site)
    for page in pages:
        browser.open_page(driver, page)
        assert driver.execute_script(UNSEEN) == [], page
        for width, height in ((390, 844), (320, 640), (1280, 900)):
            browser.resize(driver, width, height, mobile=width < 500)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= width, page
    assert_clean(driver)


def test_navigation_fits_a_phone_in_one_row(driver: webdriver.Chrome, site: str) -> None:
    for page in ("index.html", "html/gallery.html", "html/lab.html", "files/index.html"):
        browser.open_page(driver, site + page)
        for width in (320, 360, 390):
            browser.resize(driver, width, 740, mobile=True)
            seen = driver.execute_script(
                "return [...document.querySelectorAll('.top a')].filter((a) => a.offsetParent)"
                ".map((a) => a.getBoundingClientRect())"
                ".map((box) => [box.left, box.right, box.top + box.height / 2])"
            )
            assert len(seen) == 7, page
            assert max(box[2] for box in seen) - min(box[2] for box in seen) < 4, (page, width)
            assert all(one[1] < other[0] for one, other in pairwise(seen)), (page, width)
            assert seen[-1][1] <= width, (page, width)


def test_start_page_shows_the_404_page_a_listing_and_the_status(driver: webdriver.Chrome, site: str) -> None:
    for card, heading in (
        ("404", "Nobody here but the owl"),
        ("Listing", "root / images"),
        ("Status", "fastws"),
    ):
        browser.open_page(driver, site)
        driver.find_element(By.LINK_TEXT, card).click()
        browser.wait_for(driver, "document.readyState === 'complete'")
        browser.wait_for(driver, "location.pathname !== '/'")
        assert heading in driver.find_element(By.TAG_NAME, "h1").text
    browser.open_page(driver, site + MISSING[1:])
    driver.find_element(By.TAG_NAME, "a").click()
    browser.wait_for(driver, "location.pathname === '/'")


@pytest.mark.parametrize("page", ["index.html", "html/testsite/index.html"])
def test_own_font_is_loaded(driver: webdriver.Chrome, site: str, page: str) -> None:
    browser.open_page(driver, site + page)
    assert "loaded" in driver.execute_script("return [...document.fonts].map((font) => font.status)")


def test_form_comes_back_with_its_fields_as_text(driver: webdriver.Chrome, site: str) -> None:
    browser.open_page(driver, f"{site}html/form.html")
    assert not driver.find_element(By.CLASS_NAME, "answer").is_displayed()
    driver.find_element(By.NAME, "name").send_keys("Ada Löwe")
    driver.find_element(By.NAME, "email").send_keys("ada@example.org")
    for topic in driver.find_elements(By.NAME, "topic")[1:]:
        topic.click()
    driver.find_element(By.NAME, "message").send_keys("<b>bold</b> & more")
    assert submitted(driver) == [
        "name: Ada Löwe",
        "email: ada@example.org",
        "topic: rules",
        "topic: owls",
        "message: <b>bold</b> & more",
    ]
    assert driver.find_elements(By.CSS_SELECTOR, "pre b") == []
    assert driver.find_element(By.CLASS_NAME, "answer").is_displayed()
    assert_clean(driver)


def test_upload_comes_back_with_name_and_size_of_the_file(
    driver: webdriver.Chrome, site: str, tmp_path: Path
) -> None:
    notes = tmp_path / "field notes.txt"
    notes.write_bytes(bytes(range(256)) * 40)
    browser.open_page(driver, f"{site}html/upload.html")
    driver.find_element(By.NAME, "title").send_keys("Notes")
    driver.find_element(By.NAME, "file").send_keys(str(notes))
    assert submitted(driver) == ["title: Notes", "file: field notes.txt (10240 bytes)"]
    assert_clean(driver)


def test_note_to_the_station_comes_back(driver: webdriver.Chrome, site: str) -> None:
    browser.open_page(driver, f"{site}html/testsite/contact.html")
    driver.find_element(By.NAME, "name").send_keys("Ada")
    driver.find_element(By.CSS_SELECTOR, "option[value=fireball]").click()
    driver.find_element(By.NAME, "note").send_keys("Low in the west")
    assert submitted(driver) == ["name: Ada", "seen: fireball", "note: Low in the west"]
    assert_clean(driver)


def test_lab_finds_every_content_type_as_expected(driver: webdriver.Chrome, site: str) -> None:
    browser.open_page(driver, f"{site}html/lab.html")
    browser.wait_for(driver, "document.documentElement.dataset.ready === 'yes'")
    cells = driver.find_elements(By.CSS_SELECTOR, "#types td[data-state]")
    assert len(cells) == len(driver.find_elements(By.CSS_SELECTOR, "#types tbody tr")) > 15
    assert [cell.text for cell in cells if cell.get_attribute("data-state") != "ok"] == []
    assert driver.find_element(By.ID, "wasm").text.endswith("42")
    assert_clean(driver)


def test_lab_gets_the_status_that_each_exchange_asks_for(driver: webdriver.Chrome, site: str) -> None:
    browser.open_page(driver, f"{site}html/lab.html")
    driver.find_element(By.ID, "run").click()
    browser.wait_for(driver, "!document.querySelector('#run').disabled")
    cells = driver.find_elements(By.CSS_SELECTOR, "#exchanges td[data-state]")
    assert [cell.text for cell in cells if cell.get_attribute("data-state") != "ok"] == []
    assert {"200", "206", "304", "404"} == {cell.text for cell in cells}


def test_phone_menu_opens_and_leads_on(driver: webdriver.Chrome, site: str) -> None:
    browser.resize(driver, 390, 844, mobile=True)
    browser.open_page(driver, f"{site}html/testsite/index.html")
    about = driver.find_element(By.CSS_SELECTOR, ".menu a[href='about.html']")
    assert not about.is_displayed()
    driver.find_element(By.CLASS_NAME, "menu-button").click()
    about.click()
    browser.wait_for(driver, "location.pathname.endsWith('/about.html')")
    assert_clean(driver)


def test_film_is_fetched_by_range_and_seeks(driver: webdriver.Chrome, site: str) -> None:
    browser.open_page(driver, f"{site}html/gallery.html")
    driver.execute_script(
        "const v = document.querySelector('video'); v.preload = 'auto'; v.currentTime = 6.5"
    )
    browser.wait_for(driver, "(v => v.readyState >= 2 && !v.seeking)(document.querySelector('video'))")
    assert driver.execute_script("return document.querySelector('video').currentTime") == 6.5
    assert (f"{site}media/fireflies.webm", "206") in browser.network_log(driver)
