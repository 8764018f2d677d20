"""A reload: the new configuration all at once, the old one where the new is wrong, and no request lost."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import launch
import pytest
from hammer import hammering, holding, is_refused
from rawhttp import Client, finish_turns, get, put, request, wait_until

from fastws import Config, Server
from fastws.http.errors import ConfigError, Problem

Serve = Callable[..., Server]
FreePorts = Callable[..., tuple[int, ...]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"page.txt": b"x" * 1000, "other.txt": b"y" * 3000})


def with_stamp(config: Config, stamp: int) -> Config:
    return config.with_overrides(headers=(("X-Stamp", str(stamp), "*"),))


def error_log(server: Server) -> str:
    return Path(server.config.error_log).read_text()


def refuse(*problems: str) -> Callable[[], Config]:
    def read() -> Config:
        raise ConfigError(tuple(Problem("ws.conf", 7, text) for text in problems))

    return read


# Without a gap


def test_reload_under_load_fails_not_one_request(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with hammering(server.port, "/page.txt", "/other.txt") as hammer:
        for stamp in range(20):
            server.reload(lambda s=stamp: with_stamp(server.config, s))
            hammer.more(5)
    assert error_log(server).count("configuration reloaded") == 20


def test_no_answer_is_the_old_sites_once_the_reload_is_over(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    with hammering(server.port, "/page.txt", "/other.txt"), ExitStack() as stack:
        clients = [stack.enter_context(Client(server)) for _ in range(8)]
        assert {worker.load > 0 for worker in server._pool.workers} == {True}
        for stamp in range(20):
            server.reload(lambda s=stamp: with_stamp(server.config, s))
            # First all requests, so that no worker has time to catch up; then again what may be replayed.
            for _ in range(2):
                for client in clients:
                    client.send(request("/page.txt"))
                assert [client.reply()["X-Stamp"] for client in clients] == [str(stamp)] * 8
            with Client(server) as fresh:
                assert fresh.get("/other.txt")["X-Stamp"] == str(stamp)


def test_half_a_request_is_finished_by_the_new_site(serve: Serve, root: Path) -> None:
    server = serve()
    put(root, {"form.html": b"<pre></pre>"})
    kind = b"Content-Type: application/x-www-form-urlencoded"
    head = b"POST /form.html HTTP/1.1\r\nHost: x\r\n" + kind + b"\r\nContent-Length: 3\r\n\r\n"
    with Client(server) as in_head, Client(server) as in_body:
        in_head.send(head[:30])
        in_body.send(head + b"a")
        server.reload(lambda: with_stamp(server.config, 1))
        in_head.send(head[30:] + b"a=1")
        in_body.send(b"=1")
        for client in (in_head, in_body):
            reply = client.reply()
            assert (reply.status, reply["X-Stamp"]) == (200, "1")
            assert client.is_open()


def test_download_in_flight_goes_on(serve: Serve, root: Path) -> None:
    server = serve()
    content = bytes(range(256)) * (4 << 12)
    put(root, {"big.bin": content})
    with Client(server, receive_buffer=4096) as client:
        client.send(request("/big.bin"))
        client.head()
        server.reload(lambda: server.config.with_overrides(document_root=str(root.parent)))
        assert client.read(len(content)) == content
        assert client.get("/page.txt").status == 404
        assert client.get("/root/page.txt").status == 200


# Logs


def test_rotation_under_load_loses_no_line(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    log = Path(server.config.access_log)
    with hammering(server.port, "/page.txt") as hammer:
        for number in range(5):
            log.rename(f"{log}.{number}")
            server.reload(lambda: server.config)
            assert log.exists()
            hammer.more()
    server.stop()
    lines = b"".join(path.read_bytes() for path in log.parent.glob(f"{log.name}*")).splitlines()
    assert len(lines) == hammer.answers
    assert all(line.endswith(b'"-" "-"') for line in lines)


def test_logs_are_reopened_even_if_the_file_is_broken(serve: Serve, root: Path) -> None:
    server = serve()
    for name in (server.config.access_log, server.config.error_log):
        Path(name).rename(f"{name}.1")
    server.reload(refuse("such and such"))
    get(server, "/page.txt")
    server.stop()
    assert Path(server.config.access_log).read_text().count("/page.txt") == 1
    assert "such and such" in error_log(server)


def test_logs_move_to_their_new_names(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve()
    get(server, "/page.txt")
    names = {name: str(tmp_path / f"new_{name}") for name in ("access_log", "error_log")}
    server.reload(lambda: server.config.with_overrides(**names))
    get(server, "/other.txt")
    server.stop()
    assert "/other.txt" in (tmp_path / "new_access_log").read_text()
    assert "fastws stopped" in (tmp_path / "new_error_log").read_text()


def test_access_log_is_switched_off_and_on(serve: Serve, root: Path) -> None:
    server = serve()
    log = server.config.access_log
    for path, target in (("off", "/?unseen"), (log, "/?seen")):
        server.reload(lambda p=path: server.config.with_overrides(access_log=p))
        get(server, target)
    server.stop()
    assert "/?seen" in Path(log).read_text()
    assert "/?unseen" not in Path(log).read_text()


def test_log_level_is_the_new_one(serve: Serve, root: Path) -> None:
    server = serve("LogLevel info")
    server.reload(lambda: server.config.with_overrides(log_level="error"))
    get(server, "/first")
    finish_turns(server)  # its reason is noted after it is sent
    server.reload(lambda: server.config.with_overrides(log_level="info"))
    get(server, "/second")
    wait_until(lambda: "/second" in error_log(server))
    assert "/first" not in error_log(server)


# Listeners


def test_listeners_that_stay_are_kept_new_ones_opened_dropped_ones_closed(
    serve: Serve, root: Path, free_ports: FreePorts
) -> None:
    stays, goes, comes = free_ports(3)
    path = root.parent / "socket"
    server = serve("WorkerThreads 2", listen_ports=(stays, goes), listen=(f"unix:{path}",))
    kept = server.listeners.by_address["127.0.0.1", stays]
    with hammering(stays, "/page.txt"), Client(goes) as established:
        established.get("/page.txt")
        server.reload(lambda: server.config.with_overrides(listen_ports=(comes, stays), listen=()))
        assert server.addresses == [f"127.0.0.1:{comes}", f"127.0.0.1:{stays}"]
        assert server.listeners.by_address["127.0.0.1", stays] is kept
        assert is_refused(goes)
        assert not path.exists()
        assert get(comes, "/page.txt").status == 200
        # Only the listener has gone, not those it let in.
        assert established.get("/page.txt").status == 200


def test_what_waits_at_a_dropped_port_is_answered(serve: Serve, root: Path, free_ports: FreePorts) -> None:
    stays, goes = free_ports(2)
    server = serve("WorkerThreads 2", listen_ports=(stays, goes))
    clients = []
    with ExitStack() as held:
        held.enter_context(holding(server))
        for _ in range(10):
            clients.append(Client(goes))
            clients[-1].send(request("/page.txt"))
        release = server._pool.have_all
        server._pool.have_all = lambda *a: (held.close(), release(*a))[1]  # type: ignore[method-assign]
        server.reload(lambda: server.config.with_overrides(listen_ports=(stays,)))
    for client in clients:
        assert client.reply().status == 200
        assert client.is_open()
        client.sock.close()


def test_reload_to_a_port_in_use_keeps_everything(serve: Serve, root: Path, free_ports: FreePorts) -> None:
    server, (free,) = serve(), free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        server.reload(lambda: server.config.with_overrides(listen_ports=(free, taken)))
    assert is_refused(free)
    assert get(server, "/page.txt").status == 200
    assert f"127.0.0.1:{taken}: the port is in use by another program" in error_log(server)


# What is wrong with the new one


def test_wrong_configuration_leaves_the_old_one_and_every_error_in_the_log(serve: Serve, root: Path) -> None:
    server = serve()
    before = server.config
    server.reload(refuse("first thing", "second thing"))
    assert server.config is before
    assert get(server, "/page.txt").status == 200
    lines = error_log(server).splitlines()
    assert [line for line in lines if line.endswith(("ws.conf:7: first thing", "ws.conf:7: second thing"))]
    assert sum("thing" in line for line in lines) == 2


def test_wrong_password_file_leaves_the_old_configuration(
    serve: Serve, root: Path, tmp_path: Path, free_ports: FreePorts
) -> None:
    server = serve()
    (tmp_path / "htpasswd").write_text("me:plain\n")
    comes = free_ports(1)[0]
    changed = {"basic_auth": (("*", str(tmp_path / "htpasswd")),), "listen_ports": (0, comes)}
    server.reload(lambda: server.config.with_overrides(**changed))
    assert "not reloaded" in error_log(server)
    assert get(server, "/page.txt").status == 200
    assert is_refused(comes)


def test_unexpected_exception_leaves_the_old_configuration(serve: Serve, root: Path) -> None:
    server = serve()
    server.reload(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert "ZeroDivisionError" in error_log(server)
    assert get(server, "/page.txt").status == 200


def test_what_needs_a_restart_is_said(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 2")
    server.reload(lambda: server.config.with_overrides(worker_threads=3))
    server.reload(lambda: server.config.with_overrides(worker_threads=3))
    assert error_log(server).count("WorkerThreads was changed; that takes effect at the next start") == 2
    server.reload(lambda: server.config.with_overrides(worker_threads=2))
    assert error_log(server).count("takes effect at the next start") == 2
    assert server.worker_count == len(server._pool.workers) == 2


def test_cache_of_another_size_is_used_at_once(serve: Serve, root: Path) -> None:
    server = serve("WorkerThreads 1")
    replays = getattr(server._backend.reactor, "replays", False)

    def hits() -> int:
        before = server.worker_status()[0].cache_hits
        with Client(server) as client:
            for _ in range(5):
                client.get("/page.txt")
            client.get("/missing")  # a miss, so that the hits before it are counted by then
        return server.worker_status()[0].cache_hits - before

    assert hits() == (4 if replays else 0)
    assert hits() == (5 if replays else 0)
    server.reload(lambda: server.config.with_overrides(cache_size_bytes=0))
    assert hits() == 0
    server.reload(lambda: server.config.with_overrides(cache_size_bytes=1 << 20))
    assert hits() == (4 if replays else 0)


# By signal


@pytest.fixture(params=["compiled", "pure"])
def site(request: pytest.FixtureRequest, root: Path) -> tuple[Path, str]:
    configure(root.parent)
    return root.parent, request.param


def configure(directory: Path, *lines: str) -> None:
    """Write ws.conf, whole at any moment."""
    text = ["ListenPort 8080", "DocumentRoot root", "DefaultType text/plain", *lines]
    (directory / "new.conf").write_text("\n".join(text) + "\n")
    (directory / "new.conf").rename(directory / "ws.conf")


def log_of(directory: Path) -> str:
    return (directory / "log_webserver_error.txt").read_text()


def test_flags_still_go_before_the_file(site: tuple[Path, str]) -> None:
    directory, side = site
    with launch.running(directory, "--workers", "2", side=side) as running:
        for number, value in enumerate(("one", "two"), 1):
            configure(directory, "WorkerThreads 5", f"ServerHeader {value}")
            running.signal(signal.SIGHUP)
            wait_until(lambda n=number: log_of(directory).count("configuration reloaded") == n)
            assert get(running.port, "/page.txt")["Server"] == value
    assert "takes effect at the next start" not in log_of(directory)
    assert log_of(directory).count(f"listening on 127.0.0.1:{running.port}\n") == 3


def test_signals_in_quick_succession_under_load_fail_not_one_request(site: tuple[Path, str]) -> None:
    directory, side = site
    with launch.running(directory, "--workers", "2", side=side) as running:
        with hammering(running.port, "/page.txt", "/other.txt") as hammer:
            for number in range(200):
                configure(directory, f"ServerHeader number-{number}")
                running.signal(signal.SIGHUP)
            wait_until(lambda: get(running.port, "/page.txt")["Server"] == "number-199")
            hammer.more()
        running.signal(signal.SIGTERM)
        assert running.wait() == 0


def test_log_says_the_same_as_check(site: tuple[Path, str]) -> None:
    directory, side = site
    with launch.running(directory, side=side) as running:
        configure(directory, "ListenPrt 8081", "KeepaliveTime never", "ContentType .x")
        running.signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in log_of(directory))
        checked = subprocess.run(
            launch.command("--check"),
            cwd=directory,
            env=launch.environment(side, directory),
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 2
        lines = checked.stderr.splitlines()
        assert len(lines) == 3
        wait_until(lambda: all(f"] {line}\n" in log_of(directory) for line in lines))
        assert get(running.port, "/page.txt").status == 200
