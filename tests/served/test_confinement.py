"""Nothing from outside the document root, by whichever spelling, link, race or way of finding a file."""

from __future__ import annotations

import ctypes
import gzip
import itertools
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from rawhttp import Client, Reply, put, request

from fastws import Server
from fastws.files.variants import MEMORY_BYTES

Serve = Callable[..., Server]
SECRET = b"SECRET of the outside"
INSIDE = b"what may be seen"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    outside = {
        "secret.html": SECRET,
        "index.html": SECRET,
        "a.html": SECRET,
        "secret.gz": gzip.compress(SECRET),
    }
    put(tmp_path / "outside", outside | {"sub/a.html": SECRET})
    put(tmp_path / "rootless", {"a.html": SECRET})  # its name begins with the root's
    return put(tmp_path / "root", {"a.html": INSIDE, "sub/a.html": INSIDE, "sub/index.html": INSIDE})


def ask(server: Server, target: str, *lines: str) -> Reply:
    """Ask by every method, twice each; none may show the outside. Returns the answer to GET."""
    with Client(server) as client:
        for method in ("GET", "HEAD", "POST", "GET"):
            body = b"a=b" if method == "POST" else b""
            form = ("Content-Type: application/x-www-form-urlencoded",) if body else ()
            reply = client.get(target, *lines, *form, method=method, body=body)
            assert SECRET not in unpacked(reply), f"{method} {target}"
            if reply.all("Connection") == ["close"]:
                break
    return reply


def unpacked(reply: Reply) -> bytes:
    """The body without its content coding."""
    return gzip.decompress(reply.body) if "gzip" in reply.all("Content-Encoding") else reply.body


# Spellings

DOTS = [
    *("..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%c0%ae%c0%ae", "%e0%80%ae%e0%80%ae", "%f0%80%80%ae."),
    *("..%00", "%00..", "...", "....", ".. ", "..%20", "..;", "..%0a", "%u002e%u002e", "．．"),
]
SLASHES = [
    "/",
    "%2f",
    "%2F",
    "\\",
    "%5c",
    "%5C",
    "%252f",
    "%255c",
    "%c0%af",
    "%e0%80%af",
    "//",
    "/./",
    "%2f/",
]
PREFIXES = ["/", "/sub/", "/sub/../", "//", "/.", "/a.html/", "http://localhost/"]


@pytest.mark.parametrize("dots", DOTS)
def test_traversal_in_every_encoding_stays_inside(serve: Serve, root: Path, dots: str) -> None:
    server = serve("CleanUrls on", "DirectoryListing on")
    targets = [
        f"{prefix}{(dots + slash) * depth}outside{slash}secret.html"
        for prefix, slash, depth in itertools.product(PREFIXES, SLASHES, (1, 2, 5))
    ]
    with ExitStack() as stack:
        client = stack.enter_context(Client(server))
        for target in targets:
            encoded = target.encode().decode("latin-1").replace(" ", "%20")
            reply = client.get(encoded)
            assert reply.status in (301, 400, 404), encoded
            assert SECRET not in reply.body
            assert "outside" not in "".join(reply.all("Location")) or reply.status == 301
            if reply.all("Connection"):
                client.sock.close()
                client = stack.enter_context(Client(server))


@pytest.mark.parametrize(
    "name",
    ["a.html.", "a.html%20", "a.html...", "a.html::$DATA", "A.HTML", "con", "nul.html", "aux", "com1.txt",
     "a.html%00.png", "a.html%00", "a.html/", "a.html/.", "a.html%5c", "sub%5ca.html", "~root", "a.html~"],
)  # fmt: skip
def test_names_that_other_systems_take_for_another_file_are_none(serve: Serve, root: Path, name: str) -> None:
    assert ask(serve(), f"/{name}").status in (400, 404)


def test_dot_segments_that_stay_inside_are_resolved(serve: Serve, root: Path) -> None:
    server = serve()
    for target in ("/sub/../a.html", "/./a.html", "/sub/./../sub/%2e%2e/a.html", "/sub%2fa.html"):
        assert ask(server, target).body == INSIDE


# Links, by every way in which a file is found


def link_kinds(tmp_path: Path, target: Path) -> dict[str, str]:
    """Ways to write a link in the root to ``target``; the chain goes through a second link."""
    relative = os.path.relpath(target, tmp_path / "root")
    chain = tmp_path / "root" / "link-of-a-chain"
    chain.symlink_to(target)
    return {"absolute": str(target), "relative": relative, "chain": "link-of-a-chain"}


Way = tuple[str, str, tuple[str, ...], tuple[str, ...]]
WAYS: dict[str, Way] = {
    # name: (where the link is made, the target asked for, directives, field lines)
    "itself": ("link.html", "/link.html", (), ()),
    "index": ("d/index.html", "/d/", (), ()),
    "index of a second name": ("d/home.html", "/d/", ("DirectoryIndex index.html home.html",), ()),
    "clean URL": ("link.html", "/link", ("CleanUrls on",), ()),
    "fallback": ("link.html", "/nowhere", ("Fallback /link.html",), ()),
    "error page": ("link.html", "/nowhere", ("ErrorPage 404 /link.html",), ()),
    "range": ("link.html", "/link.html", (), ("Range: bytes=0-5",)),
    "from disk": ("link.html", "/link.html", ("CacheSize 0",), ()),
}


@pytest.mark.parametrize("way", WAYS)
def test_links_that_leave_lead_nowhere_by_any_way(serve: Serve, root: Path, tmp_path: Path, way: str) -> None:
    place, target, directives, lines = WAYS[way]
    (root / "d").mkdir()
    server = serve(*directives)
    for kind, text in link_kinds(tmp_path, tmp_path / "outside" / "secret.html").items():
        link = root / place
        link.symlink_to(os.path.join("..", text) if place.startswith("d/") and kind != "absolute" else text)
        assert b"SECRET" in link.read_bytes()  # the link works, for whoever asks the file system
        assert ask(server, target, *lines).status == 404, kind
        link.unlink()


@pytest.mark.parametrize("way", WAYS)
def test_links_that_stay_inside_are_served_by_any_way(
    serve: Serve, root: Path, tmp_path: Path, way: str
) -> None:
    place, target, directives, lines = WAYS[way]
    (root / "d").mkdir()
    server = serve(*directives)
    for kind, text in link_kinds(tmp_path, root / "a.html").items():
        link = root / place
        link.symlink_to(os.path.join("..", text) if place.startswith("d/") and kind != "absolute" else text)
        expected = INSIDE[:6] if lines else INSIDE
        assert ask(server, target, *lines).body == expected, kind
        link.unlink()


@pytest.mark.parametrize(
    "to", ["outside", "../outside", "/", "..", "../rootless", "../root/../outside", "/proc/self/root"]
)
def test_directories_that_are_links_to_the_outside_lead_nowhere(
    serve: Serve, root: Path, tmp_path: Path, to: str
) -> None:
    (root / "d").symlink_to(tmp_path / "outside" if to == "outside" else to)
    server = serve("DirectoryListing on", "CleanUrls on")
    below = os.path.relpath(tmp_path / "outside" / "secret.html", (root / "d").resolve())
    full = str(tmp_path / "outside" / "secret.html")
    for path in (
        "",
        "/",
        "/secret.html",
        "/secret",
        "/a.html",
        "/sub/a.html",
        "/outside/",
        full,
        f"/{below}",
    ):
        assert ask(server, f"/d{path}").status in (400, 404), path


def test_directories_that_are_links_to_the_inside_are_served_and_listed(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    put(root, {"listed/x.html": INSIDE})
    server = serve("DirectoryListing on")
    for text in ("listed", str(root / "listed"), "../root/listed"):
        (root / "d").symlink_to(text)
        assert ask(server, "/d/x.html").body == INSIDE
        assert b"x.html" in ask(server, "/d/").body
        (root / "d").unlink()


def test_sidecar_that_is_a_link_to_the_outside_is_no_sidecar(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve()
    for name in ("a.html.gz", "only.html.gz"):  # beside its plain file, and alone
        (root / name).symlink_to(tmp_path / "outside" / "secret.gz")
    assert ask(server, "/a.html", "Accept-Encoding: gzip").body == INSIDE
    assert ask(server, "/only.html", "Accept-Encoding: gzip").status == 404
    assert ask(server, "/only.html.gz").status == 404


def test_sidecar_that_is_a_link_to_the_inside_is_served(serve: Serve, root: Path) -> None:
    put(root, {"store/packed": gzip.compress(INSIDE)})
    (root / "only.html.gz").symlink_to(root / "store" / "packed")
    reply = ask(serve(), "/only.html", "Accept-Encoding: gzip")
    assert reply["Content-Encoding"] == "gzip"
    assert unpacked(reply) == INSIDE


def test_listing_tells_nothing_of_what_lies_outside(serve: Serve, root: Path, tmp_path: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "leaves.html").symlink_to(tmp_path / "outside" / "secret.html")
    (root / "d" / "leaves").symlink_to(tmp_path / "outside")
    (root / "d" / "stays.html").symlink_to(root / "a.html")
    server = serve("DirectoryListing on")
    for lines in ((), ("Accept: application/json",)):
        page = ask(server, "/d/", *lines).body
        assert b"stays.html" in page
        assert b"leaves" not in page


# What is neither file nor directory


@pytest.fixture
def special(root: Path) -> Iterator[Callable[[Path], list[str]]]:
    """A function that makes FIFO, socket, devices and links to them in a directory, and returns the names."""
    listener = socket.socket(socket.AF_UNIX)

    def make(directory: Path) -> list[str]:
        directory.mkdir(exist_ok=True)
        os.mkfifo(directory / "fifo.html")
        here = os.getcwd()
        os.chdir(directory)  # the path of a socket is short
        try:
            listener.bind("socket.html")
        finally:
            os.chdir(here)
        names = ["fifo.html", "socket.html"]
        if os.geteuid() == 0:
            for name, number in (("null.html", 3), ("zero.html", 5), ("tty.html", 0)):
                major = 5 if name == "tty.html" else 1
                os.mknod(directory / name, stat.S_IFCHR | 0o666, os.makedev(major, number))
                names.append(name)
        (directory / "link.html").symlink_to("fifo.html")
        (directory / "device.html").symlink_to("/dev/zero")
        return [*names, "link.html", "device.html"]

    yield make
    listener.close()


def test_fifos_sockets_and_devices_are_404_without_blocking_by_any_way(
    serve: Serve, root: Path, special: Callable[[Path], list[str]]
) -> None:
    names = special(root / "d")
    server = serve("WorkerThreads 1", "CleanUrls on", "DirectoryListing on")
    for name in names:
        assert ask(server, f"/d/{name}").status == 404
        assert ask(server, f"/d/{name[:-5]}").status == 404  # as a clean URL
        os.rename(root / "d" / name, root / "sub" / "index.html")  # as an index
        assert ask(server, "/sub/").status in (200, 404)  # a listing stands in
        os.rename(root / "sub" / "index.html", root / "a.html.gz")  # as a sidecar
        assert ask(server, "/a.html", "Accept-Encoding: gzip").body == INSIDE
        os.rename(root / "a.html.gz", root / "d" / name)
    page = ask(server, "/d/").body
    assert not [name for name in names if name.encode() in page]


def test_fifo_as_fallback_and_error_page_is_passed_over_without_blocking(
    serve: Serve, root: Path, special: Callable[[Path], list[str]]
) -> None:
    special(root / "d")
    server = serve("WorkerThreads 1", "Fallback /d/fifo.html", "ErrorPage 404 /d/fifo.html")
    reply = ask(server, "/nowhere")
    assert reply.status == 404
    assert b"404" in reply.body


# Races

RENAME_EXCHANGE = 2
_SWAPPER = f"""
import ctypes, os, sys
link, inside, outside, parent, other = map(os.fsencode, sys.argv[1:])
libc = ctypes.CDLL(None)
fresh, swaps = link + b".fresh", 0
while sys.stdin.buffer.read(1):
    for _ in range(50):
        os.symlink(outside if swaps % 2 else inside, fresh)
        os.replace(fresh, link)
        if libc.renameat2(-100, parent, -100, other, {RENAME_EXCHANGE}):
            sys.exit("renameat2 failed")
        swaps += 1
print(swaps * 2)
"""
"""Swaps a link, and exchanges a directory with a link to the outside, 100 times for each byte that it reads."""


def can_exchange() -> bool:
    """Whether the C library has renameat2 (Linux)."""
    return hasattr(ctypes.CDLL(None), "renameat2")


@contextmanager
def swapping(root: Path, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Return a function that has another process make 100 swaps from now on: of what ``link.html`` leads to, and
    of ``parent``, a directory inside, with ``other``, a link to the outside. At the end all were made.
    """
    (root / "other").symlink_to(tmp_path / "outside")
    (root / "link.html").symlink_to("a.html")
    paths = [
        root / "link.html",
        root / "a.html",
        tmp_path / "outside" / "a.html",
        root / "parent",
        root / "other",
    ]
    asked = 0
    with subprocess.Popen(
        [sys.executable, "-c", _SWAPPER, *map(str, paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as swapper:
        assert swapper.stdin
        assert swapper.stdout
        pipe = swapper.stdin

        def swap() -> None:
            nonlocal asked
            asked += 100
            pipe.write(b"x")
            pipe.flush()

        yield swap
        pipe.close()
        assert int(swapper.stdout.read()) == asked


def race(server: Server, root: Path, tmp_path: Path, swaps: int) -> dict[int, int]:
    """Fetch while another process makes ``swaps`` swaps; returns how often each status came."""
    put(root, {"parent/a.html": INSIDE})
    counts: dict[int, int] = {}
    targets = ["/link.html", "/parent/a.html", "/other/a.html", "/parent/", "/parent/sub/a.html", "/link"] * 4
    with swapping(root, tmp_path) as swap, Client(server) as client:
        for _ in range(swaps // 100):
            swap()
            client.send(b"".join(map(request, targets)))
            for target in targets:
                reply = client.reply()
                counts[reply.status] = counts.get(reply.status, 0) + 1
                assert SECRET not in reply.body, target
                assert reply.status != 200 or reply.body == INSIDE or target == "/parent/", target
    return counts


def race_by_sendfile(server: Server, root: Path, tmp_path: Path, swaps: int) -> None:
    """Fetch files that are sent by sendfile while their names come to mean others.

    HEAD has the reactor look at a file, what follows keeps it busy, as it lies behind many links, and GET has it
    open the file: so what was looked at often is another by then.
    """
    size = MEMORY_BYTES + 1
    large, secret = ((text + b"\n").ljust(size, text[:1]) for text in (INSIDE, SECRET))
    put(tmp_path / "outside", {"a.html": secret})
    put(root, {"a.html": large, "parent/a.html": large})
    put(root / "0", {f"{number}.html": INSIDE for number in range(30)})
    for number in range(30):
        (root / f"{number + 1}").symlink_to(f"{number}")
    busy = [("GET", f"/30/{number}.html") for number in range(30)]
    names = ["/link.html", "/parent/a.html", "/other/a.html"]
    asked = [(method, target) for name in names for method, target in [("HEAD", name), *busy, ("GET", name)]]
    data = b"".join(request(target, method=method) for method, target in asked)
    missed = 0
    with swapping(root, tmp_path) as swap, Client(server) as client:
        for turn in range(swaps // 100):
            swap()
            client.send(data)
            for method, target in asked:
                reply = client.reply(method)
                assert reply.status in (200, 404)
                assert SECRET not in reply.body, target
                if target.startswith("/30/"):
                    assert reply.body == INSIDE
                elif reply.status == 404:
                    missed += 1
                elif method == "GET":
                    assert reply.body == large, (target, turn)
    assert missed, "the swaps were never met"
    reactors = [worker.reactor for worker in server._pool.workers]
    sent = sum(reactor.counters().file_bytes for reactor in reactors)
    assert sent or not reactors[0].replays, "nothing was replayed from its file"


@pytest.mark.skipif(not can_exchange(), reason="exchanges names by renameat2")
def test_racing_swaps_of_link_and_parent_never_show_the_outside(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    counts = race(serve("CleanUrls on", "DirectoryListing on"), root, tmp_path, 3000)
    assert set(counts) <= {200, 404}
    assert len(counts) == 2, "the swaps were never met"


@pytest.mark.skipif(not can_exchange(), reason="exchanges names by renameat2")
def test_racing_swaps_above_what_is_sent_by_sendfile_never_show_the_outside(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    race_by_sendfile(serve("WorkerThreads 1", "Compression off"), root, tmp_path, 2000)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not can_exchange(), reason="exchanges names by renameat2")
def test_racing_100_000_swaps_never_show_the_outside(serve: Serve, root: Path, tmp_path: Path) -> None:
    counts = race(serve("CleanUrls on", "DirectoryListing on"), root, tmp_path, 100_000)
    print(f"100,000 swaps, {sum(counts.values())} requests: {counts}")
    assert set(counts) == {200, 404}
