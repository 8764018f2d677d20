"""The access log and the error log: what is in them, when, and what a client cannot put there."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from launch import REPOSITORY, running
from rawhttp import Client, be_at_rest, get, put, request, thrice, wait_until

from fastws import Server, backend
from fastws.engine import worker as worker_module
from fastws.record import logfile as accesslog
from fastws.record.logfile import FULL_BYTES, LogFile
from fastws.seam import AccessLine

Serve = Callable[..., Server]
COMBINED = re.compile(
    r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)" ([1-5]\d\d) (\d+) '
    r'"((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)" "((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)"'
)
RFC_3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?[+-]\d\d:\d\d"
HOSTILE_AGENTS = [
    'quote" 200 1 "-" "',
    "back\\slash\\",
    'x"\\x22\\"',
    "tab\there",
    "\xff\xfe\x80 latin",
    "[10/Oct/2000:13:55:36 -0700]",
    "<script>alert(1)</script>",
    "${jndi:ldap://x}",
    "%s%n%d",
    "-",
    '"',
    "a" * 8000,
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"a.txt": b"text of a", "index.html": b"<pre></pre>", "sub/x.txt": b"x"})


def lines_of(path: Path, server: Server) -> list[str]:
    """The log's lines after the end of the server."""
    server.stop()
    text = path.read_bytes().decode("ascii")
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What log files are written, one entry for each call."""
    calls: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        calls.append(data)
        return os.write(fd, data)

    monkeypatch.setattr(accesslog, "os", SimpleNamespace(**(vars(os) | {"write": write})))
    return calls


# The access log


def test_each_request_is_one_line_in_the_combined_format(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve()
    fields = ("Referer: http://localhost/from", "User-Agent: test/1.0")
    for _ in range(3):
        with Client(server) as client:
            client.get("/a.txt?q=1", *fields)
            client.get("/a.txt", *fields, method="HEAD")
            client.get("/missing", *fields)
            client.get("/a.txt", *fields, "If-None-Match: *")
            client.get("/a.txt", *fields, "Range: bytes=0-3")
            client.send(b"GET /a.txt HTTP/1.0\r\n\r\n")
            client.reply()
    size = len(get(server, "/missing").body)
    found = [COMBINED.fullmatch(line) for line in lines_of(tmp_path / "log_webserver.txt", server)]
    once = [
        ("GET /a.txt?q=1 HTTP/1.1", "200", "9", "http://localhost/from", "test/1.0"),
        ("HEAD /a.txt HTTP/1.1", "200", "0", "http://localhost/from", "test/1.0"),
        ("GET /missing HTTP/1.1", "404", str(size), "http://localhost/from", "test/1.0"),
        ("GET /a.txt HTTP/1.1", "304", "0", "http://localhost/from", "test/1.0"),
        ("GET /a.txt HTTP/1.1", "206", "4", "http://localhost/from", "test/1.0"),
        ("GET /a.txt HTTP/1.0", "200", "9", "-", "-"),
    ]
    expected = [*once * 3, ("GET /missing HTTP/1.1", "404", str(size), "-", "-")]
    assert sorted(match.groups() for match in found if match) == sorted(expected)
    assert all(found)


def test_download_that_was_given_up_counts_the_bytes_really_sent(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    size = 64 << 20
    put(root, {"big.bin": b"x" * size})
    server = serve("WorkerThreads 1")  # whose lines are in the order of the requests
    with Client(server, receive_buffer=16384) as client:
        client.send(request("/big.bin"))
        client.head()
        client.read(1_000_000)
    wait_until(lambda: server.connection_count() == 0)
    assert len(get(server, "/big.bin").body) == size
    given_up, whole = (COMBINED.fullmatch(line) for line in lines_of(tmp_path / "log_webserver.txt", server))
    assert given_up
    assert whole
    assert 1_000_000 <= int(given_up[3]) < size
    assert int(whole[3]) == size


def test_long_texts_are_cut_alike_on_both_sides_and_never_inside_an_escape() -> None:
    twins = [backend.load(pure=True).parser, backend.load().parser]
    for unit in ("a", "\xff", "a\xff", "aa\\", '"aaa', "\x1baaaa"):
        for size in range(880, 905):
            text = (unit * 2500)[:size]
            lines = [
                p.format_access_line("combined", AccessLine("::1", "user", "t", text * 3, 200, 1, text, text))
                for p in twins
            ]
            assert lines[0] == lines[1]
            assert len(lines[0]) < 4096
            assert not re.search(rb"\\(?!x[0-9A-F]{2})", lines[0])


def test_log_is_complete_under_a_flood(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("WorkerThreads 2")
    with Client(server) as one, Client(server) as other:
        for _ in range(10):
            for client in (one, other):
                client.send(request("/a.txt") * 300)
            for client in (one, other):
                for _ in range(300):
                    assert client.reply().status == 200
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    assert len(lines) == 6000
    assert all(map(COMBINED.fullmatch, lines))


def test_lines_are_written_while_the_connection_idles(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve()
    log = tmp_path / "log_webserver.txt"
    with Client(server) as client:
        for count in (1, 2, 3):  # a miss, then hits: each comes out by itself within a second
            client.get("/a.txt")
            wait_until(lambda: log.read_bytes().count(b"\n") >= count)  # noqa: B023
        assert client.is_open()


def test_access_log_off_spells_no_line(serve: Serve, root: Path) -> None:
    server = serve("AccessLog off", "WorkerThreads 1")
    (worker,) = server._pool.workers
    assert get(server, "/none").status == 404
    worker.shared.ledger._parser = SimpleNamespace()  # which spells no access lines
    for target, status in (("/a.txt", 200), ("/none", 404)):
        assert get(server, target).status == status
    server.stop()
    assert "unexpected exception" not in Path(server.config.error_log).read_text()


def test_access_log_off_writes_nothing(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("AccessLog off")
    assert thrice(server, "/a.txt").status == 200
    server.stop()
    assert not list(tmp_path.glob("log_webserver.txt"))


def test_json_lines_are_json(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("AccessLogFormat json")
    for agent in HOSTILE_AGENTS:
        assert thrice(server, "/a.txt", f"User-Agent: {agent}").status == 200
    with Client(server) as client:
        client.send(b"malformed\r\n\r\n")
        client.reply()
    found = [json.loads(line) for line in lines_of(tmp_path / "log_webserver.txt", server)]
    assert [entry["request"] for entry in found if entry["status"] == 400] == ["malformed"]
    assert all(re.fullmatch(RFC_3339, entry["time"]) for entry in found)
    assert all(entry["host"] == ("localhost" if entry["status"] == 200 else "") for entry in found)
    assert all(0 < entry["duration"] < 100 for entry in found if entry["status"] == 200)
    agents = [entry["agent"] for entry in found if entry["status"] == 200]
    assert sorted(agents) == sorted([agent.strip("\t ") for agent in HOSTILE_AGENTS] * 3)


def test_combined_time_has_the_seconds_of_each_request_behind_it(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve("AccessLogFormat combined_time")
    thrice(server, "/a.txt")
    get(server, "/missing")
    found = [line.rpartition(" ") for line in lines_of(tmp_path / "log_webserver.txt", server)]
    assert len(found) == 4
    assert all(COMBINED.fullmatch(line) for line, _, _ in found)
    assert all(
        re.fullmatch(r"\d+\.\d{6}", duration) and 0 < float(duration) < 100 for _, _, duration in found
    )


def test_duration_in_json_counts_until_the_last_byte_is_taken(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    put(root, {"big.bin": b"x" * (16 << 20)})
    server = serve("AccessLogFormat json")
    with Client(server, receive_buffer=16384) as client:
        began = time.monotonic()
        client.send(request("/big.bin"))
        client.head()
        time.sleep(0.3)  # what is measured
        client.read(16 << 20)
        took_s = time.monotonic() - began
    (line,) = lines_of(tmp_path / "log_webserver.txt", server)
    assert 0.3 <= json.loads(line)["duration"] <= took_s


# Injection


def test_nothing_a_client_sends_begins_a_line_or_leaves_its_quotes(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve("ErrorLog errors.txt", "LogLevel debug")
    count = 0
    for agent in HOSTILE_AGENTS:
        for target in ("/a.txt", "/missing"):
            thrice(server, target, f"User-Agent: {agent}", f"Referer: {agent[:4000]}")
            count += 3
    thrice(server, "/%0d%0a127.0.0.1%20-%20forged")
    thrice(server, '/"forged"?\\"forged\\')
    malformed = [
        b"GET /\r127.0.0.1 - forged HTTP/1.1\r\n\r\n",
        b"GET /\n127.0.0.1 - forged\n\n",
        b'G"T / HTTP/1.1\r\n\r\n',
        b"GET / HTTP/1.1\r\nUser-Agent: a\r\n b: forged\r\n\r\n",
        b"GET / HTTP/1.1\r\nUser-Agent: \x1b[31mred\x1b[0m\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 20,
        "GET /\u2028forged HTTP/1.1\r\n\r\n".encode(),
    ]
    for data in malformed:
        with Client(server) as client:
            client.send(data)
            assert client.reply().status == 400
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    assert len(lines) == count + 6 + len(malformed)
    for line in lines:
        assert COMBINED.fullmatch(line), line
    for line in (tmp_path / "errors.txt").read_text().splitlines():
        assert re.match(RFC_3339 + r" [a-z]+ \[[^]]+\] ", line), line
        assert "\x1b" not in line


@pytest.mark.posix  # a name with a line feed
def test_reason_of_an_error_cannot_begin_a_line_of_the_error_log(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    put(root, {"x.a\nforged": b"x"})
    server = serve("ContentType .txt text/plain", "ErrorLog errors.txt", default_type=None)
    assert thrice(server, "/x.a%0Aforged").status == 501
    server.stop()
    assert not any(line.startswith("forged") for line in (tmp_path / "errors.txt").read_text().splitlines())


TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 40
MALFORMED = [
    (b"malformed\r\nX: secret\r\n\r\n", r"malformed", "method"),
    (b"GET /  HTTP/1.1\r\n\r\n", r"GET /  HTTP/1.1", "request line"),
    (b"GET / HTTP/1.1\r\nX : y\r\n\r\n", r"GET / HTTP/1.1", "White space"),
    (b"\x16", r"\x16", "TLS handshake on a plain-text port"),
    (
        TLS_HELLO,
        r"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03" + "r" * 40,
        "TLS handshake on a plain-text port",
    ),
    (b"\r\n\r\n\x00\r\nQUIT\n!", "-", "PROXY protocol"),
    (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", "-", "More than one empty line"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n\r\n", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2", "PROXY protocol"),
    (b"PROXY UNKNOWN\r\n\r\n", "PROXY UNKNOWN", "PROXY protocol"),
    (b"GET /" + b"a" * 9000, "GET /" + "a" * 251, "longer than 8192 bytes"),
    (b"GET /\x00" + b"\xff" * 9000, r"GET /\x00" + r"\xFF" * 250, "NUL byte"),
]


@pytest.mark.parametrize(("data", "shown", "reason"), MALFORMED, ids=[reason for _, _, reason in MALFORMED])
def test_what_could_not_be_read_is_shown_escaped_and_cut(
    serve: Serve, root: Path, tmp_path: Path, data: bytes, shown: str, reason: str
) -> None:
    server = serve("ErrorLog errors.txt")
    for _ in range(2):
        with Client(server) as client:
            client.send(data)
            assert client.reply().status in (400, 414)
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    assert [COMBINED.fullmatch(line)[1] for line in lines] == [shown] * 2  # type: ignore[index]
    said = [line for line in (tmp_path / "errors.txt").read_text().splitlines() if reason in line]
    assert len(said) == 2
    assert "secret" not in "".join(said)
    assert all(len(line) < 1500 for line in said)
    if shown != "-":
        assert all(
            line.endswith(f'"{shown}"') for line in said if "\\xFF" not in shown and "\\xFC" not in shown
        )


def test_request_that_came_too_slowly_is_shown_as_far_as_it_came(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve("RequestTimeout 0.3")
    with Client(server) as client:
        client.send(b"GET /unfini")
        assert client.reply().status == 408
    (line,) = lines_of(tmp_path / "log_webserver.txt", server)
    assert COMBINED.fullmatch(line)[1] == "GET /unfini"  # type: ignore[index]


def test_error_log_in_json_has_an_object_a_line(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("ErrorLog errors.txt", "ErrorLogFormat json", "AccessLogFormat json", "LogLevel debug")
    assert get(server, '/"missing"\\%0a').status == 404
    for data in ('"\\\u2028 forged\r\n\r\n'.encode(), TLS_HELLO):
        with Client(server) as client:
            client.send(data)
            assert client.reply().status == 400
    try:
        raise ValueError("planted\nin two lines")
    except ValueError:
        server.logger.exception("a fault")
    server.stop()
    found = [json.loads(line) for line in (tmp_path / "errors.txt").read_text().splitlines()]
    assert all(re.fullmatch(RFC_3339, entry["time"]) for entry in found)
    assert {entry["level"] for entry in found} == {"info", "error"}
    assert all(entry["thread"] and entry["message"] for entry in found)
    assert sum("404 There is no such file." in entry["message"] for entry in found) == 1
    assert sum("TLS handshake" in entry["message"] for entry in found) == 1
    (fault,) = [entry for entry in found if "trace" in entry]
    assert fault["trace"].endswith("ValueError: planted\nin two lines")


def test_reload_changes_the_form_of_the_error_log(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("ErrorLog errors.txt")
    server.reload(lambda: server.config.with_overrides(error_log_format="json"))
    server.stop()
    lines = (tmp_path / "errors.txt").read_text().splitlines()
    assert re.match(RFC_3339, lines[0])
    assert json.loads(lines[-1])["message"] == "fastws stopped"


@pytest.mark.parametrize("zone", ["UTC0", "XXX-5:45", "YYY+3:30"])
def test_times_have_the_offset_of_their_zone(
    serve: Serve, root: Path, tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    accesslog._stamp.cache_clear()  # another zone in the same second
    try:
        server = serve("ErrorLog errors.txt", "AccessLogFormat json")
        thrice(server, "/a.txt")
        times = [json.loads(line)["time"] for line in lines_of(tmp_path / "log_webserver.txt", server)]
        times += [line.split(" ")[0] for line in (tmp_path / "errors.txt").read_text().splitlines()]
    finally:
        monkeypatch.undo()
        time.tzset()
    offsets = {"UTC0": "+00:00", "XXX-5:45": "+05:45", "YYY+3:30": "-03:30"}
    assert {text[-6:] for text in times} == {offsets[zone]}
    for text in times:
        assert abs((datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()) < 120


def goaccess_options(log_format: str) -> list[str]:
    """How GoAccess is told of the format; of ``combined_time`` as operations.md says."""
    if log_format == "combined":
        return ["--log-format=COMBINED"]
    (line,) = re.findall(r"`(--log-format=[^`]*)`", (REPOSITORY / "docs" / "operations.md").read_text())
    return shlex.split(line)


@pytest.mark.plain
@pytest.mark.peer
@pytest.mark.skipif(shutil.which("goaccess") is None, reason="goaccess is not installed")
@pytest.mark.parametrize("log_format", ["combined", "combined_time"])
def test_goaccess_reads_the_log_without_a_bad_line(
    serve: Serve, root: Path, tmp_path: Path, log_format: str
) -> None:
    server = serve("RequestTimeout 0.5", "MaxConnections 50", f"AccessLogFormat {log_format}")
    for agent in HOSTILE_AGENTS:
        thrice(server, "/a.txt", f"User-Agent: {agent}", f"Referer: {agent[:4000]}")
        thrice(server, "/missing", f"User-Agent: {agent}")
    for target in ("/", "/sub", '/"quoted"', "/%22%0a%5c", "/a.txt?q=\\", "http://localhost/a.txt", "/%"):
        thrice(server, target)
        thrice(server, target, method="HEAD")
        thrice(server, target, method="DELETE")
    refused = [
        b"malformed\r\n\r\n",
        b'"\r\n\r\n',
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
        b"G",  # 408
        b"\x16\x03\x01\x02\x00",
    ]
    for data in refused:
        with Client(server) as client:
            client.send(data)
            assert client.reply().status >= 400
    be_at_rest(server)
    clients = [Client(server) for _ in range(50)]
    assert [client.get("/a.txt").status for client in clients] == [200] * 50
    clients.append(Client(server))
    assert clients[-1].reply().status == 503
    for client in clients:
        client.sock.close()
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            "goaccess",
            "log_webserver.txt",
            *goaccess_options(log_format),
            "--no-global-config",
            "-o",
            str(report),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    general = json.loads(report.read_text())["general"]
    assert general["failed_requests"] == 0, lines
    assert general["total_requests"] == len(lines)


# The error log


def test_error_log_tells_start_reasons_and_stop(
    serve: Serve, root: Path, tmp_path: Path, side: object
) -> None:
    server = serve("WorkerThreads 2", "KeepaliveTime 7", "RequestTimeout 9")
    thrice(server, "/missing")
    thrice(server, "/..")
    address = f"127.0.0.1:{server.port}"
    server.stop()
    log = (tmp_path / "log_webserver_error.txt").read_text()
    assert re.search(r"starts: parser (compiled|pure), reactor (compiled|pure)", log)
    for part in (
        address,
        "2 worker threads",
        "KeepaliveTime 7 s",
        "RequestTimeout 9 s",
        str(root),
        "stopped",
    ):
        assert part in log
    assert log.count('404 There is no such file. "GET /missing HTTP/1.1"') == 3
    assert log.count('"GET /.. HTTP/1.1"') == 3


def test_log_level_leaves_out_what_is_below_it(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("LogLevel error", "ErrorLog errors.txt")
    thrice(server, "/missing")
    root.rename(tmp_path / "gone")
    assert thrice(server, "/a.txt").status == 500
    server.stop()
    lines = (tmp_path / "errors.txt").read_text().splitlines()
    assert len(lines) == 3
    assert all(" error " in line and " 500 " in line for line in lines)


def test_error_log_off_writes_nothing(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("ErrorLog off")
    assert thrice(server, "/missing").status == 404
    server.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log_webserver.txt", "root", "ws.conf"]


@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_logs_go_to_standard_error_where_told_so(root: Path, kind: str) -> None:
    (root.parent / "ws.conf").write_text(
        "ListenPort 8080\nDocumentRoot root\nAccessLog -\nErrorLog -\nDefaultType text/plain\n"
    )
    with running(root.parent, side=kind) as server:
        assert thrice(server.port, "/a.txt").status == 200
        server.signal(15)
        assert server.wait() == 0
        output = server.output()
    assert output.count('"GET /a.txt HTTP/1.1" 200 9') == 3
    assert "fastws stopped" in output
    assert not list(root.parent.glob("log*"))


@pytest.mark.parametrize("kind", ["compiled", "pure"])
def test_terminal_gets_one_banner_and_no_log(root: Path, kind: str) -> None:
    (root.parent / "ws.conf").write_text("ListenPort 8080\nDocumentRoot root\nDefaultType text/plain\n")
    with running(root.parent, side=kind) as server:
        thrice(server.port, "/a.txt")
        thrice(server.port, "/missing")
        server.signal(15)
        assert server.wait() == 0
        assert f"http://127.0.0.1:{server.port}/" in server.banner
        assert server.output() == ""


# Notes: the lines that may wait


def file_of(tmp_path: Path, said: list[str] | None = None) -> tuple[LogFile, Path]:
    path = tmp_path / "log.txt"
    return LogFile(str(path), [].append if said is None else said.append), path


def test_line_that_was_put_is_written_by_flush_and_before_any_other(tmp_path: Path) -> None:
    log, path = file_of(tmp_path)
    log.put(b"1\n")
    log.put(b"2\n")
    assert path.read_bytes() == b""
    log.flush()
    assert path.read_bytes() == b"1\n2\n"
    log.put(b"3\n")
    log.write(b"4\n")
    assert path.read_bytes() == b"1\n2\n3\n4\n"
    log.put(b"5\n")
    log.close()
    log.put(b"after the end\n")
    log.flush()
    assert path.read_bytes() == b"1\n2\n3\n4\n5\n"


def test_what_waits_leaves_with_the_next_line_in_one_call(tmp_path: Path, written: list[bytes]) -> None:
    log, _ = file_of(tmp_path)
    log.put(b"1\n")
    log.put(b"2\n")
    log.write(b"3\n")
    assert written == [b"1\n2\n3\n"]
    for _ in range(3):
        log.flush()
        log.write(b"")
    assert len(written) == 1  # where nothing waits, nothing is called
    log.close()


def test_lines_that_wait_take_little_memory(tmp_path: Path, written: list[bytes]) -> None:
    log, path = file_of(tmp_path)
    line = b"x" * 99 + b"\n"
    for _ in range(FULL_BYTES // 100 * 3):
        log.put(line)
    assert len(written) == 2
    assert all(FULL_BYTES < len(lines) <= FULL_BYTES + 100 for lines in written)
    log.close()
    assert path.stat().st_size == FULL_BYTES // 100 * 3 * 100


def test_lines_put_before_a_rotation_are_in_the_old_file(tmp_path: Path) -> None:
    log, path = file_of(tmp_path)
    log.put(b"before\n")
    path.rename(tmp_path / "old.txt")
    log.reopen(str(path))
    log.put(b"between\n")
    log.reopen(str(tmp_path / "new.txt"))
    log.put(b"after\n")
    log.reopen(str(tmp_path / "none" / "new.txt"))  # which fails
    log.put(b"still there\n")
    log.close()
    assert (tmp_path / "old.txt").read_bytes() == b"before\n"
    assert path.read_bytes() == b"between\n"
    assert (tmp_path / "new.txt").read_bytes() == b"after\nstill there\n"


def test_standard_error_is_not_kept_waiting(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = LogFile("-", [].append)
    log.put(b"at once\n")
    assert capfd.readouterr().err == "at once\n"
    log.reopen(str(tmp_path / "log.txt"))
    log.put(b"later\n")
    log.reopen("-")
    log.put(b"at once again\n")
    assert capfd.readouterr().err == "at once again\n"
    log.close()
    assert (tmp_path / "log.txt").read_bytes() == b"later\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_lines_that_waited_for_a_full_disk_are_counted() -> None:
    said: list[str] = []
    log = LogFile("/dev/full", said.append)
    line = b"x" * 99 + b"\n"
    for _ in range(2000):
        log.put(line)
    log.flush()
    log.put(line)
    log.close()
    log.close()
    assert said == [
        "lines for /dev/full are being lost: No space left on device",
        "2001 lines for /dev/full were lost",
    ]


def test_lines_of_many_threads_are_whole_and_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file takes little at a time, another thread's turn comes in the middle of every line."""

    def write_little(fd: int, data: bytes) -> int:
        time.sleep(0)
        return os.write(fd, data[:37])

    monkeypatch.setattr(accesslog, "os", SimpleNamespace(**(vars(os) | {"write": write_little})))
    monkeypatch.setattr(accesslog, "FULL_BYTES", 500)
    log, path = file_of(tmp_path)
    are_done = threading.Event()
    count = 1000

    def note(thread: int) -> None:
        for number in range(count):
            add = log.write if number % 50 == 0 else log.put
            add(b"thread %d line %04d\n" % (thread, number))

    def disturb() -> None:
        for number in itertools.count():
            log.flush()
            if number % 10 == 0:
                log.reopen(str(path))
            if are_done.wait(0.001):
                return

    disturber = threading.Thread(target=disturb)
    threads = [threading.Thread(target=note, args=(number,)) for number in range(4)]
    for thread in (disturber, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    are_done.set()
    disturber.join()
    log.close()
    lines = path.read_bytes().splitlines()
    assert len(lines) == 4 * count
    for thread in range(4):
        own = [line for line in lines if line.startswith(b"thread %d " % thread)]
        assert own == [b"thread %d line %04d" % (thread, number) for number in range(count)]


@pytest.mark.parametrize("access_log", ["AccessLog off", "AccessLog access.txt"])
def test_reasons_are_written_while_nobody_asks(
    serve: Serve, root: Path, tmp_path: Path, access_log: str
) -> None:
    server = serve("WorkerThreads 2", access_log, "ErrorLog errors.txt")
    for number in range(3):
        assert get(server, f"/missing{number}").status == 404
        wait_until(lambda: f'"GET /missing{number} ' in (tmp_path / "errors.txt").read_text())  # noqa: B023
    server._logs.error.note(logging.INFO, "no worker", "from elsewhere")
    wait_until(lambda: "info [no worker] from elsewhere\n" in (tmp_path / "errors.txt").read_text())


def test_reasons_wait_and_failures_do_not(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "FLUSH_S", 3600)
    server = serve("WorkerThreads 1", "ErrorLog errors.txt")
    log = tmp_path / "errors.txt"
    assert get(server, "/missing").status == 404
    be_at_rest(server)
    assert "/missing" not in log.read_text()
    root.rename(tmp_path / "gone")
    assert get(server, "/a.txt").status == 500
    be_at_rest(server)
    assert re.search(r'404 .*"GET /missing .*\n.* error \[worker-0\] .* 500 .*"GET /a.txt', log.read_text())


def test_worker_that_ends_leaves_no_reason_unwritten(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "FLUSH_S", 3600)
    server = serve("WorkerThreads 1", "ErrorLog errors.txt")
    assert get(server, "/missing").status == 404
    be_at_rest(server)
    server.abort()
    assert server._pool.workers[0].join(60)
    assert '"GET /missing HTTP/1.1"\n' in (tmp_path / "errors.txt").read_text()


# A disk that is full


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_of_the_access_log_stops_no_request_and_is_said(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve("AccessLog /dev/full", "ErrorLog errors.txt")
    for _ in range(5):
        assert thrice(server, "/a.txt").status == 200
    server.stop()
    log = (tmp_path / "errors.txt").read_text()
    assert log.count("lines for /dev/full are being lost: No space left on device") == 1
    assert "15 lines for /dev/full were lost" in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_of_the_error_log_stops_no_request(serve: Serve, root: Path) -> None:
    server = serve("AccessLog /dev/full", "ErrorLog /dev/full")
    assert thrice(server, "/missing").status == 404
    assert thrice(server, "/a.txt").status == 200


def test_log_in_a_spreadsheet_has_its_columns(serve: Serve, root: Path, tmp_path: Path) -> None:
    """Whoever splits at blanks and quotes gets ten columns, whatever the client sent."""
    server = serve()
    for agent in HOSTILE_AGENTS:
        thrice(server, "/a.txt", f"User-Agent: {agent}")
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    assert {len(row) for row in csv.reader(lines, delimiter=" ")} == {10}
