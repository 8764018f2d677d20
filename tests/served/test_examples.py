"""The examples, each started as its page says: plain, Flask, Django."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django_site
import httpx
import launch
import pytest
from rawhttp import TIMEOUT_S

EXAMPLES = launch.REPOSITORY / "examples"

pytestmark = pytest.mark.posix


@contextmanager
def site(directory: Path, *arguments: str, side: str = "compiled") -> Iterator[httpx.Client]:
    """Yield a client of the example that was copied to ``directory``."""
    logs = ("--access-log", str(directory / "access.txt"), "--error-log", str(directory / "errors.txt"))
    with (
        launch.running(directory, *arguments, *logs, side=side) as server,
        httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=TIMEOUT_S) as client,
    ):
        assert server.port, server.output()
        yield client
        assert "Traceback" not in (directory / "errors.txt").read_text()


@pytest.fixture
def copied(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a copy of an example, which may write there."""
    place = tmp_path / "site"
    shutil.copytree(EXAMPLES / request.param, place, ignore=shutil.ignore_patterns("__pycache__"))
    return place


MODES = pytest.mark.parametrize("mode", [(), ("--processes", "1")], ids=["threads", "processes"])


@pytest.mark.parametrize("copied", ["plain"], indirect=True)
@MODES
def test_plain(copied: Path, mode: tuple[str, ...]) -> None:
    with site(copied, *mode) as client:
        assert "Say hello" in client.get("/").text
        assert client.get("/hello/w%C3%B6rld").text == "Hello, wörld!\n"
        assert client.get("/hello/countdown").text.count("data: ") == 4
        assert client.get("/hello.py").status_code == 404


@pytest.mark.parametrize("copied", ["flask"], indirect=True)
@MODES
def test_flask(copied: Path, mode: tuple[str, ...]) -> None:
    pytest.importorskip("flask")
    with site(copied, "guestbook:create_app()", "--static", "/static/=static", *mode) as client:
        assert client.post("/", data={"name": "Änne & Co"}, follow_redirects=True).status_code == 200
        page = client.get("/").text
        assert "Änne &amp; Co" in page
        style = re.search(r'href="([^"]+)"', page)
        assert style is not None
        assert "sans-serif" in client.get(style[1]).text
        assert client.get("/guests.json").json() == ["Änne & Co"]
        assert client.get("/guests/0").text == "Änne & Co"
        assert client.get("/guests/7").status_code == 404
        assert client.put("/").status_code == 405
        assert client.head("/").headers["content-length"] == str(len(page.encode()))
        uploaded = client.post("/upload", files={"file": b"x" * 300_000})
        assert uploaded.text == "300000 bytes"
        assert client.get("/guestbook.py").status_code == 404


@pytest.mark.parametrize("mode", [("--processes", "0"), ("--processes", "2")], ids=["threads", "processes"])
def test_django(tmp_path: Path, mode: tuple[str, ...]) -> None:
    pytest.importorskip("django")
    place = django_site.prepare(tmp_path / "site")
    with site(place, *mode) as client:
        for number in range(1, 4):
            assert client.get("/visits/").text == f"visit {number}"
        assert client.get("/admin/", follow_redirects=True).url.path == "/admin/login/"
        login = client.get("/admin/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', login)
        assert token is not None
        form = {
            "csrfmiddlewaretoken": token[1],
            "username": "anna",
            "password": django_site.PASSWORD,
            "next": "/admin/",
        }
        page = client.post("/admin/login/?next=/admin/", data=form, follow_redirects=True)
        assert page.url.path == "/admin/"
        assert "Site administration" in page.text
        style = re.search(r'href="(/static/admin/[^"]+\.css)"', page.text)
        assert style is not None
        answer = client.get(style[1])
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "max-age=3600")
        assert "margin" in client.get("/static/mysite/style.css").text
        users = client.get("/admin/auth/user/")
        assert "a@example.org" in users.text
        assert client.post("/upload/", files={"file": b"x" * 5_000_000}).text == "5000000 bytes"
        assert client.get("/download/").text == (place / "manage.py").read_text()
        assert client.get("/stream/").text.count("\n") == 1000
        assert client.get("/nowhere/").status_code == 404
        assert client.get("/admin", follow_redirects=True).status_code == 200
        assert client.get("/static/nowhere.css").status_code == 404
