"""What trusted proxies say of their clients in header fields, and what becomes of it everywhere."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from certificates import CA, port_of
from rawhttp import Client, finish_turns, put, request, settle
from wsgi_programs import probe

from fastws import Server

Serve = Callable[..., Server]

ON = "TrustedProxies 127.0.0.1"
NAMED = {
    ("X-Forwarded-For: 203.0.113.9, 198.51.100.7",): "198.51.100.7",
    ("X-Forwarded-For: 203.0.113.9, 198.51.100.7, 127.0.0.1",): "198.51.100.7",
    ("X-Forwarded-For: [2001:DB8::7]:4711",): "2001:db8::7",
    ("X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.7"): "198.51.100.7",
    ('Forwarded: for=203.0.113.9, for="[2001:db8::7]";proto=https',): "2001:db8::7",
    ("Forwarded: for=_hidden",): "_hidden",
    ("X-Real-IP: 198.51.100.7",): "198.51.100.7",
    ("X-Real-IP: 198.51.100.7", "X-Forwarded-For: 203.0.113.9, 198.51.100.7"): "198.51.100.7",
    ("X-Real-IP: 127.0.0.1", "X-Forwarded-For: 198.51.100.7"): "198.51.100.7",
    ("X-Forwarded-For: unknown",): "unknown",
    ("Forwarded: for=198.51.100.7", "X-Forwarded-For: 198.51.100.7"): "198.51.100.7",
    (): "127.0.0.1",
}
"""Field lines, and the client that they name."""

NOT_PLAIN = ("_hidden", "unknown", "Forwarded: for=198", "X-Forwarded-For: 203.0.113.9', ")
PLAIN = [lines for lines in NAMED if lines and not any(text in str(lines) for text in NOT_PLAIN)]
"""Those of them that the compiled loop reads by itself."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    files = put(
        tmp_path / "root", {"page.txt": b"x" * 1000, "large.bin": b"y" * 3_000_000, "dir/a.txt": b"a"}
    )
    settle(*[path for path in files.rglob("*") if path.is_file()])
    return files


def lines_of(path: Path, server: Server) -> list[str]:
    server.stop()
    return path.read_text().splitlines()


def peers(tmp_path: Path, server: Server) -> list[str]:
    return [each.split()[0] for each in lines_of(tmp_path / "log_webserver.txt", server)]


def hits(server: Server) -> int:
    """How many there were once the turn is over in which the last answer was sent."""
    finish_turns(server)
    return sum(worker.reactor.counters().hits for worker in server._pool.workers)


def test_log_names_the_client_of_every_request(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(ON, "WorkerThreads 1")
    with Client(server) as client:
        for lines in NAMED:
            for target in ("/page.txt", "/page.txt", "/missing.txt", "/large.bin", "/dir"):
                assert client.get(target, *lines).status in (200, 301, 404)
        client.send(b"".join([request("/page.txt", *lines) for lines in NAMED]))
        assert {client.reply().status for _ in NAMED} == {200}
    expected = [name for name in NAMED.values() for _ in range(5)] + list(NAMED.values())
    assert peers(tmp_path, server) == expected
    said = (tmp_path / "log_webserver_error.txt").read_text()
    assert all(f" {name}: 404 " in said for name in NAMED.values())


def test_replayed_answers_are_replayed_behind_a_proxy_too(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(ON, "WorkerThreads 1", "AccessLogFormat json")
    with Client(server) as client:
        client.get("/page.txt")
        client.get("/page.txt")
        before = hits(server)
        for lines in PLAIN:
            assert client.get("/page.txt", *lines).status == 200
            assert client.get("/page.txt", *lines, "Range: bytes=0-9").status == 206
        replayed = hits(server) - before
    assert replayed == (2 * len(PLAIN) if server.worker_status()[0].cache_hits else 0)
    found = [json.loads(line)["peer"] for line in lines_of(tmp_path / "log_webserver.txt", server)]
    assert found[2:] == [NAMED[lines] for lines in PLAIN for _ in range(2)]


def test_others_are_not_believed(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("TrustedProxies 10.0.0.0/8", "WorkerThreads 1")
    with Client(server) as client:
        for lines in NAMED:
            for target in ("/page.txt", "/page.txt", "/missing.txt"):
                client.get(target, *lines)
        assert client.get("/page.txt", 'Forwarded: for="').status == 200
    assert set(peers(tmp_path, server)) == {"127.0.0.1"}


def test_nobody_is_believed_where_no_proxy_is_named(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("WorkerThreads 1")
    with Client(server) as client:
        for lines in NAMED:
            client.get("/page.txt", *lines)
    assert set(peers(tmp_path, server)) == {"127.0.0.1"}


def test_reload_changes_whom_to_believe_on_open_connections(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("WorkerThreads 1")
    lines = ("X-Forwarded-For: 198.51.100.7",)
    with Client(server) as client:
        client.get("/page.txt", *lines)
        client.get("/page.txt", *lines)
        for proxies in (["127.0.0.0/8"], []):
            server.reload(lambda proxies=proxies: server.config.with_overrides(trusted_proxies=proxies))
            client.get("/page.txt", *lines)
            client.get("/page.txt", *lines)
    assert peers(tmp_path, server) == ["127.0.0.1"] * 2 + ["198.51.100.7"] * 2 + ["127.0.0.1"] * 2


@pytest.mark.parametrize(
    "lines",
    [
        ("Forwarded: for=198.51.100.7", "X-Forwarded-For: 203.0.113.9"),
        ("X-Real-IP: 198.51.100.7", "X-Forwarded-For: 198.51.100.7, 203.0.113.9"),
        ("Forwarded: for=198.51.100.7;proto=http", "X-Forwarded-Proto: https"),
        ('Forwarded: for="203.0.113.9, for=198.51.100.7',),
    ],
)
def test_contradiction_is_400_and_says_what_to_do(
    serve: Serve, root: Path, tmp_path: Path, lines: tuple[str, ...]
) -> None:
    server = serve(ON)
    with Client(server) as client:
        assert client.get("/page.txt").status == 200
        assert client.get("/page.txt", *lines).status == 400
    said = "\n".join(lines_of(tmp_path / "log_webserver_error.txt", server))
    assert "127.0.0.1: 400 " in said
    assert "ClientHeader" in said or "malformed" in said


def test_one_field_may_be_chosen(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(ON, "ClientHeader X-Real-IP", "WorkerThreads 1")
    with Client(server) as client:
        for _ in range(3):
            lines = ("X-Real-IP: 198.51.100.7", "X-Forwarded-For: 203.0.113.9", 'Forwarded: for="')
            assert client.get("/page.txt", *lines).status == 200
    assert peers(tmp_path, server) == ["198.51.100.7"] * 3


def test_status_is_for_the_client_and_not_for_its_proxy(serve: Serve, root: Path) -> None:
    server = serve(ON, "StatusPath /-/", "StatusAllow 192.0.2.0/24 127.0.0.0/8")
    with Client(server) as client:
        for name, status in {"192.0.2.7": 200, "198.51.100.7": 404, "unknown": 404, "_hidden": 404}.items():
            assert client.get("/-/healthz", f"X-Forwarded-For: {name}").status == status
        assert client.get("/-/healthz").status == 200  # a check of the proxy itself


def test_passwords_are_checked_by_turns_of_clients(
    serve: Serve, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"anna:{hashed}\n")
    server = serve(ON, "BasicAuth * users", "WorkerThreads 1")
    queues = server._pool.workers[0].shared.queues
    asked: list[str] = []
    submit = queues.submit
    monkeypatch.setattr(
        queues, "submit", lambda work, peer, call: asked.append(peer) or submit(work, peer, call)
    )
    with Client(server) as client:
        for number in range(3):
            wrong = base64.b64encode(b"anna:guess%d" % number).decode()
            lines = (f"Authorization: Basic {wrong}", f"X-Forwarded-For: 198.51.100.{number}")
            assert client.get("/page.txt", *lines).status == 401
    assert asked == ["198.51.100.0", "198.51.100.1", "198.51.100.2"]


def test_limit_by_address_leaves_proxies_alone(serve: Serve, root: Path) -> None:
    server = serve(ON, "MaxConnectionsPerAddress 1")
    with Client(server) as one, Client(server) as two:
        for client in (one, two):
            assert client.get("/page.txt", "X-Forwarded-For: 198.51.100.7").status == 200


def environ(serve: Serve, *lines: str, config: tuple[str, ...] = (ON,), **overrides: Any) -> dict[str, Any]:
    server = serve(*config, applications={"/app": probe}, **overrides)
    with Client(server) as client:
        reply = client.get("/app/environ", *lines)
        assert reply.status == 200
        told: dict[str, Any] = json.loads(reply.body)
        return told.get("environ", told)


def test_applications_see_the_client_and_its_scheme(serve: Serve, root: Path) -> None:
    told = environ(serve, "X-Forwarded-For: 203.0.113.9, 198.51.100.7", "X-Forwarded-Proto: https")
    assert told["REMOTE_ADDR"] == "198.51.100.7"
    assert told["wsgi.url_scheme"] == "https"
    assert told["HTTPS"] == "on"
    assert told["HTTP_X_FORWARDED_FOR"] == "203.0.113.9, 198.51.100.7"


def test_applications_get_no_address_of_a_client_that_is_not_named(serve: Serve, root: Path) -> None:
    assert environ(serve, "Forwarded: for=_hidden;proto=https")["REMOTE_ADDR"] == ""


def test_applications_get_no_forged_fields(serve: Serve, root: Path) -> None:
    lines = (
        "X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil",
        "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4", "CF-Connecting-IP: 1.2.3.4",
    )  # fmt: skip
    told = environ(serve, *lines, config=("TrustedProxies 10.0.0.0/8",))
    assert told["REMOTE_ADDR"] == "127.0.0.1"
    assert not [name for name in told if "FORWARDED" in name or name.endswith("_IP")]


def test_applications_get_the_chosen_field_alone(serve: Serve, root: Path) -> None:
    lines = ("X-Forwarded-For: 198.51.100.7", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4")
    told = environ(serve, *lines, config=(ON, "ClientHeader X-Forwarded-For"))
    assert told["REMOTE_ADDR"] == "198.51.100.7"
    assert [name for name in told if "FORWARDED" in name or name.endswith("_IP")] == ["HTTP_X_FORWARDED_FOR"]


@pytest.mark.plain
def test_who_came_by_https_is_not_sent_there_again(serve: Serve, root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    folder.mkdir()
    pair = CA(folder).pair("localhost")
    own: dict[str, Any] = {
        "listen": ("0 redirect", "0 tls"),
        "tls_certificates": [(pair.certificate, pair.key)],
    }
    server = serve(ON, **own)
    with Client(port_of(server, "redirect")) as client:
        for _ in range(3):
            assert client.get("/page.txt", "X-Forwarded-Proto: http").status == 308
            assert client.get("/page.txt", "X-Forwarded-Proto: https").body == b"x" * 1000
    server.reload(lambda: server.config.with_overrides(trusted_proxies=()))
    with Client(port_of(server, "redirect")) as client:
        assert client.get("/page.txt", "X-Forwarded-Proto: https").status == 308


def test_redirects_of_paths_name_no_scheme(serve: Serve, root: Path) -> None:
    server = serve(ON, "Redirect /old /new")
    with Client(server) as client:
        assert client.get("/old", "X-Forwarded-Proto: https")["Location"] == "/new"
        assert client.get("/dir", "X-Forwarded-Proto: https")["Location"] == "/dir/"


# The names of requests

GIVEN = "0af7651916cd43dd8448eb211c80319c"
TRACE = ("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b,c=d")
TARGETS = ("/page.txt", "/page.txt", "/page.txt", "/missing.txt", "/large.bin", "/dir")


def test_names_that_proxies_give_are_in_every_line(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(ON, "RequestID answer", "WorkerThreads 1")
    with Client(server) as client:
        for number, target in enumerate(TARGETS):
            assert client.get(target, f"X-Request-ID: given-{number}")["X-Request-ID"] == f"given-{number}"
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    assert [line.rpartition(" ")[2] for line in lines] == [f'"given-{i}"' for i in range(len(TARGETS))]
    said = (tmp_path / "log_webserver_error.txt").read_text()
    assert "404 " in said
    assert 'HTTP/1.1" given-3\n' in said


def test_names_are_made_where_none_is_given_or_believed(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("TrustedProxies 10.0.0.0/8", "RequestID answer", "AccessLogFormat json", "WorkerThreads 1")
    with Client(server) as client:
        replies = [client.get(target, f"X-Request-ID: {GIVEN}", *TRACE) for target in TARGETS]
        client.send(b"GET\r\n\r\n")
        replies.append(client.reply())
    named = [reply["X-Request-ID"] for reply in replies]
    assert len({GIVEN, *named}) == len(TARGETS) + 2
    assert all(len(name) == 32 and int(name, 16) for name in named)
    lines = [json.loads(line) for line in lines_of(tmp_path / "log_webserver.txt", server)]
    assert [line["request_id"] for line in lines] == named
    assert {line["traceparent"] for line in lines[:-1]} == {TRACE[0].partition(": ")[2]}
    assert {line["tracestate"] for line in lines[:-1]} == {TRACE[1].partition(": ")[2]}
    said = (tmp_path / "log_webserver_error.txt").read_text()
    assert f" {named[3]}\n" in said
    assert f" {named[-1]}\n" in said


def test_fields_of_an_answer_have_the_same_order_replayed_or_not(serve: Serve, root: Path) -> None:
    server = serve(
        ON, "RequestID answer", "WorkerThreads 1", "KeepaliveHeader on", "StrictTransportSecurity 60"
    )
    with Client(server) as client:
        replies = [client.get("/page.txt", "X-Request-ID: a") for _ in range(3)]
    assert [name for name, _ in replies[0].fields] == [name for name, _ in replies[2].fields]
    assert replies[2]["Keep-Alive"] == "timeout=15"


def test_requests_have_no_names_by_default(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(ON, "AccessLogFormat json")
    with Client(server) as client:
        for target in TARGETS:
            assert not client.get(target, f"X-Request-ID: {GIVEN}", *TRACE).all("X-Request-ID")
    for line in lines_of(tmp_path / "log_webserver.txt", server):
        assert "request_id" not in json.loads(line)


def test_names_are_logged_without_being_sent(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(ON, "RequestID log", "AccessLogFormat combined_time")
    with Client(server) as client:
        for target in TARGETS:
            assert not client.get(target, "X-Request-ID: a").all("X-Request-ID")
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    assert len(lines) == len(TARGETS)
    assert all(line.endswith(' "a"') for line in lines)


@pytest.mark.parametrize("proxies", [(), ("TrustedProxies 10.0.0.0/8",)], ids=["none", "others"])
def test_applications_get_the_name_and_the_trace(serve: Serve, root: Path, proxies: tuple[str, ...]) -> None:
    told = environ(serve, *TRACE, "X-Request-ID: forged", config=(*proxies, "RequestID answer"))
    assert len(told["HTTP_X_REQUEST_ID"]) == 32
    assert told["HTTP_TRACEPARENT"] == TRACE[0].partition(": ")[2]
    assert told["HTTP_TRACESTATE"] == TRACE[1].partition(": ")[2]


def test_answers_of_applications_carry_the_name(serve: Serve, root: Path) -> None:
    server = serve(ON, "RequestID answer", applications={"/app": probe})
    with Client(server) as client:
        assert client.get("/app/environ", f"X-Request-ID: {GIVEN}")["X-Request-ID"] == GIVEN


def test_answer_that_a_slow_reader_takes_in_parts_has_one_name(
    serve: Serve, root: Path, tmp_path: Path
) -> None:
    server = serve(ON, "RequestID answer", "WorkerThreads 1")
    with Client(server, receive_buffer=4096) as client:
        client.get("/large.bin")
        client.send(request("/large.bin") * 2)
        named = [client.reply()["X-Request-ID"] for _ in range(2)]
    lines = lines_of(tmp_path / "log_webserver.txt", server)
    assert [line.rpartition(" ")[2].strip('"') for line in lines][1:] == named


def test_answers_in_parts_of_many_clients_keep_their_names(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(ON, "RequestID answer", "WorkerThreads 1", "StrictTransportSecurity 60")
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server, receive_buffer=4096)) for _ in range(6)]
        clients[0].get("/large.bin")
        clients[0].get("/page.txt")
        for number, client in enumerate(clients):
            lines = (f"X-Request-ID: {number}-{'x' * 100}", f"X-Forwarded-For: 198.51.100.{number}")
            client.send(request("/page.txt", *lines) * 3 + request("/large.bin", *lines) * 2)
        for number, client in enumerate(clients):
            replies = [client.reply() for _ in range(5)]
            assert {reply["X-Request-ID"] for reply in replies} == {f"{number}-{'x' * 100}"}
            assert [len(reply.body) for reply in replies] == [1000] * 3 + [3_000_000] * 2
    lines = lines_of(tmp_path / "log_webserver.txt", server)[2:]
    found = Counter((line.split()[0], line.rpartition(" ")[2][1]) for line in lines)
    assert found == {(f"198.51.100.{number}", str(number)): 5 for number in range(6)}


# Keep-Alive


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_answers_say_how_long_the_connection_stays(serve: Serve, root: Path, version: str) -> None:
    server = serve("KeepaliveHeader on", "KeepaliveTime 7.5", applications={"/app": probe})
    asked = f"HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    with Client(server) as client:
        for target in (*TARGETS, "/app/environ"):
            client.send(f"GET {target} {asked}".encode())
            reply = client.reply()
            if reply.fields[-1] == ("Connection", "close"):  # HTTP/1.0, of unknown length
                break
            assert (reply["Connection"], reply["Keep-Alive"]) == ("keep-alive", "timeout=7")


def test_last_answers_do_not_say_it(serve: Serve, root: Path) -> None:
    server = serve("KeepaliveHeader on")
    for target in ("/page.txt", "/page.txt", "/missing.txt"):
        with Client(server) as client:
            reply = client.get(target, "Connection: close")
            assert reply["Connection"] == "close"
            assert not reply.all("Keep-Alive")


@pytest.mark.parametrize("lines", [(), ("KeepaliveHeader on", "KeepaliveTime 0.9")])
def test_nothing_is_said_by_default_nor_of_less_than_a_second(
    serve: Serve, root: Path, lines: tuple[str, ...]
) -> None:
    server = serve(*lines)
    with Client(server) as client:
        for target in TARGETS[:4]:
            reply = client.get(target)
            assert not reply.all("Keep-Alive")
            assert not reply.all("Connection")
