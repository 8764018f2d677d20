"""Headless Chromium for tests: Debian's browser and driver through selenium, and what its logs tell."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = "/usr/bin/chromium"
CHROMEDRIVER = "/usr/bin/chromedriver"
WAIT_S = 20

# Chromium talks to its maker in the background unless it is told not to; QUIC and GPU are no use here.
_ARGUMENTS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def missing() -> str:
    """What keeps the browser tests from running, or ''."""
    absent = [path for path in (CHROMIUM, CHROMEDRIVER) if shutil.which(path) is None]
    return f"not installed: {', '.join(absent)} (Debian: chromium, chromium-driver)" if absent else ""


@contextmanager
def chromium(profile: str) -> Iterator[webdriver.Chrome]:
    """A running browser with its profile in the directory ``profile``, which logs network and console."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # the sandbox refuses to start as root
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    try:
        driver.set_page_load_timeout(WAIT_S)
        yield driver
    finally:
        driver.quit()


def resize(driver: webdriver.Chrome, width: int, height: int, *, mobile: bool = False) -> None:
    """Give the page a viewport of ``width`` by ``height`` CSS pixels; ``mobile`` makes it a phone's."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def open_page(driver: webdriver.Chrome, url: str) -> None:
    """Open ``url`` and wait until its pictures and fonts are there."""
    driver.get(url)
    driver.execute_async_script("document.fonts.ready.then(() => arguments[0]())")


def wait_for(driver: webdriver.Chrome, expression: str) -> None:
    """Wait until the JavaScript ``expression`` is true in the page."""
    WebDriverWait(driver, WAIT_S, 0.05).until(lambda d: d.execute_script(f"return {expression}"))


def network_log(driver: webdriver.Chrome) -> list[tuple[str, str]]:
    """(URL, outcome) of each request since the last call: a status code, or Chromium's word for a failure.

    A request that the browser itself gave up, such as a film's when the page is left, is not a failure.
    """
    urls: dict[str, str] = {}
    outcomes = []
    for entry in driver.get_log("performance"):
        message: dict[str, Any] = json.loads(entry["message"])["message"]
        method, params = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            urls[params["requestId"]] = params["request"]["url"]
        elif method == "Network.responseReceived":
            outcomes.append((params["response"]["url"], str(params["response"]["status"])))
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            outcomes.append((urls.get(params["requestId"], "?"), params["errorText"]))
    return outcomes


def console_errors(driver: webdriver.Chrome) -> list[str]:
    """Everything severe that the console has shown since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
