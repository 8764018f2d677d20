"""Applications in headless Chromium: Django with its admin, sessions, uploads, static and media files, and what is
seen of applications on the status page.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import browser
import django_site
import pytest
from launch import running
from rawhttp import Client, get, wait_until
from selenium import webdriver
from selenium.webdriver.common.by import By

from fastws import Server
from fastws.backend import Backend

pytestmark = [
    pytest.mark.browser,
    pytest.mark.posix,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing()),
]

ICON = "favicon.ico"  # which a browser asks for, and the example has not
PICTURE = Path(__file__).resolve().parents[2] / "webroot" / "images" / "png"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("django")
    return django_site.prepare(tmp_path_factory.mktemp("django") / "site")


WAYS = {
    "compiled": ("compiled", "http", ()),
    "compiled-tls": ("compiled", "https", ()),
    "pure": ("pure", "http", ()),
    "pure-tls": ("pure", "https", ()),
    "threads": ("compiled", "http", ("--processes", "0")),
}


@pytest.fixture(params=WAYS)
def site(
    request: pytest.FixtureRequest, prepared: Path, tmp_path: Path, driver: webdriver.Chrome
) -> Iterator[str]:
    """The example as its ``ws.conf`` serves it; afterwards neither log nor browser may know of a failure."""
    side, scheme, arguments = WAYS[request.param]
    place = tmp_path / "site"
    shutil.copytree(prepared, place)
    logs = ("--access-log", str(place / "access.txt"), "--error-log", str(place / "errors.txt"))
    secured = ("--https",) if scheme == "https" else ()
    with running(place, *arguments, *secured, *logs, side=side) as server:
        assert server.port, server.output()
        url = f"{scheme}://localhost:{server.port}/"
        driver.delete_all_cookies()
        driver.get(url + "visits/")
        if secured:
            driver.find_element(By.ID, "details-button").click()
            driver.find_element(By.ID, "proceed-link").click()
        browser.wait_for(driver, "document.body.textContent === 'visit 1'")
        browser.network_log(driver)
        browser.console_errors(driver)
        yield url
        failed = [each for each in browser.network_log(driver) if each[1] not in ("200", "302", "304")]
        assert [each for each in failed if not each[0].endswith(ICON)] == []
        assert [each for each in browser.console_errors(driver) if ICON not in each] == []
        assert "Traceback" not in (place / "errors.txt").read_text()


def type_in(driver: webdriver.Chrome, **fields: str) -> None:
    for name, text in fields.items():
        driver.find_element(By.NAME, name).send_keys(text)


def click(driver: webdriver.Chrome, selector: str) -> None:
    """Click, and wait for the page that comes of it."""
    driver.execute_script("window.isOld = true")
    driver.find_element(By.CSS_SELECTOR, selector).click()
    browser.wait_for(driver, "!window.isOld && document.readyState === 'complete'")


def test_django_with_admin_sessions_uploads_static_and_media(driver: webdriver.Chrome, site: str) -> None:
    # Sessions: a cookie that is kept.
    for number in (2, 3):
        browser.open_page(driver, f"{site}visits/")
        assert driver.find_element(By.TAG_NAME, "body").text == f"visit {number}"
    # The admin: redirects, a form with a token, static files, and a message after the next redirect.
    browser.open_page(driver, f"{site}admin/")
    assert driver.current_url.startswith(f"{site}admin/login/")
    type_in(driver, username=django_site.USER, password=django_site.PASSWORD)
    click(driver, "[type=submit]")
    assert driver.current_url == f"{site}admin/"
    assert driver.find_element(By.CSS_SELECTOR, "#content h1").text == "Site administration"
    style = "getComputedStyle(document.querySelector('#header')).display"
    assert driver.execute_script(f"return {style}") == "flex"  # by the style sheet alone
    browser.open_page(driver, f"{site}admin/auth/group/add/")
    type_in(driver, name="Änderungen & mehr")
    click(driver, "[name=_save]")
    assert "was added successfully" in driver.find_element(By.CSS_SELECTOR, ".messagelist").text
    assert driver.find_element(By.CSS_SELECTOR, "#result_list tbody th").text == "Änderungen & mehr"
    # Uploads: a picture that is a media file afterwards.
    (picture,) = sorted(PICTURE.glob("*.png"), key=lambda path: path.stat().st_size)[-1:]
    browser.open_page(driver, f"{site}pictures/")
    type_in(driver, picture=str(picture))
    click(driver, "button")
    shown = "[...document.images].map((i) => [i.complete && i.naturalWidth > 0, new URL(i.src).pathname])"
    browser.wait_for(driver, f"{shown}.length === 1 && {shown}[0][0]")
    assert driver.execute_script(f"return {shown}") == [[True, f"/media/{picture.name}"]]


def test_status_page_shows_what_applications_do(
    driver: webdriver.Chrome, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(
        "StatusPath /-/",
        "Application /app wsgi_programs:probe",
        "ApplicationProcesses 1",
        "ApplicationThreads 1",
    )
    assert get(server, "/app/pid").status == 200
    wait_until(lambda: get(server, "/app/kill?9").status == 502)
    with Client(server) as one, Client(server) as other:
        for client in (one, other):
            client.send(f"GET /app/wait?{tmp_path}/go HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        browser.open_page(driver, f"{server.url}-/")
        cells = "[...document.querySelectorAll('#calls td')].map((cell) => cell.textContent)"
        browser.wait_for(driver, f"{cells}.slice(0, 3).join() === '1,1,1'")
        found = driver.execute_script(f"return {cells}")
        assert found[3] == "3"
        assert all(unit in ("µs", "ms", "s") for unit in (cell.split()[-1] for cell in found[4:6]))
        assert found[6] == "1 crashed"
        (tmp_path / "go").touch()
        for client in (one, other):
            client.reply()
    assert driver.execute_script("return document.querySelector('#applications').offsetParent !== null")


def test_status_page_says_nothing_of_applications_where_there_are_none(
    driver: webdriver.Chrome, serve: Callable[..., Server], side: Backend
) -> None:
    server = serve("StatusPath /-/")
    browser.open_page(driver, f"{server.url}-/")
    browser.wait_for(driver, "document.querySelector('#state').textContent === 'is serving'")
    assert driver.execute_script("return document.querySelector('#applications').hidden")
