"""The server as a process: start, banner, signals, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from launch import Process, command, environment, running
from rawhttp import Client, put, request, thrice, wait_until

SIDES = pytest.mark.parametrize("kind", ["compiled", "pure"])
BIG = bytes(range(256)) * 65536  # 16 MiB


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a ws.conf and its root."""
    put(tmp_path / "root", {"a.txt": b"text of a", "index.html": b"<pre></pre>", "big.bin": BIG})
    configure(tmp_path)
    return tmp_path


def configure(site: Path, *lines: str) -> None:
    text = [
        "ListenPort 8080",
        "DocumentRoot root",
        "DefaultType application/octet-stream",
        "ErrorLog errors.txt",
    ]
    (site / "ws.conf").write_text("\n".join([*text, *lines]) + "\n")


def run(site: Path, kind: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m fastws`` to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=site,
        env=environment(kind, site / "state"),
        capture_output=True,
        text=True,
        timeout=60,
    )


# Start


@SIDES
def test_banner_names_the_url_the_root_and_the_logs(site: Path, kind: str) -> None:
    with running(site, side=kind) as server:
        assert f"http://127.0.0.1:{server.port}/" in server.banner
        for part in (site / "root", site / "log_webserver.txt", site / "errors.txt"):
            assert str(part) in server.banner
        assert thrice(server.port, "/a.txt").body == b"text of a"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@SIDES
def test_error_log_says_which_side_runs(site: Path, kind: str) -> None:
    with running(site, side=kind) as server:
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert f"starts: parser {kind}, reactor {kind}" in (site / "errors.txt").read_text()


@SIDES
def test_port_in_use_exits_1_with_a_clear_message(site: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(site, kind, "--port", str(port))
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith(f"127.0.0.1:{port}: the port is in use by another program")
    )
    assert "Traceback" not in done.stderr


@SIDES
def test_address_of_another_machine_exits_1(site: Path, kind: str) -> None:
    done = run(site, kind, "--host", "192.0.2.1", "--port", "8080")
    assert done.returncode == 1
    assert "this machine does not have the address" in done.stderr
    assert "Traceback" not in done.stderr


@SIDES
def test_wrong_configuration_exits_2_before_a_socket_is_opened(site: Path, kind: str) -> None:
    configure(site, "KeepaliveTme 5", "WorkerThreads many")
    done = run(site, kind, "--port", "0")
    assert done.returncode == 2
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["ws.conf:5", "ws.conf:6"]
    assert "KeepaliveTime" in done.stderr
    assert not (site / "errors.txt").exists()


@SIDES
def test_state_directory_that_cannot_be_written_does_not_keep_it_from_serving(site: Path, kind: str) -> None:
    (site / "state").write_text("a file where the state directory would be")
    with running(site, "root", side=kind) as server:
        assert (
            f"(access log: off, error log: standard error, as '{site}/state' is not a directory; Ctrl-C stops)"
            in server.banner
        )
        assert thrice(server.port, "/a.txt").status == 200
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "fastws stopped" in server.output()


@pytest.mark.parametrize("log", ["-", "errors.txt"])
def test_warnings_of_a_start_are_said_once(site: Path, log: str) -> None:
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)); "
    program = (
        f"{limit}from fastws.operation.cli import main; sys.exit(main(['-p', '0', '--error-log', '{log}']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=site,
        env=environment("pure", site / "state"),
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        assert popen.stderr is not None
        shown = next(line for line in popen.stderr if "Ctrl-C stops" in line or "limit of" in line)
        while "Ctrl-C stops" not in shown:
            shown += next(popen.stderr)
        popen.send_signal(signal.SIGTERM)
        shown += popen.stderr.read()
    warning = "the limit of open files is 200, fewer than the 20000 of MaxConnections; raise it (ulimit -n"
    assert shown.count(warning) == 1
    if log != "-":
        assert f"fastws: warning: {warning}" in shown
        assert (site / log).read_text().count(warning) == 1


@SIDES
def test_limit_of_open_files_is_raised_as_far_as_connections_need(site: Path, kind: str) -> None:
    configure(site, "MaxConnections 300", "StatusPath /-/")
    with running(site, side=kind, prefix=["sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh"]) as server:
        limits = Path(f"/proc/{server.popen.pid}/limits").read_text()
        (soft,) = re.findall(r"^Max open files +(\d+)", limits, re.MULTILINE)
        assert 600 < int(soft) < 1500
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "limit of open files" not in server.output()


@SIDES
def test_directory_on_the_command_line_is_served_with_logs_in_the_state_directory(
    site: Path, kind: str
) -> None:
    with running(site, "root", side=kind) as server:
        assert thrice(server.port, "/a.txt").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    (log,) = (site / "state" / "fastws").glob("*/log_webserver.txt")
    assert log.parent.name.endswith("-root")
    assert "GET /a.txt" in log.read_text()
    assert not (site / "log_webserver.txt").exists()


@SIDES
def test_port_is_free_again_at_once(site: Path, kind: str) -> None:
    with running(site, side=kind) as server:
        port = server.port
        client = Client(port)
        assert client.get("/a.txt").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    with running(site, "--port", str(port), side=kind) as server:
        assert server.port == port
        assert thrice(port, "/a.txt").status == 200
    client.sock.close()


# Stop


@SIDES
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_stop_flushes_the_logs_and_exits_0(site: Path, kind: str, number: int) -> None:
    with running(site, side=kind) as server:
        thrice(server.port, "/a.txt")
        server.signal(number)
        assert server.wait() == 0
        assert server.output() == ""
    assert (site / "log_webserver.txt").read_text().count('"GET /a.txt HTTP/1.1" 200 9') == 3
    assert "stopped" in (site / "errors.txt").read_text()


@SIDES
@pytest.mark.parametrize("lines", [(), ("Connection: close",)])
def test_sigterm_finishes_a_download_in_flight(site: Path, kind: str, lines: tuple[str, ...]) -> None:
    configure(site, "DrainTimeout 300")  # it ends when the download does, and not by the clock
    with running(site, side=kind) as server, Client(server.port, receive_buffer=16384) as client:
        client.send(request("/big.bin", *lines))
        client.head()
        server.signal(signal.SIGTERM)
        wait_until(lambda: refuses(server))
        assert client.read(len(BIG)) == BIG
        assert server.wait() == 0
        assert client.is_over()


def refuses(server: Process) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port)).close()
    except OSError:
        return True
    return False


@SIDES
def test_sigterm_finishes_many_downloads_in_flight(site: Path, kind: str) -> None:
    configure(
        site, "DrainTimeout 300", "RequestTimeout 300"
    )  # however slowly a busy machine lets them be read
    with running(site, side=kind) as server:
        clients = [Client(server.port, receive_buffer=16384) for _ in range(30)]
        for client in clients:
            client.send(request("/big.bin"))
            client.head()
        server.signal(signal.SIGTERM)
        for client in clients:
            assert client.read(len(BIG)) == BIG
        assert server.wait() == 0
        for client in clients:
            client.sock.close()


@SIDES
def test_request_begun_before_sigterm_is_answered(site: Path, kind: str) -> None:
    with running(site, side=kind) as server, Client(server.port) as client, Client(server.port) as poster:
        half = request("/a.txt")
        client.send(half[:20])
        poster.send(
            request(
                "/", "Content-Length: 3", "Content-Type: application/x-www-form-urlencoded", method="POST"
            )
        )
        server.signal(signal.SIGTERM)
        wait_until(lambda: refuses(server))
        client.send(half[20:])
        poster.send(b"a=1")
        for reply, body in ((client.reply(), b"text of a"), (poster.reply(), b"<pre>a: 1</pre>")):
            assert (reply.body, reply["Connection"]) == (body, "close")
        assert client.is_over()
        assert poster.is_over()
        assert server.wait() == 0


@SIDES
@pytest.mark.parametrize(("target", "status"), [("/a.txt", 200), ("/missing", 404)])
def test_idle_connection_gets_one_more_answer_after_sigterm(
    site: Path, kind: str, target: str, status: int
) -> None:
    with running(site, side=kind, patient=True) as server, Client(server.port) as client:
        assert [client.get(target).status for _ in range(3)] == [status] * 3
        server.signal(signal.SIGTERM)
        while not (reply := client.get(target)).all("Connection"):
            pass  # the signal has not arrived yet
        assert (reply.status, reply["Connection"]) == (status, "close")
        assert client.is_over()
        assert server.wait() == 0


@SIDES
def test_idle_connections_do_not_hold_up_the_end(site: Path, kind: str) -> None:
    configure(site, "DrainTimeout 300", "KeepaliveTime 300")
    with running(site, side=kind) as server:
        clients = [Client(server.port) for _ in range(20)]
        for client in clients[10:]:
            assert client.get("/a.txt").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        for client in clients:
            assert client.is_over()
            client.sock.close()


@SIDES
def test_first_interrupt_says_that_a_download_is_finished_and_a_second_ends_it(site: Path, kind: str) -> None:
    configure(site, "DrainTimeout 300")
    with running(site, side=kind) as server, Client(server.port, receive_buffer=16384) as client:
        client.send(request("/big.bin"))
        client.head()
        server.signal(signal.SIGINT)
        assert server.popen.stderr is not None
        said = server.popen.stderr.readline()
        assert said == "fastws: finishing 1 connection; Ctrl-C again ends at once\n"
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert server.output() == ""


@SIDES
def test_nothing_is_said_where_nothing_is_in_flight(site: Path, kind: str) -> None:
    with running(site, side=kind) as server, Client(server.port) as client:
        assert client.get("/a.txt").status == 200
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert server.output() == ""


@SIDES
def test_download_longer_than_drain_timeout_is_cut_off_and_said(site: Path, kind: str) -> None:
    configure(site, "DrainTimeout 0.3")
    with running(site, side=kind) as server, Client(server.port, receive_buffer=16384) as client:
        client.send(request("/big.bin"))
        client.head()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert "cut off" in (site / "errors.txt").read_text()


@SIDES
def test_no_request_fails_while_the_server_drains_under_load(site: Path, kind: str) -> None:
    """Whoever was let in is answered; a client opens connections until there is nobody to connect to."""
    with running(site, "--workers", "2", side=kind, patient=True) as server:
        failures: list[BaseException] = []
        answered: list[int] = []

        def load() -> None:
            while True:
                try:
                    client = Client(server.port)
                except ConnectionRefusedError:
                    return
                try:
                    with client:
                        for _ in range(5):
                            reply = client.get("/a.txt")
                            answered.append(reply.status)
                            if reply.all("Connection"):
                                break
                except BaseException as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answered) > 200)
        server.signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert server.wait() == 0
    assert failures == []
    assert set(answered) == {200}
    assert (site / "log_webserver.txt").read_text().count('"GET /a.txt HTTP/1.1" 200 9') == len(answered)


# SIGHUP


@SIDES
def test_sighup_serves_by_the_new_configuration(site: Path, kind: str) -> None:
    put(site / "other", {"a.txt": b"the other a"})
    with running(site, side=kind) as server, Client(server.port) as client:
        assert [client.get("/a.txt")["Server"] for _ in range(3)] == ["fastws"] * 3
        (site / "ws.conf").write_text(
            "ListenPort 8080\nDocumentRoot other\nErrorLog errors.txt\nServerHeader changed\n"
        )
        server.signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in (site / "errors.txt").read_text())
        # The connection lives on, and so does the port of the command line.
        for _ in range(3):
            reply = client.get("/a.txt")
            assert (reply.body, reply["Server"]) == (b"the other a", "changed")
        assert thrice(server.port, "/a.txt").body == b"the other a"


@SIDES
def test_sighup_with_a_broken_file_keeps_the_old_configuration(site: Path, kind: str) -> None:
    with running(site, side=kind) as server:
        configure(site, "Nonsense 1", "KeepaliveTime never")
        server.signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in (site / "errors.txt").read_text())
        assert thrice(server.port, "/a.txt").body == b"text of a"
        checked = run(site, kind, "--check")
        assert checked.returncode == 2
        log = (site / "errors.txt").read_text()
        for line in checked.stderr.splitlines():
            assert line in log
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@SIDES
def test_sighup_reopens_the_logs(site: Path, kind: str) -> None:
    with running(site, side=kind) as server:
        thrice(server.port, "/a.txt")
        for name in ("log_webserver.txt", "errors.txt"):
            (site / name).rename(site / f"{name}.1")
        server.signal(signal.SIGHUP)
        wait_until(lambda: (site / "errors.txt").exists() and "reloaded" in (site / "errors.txt").read_text())
        thrice(server.port, "/missing")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    old, new = (site / "log_webserver.txt.1").read_text(), (site / "log_webserver.txt").read_text()
    assert (old + new).count("GET /a.txt") == 3
    assert new.count("GET /missing") == 3
    assert "stopped" in (site / "errors.txt").read_text()
    assert "stopped" not in (site / "errors.txt.1").read_text()


@SIDES
def test_sigusr1_reopens_the_logs_and_leaves_the_configuration(site: Path, kind: str) -> None:
    with running(site, side=kind) as server:
        thrice(server.port, "/a.txt")
        configure(site, "ServerHeader changed")
        for name in ("log_webserver.txt", "errors.txt"):
            (site / name).rename(site / f"{name}.1")
        server.signal(signal.SIGUSR1)
        wait_until(lambda: (site / "errors.txt").exists() and "reopened" in (site / "errors.txt").read_text())
        assert thrice(server.port, "/missing")["Server"] == "fastws"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert (site / "log_webserver.txt").read_text().count("GET /missing") == 3
    assert "configuration reloaded" not in (site / "errors.txt").read_text()


@SIDES
def test_sighup_loses_no_request_of_a_busy_client(site: Path, kind: str) -> None:
    with running(site, side=kind) as server:
        stop = threading.Event()
        counts: list[int] = []

        def load() -> None:
            count = 0
            with Client(server.port) as client:
                while not stop.is_set():
                    assert client.get("/a.txt").body == b"text of a"
                    count += 1
            counts.append(count)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1, 6):
            server.signal(signal.SIGHUP)
            wait_until(lambda: (site / "errors.txt").read_text().count("reloaded;") >= number)  # noqa: B023
        stop.set()
        for thread in threads:
            thread.join()
        assert len(counts) == 4
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert (site / "log_webserver.txt").read_text().count("GET /a.txt") == sum(counts)


# serve()


@SIDES
def test_serve_runs_until_the_signal_and_returns_0(site: Path, kind: str) -> None:
    program = (
        "import fastws, sys; sys.exit(fastws.serve(fastws.load('ws.conf').with_overrides(listen_ports=(0,))))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=site,
        env=environment(kind, site / "state"),
        stderr=subprocess.PIPE,
        text=True,
    ) as popen:
        try:
            assert popen.stderr is not None
            banner = next(line for line in popen.stderr if "http://" in line)
            found = re.search(r":(\d+)/", banner)
            assert found
            assert thrice(int(found[1]), "/a.txt").status == 200
            popen.send_signal(signal.SIGINT)
            assert popen.wait(30) == 0
        finally:
            popen.kill()


def test_start_imports_nothing_heavy(site: Path) -> None:
    """What is not imported needs no time: see the promise for the first answer."""
    heavy = {
        "asyncio",
        "email",
        "http.client",
        "inspect",
        "ssl",
        "multiprocessing",
        "unittest",
        "urllib.request",
    }
    program = "import sys, fastws.operation.cli, fastws.operation.server; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env=environment("pure", site) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert heavy & set(done.stdout.split()) == set()
