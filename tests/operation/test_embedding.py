"""The library: ``Server`` as a context manager, for other people's tests."""

from __future__ import annotations

import errno
import os
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from rawhttp import Client, open_descriptors, put, request, thrice, wait_until

import fastws
from fastws import Config, ListenError, Server, backend, defaults, load
from fastws.engine.worker import Worker


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return put(tmp_path / "root", {"a.txt": b"text of a", "index.html": b"<h1>index</h1>"})


@pytest.fixture
def config(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return defaults(str(root)).with_overrides(listen_ports=(0,))


def test_server_serves_inside_the_block_and_not_after_it(config: Config, side: backend.Backend) -> None:
    with Server(config, backend=side) as server:
        port = server.port
        assert server.url == f"http://127.0.0.1:{port}/"
        assert server.addresses == [f"127.0.0.1:{port}"]
        with urllib.request.urlopen(server.url) as reply:
            assert reply.read() == b"<h1>index</h1>"
    with pytest.raises(ConnectionRefusedError):
        Client(port)


def test_httpx_keeps_its_connection(config: Config, side: backend.Backend) -> None:
    with Server(config, backend=side) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        for _ in range(3):
            assert client.get("/a.txt").text == "text of a"
        assert client.head("/a.txt").headers["content-length"] == "9"
        assert client.get("/missing").status_code == 404
        wait_until(lambda: server.connection_count() == 1)


def test_block_ends_at_once_beside_an_idle_client(
    config: Config, side: backend.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.operation.server.GRACE_S", 3600.0)
    patient = config.with_overrides(drain_timeout_s=7200.0, keepalive_time_s=7200.0)
    with Server(patient, backend=side) as server:
        idle, never = Client(server), Client(server)
        assert idle.get("/a.txt").status == 200
    for client in (idle, never):
        assert client.is_over()
        client.sock.close()


def test_download_that_began_in_the_block_is_finished(
    config: Config, root: Path, side: backend.Backend
) -> None:
    put(root, {"big.bin": b"x" * (16 << 20)})
    got: list[int] = []

    def read(client: Client) -> None:
        with client:
            got.append(len(client.read(16 << 20)))

    with Server(config.with_overrides(drain_timeout_s=300.0), backend=side) as server:
        client = Client(server, receive_buffer=16384)
        client.send(request("/big.bin"))
        client.head()
        reader = threading.Thread(target=read, args=(client,))
        reader.start()
    reader.join()
    assert got == [16 << 20]


def test_two_servers_in_one_process_keep_apart(root: Path, tmp_path: Path, side: backend.Backend) -> None:
    put(tmp_path / "other", {"a.txt": b"other"})
    configs = []
    for name in ("root", "other"):
        path = tmp_path / f"{name}.conf"
        path.write_text(f"ListenPort 8080\nDocumentRoot {name}\nAccessLog {name}.log\nErrorLog {name}.err\n")
        configs.append(load(str(path)).with_overrides(listen_ports=(0,)))
    with Server(configs[0], backend=side) as one, Server(configs[1], backend=side) as other:
        assert one.port != other.port
        assert thrice(one, "/a.txt").body == b"text of a"
        assert thrice(other, "/a.txt").body == b"other"
    for name in ("root", "other"):
        assert (tmp_path / f"{name}.log").read_text().count("GET /a.txt") == 3
        assert (tmp_path / f"{name}.err").read_text().count("starts") == 1


def test_start_and_stop_without_a_block(config: Config, side: backend.Backend) -> None:
    server = Server(config, backend=side)
    server.start()
    assert thrice(server, "/a.txt").status == 200
    server.stop()
    server.stop()  # a second call does nothing


def test_stop_of_a_server_that_never_started_does_nothing(config: Config, side: backend.Backend) -> None:
    Server(config, backend=side).stop()


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")


@needs_proc
@pytest.mark.parametrize("what", ["passwords", "access log"])
def test_construction_that_fails_leaves_nothing_open(
    config: Config, side: backend.Backend, tmp_path: Path, what: str
) -> None:
    (tmp_path / "passwords").write_bytes(b"no line of a password file")
    overrides = {
        "passwords": {"basic_auth": (("/", str(tmp_path / "passwords")),)},
        "access log": {"access_log": str(tmp_path)},
    }
    wrong = config._replace(**overrides[what])  # as if it had been right when it was read
    before, failures = open_descriptors(), []
    for _ in range(3):
        with pytest.raises((fastws.ConfigError, OSError)) as caught:
            Server(wrong, backend=side)
        failures.append(caught)  # with its traceback, and all that is to be seen from there
    assert open_descriptors() == before


@needs_proc
@pytest.mark.parametrize("what", ["worker", "thread"])
def test_start_that_fails_leaves_nothing_open_and_nothing_running(
    config: Config, side: backend.Backend, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Of three workers the second one cannot be made, or its thread cannot be started."""
    before, threads = open_descriptors(), threading.active_count()
    server = Server(config.with_overrides(worker_threads=3), backend=side)
    calls = 0

    def second_fails(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError(errno.EMFILE, "there are too many")
            function(*arguments)

        return call

    patched = (Worker, "__init__") if what == "worker" else (threading.Thread, "start")
    monkeypatch.setattr(*patched, second_fails(getattr(*patched)))
    with pytest.raises(OSError, match="too many") as caught:
        server.start()
    monkeypatch.undo()
    assert server.worker_status() == []
    assert threading.active_count() == threads
    for listener in server.listeners.by_address.values():
        assert listener.fileno() == -1
    assert open_descriptors() == before
    server.stop()
    del caught


def test_exception_inside_the_block_stops_the_server(config: Config, side: backend.Backend) -> None:
    def fail() -> None:
        with Server(config, backend=side) as server:
            ports.append(server.port)
            raise KeyError("of the test")

    ports: list[int] = []
    with pytest.raises(KeyError):
        fail()
    with pytest.raises(ConnectionRefusedError):
        Client(ports[0])


def test_stop_with_a_time_cuts_off_what_is_longer(config: Config, root: Path, side: backend.Backend) -> None:
    put(root, {"big.bin": b"x" * (16 << 20)})
    server = Server(config, backend=side)
    server.start()
    with Client(server, receive_buffer=16384) as client:
        client.send(request("/big.bin"))
        client.head()
        server.stop(0.1)
        with pytest.raises((AssertionError, ConnectionError)):
            client.read(16 << 20)


def test_port_in_use_is_a_listen_error(config: Config, side: backend.Backend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ListenError, match=f"127.0.0.1:{port}: the port is in use"),
            Server(config.with_overrides(listen_ports=(port,)), backend=side),
        ):
            pass


def test_second_port_in_use_leaves_the_first_free(
    config: Config, side: backend.Backend, free_ports: Callable[..., tuple[int, ...]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = (*free_ports(1), taken.getsockname()[1])
        with pytest.raises(ListenError):
            Server(config.with_overrides(listen_ports=ports), backend=side).start()
        socket.create_server(("127.0.0.1", ports[0])).close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
def test_nothing_is_left_behind(config: Config, side: backend.Backend) -> None:
    def use() -> None:
        with Server(config, backend=side) as server:
            thrice(server, "/a.txt")

    def fail() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ListenError):
            Server(config.with_overrides(listen_ports=(taken.getsockname()[1],)), backend=side).start()

    use()
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(3):
        use()
        fail()
    assert threading.active_count() == threads
    assert open_descriptors() == descriptors


def test_reload_in_the_process_serves_the_new_configuration(
    config: Config, tmp_path: Path, side: backend.Backend
) -> None:
    put(tmp_path / "other", {"a.txt": b"other"})
    with Server(config, backend=side) as server, Client(server) as client:
        assert [client.get("/a.txt").body for _ in range(3)] == [b"text of a"] * 3
        server.reload(lambda: config.with_overrides(document_root=str(tmp_path / "other")))
        assert [client.get("/a.txt").body for _ in range(3)] == [b"other"] * 3
        assert thrice(server, "/a.txt").body == b"other"


def test_server_of_what_is_no_config_says_what_is_needed() -> None:
    for wrong in ("public", None, Path("ws.conf")):
        with pytest.raises(TypeError, match=r"is no Config, such as fastws\.defaults\('public'\)"):
            Server(wrong)  # type: ignore[arg-type]


def test_application_that_is_none_is_refused_at_once(config: Config) -> None:
    with pytest.raises(fastws.ConfigError, match="what is given for '/shop' cannot be called"):
        Server(config, applications={"/shop": "shop:app"})  # type: ignore[dict-item]


def test_server_that_does_not_run_has_no_url(config: Config, side: backend.Backend) -> None:
    server = Server(config, backend=side)

    def has_none() -> None:
        assert server.addresses == []
        with pytest.raises(RuntimeError, match="has a URL only while it runs"):
            _ = server.url
        with pytest.raises(RuntimeError, match="has a port only while it runs"):
            _ = server.port

    has_none()
    with server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
    has_none()


def test_server_starts_once(config: Config, side: backend.Backend) -> None:
    sentence = "a Server starts once; make another one"
    with Server(config, backend=side) as server:
        with pytest.raises(RuntimeError, match=sentence):
            server.start()
        assert thrice(server, "/a.txt").status == 200
    with pytest.raises(RuntimeError, match=sentence):
        server.start()
    stopped = Server(config, backend=side)
    stopped.stop()
    with pytest.raises(RuntimeError, match=sentence):
        stopped.start()


def test_server_whose_start_failed_does_not_start_again(config: Config, side: backend.Backend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(config.with_overrides(listen_ports=(taken.getsockname()[1],)), backend=side)
        with pytest.raises(ListenError):
            server.start()
        assert server.addresses == []
        with pytest.raises(RuntimeError, match="starts once"):
            server.start()


def test_log_of_the_start_counts_the_threads(config: Config, tmp_path: Path, side: backend.Backend) -> None:
    for count, said in ((1, "with 1 worker thread, KeepaliveTime 86400 s"), (2, "with 2 worker threads, Ke")):
        log = tmp_path / f"error{count}"
        with Server(
            config.with_overrides(worker_threads=count, keepalive_time_s=86400, error_log=str(log)),
            backend=side,
        ):
            pass
        assert said in log.read_text()


def test_package_is_typed_and_exports_what_it_says() -> None:
    package = Path(fastws.__file__).parent
    assert (package / "py.typed").exists()
    compiled = {path.with_suffix("") for path in package.rglob("*.pyx")}
    assert len(compiled) >= 9
    assert compiled <= {path.with_suffix("") for path in package.rglob("*.pyi")}
    for name in fastws.__all__:
        assert getattr(fastws, name)


def test_public_face_of_a_server_is_what_users_need(config: Config) -> None:
    asked = {"addresses", "ca", "config", "connection_count", "is_exposed", "listeners", "port", "url"}
    told = {"abort", "reload", "reopen_logs", "start", "stop"}
    of_a_process = {
        *("is_draining", "is_responsive", "logger", "observe_requests"),
        *("unused_compiler", "worker_count", "worker_status"),
    }
    public = {name for name in dir(Server(config)) if not name.startswith("_")}
    assert public <= asked | told | of_a_process
