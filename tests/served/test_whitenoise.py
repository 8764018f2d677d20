"""The example of whitenoise, and what docs/applications.md puts in its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launch import REPOSITORY
from rawhttp import Client, put

from fastws import Server

whitenoise = pytest.importorskip("whitenoise")

Serve = Callable[..., Server]


def my_application(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"the application: " + environ["PATH_INFO"].encode()]


def lines_in_its_place(tmp_path: Path) -> list[str]:
    """Those of the page, with these directories."""
    page = (REPOSITORY / "docs" / "applications.md").read_text()
    block = re.search(r"In the place of\n\n```python\n(.*?)```.*?```\n(.*?)```", page, re.DOTALL)
    assert block is not None
    assert 'root="/path/to/static/files"' in block[1]
    assert 'add_files("/path/to/more/static/files", prefix="more-files/")' in block[1]
    text = block[2].replace("/path/to/more/static/files", str(tmp_path / "more"))
    lines = [line for line in text.splitlines() if not line.startswith(("Application", "DocumentRoot"))]
    assert "DocumentRoot /path/to/static/files" in " ".join(text.split())
    return lines


def test_example_of_whitenoise_is_replaced_line_by_line(serve: Serve, tmp_path: Path) -> None:
    root = put(tmp_path / "root", {"style.css": b"p {}", "images/a.png": b"\x89PNG", "b.txt": b"text" * 500})
    more = put(tmp_path / "more", {"more.js": b"let a;"})
    application = whitenoise.WhiteNoise(my_application, root=str(root))
    application.add_files(str(more), prefix="more-files/")
    theirs = serve(applications={"/": application}, root=tmp_path / "empty")
    ours = serve(*lines_in_its_place(tmp_path), applications={"/": my_application}, root=root)
    with Client(theirs) as there, Client(ours) as here:
        for method in ("GET", "HEAD"):
            for target in (
                "/style.css",
                "/images/a.png",
                "/b.txt",
                "/more-files/more.js",
                "/",
                "/page",
                "/images/",
            ):
                expected, found = there.get(target, method=method), here.get(target, method=method)
                assert (found.status, found.body) == (expected.status, expected.body), target
                assert found["Content-Length"] == expected["Content-Length"], target
                assert found["Content-Type"].split(";")[0].replace("application/j", "text/j") == expected[
                    "Content-Type"
                ].split(";")[0].replace("application/j", "text/j")
                assert found.all("Cache-Control") == expected.all("Cache-Control"), target
        last = there.get("/style.css")["Last-Modified"]
        assert here.get("/style.css")["Last-Modified"] == last
        for client in (there, here):
            assert client.get("/style.css", f"If-Modified-Since: {last}").status == 304
            assert client.get("/style.css", "Range: bytes=0-1").body == b"p "
