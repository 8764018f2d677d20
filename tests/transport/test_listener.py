"""Listening sockets: what a new one replaces, what it leaves alone, and who still gets in at the end."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rawhttp import TIMEOUT_S, get, put, request, wait_until

from fastws import ListenError, Server
from fastws.config.values import parse_reuse_port
from fastws.transport.listener import UnixListener, address_of, listen_tcp, listen_unix, turn_away

Serve = Callable[..., Server]


def connect(path: Path | str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT_S)
    client.connect(str(path))
    return client


def ask(path: Path | str, target: str = "/page.txt") -> bytes:
    with connect(path) as client:
        client.sendall(request(target, "Connection: close"))
        return client.makefile("rb").read()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"page.txt": b"x" * 1000})


# Unix-domain sockets


def test_unix_socket_is_served_and_removed_at_the_end(serve: Serve, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(listen_ports=(), listen=(f"unix:{path}",))
    assert server.addresses == [f"unix:{path}"]
    assert server.url == f"unix:{path}"
    for _ in range(3):
        assert ask(path).endswith(b"\r\n\r\n" + b"x" * 1000)
    server.stop()
    assert not path.exists()
    log = Path(server.config.access_log).read_text()
    assert [line.split()[0] for line in log.splitlines()] == ["unix:"] * 3


def test_unix_socket_beside_tcp(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(listen=(tmp_path / "socket",))
    assert b"200 OK" in ask(tmp_path / "socket")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(request("/page.txt", "Connection: close"))
        assert b"200 OK" in client.makefile("rb").read()


def test_relative_path_of_a_unix_socket_is_the_files(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve("Listen unix:socket")
    assert b"200 OK" in ask(tmp_path / "socket")
    assert f"unix:{tmp_path}/socket" in server.addresses


def test_anybody_may_connect_who_may_enter_the_directory(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with listen_unix(str(tmp_path / "socket")):
            assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_file_put_in_the_place_of_a_unix_socket_keeps_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who owns the directory can do so as soon as the socket is bound."""
    path, other = tmp_path / "socket", tmp_path / "other"
    other.touch(0o600)

    def bind_and_replace(listener: UnixListener, address: str) -> None:
        socket.socket.bind(listener, address)
        path.unlink()
        path.symlink_to(other)

    monkeypatch.setattr(UnixListener, "bind", bind_and_replace)
    listen_unix(str(path)).close()
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


def test_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listen_unix(str(path)), connect(path):
        pass


def test_live_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listen_unix(str(path)):
        with pytest.raises(ListenError, match=f"unix:{path}: the path is in use by another program"):
            listen_unix(str(path))
        connect(path).close()


def test_live_socket_with_a_full_queue_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        waiting = []
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            if client.connect_ex(str(path)) == errno.EAGAIN:
                break
        with pytest.raises(ListenError, match="in use"):
            listen_unix(str(path))
        for client in waiting:
            client.close()


@pytest.mark.parametrize("kind", ["file", "link to a file", "dangling link", "directory"])
def test_what_is_no_socket_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "precious"
    if kind == "directory":
        path.mkdir()
    elif kind == "file":
        path.write_text("content")
    else:
        (tmp_path / "target").write_text("content")
        path.symlink_to("target" if kind == "link to a file" else "nowhere")
    before = os.lstat(path)
    with pytest.raises(ListenError, match="in use"):
        listen_unix(str(path))
    assert os.lstat(path) == before


def test_socket_of_a_successor_is_left_alone(serve: Serve, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(listen=(f"unix:{path}",))
    path.unlink()
    with listen_unix(str(path)):
        server.stop()
        connect(path).close()


def test_socket_file_that_has_gone_does_not_hold_up_the_end(serve: Serve, root: Path, tmp_path: Path) -> None:
    server = serve(listen=(tmp_path / "socket",))
    (tmp_path / "socket").unlink()
    server.stop()
    assert "fastws stopped" in Path(server.config.error_log).read_text()


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing/socket", "No such file or directory"), ("x" * 200, "too long")],
)
def test_reason_why_a_path_cannot_be_had_is_named(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(ListenError, match=reason):
        listen_unix(str(tmp_path / path))


# TCP


@pytest.mark.parametrize(
    ("host", "reason"), [("192.0.2.1", "does not have the address"), ("::2", "does not have|not speak")]
)
def test_reason_why_an_address_cannot_be_had_is_named(host: str, reason: str) -> None:
    with pytest.raises(ListenError, match=reason):
        listen_tcp(host, 0)


def test_unknown_kind_of_address_is_an_error_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("fastws.transport.listener.socket.socket", refuse)
    with pytest.raises(ListenError, match=r"cannot listen on \[::1\]:0: this machine does not speak"):
        listen_tcp("::1", 0)


def test_ipv6_is_served_and_logged(serve: Serve, root: Path) -> None:
    server = serve(hosts=("::1",))
    assert server.url == f"http://[::1]:{server.port}/"
    with socket.create_connection(("::1", server.port)) as client:
        for _ in range(3):
            client.sendall(request("/page.txt"))
            wait_until(lambda: client.recv(1 << 16, socket.MSG_PEEK).endswith(b"x" * 1000))
            client.recv(1 << 16)
    server.stop()
    log = Path(server.config.access_log).read_text()
    assert [line.split()[0] for line in log.splitlines()] == ["::1"] * 3


def test_every_ipv6_address_is_no_ipv4_address() -> None:
    with listen_tcp("::", 0) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("::1", port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_both_kinds_of_every_address_share_a_port(
    serve: Serve, root: Path, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    first, second = free_ports(2)
    server = serve(hosts=("0.0.0.0", "::"), listen_ports=(first, second), worker_threads=1)
    assert server.addresses == [f"{host}:{port}" for host in ("0.0.0.0", "[::]") for port in (first, second)]
    assert server.url == f"http://127.0.0.1:{first}/"
    for host in ("127.0.0.1", "::1"):
        for port in (first, second):
            with socket.create_connection((host, port)) as client:
                client.sendall(request("/page.txt", "Connection: close"))
                assert b"200 OK" in client.makefile("rb").read()
    server.stop()
    log = Path(server.config.access_log).read_text()
    assert [line.split()[0] for line in log.splitlines()] == ["127.0.0.1"] * 2 + ["::1"] * 2


def test_address_is_written_as_in_a_url() -> None:
    with listen_tcp("::1", 0) as six, listen_tcp("127.0.0.1", 0) as four:
        assert address_of(six) == f"[::1]:{six.getsockname()[1]}"
        assert address_of(four) == f"127.0.0.1:{four.getsockname()[1]}"


# The end


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be told")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_who_waits_gets_in_and_nobody_else(host: str) -> None:
    with listen_tcp(host, 0) as listener:
        address = listener.getsockname()
        early = socket.create_connection(address[:2])
        turn_away(listener)
        late = socket.socket(listener.family)
        late.setblocking(False)
        assert late.connect_ex(address) == errno.EINPROGRESS
        assert select.select([listener], [], [], TIMEOUT_S)[0]
        accepted, _ = listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()
        with early, accepted:  # which nothing has happened to
            early.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
            assert early.recv(100) == b"answer"
    # The second attempt of the kernel finds nobody.
    with late:
        select.select([], [late], [], TIMEOUT_S)
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_unix_socket_turns_away_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listen_unix(str(path)) as listener, connect(path) as early:
        turn_away(listener)
        with pytest.raises(FileNotFoundError):
            connect(path)
        accepted, _ = listener.accept()
        accepted.close()
        assert early.recv(1) == b""


def test_mode_of_a_socket_file_is_what_the_configuration_says(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(f"Listen unix:{path} 0640")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    number = path.stat().st_ino
    server.reload(lambda: server.config.with_overrides(listen=[(path, 0o600)]))
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_ino) == (0o600, number)


# SO_REUSEPORT


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux spreads connections over the servers of a port"
)
def test_two_servers_share_a_port_and_both_serve(
    serve: Callable[..., Server],
) -> None:
    first = serve("ReusePort on", server_header="one", listen_ports=(0,))
    port = first.port
    config = first.config.with_overrides(server_header="two", listen_ports=(port,))
    with Server(config, backend=first._backend) as second:
        assert second.port == port
        seen = set()
        for _ in range(200):
            seen.add(get(port, "/")["Server"])
            if seen == {"one", "two"}:
                break
        assert seen == {"one", "two"}
    for _ in range(20):
        assert get(port, "/")["Server"] == "one"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the directive is an error")
def test_port_is_shared_only_by_those_that_ask_for_it(serve: Callable[..., Server]) -> None:
    first = serve("ReusePort on")
    with pytest.raises(ListenError, match="in use"):
        listen_tcp("127.0.0.1", first.port)
    second = serve("")
    with pytest.raises(ListenError, match="in use"):
        listen_tcp("127.0.0.1", second.port, reuse_port=True)


def test_sharing_is_an_error_where_the_kernel_does_not_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert parse_reuse_port(["off"], "") is False
    with pytest.raises(ValueError, match="needs Linux"):
        parse_reuse_port(["on"], "")
