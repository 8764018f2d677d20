"""The page of ``--https`` in headless Chromium: it asks once, and knows the certificate after a restart."""

from __future__ import annotations

import signal
from pathlib import Path

import browser
import pytest
from launch import running
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing()),
]


def ask_for(driver: webdriver.Chrome, url: str) -> bool:
    """Open ``url`` and return whether the browser asks whether the server is to be trusted."""
    try:
        driver.get(url)
    except WebDriverException as error:
        if "ERR_CERT" not in str(error):
            raise
        return True
    return bool(driver.find_elements(By.ID, "details-button"))


@pytest.mark.parametrize("chosen", ["compiled", "pure"])
def test_a_browser_asks_once_and_no_more_after_a_restart(
    driver: webdriver.Chrome, tmp_path: Path, chosen: str
) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text(
        "<title>page</title><link rel=stylesheet href=a.css><p>here</p>"
    )
    (tmp_path / "www" / "a.css").write_text("p { color: rgb(1, 2, 3) }")
    (tmp_path / "www" / "favicon.ico").write_bytes(b"")
    with running(tmp_path, "--https", "www", side=chosen) as server:
        url = f"https://localhost:{server.port}/"
        assert ask_for(driver, url)
        driver.find_element(By.ID, "details-button").click()
        driver.find_element(By.ID, "proceed-link").click()
        browser.wait_for(driver, "document.title === 'page'")
        color = "getComputedStyle(document.querySelector('p')).color"
        browser.wait_for(driver, f"{color} === 'rgb(1, 2, 3)'")
        assert (
            driver.execute_script("return performance.getEntriesByType('navigation')[0].nextHopProtocol")
            == "http/1.1"
        )
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    with running(tmp_path, "--https", "www", side=chosen) as server:
        assert not ask_for(driver, f"https://localhost:{server.port}/")
        assert driver.title == "page"
        assert driver.execute_script("return isSecureContext")
