"""Request heads and document trees that every benchmark uses."""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase

MINIMAL_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

BROWSER_FIELDS = (
    ("Host", "127.0.0.1:8080"),
    ("Connection", "keep-alive"),
    ("sec-ch-ua", '"Chromium";v="124", "Google Chrome";v="124", "Not-A.Brand";v="99"'),
    ("sec-ch-ua-mobile", "?0"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/124.0.0.0 Safari/537.36",
    ),
    (
        "Accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
        "application/signed-exchange;v=b3;q=0.7",
    ),
    ("Referer", "http://127.0.0.1:8080/html/testsite/index.html"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de-DE;q=0.8,de;q=0.7"),
    ("Cookie", ""),
)
"""The ten fields of a navigation in Chromium; the cookie is filled so that the head has its typical size."""

BROWSER_REQUEST_BYTES = 703


def _browser_request() -> bytes:
    start = "GET /html/testsite/projects.html HTTP/1.1\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in BROWSER_FIELDS)
    missing = BROWSER_REQUEST_BYTES - len(start) - len(lines) - 2
    cookie = ("session=" + ascii_lowercase * 8)[:missing]
    return (start + lines.replace("Cookie: ", f"Cookie: {cookie}") + "\r\n").encode()


BROWSER_REQUEST = _browser_request()
"""A typical browser request: 10 field lines, 703 bytes."""

SIZES = {
    "/1k.html": 1024,
    "/10k.html": 10 * 1024,
    "/100k.html": 100 * 1024,
    "/1m.html": 1024 * 1024,
}
BIG_PATH, BIG_BYTES = "/100m.html", 100 * 1024 * 1024


def body(size: int) -> bytes:
    """Return the bytes that the floor sends for a body of ``size``, and that the files hold."""
    repeats = size // len(ascii_lowercase) + 1
    return (ascii_lowercase * repeats).encode()[:size]


def write_root(root: Path) -> None:
    """Fill ``root`` with an index and one file of each size."""
    root.mkdir(parents=True)
    for path, size in {"/index.html": 1024, **SIZES, BIG_PATH: BIG_BYTES}.items():
        (root / path[1:]).write_bytes(body(size))


def many_path(number: int) -> str:
    """Return the path of one of the many files, as ``load.lua`` spells it."""
    return f"/many/{number // 1000:03d}/{number:06d}.html"


def many_body(number: int) -> bytes:
    """Return the 1 KiB of one of the many files; no two are alike."""
    return f"{number:06d}".encode() + body(1024 - 6)


def write_many(root: Path, count: int) -> None:
    """Add ``count`` files of 1 KiB to ``root``, a thousand in a directory."""
    for number in range(count):
        path = root / many_path(number)[1:]
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(many_body(number))
