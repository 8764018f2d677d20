"""The documents and what they are about: the modules, the limits, the examples of configuration."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import launch
import others
import pytest
from certificates import CA
from conftest import PURE_ONLY
from rawhttp import get, put, wait_until

from fastws import _reactor_py, load
from fastws._tls_py import HANDSHAKE_RECORDS
from fastws.config.settings import defaults
from fastws.engine import accepting, states, timers
from fastws.files import identity
from fastws.files.directory import LISTED_MAX, PAGE_NAMES, Listing, View
from fastws.files.variants import MEMORY_BYTES
from fastws.h1.framing import CHUNK_LINE_BYTES, ChunkedDecoder
from fastws.http import forms
from fastws.http.messages import Limits
from fastws.http.ranges import MAX_RANGES
from fastws.pages.listing import listing_page
from fastws.pages.message import error_page, redirect_page
from fastws.pages.status import STATUS_PAGE
from fastws.record import logfile
from fastws.seam import LINGER_BYTES, LINGER_S
from fastws.transport import preamble
from fastws.transport.listener import spoken_in
from fastws.transport.transmission import TURN_BYTES
from fastws.work import fair_queue as checks

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "fastws"
DESIGN = (REPOSITORY / "docs" / "design.md").read_text()
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("benchmarks/*.md")]
)
DEPLOYMENT = (REPOSITORY / "docs" / "deployment.md").read_text()

_spec = importlib.util.spec_from_file_location("module_table", REPOSITORY / "docs" / "modules.py")
assert _spec is not None
assert _spec.loader is not None
module_table = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(module_table)


def test_limits_are_as_the_page_says() -> None:
    limits, by_default = Limits(), defaults()
    kib, mib = 1 << 10, 1 << 20
    # Chunks take no more than the data may, or than a head may, if that is more.
    least_overhead = ChunkedDecoder(0, limits)._overhead_left
    assert ChunkedDecoder(mib, limits)._overhead_left == mib
    rows = rows_of("Limits")
    bounds = {what: bound for what, bound, _ in rows}
    assert bounds == {
        "request line": f"{limits.request_line_bytes // kib} KiB",
        "request head": f"{limits.head_bytes // kib} KiB, {limits.field_count} fields",
        "time for a head": f"`RequestTimeout` ({by_default.request_timeout_s:g} s)",
        "request body": f"`MaxBodySize` ({by_default.max_body_bytes['*'] // mib} MiB)",
        "line of a chunked body": f"{CHUNK_LINE_BYTES} bytes",
        "chunk sizes and extensions of a body": f"as `MaxBodySize`, at least {least_overhead // kib} KiB",
        "speed of a body, and of a client that reads": (
            f"`MinRate` ({by_default.min_rate_bytes_s} bytes a second) on average;"
            f" it may stand still for `StallTime` ({by_default.stall_time_s:g} s)"
        ),
        "idle connection": f"`KeepaliveTime` ({by_default.keepalive_time_s:g} s)",
        "TLS handshake": f"`RequestTimeout` ({by_default.request_timeout_s:g} s), {HANDSHAKE_RECORDS} records",
        "preamble of a proxy": (
            f"`RequestTimeout` ({by_default.request_timeout_s:g} s), {preamble.LINE_BYTES} bytes of version 1,"
            f" {preamble.PREAMBLE_BYTES:,} of version 2"
        ),
        "time until an application answers, and between its pieces": (
            f"`ApplicationTimeout` ({by_default.application_timeout_s:g} s)"
        ),
        "requests that wait for an application": f"`ApplicationQueue` ({by_default.application_queue:,})",
        "open connections": f"`MaxConnections` ({by_default.max_connections:,})",
        "connections of one address": (
            f"`MaxConnectionsPerAddress` ({by_default.max_connections_per_address or 'none'})"
        ),
        "fields of a form, parameters of one of them": f"{forms.MAX_FIELDS:,}, {forms.MAX_PARAMETERS}",
        "ranges in a request": f"{MAX_RANGES}",
        "names in a listing": f"{LISTED_MAX:,}, on pages of {PAGE_NAMES:,}",
        "published answers": (
            f"`CacheSize` ({by_default.cache_size_bytes // mib} MiB), shared out to the workers"
        ),
        "passwords that wait to be checked, and as many listings to be made": (
            f"{checks.QUEUE_JOBS}; addresses take turns, and the one with most makes room"
        ),
        "time for that": f"{states.WAITING_S:g} s",
        "descriptors": "the process's limit",
    }
    assert f"accepting rests for {accepting.PAUSE_S} s;" in rows[-1][2]


@pytest.mark.skipif(PURE_ONLY, reason="FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
def test_sizes_and_times_are_as_the_page_says() -> None:
    from fastws.hot import log_buffer, turn

    compiled = turn.BOUNDS
    assert log_buffer.BOUNDS["FULL_BYTES"] == _reactor_py.LOG_BYTES == logfile.FULL_BYTES
    kib, mib = 1 << 10, 1 << 20
    assert dict(rows_of("Sizes and times")) == {
        "body kept in memory, at most": f"{MEMORY_BYTES // kib} KiB, or `CacheMaxFile` if that is less",
        "age at which a changed file is settled": f"{identity.SETTLED_NS // 1_000_000} ms",
        "the same where its times are whole seconds": f"{identity.COARSE_NS / 1e9:.2f} s",
        "received from one connection in a turn, within a body, from all": (
            f"{compiled['RECEIVE_BYTES'] // kib} KiB, {compiled['BODY_BYTES'] // kib} KiB,"
            f" {compiled['ARENA_BYTES'] // mib} MiB"
        ),
        "responses of one connection in one `sendmsg`": f"{compiled['QUEUE_MAX']}",
        "of a file in a turn: by Python, by the compiled loop": (
            f"{TURN_BYTES // mib} MiB, {compiled['FILE_BYTES'] // kib} KiB"
        ),
        "requests of one connection that Python answers before others": f"{states.TURN_REQUESTS}",
        "buffer of access lines, of reasons": f"{_reactor_py.LOG_BYTES // kib} KiB",
        "lateness of a deadline, at most": f"{timers.TICK_S} s",
        "reading on after a last response": f"{LINGER_S:g} s, {LINGER_BYTES // mib} MiB",
        "asking the site again about one request": f"{states.ASK_TIMES} times",
    }


def rows_of(title: str) -> list[list[str]]:
    """The cells of the first table of a chapter of design.md, without its head."""
    lines = DESIGN.split(f"## {title}\n\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_rooms_and_modules_are_those_of_the_code() -> None:
    assert module_table.with_rooms(DESIGN) == DESIGN, "python docs/modules.py renews the page"


def test_first_line_that_is_torn_is_refused(tmp_path: Path) -> None:
    for name, text, expected in (
        ("a.py", '"""Does a thing.\n\nMore."""\n', "Does a thing."),
        ("a.pyx", '# cython: x=1\n"""Reads ``b`` | c."""\n', "Reads `b` \\| c."),
        ("a.pxd", "# cython: x=1\n# Declarations.\n", "Declarations."),
        ("a.h", "/* One.\n * Two. */\n", "One."),
        ("b.h", "/* One. */\n", "One."),
    ):
        (tmp_path / name).write_text(text)
        assert module_table.first_line(tmp_path / name) == expected
    for text in ('"""Does a thing and\nanother."""\n', "x = 1\n"):
        (tmp_path / "a.py").write_text(text)
        with pytest.raises(ValueError, match=r"a\.py: the first line is no sentence"):
            module_table.first_line(tmp_path / "a.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.(?:py|pyx|pxd|h|md))`", text)
    missing = [name for name in named if not any((base / name).exists() for base in (PACKAGE, REPOSITORY))]
    assert missing == []


def deployment_example(*parts: str) -> str:
    """The one example of deployment.md that holds ``parts``."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DEPLOYMENT, re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if all(part in block for part in parts)]
    return str(example)


def test_deployment_example_is_a_right_configuration(tmp_path: Path) -> None:
    example = deployment_example("ListenPort", "/var/log/fastws")
    for directory in ("/srv/www", "/var/log/fastws"):
        (tmp_path / directory[1:]).mkdir(parents=True)
        example = example.replace(directory, f"{tmp_path}{directory}")
    (tmp_path / "ws.conf").write_text(example)
    assert load(str(tmp_path / "ws.conf")).listen_ports == (8080,)


@pytest.mark.parametrize("part", ["Listen          443 tls", "Listen          80\n"])
def test_deployment_examples_of_tls_are_right(part: str, tmp_path: Path) -> None:
    example = deployment_example("Listen", part)
    pair = CA(tmp_path).pair("www.example.org")
    example = example.replace("/etc/fastws/tls/fullchain.pem", pair.certificate)
    example = example.replace("/etc/fastws/tls/privkey.pem", pair.key).replace("/srv/www", str(tmp_path))
    (tmp_path / "ws.conf").write_text(example)
    config = load(str(tmp_path / "ws.conf"))
    assert {port for _, port in spoken_in(config)} == ({443, 80} if config.speaks_tls else {80})


def test_container_is_healthy_while_it_serves(
    tmp_path: Path, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    put(tmp_path / "www", {"index.html": b"index"})
    configuration = deployment_example("ListenPort", "StatusPath").replace("/srv/www", f"{tmp_path}/www")
    (port,) = free_ports(1)
    (tmp_path / "ws.conf").write_text(configuration.replace("8080", str(port)))
    dockerfile = deployment_example("HEALTHCHECK")

    def command(instruction: str) -> list[str]:
        (words,) = re.findall(rf"^{instruction} (\[.*\])$", dockerfile, re.MULTILINE)
        here = {"/opt/fastws/bin/python": sys.executable, "/etc/fastws/ws.conf": str(tmp_path / "ws.conf")}
        return [here.get(word, word).replace("8080", str(port)) for word in json.loads(words)]

    first, *rest = command("CMD")
    assert first == "/opt/fastws/bin/fastws"
    environment = launch.environment("pure", tmp_path / "state")
    health = command("HEALTHCHECK CMD")
    assert subprocess.run(health, env=environment, stderr=subprocess.DEVNULL).returncode != 0
    with subprocess.Popen(
        [*launch.command(), *rest], env=environment, cwd="/", stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        said = ""
        while "Ctrl-C stops" not in said:
            line = server.stderr.readline()
            assert line, f"it ended: {said}"
            said += line
        assert f"http://127.0.0.1:{port}/, open to other machines" in said
        assert "(access log: standard error" in said
        assert subprocess.run(health, env=environment).returncode == 0
        server.send_signal(signal.SIGTERM)
        said = server.stderr.read()
    assert server.returncode == 0
    assert '"GET /-/healthz HTTP/1.1" 200' in said
    assert "fastws stopped" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ws.conf", "www"]


def test_hashes_for_a_content_security_policy_are_those_of_the_pages() -> None:
    listing = listing_page("/", Listing([], View(), 1, 0)).decode()
    rows = re.findall(r"^\| (.*) \| `(.*)-src` \| `'sha256-(.*)'` \|$", DEPLOYMENT, re.MULTILINE)
    assert rows == [
        ("errors and redirects", "style", sha256_of("style", error_page(404, "").decode())),
        ("directory listings", "style", sha256_of("style", listing)),
        ("`StatusPath`", "style", sha256_of("style", STATUS_PAGE)),
        ("`StatusPath`", "script", sha256_of("script", STATUS_PAGE)),
    ]
    assert rows[0][2] == sha256_of("style", redirect_page(301, "/").decode())
    assert rows[1][2] in deployment_example("Content-Security-Policy", "Header")
    for page in (listing, STATUS_PAGE, error_page(404, "").decode()):
        assert " style=" not in page  # to which no hash applies
        assert not re.search(r" on[a-z]+=", page)


def sha256_of(element: str, page: str) -> str:
    """Return the hash of the page's one element of that name, as CSP Level 3 has it."""
    (text,) = re.findall(f"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@pytest.mark.peer
@pytest.mark.parametrize("name", ["nginx", "Caddy"])
def test_server_in_front_keeps_status_pages_from_its_clients(
    tmp_path: Path, name: str, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    if others.missing(name):
        pytest.skip(others.missing(name))
    put(tmp_path / "root", {"index.html": b"index"})
    (tmp_path / "ws.conf").write_text("ListenPort 8080\nDocumentRoot root\nStatusPath /-/\n")
    (port,) = free_ports(1)
    with launch.running(tmp_path) as server:
        if name == "nginx":
            command = nginx_in_front(tmp_path, server.port, port)
        else:
            text = deployment_example("reverse_proxy").replace("8080", str(server.port))
            text = text.replace("www.example.org {", f"http://:{port} {{\n\tbind 127.0.0.1")
            (tmp_path / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{text}")
            command = ["caddy", "run", "--config", f"{tmp_path}/Caddyfile", "--adapter", "caddyfile"]
        environment = os.environ | {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
        program = others.which(command[0])
        with subprocess.Popen(
            command, executable=program, env=environment, stderr=subprocess.DEVNULL
        ) as front:
            try:
                wait_until(lambda: launch.answers(port))
                assert get(port, "/").body == b"index"
                assert get(port, "/-/metrics").status == 404
                assert get(server.port, "/-/metrics").status == 200
            finally:
                front.terminate()


def nginx_in_front(own: Path, port: int, own_port: int) -> list[str]:
    """The command that starts nginx by the example, without TLS."""
    text = deployment_example("proxy_pass").replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    text = re.sub(r"^ +ssl_.*\n", "", text, flags=re.MULTILINE)
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{own_port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {own}/{kind};" for kind in kinds)
    (own / "nginx.conf").write_text(
        f"daemon off; pid {own}/pid; error_log {own}/error.log; events {{}}\n"
        f"http {{ access_log off; {paths}\n{text} }}"
    )
    return ["nginx", "-c", f"{own}/nginx.conf"]
