"""The README's feature tables: every cell is looked at, whichever server it praises."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import launch
import others
import pytest
from conftest import PURE_ONLY
from proxied import header
from rawhttp import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = b"<p>" + bytes(range(97, 123)) * 20 + b"</p>\n"
BIG = b"p { color: red }\n" * 1000
SIDECAR = b"/* from the sidecar */"
TIMEOUT_S = 10


class Site(NamedTuple):
    """A served directory; ``server`` is the name of who serves it."""

    port: int
    root: Path
    server: str

    def get(self, path: str = "/page.html", **fields: str) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer to a GET with ``fields`` (underscores stand for hyphens), over a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path, headers={n.replace("_", "-"): v for n, v in fields.items()})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def exchange(self, data: bytes) -> bytes:
        """What comes back for the bytes ``data`` until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as client:
            client.sendall(data)
            return client.makefile("rb").read()


def keeps_connections(site: Site) -> bool:
    answer, _ = site.get()
    return not answer.will_close


def sends_one_range(site: Site) -> bool:
    answer, body = site.get(Range="bytes=3-5")
    return (answer.status, body) == (206, PAGE[3:6])


def sends_several_ranges(site: Site) -> bool:
    answer, body = site.get(Range="bytes=0-2,10-12")
    kind = answer.getheader("Content-Type", "")
    return answer.status == 206 and kind.startswith("multipart/byteranges") and PAGE[10:13] in body


def answers_304_to_an_etag(site: Site) -> bool:
    tag = site.get()[0].getheader("ETag")
    return tag is not None and site.get(If_None_Match=tag)[0].status == 304


def makes_the_etag_of_the_bytes(site: Site) -> bool:
    tags = [site.get(path)[0].getheader("ETag") for path in ("/page.html", "/copy.html")]
    return tags[0] is not None and tags[0] == tags[1]


def shows_every_edit_to_who_revalidates(site: Site) -> bool:
    """Edits of the same length in quick succession, each asked for with the validators of the one before."""
    seen = []
    for number in range(5):
        before, _ = site.get()
        validators = {"If_None_Match": "ETag", "If_Modified_Since": "Last-Modified"}
        known = {field: value for field, name in validators.items() if (value := before.getheader(name))}
        text = b"<p>edit %d</p>" % number
        (site.root / "page.html").write_bytes(text)
        seen.append(site.get(**known)[1] == text)
    return all(seen)


def lists_directories(site: Site) -> bool:
    answer, body = site.get("/")
    return answer.status == 200 and b"page.html" in body


def hides_dotfiles(site: Site) -> bool:
    return site.get("/.secret.html")[0].status == 404


def stays_inside_the_root(site: Site) -> bool:
    return site.get("/outside.html")[0].status in (403, 404)


def forbids_sniffing(site: Site) -> bool:
    return site.get()[0].getheader("X-Content-Type-Options") == "nosniff"


def refuses_two_framings(site: Site) -> bool:
    fields = b"Host: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    answer = site.exchange(b"GET /page.html HTTP/1.1\r\n" + fields + b"\r\n0\r\n\r\n")
    return b" 400 " in answer.split(b"\r\n")[0]


def sends_a_sidecar(site: Site) -> bool:
    answer, body = site.get("/plain.css", Accept_Encoding="gzip")
    return answer.getheader("Content-Encoding") == "gzip" and gzip.decompress(body) == SIDECAR


def compresses(site: Site) -> bool:
    deadline = time.monotonic() + 10
    while True:
        answer, body = site.get("/big.css", Accept_Encoding="gzip")
        if answer.getheader("Content-Encoding") == "gzip":
            return gzip.decompress(body) == BIG
        # fastws compresses in the background and sends the plain file until that is done.
        if site.server != "fastws" or time.monotonic() > deadline:
            return False
        time.sleep(0.01)


def falls_back(site: Site) -> bool:
    answer, body = site.get("/a/page/of/the/application")
    return (answer.status, body) == (200, b"<p>application</p>")


def has_clean_urls(site: Site) -> bool:
    answer, body = site.get("/page")
    return (answer.status, body) == (200, PAGE)


def asks_for_a_password(site: Site) -> bool:
    right, wrong = (f"Basic {b64encode(b'anna:' + word).decode()}" for word in (b"s3cret", b"guess"))
    statuses = [site.get("/private/page.html", **fields)[0].status for fields in (
        {}, {"Authorization": wrong}, {"Authorization": right},
    )]  # fmt: skip
    return statuses == [401, 401, 200]


def lists_on_request(site: Site) -> bool:
    answer, body = site.get("/list/")
    return answer.status == 200 and b"one.txt" in body


def lists_as_json(site: Site) -> bool:
    answer, body = site.get("/data/", Accept="application/json")
    if answer.status != 200 or "json" not in answer.getheader("Content-Type", ""):
        return False
    return "one.txt" in json.dumps(json.loads(body))


def has_metrics(site: Site) -> bool:
    answer, body = site.get("/-/metrics")
    return answer.status == 200 and b"# TYPE " in body


def speaks_https(site: Site) -> bool:
    own = site.root.parent / "own"
    context = ssl.create_default_context(cafile=str(own / "ca.pem"))
    port = others.secure_port(own)
    connection = http.client.HTTPSConnection("localhost", port, timeout=TIMEOUT_S, context=context)
    try:
        connection.request("GET", "/page.html")
        return connection.getresponse().read() == PAGE
    except ConnectionRefusedError:
        return False
    finally:
        connection.close()


def takes_preambles(site: Site) -> bool:
    port = others.proxied_port(site.root.parent / "own")
    asked = b"GET /page.html HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    try:
        return site._replace(port=port).exchange(header("192.0.2.1") + asked).endswith(PAGE)
    except ConnectionRefusedError:
        return False


def is_replaced_while_it_serves(site: Site) -> bool:
    """SIGUSR2, for which nginx has chosen it, brings a second process with the same listening socket."""
    own = site.root.parent / "upgraded"
    own.mkdir()
    if site.server == "nginx":
        return nginx_brings_a_successor(site.root, own)
    if site.server != "fastws":
        return brings_a_successor(site.port, own / "pid")
    (own / "ws.conf").write_text(
        f"DocumentRoot {site.root}\nPidFile pid\nErrorLog errors.txt\nAccessLog off\n"
    )
    with launch.running(own, side="compiled" if not PURE_ONLY else "pure") as server:
        wait_until((own / "pid").exists)
        try:
            return brings_a_successor(server.port, own / "pid")
        finally:
            server.wait()


def nginx_brings_a_successor(root: Path, own: Path) -> bool:
    """The same with one that is a daemon: without that it ignores SIGUSR2 while its parent lives."""
    with others.free_port() as port:
        program, *words = others._nginx(root, port, own, False)
        text = (own / "nginx.conf").read_text()
        (own / "nginx.conf").write_text(text.replace("daemon off", "daemon on"))
        subprocess.run([others.which(program) or program, *words], check=True, timeout=60)
        wait_until(lambda: (own / "pid").exists() and (own / "pid").read_text())
        try:
            return brings_a_successor(port, own / "pid")
        finally:
            for pid in listening(port):
                with contextlib.suppress(ProcessLookupError):  # a worker ends with its master
                    os.kill(pid, signal.SIGQUIT)
            wait_until(lambda: not listening(port))


def brings_a_successor(port: int, pid_file: Path) -> bool:
    before = listening(port)
    caught = [pid for pid in before if catches(pid, signal.SIGUSR2)]
    if not before or not caught:
        return False
    os.kill(min(caught), signal.SIGUSR2)
    deadline = time.monotonic() + (TIMEOUT_S if pid_file.exists() else 1)
    while not (fresh := listening(port) - before):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    wait_until(lambda: pid_in(pid_file) in fresh, "the pid file")
    os.kill(pid_in(pid_file), signal.SIGQUIT if len(caught) > 1 else signal.SIGTERM)
    wait_until(lambda: not listening(port) & fresh, "its end")
    return True


def pid_in(path: Path) -> int:
    """The process that a pid file names; 0 while one renames it and another has not yet written its own."""
    try:
        return int(path.read_text() or 0)
    except FileNotFoundError:
        return 0


def listening(port: int) -> set[int]:
    """The processes that have the socket that listens on ``port`` open: proc(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {
        f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port
    }
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") in sockets:
                        found.add(int(pid))
    return found


def catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for a signal: proc_pid_status(5)."""
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


ROWS: dict[str, Callable[[Site], bool]] = {
    "Connections stay open": keeps_connections,
    "One byte range of a file": sends_one_range,
    "Several byte ranges in one answer": sends_several_ranges,
    "304 to a client that has the ETag": answers_304_to_an_etag,
    "Same bytes, same ETag, whatever the file's time (up to `CacheMaxFile`, 1 MiB)": makes_the_etag_of_the_bytes,
    "A dotfile is not served": hides_dotfiles,
    "A symbolic link that leaves the root is not followed": stays_inside_the_root,
    "Browsers are told not to guess types (`nosniff`)": forbids_sniffing,
    "A request with two framings is refused": refuses_two_framings,
    "A directory without an index is listed": lists_directories,
    "A client that revalidates sees every edit, even two a second": shows_every_edit_to_who_revalidates,
}
"""In the order in which they are looked at: the one that edits the page is the last."""

CONFIGURED_ROWS: dict[str, Callable[[Site], bool]] = {
    "Files compressed beforehand (`style.css.gz`) are sent": sends_a_sidecar,
    "Files are compressed by the server": compresses,
    "A page for every address of a single-page application": falls_back,
    "Clean URLs: `/about` is `about.html`": has_clean_urls,
    "Passwords (bcrypt)": asks_for_a_password,
    "A directory is listed": lists_on_request,
    "A directory is listed as JSON": lists_as_json,
    "Metrics for Prometheus": has_metrics,
    "HTTPS": speaks_https,
    "The PROXY protocol, version 2, in front of plain HTTP": takes_preambles,
    "A new process takes over the port, and the old one finishes": is_replaced_while_it_serves,
}

TABLES = {"As they come": ROWS, "With a few lines of configuration": CONFIGURED_ROWS}


def table(title: str) -> list[list[str]]:
    """The cells of the README's feature table called ``title``, heading first."""
    text = (REPOSITORY / "README.md").read_text()
    section = re.split(r"^#{2,3} ", text.partition(f"### {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^\|(.*)\|$", section, re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def claims(title: str, server: str) -> dict[str, str]:
    """What the table says of ``server``, by row."""
    heading, *rows = table(title)
    return {row[0]: row[heading.index(server)] for row in rows}


@contextlib.contextmanager
def serving(
    server: str, tmp_path: Path, fill: Callable[[Path], None], *, is_configured: bool
) -> Iterator[Site]:
    """A directory with what ``fill`` puts in, served by ``server``."""
    if reason := others.missing(server):
        pytest.skip(reason)
    root, own = tmp_path / "root", tmp_path / "own"
    root.mkdir()
    own.mkdir()
    fill(root)
    with others.serving(server, root, own, is_configured=is_configured) as port:
        yield Site(port, root, server)


def with_a_page_a_dotfile_and_a_way_out(root: Path) -> None:
    (root / "page.html").write_bytes(PAGE)
    (root / ".secret.html").write_bytes(PAGE)
    (root / "copy.html").write_bytes(PAGE)
    os.utime(root / "copy.html", (1_600_000_000, 1_600_000_000))
    (root.parent / "outside.html").write_bytes(PAGE)
    (root / "outside.html").symlink_to(root.parent / "outside.html")


def with_something_for_every_directive(root: Path) -> None:
    for name in ("private", "list", "data"):
        (root / name).mkdir()
    (root / "page.html").write_bytes(PAGE)
    (root / "private/page.html").write_bytes(PAGE)
    (root / "list/one.txt").write_bytes(b"1")
    (root / "data/one.txt").write_bytes(b"1")
    (root / "app.html").write_bytes(b"<p>application</p>")
    (root / "big.css").write_bytes(BIG)
    (root / "plain.css").write_bytes(BIG)
    (root / "plain.css.gz").write_bytes(gzip.compress(SIDECAR))


SERVERS = pytest.mark.parametrize(
    "server",
    [
        pytest.param(name, marks=pytest.mark.peer if name in ("nginx", "Caddy") else ())
        for name in others.SERVERS
    ],
)


@pytest.mark.parametrize("title", TABLES)
def test_table_has_a_row_for_each_check_and_a_column_for_each_server(title: str) -> None:
    heading, *rows = table(title)
    assert heading[1:] == list(others.SERVERS)
    assert [row[0] for row in rows] == list(TABLES[title])


@SERVERS
def test_table_says_what_the_server_does_as_it_comes(server: str, tmp_path: Path) -> None:
    said = claims("As they come", server)
    with serving(server, tmp_path, with_a_page_a_dotfile_and_a_way_out, is_configured=False) as site:
        seen = {row: "yes" if check(site) else "no" for row, check in ROWS.items() if row in said}
    assert seen == said


@SERVERS
def test_table_says_what_the_configured_server_does(server: str, tmp_path: Path) -> None:
    said = claims("With a few lines of configuration", server)
    with serving(server, tmp_path, with_something_for_every_directive, is_configured=True) as site:
        seen = {row: "yes" if check(site) else "no" for row, check in CONFIGURED_ROWS.items() if row in said}
    assert seen == said
