"""Content codings as clients see them: sidecars, and what is compressed in the background."""

from __future__ import annotations

import gzip
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rawhttp import Client, Reply, finish_turns, get, put, settle, thrice, wait_until
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from fastws import Server
from fastws.files import compression, variants
from fastws.files import contents as files
from fastws.files.compression import NOT_WORTHWHILE, Compressor, Job, Store, encoder
from fastws.files.contents import Content
from fastws.files.root import Nothing
from fastws.http.messages import Identity, Request
from fastws.site.site import Site

Serve = Callable[..., Server]

TEXT = b"".join(b"line %d of a text that compresses well\n" % number for number in range(400))
DECODE = {"br": brotli.decompress, "zstd": zstd.decompress, "gzip": gzip.decompress}
ENCODE = {"br": brotli.compress, "zstd": zstd.compress, "gzip": lambda body: gzip.compress(body, mtime=0)}
SUFFIX = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(
        tmp_path / "root", {"page.html": TEXT, "small.css": b"a{}", "film.mp4": TEXT, "noise.txt": b"?"}
    )


def coded(where: Server, target: str, accept: str, *lines: str) -> Reply:
    """The answer once it is compressed: the request is repeated until the background thread is through."""
    replies: list[Reply] = []

    def is_coded() -> bool:
        replies.append(get(where, target, f"Accept-Encoding: {accept}", *lines))
        return bool(replies[-1].all("Content-Encoding"))

    wait_until(is_coded, "the compressed answer")
    return replies[-1]


def add_sidecars(root: Path, name: str, *codings: str, content: bytes = TEXT) -> None:
    put(root, {name + SUFFIX[coding]: ENCODE[coding](content) for coding in codings})


# Compressed once, in the background


@pytest.mark.parametrize("coding", list(DECODE))
def test_text_is_compressed_once_and_then_served_compressed(serve: Serve, root: Path, coding: str) -> None:
    server = serve()
    first = get(server, "/page.html", f"Accept-Encoding: {coding}")
    assert first.body == TEXT
    assert first.all("Content-Encoding") == []
    assert first["Vary"] == "Accept-Encoding"
    reply = coded(server, "/page.html", coding)
    assert reply["Content-Encoding"] == coding
    assert reply["Vary"] == "Accept-Encoding"
    assert reply["Content-Type"] == "text/html; charset=utf-8"
    assert DECODE[coding](reply.body) == TEXT
    assert reply["ETag"].endswith(f'-{coding}"')
    assert thrice(server, "/page.html", f"Accept-Encoding: {coding}").body == reply.body


def test_identity_answer_is_not_replayed_once_a_variant_is_ready(serve: Serve, root: Path) -> None:
    server = serve()
    with Client(server) as client:
        # Whatever was published on the way, the end must be the compressed form, and stay it.
        wait_until(
            lambda: client.get("/page.html", "Accept-Encoding: gzip").all("Content-Encoding"),
            "a coded answer",
        )
        for _ in range(20):
            assert client.get("/page.html", "Accept-Encoding: gzip")["Content-Encoding"] == "gzip"
            assert client.get("/page.html").body == TEXT


def test_each_form_has_its_own_etag_and_304_keeps_vary(serve: Serve, root: Path) -> None:
    server = serve()
    tags = {coding: coded(server, "/page.html", coding)["ETag"] for coding in DECODE}
    tags["identity"] = get(server, "/page.html")["ETag"]
    assert len(set(tags.values())) == 4
    for coding, tag in tags.items():
        reply = thrice(server, "/page.html", f"Accept-Encoding: {coding}", f"If-None-Match: {tag}")
        assert reply.status == 304
        assert (reply["ETag"], reply["Vary"]) == (tag, "Accept-Encoding")
        assert reply.all("Content-Encoding") == []
        for other in set(tags.values()) - {tag}:
            reply = thrice(server, "/page.html", f"Accept-Encoding: {coding}", f"If-None-Match: {other}")
            assert reply.status == 200


def test_head_of_a_coded_answer_has_the_same_fields(serve: Serve, root: Path) -> None:
    server = serve()
    reply = coded(server, "/page.html", "br")
    head = thrice(server, "/page.html", "Accept-Encoding: br", method="HEAD")
    assert head.without() == reply.without()


def test_rewritten_file_is_never_served_in_its_old_variant(serve: Serve, root: Path) -> None:
    server = serve()
    coded(server, "/page.html", "gzip")
    put(root, {"page.html": TEXT.replace(b"text", b"poem")})
    reply = get(server, "/page.html", "Accept-Encoding: gzip")
    body = gzip.decompress(reply.body) if reply.all("Content-Encoding") else reply.body
    assert b"poem" in body
    assert b"poem" in gzip.decompress(coded(server, "/page.html", "gzip").body)


@pytest.mark.parametrize("target", ["/small.css", "/film.mp4"])
def test_small_files_and_compressed_types_stay_as_they_are(serve: Serve, root: Path, target: str) -> None:
    server = serve()
    reply = thrice(server, target, "Accept-Encoding: br, gzip")
    assert reply.all("Content-Encoding") == []
    assert server._site._places.root.folder.variants.compressor.pending == 0
    assert bool(reply.all("Vary")) == (target == "/small.css")  # a sidecar of it might be there


def test_what_does_not_shrink_is_sent_as_it_is(serve: Serve, root: Path) -> None:
    put(root, {"noise.txt": os.urandom(5000)})
    server = serve()
    variants = server._site._places.root.folder.variants
    get(server, "/noise.txt", "Accept-Encoding: br")
    wait_until(lambda: variants.store.used_bytes and not variants.compressor.pending, "the verdict")
    assert thrice(server, "/noise.txt", "Accept-Encoding: br").all("Content-Encoding") == []
    assert variants.compressor.pending == 0


def test_compression_off_sends_what_is_there(serve: Serve, root: Path) -> None:
    add_sidecars(root, "page.html", "br")
    reply = thrice(serve("Compression off"), "/page.html", "Accept-Encoding: br")
    assert reply.body == TEXT
    assert reply.all("Vary") == []


def test_without_a_package_its_coding_is_left_out(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "brotli", None)
    compression.encoder.cache_clear()
    try:
        assert coded(serve(), "/page.html", "br, gzip;q=0.5")["Content-Encoding"] == "gzip"
    finally:
        monkeypatch.undo()
        compression.encoder.cache_clear()


# Accept-Encoding


def test_excluded_identity_gets_gzip_at_once(serve: Serve, root: Path) -> None:
    server = serve()
    for target, content in (("/page.html", TEXT), ("/small.css", b"a{}")):
        reply = get(server, target, "Accept-Encoding: gzip, identity;q=0")
        assert reply["Content-Encoding"] == "gzip"
        assert gzip.decompress(reply.body) == content


@pytest.mark.parametrize("accept", ["identity;q=0", "*;q=0", "compress, identity;q=0"])
def test_nothing_acceptable_is_406_with_vary(serve: Serve, root: Path, accept: str) -> None:
    reply = get(serve(), "/page.html", f"Accept-Encoding: {accept}")
    assert reply.status == 406
    assert reply["Vary"] == "Accept-Encoding"


def test_type_without_forms_ignores_accept_encoding(serve: Serve, root: Path) -> None:
    assert thrice(serve(), "/film.mp4", "Accept-Encoding: identity;q=0").body == TEXT


NAMES = ["br", "zstd", "gzip", "identity", "*", "deflate"]
WEIGHTS = [None, "0", "0.1", "0.5", "0.501", "1"]
MEMBERS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(WEIGHTS)), unique_by=lambda member: member[0]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=MEMBERS)
def test_chosen_coding_is_one_that_werkzeug_ranks_best(
    serve: Serve, root: Path, members: list[tuple[str, str | None]]
) -> None:
    server = _with_every_sidecar(serve, root)
    value = ", ".join(name if weight is None else f"{name};q={weight}" for name, weight in members)
    reply = get(server, "/every.html", *([f"Accept-Encoding: {value}"] if value else []))
    oracle = parse_accept_header(value, Accept)
    quality = {name: float(oracle.quality(name)) for name in DECODE}
    # Not mentioned, identity is acceptable (section 12.5.3), but less than anything that is.
    excluded = oracle.quality("identity") == 0 and any(name in ("identity", "*") for name, _ in members)
    quality["identity"] = 0.0 if excluded else float(oracle.quality("identity")) or 0.0001
    best = max(quality.values())
    if best == 0:
        assert reply.status == 406
        return
    chosen = (reply.all("Content-Encoding") or ["identity"])[0]
    assert quality[chosen] == best
    assert (reply.body if chosen == "identity" else DECODE[chosen](reply.body)) == TEXT


_running: list[tuple[Serve, Server]] = []


def _with_every_sidecar(serve: Serve, root: Path) -> Server:
    """One server for all of Hypothesis's examples of one test."""
    if not any(started is serve for started, _ in _running):
        put(root, {"every.html": TEXT})
        add_sidecars(root, "every.html", "br", "zstd", "gzip")
        _running[:] = [(serve, serve())]
    return _running[0][1]


# Sidecars


@pytest.mark.parametrize("coding", list(DECODE))
def test_sidecar_is_served_at_once(serve: Serve, root: Path, coding: str) -> None:
    add_sidecars(root, "small.css", coding, content=b"a{color:red}")
    reply = thrice(serve(), "/small.css", f"Accept-Encoding: {coding}")
    assert reply["Content-Encoding"] == coding
    assert reply["Content-Type"] == "text/css; charset=utf-8"
    assert DECODE[coding](reply.body) == b"a{color:red}"
    assert reply.all("Accept-Ranges") == []


def test_sidecar_by_sendfile_is_the_same(serve: Serve, root: Path) -> None:
    add_sidecars(root, "page.html", "gzip")
    reply = thrice(serve(cache_max_file_bytes=10), "/page.html", "Accept-Encoding: gzip")
    assert gzip.decompress(reply.body) == TEXT


def test_sidecar_stands_for_a_missing_file(serve: Serve, root: Path) -> None:
    add_sidecars(root, "only.js", "gzip")
    add_sidecars(root, "folder/index.html", "br")
    server = serve()
    assert gzip.decompress(thrice(server, "/only.js", "Accept-Encoding: gzip").body) == TEXT
    assert brotli.decompress(thrice(server, "/folder/", "Accept-Encoding: br").body) == TEXT
    assert get(server, "/only.js", "Accept-Encoding: br, identity;q=0").status == 406
    # Who does not say what it accepts accepts any coding (RFC 9110 section 12.5.3).
    add_sidecars(root, "only.js", "br", "zstd")
    reply = thrice(server, "/only.js")
    assert (reply.status, reply["Content-Encoding"]) == (200, "gzip")
    assert thrice(server, "/folder/")["Content-Encoding"] == "br"
    put(root, {"only.js": b"plain"})
    reply = thrice(server, "/only.js")
    assert (reply.body, reply.all("Content-Encoding")) == (b"plain", [])
    assert get(server, "/only.js", method="POST", body=b"a=b").status == 405
    # Where the type is not compressible, a name with .gz is a file of its own.
    put(root, {"archive.tar.gz": b"x"})
    assert get(server, "/archive.tar", "Accept-Encoding: gzip").status == 404
    assert get(server, "/only.js.gz")["Content-Type"] == "application/gzip"


@pytest.mark.parametrize("accept", ["identity", "br, identity", "", "br"])
def test_lone_gzip_is_unpacked_for_who_takes_none(serve: Serve, root: Path, accept: str) -> None:
    add_sidecars(root, "only.js", "gzip")
    reply = thrice(serve(), "/only.js", f"Accept-Encoding: {accept}")
    assert (reply.status, reply.body, reply.all("Content-Encoding")) == (200, TEXT, [])
    assert reply["Content-Type"].startswith("text/javascript")
    assert get(serve(), "/only.js", "Accept-Encoding: identity", "Range: bytes=1-3").body == TEXT[1:4]


def test_large_lone_gzip_is_unpacked_by_another_thread(serve: Serve, root: Path) -> None:
    content = random.Random(1).randbytes(200_000).hex().encode()
    add_sidecars(root, "only.js", "gzip", content=content)
    assert (root / "only.js.gz").stat().st_size > variants.AT_ONCE_BYTES
    settle(root / "only.js.gz")
    assert thrice(serve(), "/only.js", "Accept-Encoding: identity").body == content


def test_several_members_of_a_gzip_file_are_one(serve: Serve, root: Path) -> None:
    put(root, {"only.js.gz": gzip.compress(b"one ") + gzip.compress(b"two") + bytes(512)})
    assert get(serve(), "/only.js", "Accept-Encoding: identity").body == b"one two"


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (gzip.compress(bytes(1 << 20)), "larger than CompressMaxFile"),
        (gzip.compress(bytes(60_000)) + gzip.compress(bytes(60_000)), "larger than CompressMaxFile"),
        (gzip.compress(TEXT)[:-9], "ends early"),
        (b"no gzip at all", "cannot be unpacked"),
    ],
)
def test_gzip_that_is_a_bomb_or_broken_is_406_and_said_once(
    serve: Serve, root: Path, tmp_path: Path, packed: bytes, reason: str
) -> None:
    put(root, {"only.js.gz": packed})
    settle(root / "only.js.gz")
    error_log = tmp_path / "errors.txt"
    server = serve("CompressMaxFile 100K", error_log=str(error_log))
    assert thrice(server, "/only.js", "Accept-Encoding: identity").status == 406
    assert get(server, "/only.js", "Accept-Encoding: gzip").body == packed
    server.stop(0)
    log = error_log.read_text()
    assert log.count("only.js.gz ") == 1
    assert reason in log


KEPT = [("Via: 1.1 cache",), ("X-Forwarded-For: 192.0.2.1",), ("CDN-Loop: example",), ()]


@pytest.mark.parametrize("coding", list(DECODE))
@pytest.mark.parametrize("fields", KEPT)
def test_first_answer_that_a_cache_keeps_is_compressed(
    serve: Serve, root: Path, coding: str, fields: tuple[str, ...]
) -> None:
    large = random.Random(1).randbytes(150_000).hex().encode()
    put(root, {"large.js": large, "page.js": TEXT})
    settle(root / "page.js")
    lines = () if fields else ('CacheControl *.js "max-age=31536000, immutable"',)
    server = serve(*lines)
    for target, content in (("/page.js", TEXT), ("/large.js", large)):
        reply = get(server, target, f"Accept-Encoding: {coding}", *fields)
        assert reply["Content-Encoding"] == coding
        assert DECODE[coding](reply.body) == content


def test_quick_form_gives_way_to_the_thorough_one(serve: Serve, root: Path) -> None:
    text = "".join(f"line {n * n % 977} of {n}\n" for n in range(3000)).encode()
    put(root, {"page.js": text})
    settle(root / "page.js")
    server = serve()
    accept = "Accept-Encoding: gzip"
    quick = get(server, "/page.js", accept, "Via: 1.1 cache")
    wait_until(lambda: len(get(server, "/page.js", accept).body) < len(quick.body))
    assert thrice(server, "/page.js", accept)["ETag"] != quick["ETag"]


def test_compressing_has_a_limit_of_its_own(serve: Serve, root: Path) -> None:
    put(root, {"page.js": TEXT})
    settle(root / "page.js")
    cached = "Via: 1.1 cache"
    server = serve("CacheMaxFile 10")
    assert get(server, "/page.js", "Accept-Encoding: gzip", cached)["Content-Encoding"] == "gzip"
    server = serve(f"CompressMaxFile {len(TEXT) - 1}")
    assert get(server, "/page.js", "Accept-Encoding: gzip", cached).all("Content-Encoding") == []
    assert get(server, "/page.js", "Accept-Encoding: gzip, identity;q=0").status == 406


def test_old_sidecar_is_ignored_and_logged_once(serve: Serve, root: Path, tmp_path: Path) -> None:
    add_sidecars(root, "small.css", "gzip", content=b"old")
    plain = os.stat(root / "small.css").st_mtime
    error_log = tmp_path / "errors.txt"
    server = serve(error_log=str(error_log))
    os.utime(root / "small.css.gz", (plain - 1.9, plain - 1.9))
    assert get(server, "/small.css", "Accept-Encoding: gzip")["Content-Encoding"] == "gzip"
    os.utime(root / "small.css.gz", (plain - 2.1, plain - 2.1))
    for _ in range(3):
        assert thrice(server, "/small.css", "Accept-Encoding: gzip").body == b"a{}"
    assert error_log.read_text().count("small.css.gz is ignored: it is older than small.css") == 1
    os.utime(root / "small.css.gz", (plain, plain))
    assert get(server, "/small.css", "Accept-Encoding: gzip")["Content-Encoding"] == "gzip"


def test_sidecar_that_comes_changes_and_goes_is_seen_at_once(serve: Serve, root: Path) -> None:
    server = serve()
    target = "/small.css"
    with Client(server) as client:

        def body() -> bytes:
            reply = client.get(target, "Accept-Encoding: gzip")
            return gzip.decompress(reply.body) if reply.all("Content-Encoding") else reply.body

        for turn in range(5):
            for content in (b"one", b"other"):
                add_sidecars(root, "small.css", "gzip", content=content)
                assert [body() for _ in range(3)] == [content] * 3, turn
            (root / "small.css.gz").unlink()
            assert [body() for _ in range(3)] == [b"a{}"] * 3, turn


def test_plain_file_that_is_newer_than_its_sidecar_wins_at_once(serve: Serve, root: Path) -> None:
    add_sidecars(root, "small.css", "gzip", content=b"a{}")
    server = serve()
    assert thrice(server, "/small.css", "Accept-Encoding: gzip")["Content-Encoding"] == "gzip"
    (root / "small.css").write_bytes(b"b{}")
    assert get(server, "/small.css", "Accept-Encoding: gzip").body == b"b{}"


NAMES_CHANGED = ["app.js", "app.js.br", "app.js.gz"]
CHANGE = st.tuples(
    st.sampled_from(NAMES_CHANGED), st.sampled_from(["write", "replace", "delete", "age", "renew"])
)
ACCEPTED = ["br, gzip", "gzip", "identity, gzip;q=0.5", "gzip, identity;q=0", "br"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(CHANGE, min_size=3, max_size=15))
def test_replayed_answers_are_what_would_be_decided_anew(
    serve: Serve, root: Path, changes: list[tuple[str, str]]
) -> None:
    server = _with_every_sidecar(serve, root)
    fresh = Site(
        server.config,
        logging.getLogger("test"),
        replays=False,
        opener=server._backend.opener,
        hidden=Nothing(),
    )
    with Client(server) as client:
        for number, (name, change) in enumerate(changes):
            _change(root / name, change, b"change %d" % number)
            for accept in ACCEPTED:
                fields = {"host": "localhost", "accept-encoding": accept}
                expected, *_ = fresh.respond(Request("HEAD", "/app.js", "HTTP/1.1", fields, 0))
                if expected.file is not None:
                    expected.file.close()
                for _ in range(2):
                    reply = client.get("/app.js", f"Accept-Encoding: {accept}")
                    assert reply.status == expected.status
                    if reply.status == 200:
                        assert reply.without() == expected.fields
    if server._backend.reactor.replays:
        finish_turns(server)
        assert sum(worker.cache_hits for worker in server.worker_status()) > 0


def _change(path: Path, change: str, content: bytes) -> None:
    """Do it, and wait until what is published then may be replayed: only that can be stale."""
    now = time.time()
    if change == "write":
        path.write_bytes(content)
    elif change == "replace":
        (path.parent / "fresh").write_bytes(content)
        (path.parent / "fresh").rename(path)
    elif change == "delete":
        path.unlink(missing_ok=True)
    if path.exists():
        age_s = {"age": 120, "renew": 30}.get(change, 60)
        os.utime(path, (now - age_s, now - age_s))
        settle(path)
    settle(path.parent)


def test_sidecar_outside_the_root_is_none(serve: Serve, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.gz").write_bytes(gzip.compress(b"secret"))
    (root / "small.css.gz").symlink_to(tmp_path / "secret.gz")
    (root / "only.js.gz").symlink_to(tmp_path / "secret.gz")
    server = serve()
    assert thrice(server, "/small.css", "Accept-Encoding: gzip").body == b"a{}"
    assert get(server, "/only.js", "Accept-Encoding: gzip").status == 404


def test_range_is_of_the_plain_file(serve: Serve, root: Path) -> None:
    add_sidecars(root, "page.html", "gzip")
    server = serve()
    reply = thrice(server, "/page.html", "Accept-Encoding: gzip", "Range: bytes=5-9")
    assert (reply.status, reply.body) == (206, TEXT[5:10])
    assert reply.all("Content-Encoding") == []
    assert reply["Vary"] == "Accept-Encoding"
    # A range that is ignored gives all of the plain file, and that is not kept as the answer without one.
    assert get(server, "/page.html", "Accept-Encoding: gzip", "Range: lines=1-2").body == TEXT
    with Client(server) as client:
        client.get("/page.html", "Accept-Encoding: gzip", "Range: lines=1-2")
        assert client.get("/page.html", "Accept-Encoding: gzip")["Content-Encoding"] == "gzip"


def test_range_of_what_is_only_there_coded_is_ignored(serve: Serve, root: Path) -> None:
    add_sidecars(root, "only.js", "gzip")
    reply = thrice(serve(), "/only.js", "Accept-Encoding: gzip", "Range: bytes=0-1")
    assert reply.status == 200
    assert gzip.decompress(reply.body) == TEXT


def test_range_for_who_accepts_codings_does_not_have_the_whole_file_read_again(
    serve: Serve, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an answer is not replayed."""
    server, lines = serve(), ("Accept-Encoding: gzip", "Range: bytes=5-9")
    first = get(server, "/page.html", *lines)
    monkeypatch.setattr(files, "_read", None)  # the entity tag is known by now
    reply = thrice(server, "/page.html", *lines)
    assert (reply.status, reply.body, reply["ETag"]) == (206, TEXT[5:10], first["ETag"])


def test_condition_on_a_coded_form_does_not_hold_for_a_range(serve: Serve, root: Path) -> None:
    """The range is one of the plain file, whose entity tag is another, and its date may be."""
    add_sidecars(root, "page.html", "gzip")
    os.utime(root / "page.html", (1_000_000_000,) * 2)
    os.utime(root / "page.html.gz", (1_000_000_001,) * 2)
    settle(root / "page.html.gz")
    server = serve()
    coded = thrice(server, "/page.html", "Accept-Encoding: gzip")
    assert coded["Content-Encoding"] == "gzip"
    for line in (f"If-None-Match: {coded['ETag']}", f"If-None-Match: W/{coded['ETag']}"):
        reply = thrice(server, "/page.html", "Accept-Encoding: gzip", "Range: bytes=5-9", line)
        assert (reply.status, reply.body) == (206, TEXT[5:10])
    date = f"If-Modified-Since: {coded['Last-Modified']}"
    reply = thrice(server, "/page.html", "Accept-Encoding: gzip", "Range: bytes=5-9", date)
    assert (reply.status, reply.all("ETag") == [coded["ETag"]]) == (304, False)
    # HEAD has no ranges, and keeps the form.
    head = thrice(server, "/page.html", "Accept-Encoding: gzip", "Range: bytes=5-9", date, method="HEAD")
    assert (head.status, head["ETag"]) == (304, coded["ETag"])


# The background thread and its store


def test_close_ends_the_background_thread_and_not_the_site(serve: Serve, root: Path) -> None:
    server = serve()
    coded(server, "/page.html", "gzip")
    site = server._site
    thread = site._places.root.folder.variants.compressor._thread
    assert thread is not None
    site.close()
    wait_until(lambda: not thread.is_alive())
    assert get(server, "/page.html", "Accept-Encoding: gzip")["Content-Encoding"] == "gzip"


def test_reload_and_stop_do_not_wait_for_a_compression_in_progress(serve: Serve, root: Path) -> None:
    gate, begun = threading.Event(), threading.Event()

    def encode(body: bytes) -> bytes:
        begun.set()
        gate.wait(3)
        return body

    server = serve()
    threads = []
    for end in (lambda: server.reload(lambda: server.config), server.stop):
        begun.clear()
        compressor = server._site._places.root.folder.variants.compressor
        compressor.submit("slow", Job(encode, b"x", lambda _: None))
        assert begun.wait(10)
        assert compressor._thread is not None
        threads.append(compressor._thread)
        end()
        assert compressor._thread.is_alive()
    gate.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "PENDING_FILES", 3)
    gate, begun = threading.Event(), threading.Event()

    def encode(body: bytes) -> bytes:
        begun.set()
        gate.wait(10)
        return body

    delivered: list[bytes | None] = []
    compressor = Compressor(logging.getLogger("test"))
    for number in range(10):
        compressor.submit(number, Job(encode, b"%d" % number, delivered.append))
    assert compressor.pending == 3
    assert begun.wait(10)
    gate.set()
    wait_until(lambda: compressor.pending == 0)
    assert delivered == [b"0", b"1", b"2"]
    compressor.close()
    compressor.submit("late", Job(encode, b"late", delivered.append))
    assert compressor.pending == 0


def test_encoder_that_fails_is_logged_and_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    delivered: list[bytes | None] = []
    compressor = Compressor(logging.getLogger("test"))
    compressor.submit(1, Job(lambda body: b"" + 1, b"x", delivered.append))  # type: ignore[operator]
    compressor.submit(2, Job(lambda body: body, b"x", delivered.append))
    wait_until(lambda: len(delivered) == 2)
    compressor.close()
    assert delivered == [None, b"x"]
    assert "compressing failed" in caplog.text


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3000)), max_size=60))
def test_store_keeps_within_its_bytes_and_drops_the_oldest(puts: list[tuple[int, int]]) -> None:
    store = Store(8000)
    expected: dict[tuple[Identity, str], int] = {}
    for number, size in puts:
        key = (Identity(number, 0, 0, 0, 0), "gzip")
        store.put(key, Content(bytes(size), "", key[0], True))
        expected.pop(key, None)
        expected[key] = size
        while sum(expected.values()) + compression.STORED_ENTRY_BYTES * len(expected) > 8000:
            del expected[next(iter(expected))]
        assert store.used_bytes == sum(expected.values()) + compression.STORED_ENTRY_BYTES * len(expected)
    assert {key for key in expected if store.get(key)} == set(expected)


def test_store_that_may_hold_nothing_holds_nothing() -> None:
    store = Store(0)
    key = (Identity(0, 0, 0, 0, 0), "br")
    store.put(key, NOT_WORTHWHILE)
    assert store.get(key) is None


@pytest.mark.parametrize("coding", list(DECODE))
@pytest.mark.parametrize("size", [0, 1, 5000, (1 << 20) + 1])
def test_encoders_lose_nothing_and_are_deterministic(coding: str, size: int) -> None:
    body = (TEXT * (size // len(TEXT) + 1))[:size]
    encode = encoder(coding)
    assert encode is not None
    once = encode(body)
    assert DECODE[coding](once) == body
    assert encode(body) == once


def test_unknown_coding_has_no_encoder() -> None:
    with pytest.raises(KeyError):
        encoder("compress")


# Files that are stored in a coding, by their own names


def test_coded_file_by_its_own_name_is_sent_as_it_is_with_the_inner_type(serve: Serve, root: Path) -> None:
    body = brotli.compress(TEXT)
    put(root, {"game.wasm.br": body, "other.wasm.br": body, "archive.gz": gzip.compress(TEXT), "a.br": body})
    server = serve("AddEncoding *.wasm.br br")
    for accept in ("br", "gzip", "identity"):
        reply = thrice(server, "/game.wasm.br", f"Accept-Encoding: {accept}")
        assert (reply.status, reply.body) == (200, body)
        assert (reply["Content-Type"], reply["Content-Encoding"]) == ("application/wasm", "br")
        assert reply.all("Vary") == []
    assert thrice(server, "/other.wasm.br").body == body
    assert get(server, "/game.wasm.br", f"If-None-Match: {reply['ETag']}").status == 304
    plain = thrice(server, "/archive.gz")
    assert (plain["Content-Type"], plain.all("Content-Encoding")) == ("application/gzip", [])
    assert thrice(server, "/a.br").all("Content-Encoding") == []


def test_svgz_is_a_picture_in_gzip_and_never_packed_twice(serve: Serve, root: Path) -> None:
    body = gzip.compress(TEXT)
    put(root, {"a.svgz": body, "b.svgz": body, "b.svgz.gz": gzip.compress(body)})
    server = serve()
    for target in ("/a.svgz", "/b.svgz"):
        reply = thrice(server, target, "Accept-Encoding: gzip, br")
        assert (reply.body, reply["Content-Type"], reply["Content-Encoding"]) == (
            body,
            "image/svg+xml",
            "gzip",
        )
    tags = {thrice(server, "/a.svgz")["ETag"], thrice(serve("AddEncoding .svgz off"), "/a.svgz")["ETag"]}
    assert len(tags) == 2


def test_form_is_not_filled_into_packed_bytes(serve: Serve, root: Path) -> None:
    put(root, {"form.html.gz": gzip.compress(b"<pre></pre>")})
    with Client(serve("AddEncoding *.html.gz gzip")) as client:
        client.send(b"POST /form.html.gz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert client.reply().status == 405
