"""Applications in processes of their own: what goes over the channel, and what becomes of processes that fail."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import launch
import pytest
from rawhttp import Client, ProtocolError, be_at_rest, get, open_descriptors, put, request, wait_until

from fastws import ConfigError, Server
from fastws.processes import processes, wire
from fastws.processes.child import SERVING
from fastws.processes.processes import Processes

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there are no application processes"),
    pytest.mark.posix,
]

Serve = Callable[..., Server]


class Place:
    """A server with processes, its error log, and files to speak by."""

    def __init__(self, serve: Serve, directory: Path) -> None:
        self._serve = serve
        self.directory = directory
        self.log = directory / "errors.txt"

    def start(self, *lines: str, name: str = "wsgi_programs:probe", processes: int = 1) -> Server:
        put(self.directory / "root", {"a.txt": b"a file"})
        return self._serve(
            f"Application /app {name}", f"ApplicationProcesses {processes}", *lines, error_log=str(self.log)
        )

    def logs(self, text: str) -> bool:
        """Wait for ``text`` in the error log."""
        wait_until(lambda: text in self.log.read_text(), f"{text!r} in the error log")
        return True

    def wait_for(self, name: str, count: int = 1) -> list[Path]:
        """Wait until there are so many files whose names begin so."""
        wait_until(lambda: len(list(self.directory.glob(f"{name}*"))) >= count)
        return list(self.directory.glob(f"{name}*"))


@pytest.fixture
def place(serve: Serve, tmp_path: Path) -> Place:
    return Place(serve, tmp_path)


@pytest.fixture
def scheme(request: pytest.FixtureRequest) -> str:
    """That of the server."""
    return "https" if request.node.callspec.params["side"].endswith("-tls") else "http"


def pid_of(server: Server) -> int:
    return int(get(server, "/app/pid").body)


def is_replaced(server: Server, pid: int) -> bool:
    """Tell whether another process answers; while there is none, what waits too long is refused."""
    reply = get(server, "/app/pid")
    return reply.status == 200 and int(reply.body) != pid


def processes_of(server: Server) -> Processes:
    assert server._takers._processes is not None
    return server._takers._processes


def spawner_of(server: Server) -> int:
    spawner = processes_of(server).upkeep.spawner
    assert spawner is not None
    return spawner._program.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return sys.platform != "linux"


def leave_at_once(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


# The channel


def test_application_runs_in_another_process_and_is_told_so(place: Place, scheme: str) -> None:
    server = place.start()
    environ = json.loads(
        get(server, "/app/environ/x%2Fy?q=1", "X-Test: \xe9", "Cookie: a=1", "Cookie: b=2").body
    )
    expected = {
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/environ/x/y",
        "QUERY_STRING": "q=1",
        "HTTP_X_TEST": "\xe9",
        "HTTP_COOKIE": "a=1; b=2",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PORT": str(server.port),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.url_scheme": scheme,
    }
    assert environ.get("HTTPS") == ("on" if scheme == "https" else None)
    assert {name: environ[name] for name in expected} == expected
    assert environ["pid"] != os.getpid()
    if sys.platform == "linux":
        assert Path(f"/proc/{environ['pid']}/comm").read_text() == "fastws: app 1\n"
    assert get(server, "/a.txt").body == b"a file"


def test_each_process_is_heard_by_one_worker_and_by_another_after_its_end(place: Place) -> None:
    server = place.start(processes=2)
    pool, crew = server._pool, processes_of(server).crew
    wait_until(lambda: [each.state for each in crew.children.values()] == [SERVING] * 2)
    wait_until(lambda: sum([worker.channels.count for worker in pool.workers]) == 2)
    assert max(worker.channels.count for worker in pool.workers) <= 2 - (len(pool.workers) > 1)
    before = list(pool.workers)

    def fail(_: object) -> None:
        raise RuntimeError("on purpose")

    for worker in before:
        worker.tell(fail)
    wait_until(lambda: not set(pool.workers) & set(before))
    wait_until(lambda: sum([worker.channels.count for worker in pool.workers]) == 2)
    assert get(server, "/app/environ").status == 200
    assert place.logs("on purpose")


def test_one_thread_is_told_that_it_is_alone(place: Place) -> None:
    server = place.start("ApplicationThreads 1")
    assert json.loads(get(server, "/app/environ").body)["wsgi.multithread"] is False


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 900_000])
def test_bodies_of_every_size_arrive(place: Place, size: int) -> None:
    server = place.start()
    before = open_descriptors()
    with Client(server) as client:
        for _ in range(3):
            assert client.get("/app/count", method="POST", body=b"x" * size).body == b"%d" % size
    be_at_rest(server)
    wait_until(lambda: open_descriptors() <= before, "the end of what was open")


@pytest.mark.parametrize("size", [0, 1, 65536, 300_000, 20_000_000])
def test_answers_of_every_size_arrive(place: Place, size: int) -> None:
    server = place.start()
    with Client(server) as client:
        for _ in range(3):
            assert client.get(f"/app/large?{size}").body == b"x" * size


def test_validator_of_the_standard_library_finds_nothing(place: Place) -> None:
    server = place.start(name="wsgi_programs:validated")
    with Client(server) as client:
        for target in ("/app/environ", "/app/stream", "/app/large?100000", "/app/count"):
            assert client.get(target).status == 200, place.log.read_text()


def test_pieces_are_sent_as_they_come(place: Place) -> None:
    server = place.start()
    with Client(server) as client:
        client.send(request(f"/app/stream?{place.directory}/go"))
        client.head()
        assert client.read(len(b"9\r\ndata: 1\n\n\r\n")) == b"9\r\ndata: 1\n\n\r\n"
        (place.directory / "go").touch()
        assert client._read_chunks() == b"data: 2\n\n"
        assert client.get("/app/pid").status == 200


def test_file_is_sent_by_its_descriptor(place: Place) -> None:
    content = os.urandom(2_000_000)
    path = put(place.directory, {"content.bin": content}) / "content.bin"
    server = place.start()
    before = open_descriptors()
    with Client(server) as client:
        for _ in range(3):
            reply = client.get(f"/app/file?{path}")
            assert (reply.body, reply["Content-Length"]) == (content[1:], str(len(content) - 1))
        client.send(request(f"/app/file?{path}", method="HEAD"))
        assert ("Content-Length", str(len(content) - 1)) in client.head()[2]
    be_at_rest(server)
    wait_until(lambda: open_descriptors() <= before, "the end of what was open")


@pytest.mark.plain
@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "299 Odd"])
def test_status_lines_are_kept(place: Place, status: str) -> None:
    server = place.start()
    with Client(server) as client:
        for _ in range(2):
            reply = client.get(f"/app/status?{status.replace(' ', '%20')}")
            assert f"{reply.status} {reply.reason}" == status


@pytest.mark.plain
def test_exception_is_500_and_the_log_names_process_and_thread(place: Place) -> None:
    server = place.start()
    assert get(server, "/app/fail").status == 500
    assert place.logs("ValueError: the reason")
    assert "[app-1 application-0] application /app: about to fail" in place.log.read_text()
    with Client(server) as client, pytest.raises(ProtocolError):
        client.get("/app/break")
    assert place.logs("ValueError: in the middle")
    assert get(server, "/app/exit?3").status == 500
    assert get(server, "/app/pid").status == 200


@pytest.mark.parametrize("processes", [0, 1])
def test_exception_is_one_object_of_the_log(place: Place, processes: int) -> None:
    server = place.start("ErrorLogFormat json", processes=processes)
    assert get(server, "/app/fail").status == 500
    assert place.logs("ValueError: the reason")
    members = [json.loads(line) for line in place.log.read_text().splitlines()]
    told = [each for each in members if "the reason" in "".join(each.values())]
    assert len(told) == 1
    assert told[0]["trace"].startswith("Traceback (most recent call last):\n")
    assert told[0]["trace"].endswith("\nValueError: the reason")


def test_reader_that_reads_nothing_holds_no_thread(place: Place) -> None:
    server = place.start("ApplicationThreads 1")
    with Client(server, receive_buffer=4096) as slow:
        slow.send(request("/app/large?20000000"))
        slow.head()
        for _ in range(3):
            assert get(server, "/app/pid").status == 200
        assert len(slow.read(20_000_000)) == 20_000_000


def test_readers_that_read_nothing_and_slow_uploads_hold_up_nobody(place: Place) -> None:
    server = place.start("ApplicationThreads 1")
    readers = [Client(server, receive_buffer=4096) for _ in range(8)]
    uploads = [Client(server) for _ in range(8)]
    for reader in readers:
        reader.send(request("/app/large?3000000"))
        assert reader.head()[0] == 200
    for upload in uploads:
        upload.send(request("/app/count", "Content-Length: 300000", method="POST") + b"x" * 70_000)
    with Client(server) as client:
        for _ in range(20):
            assert client.get("/app/pid").status == 200
            assert client.get("/a.txt").body == b"a file"
    for upload in uploads:
        upload.send(b"x" * 230_000)
        assert upload.reply().body == b"300000"
        upload.sock.close()
    for reader in readers:
        assert len(reader.read(3_000_000)) == 3_000_000
        reader.sock.close()


def test_body_is_bounded_by_path_before_it_is_sent(place: Place) -> None:
    server = place.start("MaxBodySize 1K", "MaxBodySize 100K /app/count/upload*")
    with Client(server) as client:
        for _ in range(2):
            sent = client.get("/app/count/upload", method="POST", body=b"x" * 100_000)
            assert sent.body == b"100000"
    for target, size in (("/app/count", 1025), ("/app/count/upload", 102_401)):
        with Client(server) as client:
            client.send(request(target, "Expect: 100-continue", f"Content-Length: {size}", method="POST"))
            assert client.reply().status == 413


def test_client_that_goes_away_ends_the_iterator(place: Place) -> None:
    server = place.start()
    with Client(server) as client:
        client.send(request(f"/app/for-ever?{place.directory}/ended"))
        client.head()
        leave_at_once(client)
    place.wait_for("ended")
    be_at_rest(server)


def test_close_is_called_once_when_the_client_goes_away(place: Place) -> None:
    server = place.start("ApplicationThreads 1")
    noted = place.directory / "closed"
    for count in range(1, 4):
        with Client(server) as client:
            client.send(request(f"/app/closing?{noted}"))
            client.head()
            leave_at_once(client)
        wait_until(lambda count=count: noted.exists() and noted.read_text().count("closed") >= count)  # type: ignore[misc]
        assert get(server, "/app/pid").status == 200  # by the thread that has closed
        assert noted.read_text().count("closed") == count


@pytest.mark.plain
def test_requests_wait_in_the_server_and_not_without_bound(place: Place) -> None:
    server = place.start("ApplicationThreads 1", "ApplicationQueue 1", processes=2)
    waiting = f"/app/wait?{place.directory}/go"
    clients = [Client(server) for _ in range(3)]
    for client in clients[:2]:
        client.send(request(waiting))
    place.wait_for("go.", 2)
    clients[2].send(request(waiting))
    wait_until(lambda: server._takers.status().waiting == 1)
    reply = get(server, "/app/pid")
    assert (reply.status, reply["Retry-After"]) == (503, "5")
    assert get(server, "/a.txt").body == b"a file"
    (place.directory / "go").touch()
    for client in clients:
        assert client.reply().body == b"at last"
        client.sock.close()


@pytest.mark.plain
def test_requests_go_to_the_process_with_the_fewest(place: Place) -> None:
    server = place.start("ApplicationThreads 2", processes=2)
    wait_until(lambda: server._takers.status().processes == 2)
    clients = [Client(server) for _ in range(2)]
    for client in clients:
        client.send(request(f"/app/wait?{place.directory}/go"))
    files = place.wait_for("go.", 2)
    assert len({file.suffix for file in files}) == 2
    (place.directory / "go").touch()
    for client in clients:
        client.reply()
        client.sock.close()


# Processes that fail


@pytest.mark.plain
@pytest.mark.parametrize(
    ("deed", "said"),
    [
        (f"kill?{signal.SIGKILL:d}", "SIGKILL ended it"),
        ("leave?7", "it ended with status 7"),
        ("crash", "SIGSEGV ended it"),
    ],
)
def test_only_requests_in_a_process_that_dies_are_502(place: Place, deed: str, said: str) -> None:
    server = place.start("ApplicationThreads 2")
    first = pid_of(server)
    with Client(server) as other, Client(server) as victim:
        other.send(request(f"/app/wait?{place.directory}/never"))
        place.wait_for("never.")
        assert victim.get(f"/app/{deed}").status == 502
        assert other.reply().status == 502
        assert victim.get("/a.txt").body == b"a file"
        assert int(victim.get("/app/pid").body) != first
    assert place.logs(said)
    if deed == "crash":
        assert place.logs("in crash")


@pytest.mark.plain
def test_requests_behind_a_slow_one_are_answered_by_whichever_process_is_free(place: Place) -> None:
    server = place.start("ApplicationThreads 1", processes=2)
    crew = processes_of(server).upkeep._crew
    wait_until(lambda: sum(child.state == SERVING for child in crew.children.values()) == 2)
    with ExitStack() as stack:
        slow, quick, *others = [stack.enter_context(Client(server)) for _ in range(8)]
        for name, client in ("slow", slow), ("quick", quick):
            client.send(request(f"/app/wait?{place.directory}/{name}"))
            place.wait_for(f"{name}.")
        for child in crew.children.values():
            child.ahead = 3  # as if they had been quick until now
        for client in others:
            client.send(request("/app/pid"))
        wait_until(lambda: len(processes_of(server).upkeep._handing._waiting) == len(others))
        (place.directory / "quick").touch()
        assert quick.reply().status == 200
        assert len({client.reply().body for client in others}) == 1
        (place.directory / "slow").touch()
        assert slow.reply().status == 200


def test_process_that_dies_in_the_middle_of_an_answer_ends_its_connection(place: Place) -> None:
    server = place.start()
    with Client(server) as client, pytest.raises(ProtocolError):
        client.get(f"/app/break?{signal.SIGKILL:d}")
    assert pid_of(server)


@pytest.mark.plain
def test_child_that_holds_the_sockets_does_not_keep_the_dead_alive(place: Place) -> None:
    server = place.start()
    try:
        assert get(server, f"/app/fork?{place.directory}/child").status == 502
        assert pid_of(server)
    finally:
        os.kill(int((place.directory / "child").read_text()), signal.SIGKILL)


@pytest.mark.plain
def test_process_that_hangs_is_replaced_and_its_stacks_are_logged(place: Place) -> None:
    server = place.start("ApplicationTimeout 1", "ApplicationThreads 2")
    first = pid_of(server)
    with Client(server) as client:
        assert client.get("/app/hang").status == 504
        wait_until(lambda: is_replaced(server, first))
        assert client.get("/a.txt").status == 200
    assert place.logs("in hang_in_this_function")
    assert place.logs("SIGKILL ended it")
    wait_until(lambda: not is_alive(first))


@pytest.mark.plain
def test_signals_to_all_are_not_for_the_processes(place: Place) -> None:
    server = place.start()
    first = pid_of(server)
    assert get(server, "/app/signals").body == b"alive"
    assert pid_of(server) == first


HANDLERS = """
import signal, sys, threading

def leave(number, frame):
    sys.exit(9)

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD, signal.SIGUSR2):
    signal.signal(number, HANDLER)
from wsgi_programs import probe
"""


@pytest.mark.plain
@pytest.mark.parametrize("handler", ["leave", "signal.SIG_DFL", "signal.SIG_IGN"])
@pytest.mark.parametrize("preload", ["off", "on"])
def test_handlers_that_a_module_sets_change_nothing(place: Place, handler: str, preload: str) -> None:
    (place.directory / "handling.py").write_text(HANDLERS.replace("HANDLER", handler))
    server = place.start("ApplicationTimeout 1", f"Preload {preload}", name="handling:probe")
    first = pid_of(server)
    assert get(server, "/app/signals").body == b"alive"
    assert pid_of(server) == first
    assert get(server, "/app/hang").status == 504
    assert place.logs("in hang_in_this_function")
    wait_until(lambda: is_replaced(server, first))
    wait_until(lambda: not is_alive(first))


@pytest.mark.plain
def test_programs_that_an_application_starts_have_signals_as_usual(place: Place) -> None:
    server = place.start()
    assert get(server, "/app/program").body.strip() == b"[True, True, True, True]"


@pytest.mark.plain
@pytest.mark.parametrize(
    ("deed", "status"),
    [("kill?9", 502), ("crash", 502), ("leave?0", 502), ("exit?1", 500), ("memory", 500), ("fail", 500)],
)
def test_all_others_go_on_whatever_becomes_of_one_request(place: Place, deed: str, status: int) -> None:
    if deed == "memory" and sys.platform != "linux":
        pytest.skip("the platform does not tell how much it has")
    server = place.start("ApplicationThreads 1", processes=2)
    with Client(server) as other, Client(server) as victim, Client(server) as waiting:
        other.send(request(f"/app/wait?{place.directory}/go"))
        place.wait_for("go.")
        assert victim.get(f"/app/{deed}").status == status
        assert victim.get("/a.txt").body == b"a file"
        waiting.send(request("/app/pid"))
        assert waiting.reply().status == 200
        (place.directory / "go").touch()
        assert other.reply().body == b"at last"


@pytest.mark.plain
def test_what_an_application_forks_answers_nothing(place: Place) -> None:
    server = place.start("ApplicationThreads 2")
    with Client(server) as client:
        for number in range(3):
            path = place.directory / f"child{number}"
            assert client.get(f"/app/fork-return?{path}").body == b"the parent"
            wait_until(lambda path=path: not is_alive(int(path.read_text())))  # type: ignore[misc]
            assert client.get("/app/pid").status == 200


@pytest.mark.plain
def test_what_an_application_forks_ends_by_the_signals_by_which_any_program_does(place: Place) -> None:
    server = place.start()  # multiprocessing.Pool ends its processes so
    assert get(server, "/app/fork-end").body == b"-15 -15 -1 -1 -10 -10"
    assert get(server, "/app/pid").status == 200


@pytest.mark.plain
@pytest.mark.parametrize("after", ["reload", "import"])
def test_threads_of_an_application_do_not_keep_a_process_from_ending(place: Place, after: str) -> None:
    module = place.directory / "threaded.py"
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    module.write_text(f"{thread}from wsgi_programs import probe\n")
    server = place.start(name="threaded:probe")
    first = pid_of(server)
    if after == "import":
        write(module, f"{thread}def (\n")
        get(server, "/app/kill?9")
        assert place.logs("SyntaxError")
        write(module, f"{thread}from wsgi_programs import probe  # mended\n")
    else:
        reload(server)
    wait_until(lambda: pid_of(server) != first)
    wait_until(lambda: not is_alive(first))
    wait_until(lambda: len(server._takers._processes.crew.children) == 1)  # type: ignore[union-attr]
    assert "it is killed" not in place.log.read_text()  # as one with requests is, much later


@pytest.mark.plain
def test_process_that_is_to_end_has_a_bound_for_what_it_still_has(place: Place) -> None:
    server = place.start("ApplicationTimeout 3", "DrainTimeout 0.2", "ApplicationThreads 2")
    first = pid_of(server)
    with Client(server) as client:
        client.send(request(f"/app/for-ever?{place.directory}/ended"))
        client.head()
        reader = threading.Thread(target=read_to_the_end, args=(client,))
        reader.start()
        reload(server)
        reader.join(60)
        assert not reader.is_alive()
    assert place.logs("was to end and has still requests; it is killed")
    wait_until(lambda: not is_alive(first))
    assert pid_of(server) != first


def read_to_the_end(client: Client) -> None:
    with suppress(OSError, AssertionError):
        while client.sock.recv(1 << 20):
            pass


# Import


@pytest.mark.plain
def test_application_that_cannot_be_imported_is_an_error_of_the_start(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.processes.processes.START_S", 60.0)  # on a busy machine it takes its time
    (place.directory / "broken_at_import.py").write_text("raise RuntimeError('the reason')\n")
    with pytest.raises(ConfigError, match="RuntimeError: the reason"):
        place.start(name="broken_at_import:app")
    assert "RuntimeError: the reason" in place.log.read_text()
    with pytest.raises(ConfigError, match="No module named 'nowhere_at_all'"):
        place.start(name="nowhere_at_all:app")


@pytest.mark.plain
@pytest.mark.parametrize("preload", ["off", "on"])
@pytest.mark.parametrize(
    "text", ["import sys\nsys.exit(3)\n", "import os\nos._exit(3)\n", "raise KeyboardInterrupt\n"]
)
def test_module_that_ends_the_process_is_an_error_of_the_start(
    place: Place, monkeypatch: pytest.MonkeyPatch, preload: str, text: str
) -> None:
    monkeypatch.setattr("fastws.processes.processes.START_S", 60.0)  # on a busy machine it takes its time
    (place.directory / "leaving.py").write_text(text)
    with pytest.raises(
        ConfigError, match=r"SystemExit: 3|it ended before the applications were imported|Keyb"
    ):
        place.start(f"Preload {preload}", name="leaving:app")


@pytest.mark.plain
def test_process_that_can_no_longer_be_replaced_costs_no_file(place: Place) -> None:
    module = place.directory / "spoiled_later.py"
    module.write_text("from wsgi_programs import probe\n")
    server = place.start("ApplicationTimeout 0.5", name="spoiled_later:probe")
    write(module, "def (\n")
    assert get(server, "/app/kill?9").status == 502
    assert get(server, "/app/pid").status == 503
    assert get(server, "/a.txt").body == b"a file"
    assert place.logs("SyntaxError")
    write(module, "from wsgi_programs import probe  # mended\n")
    wait_until(lambda: get(server, "/app/pid").status == 200)


@pytest.mark.plain
def test_files_are_served_while_an_import_takes_long(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.processes.processes.START_S", 0.0)
    (place.directory / "slow_import.py").write_text(
        "import os, time\n"
        f"while not os.path.exists({str(place.directory / 'go')!r}):\n    time.sleep(0.01)\n"
        "from wsgi_programs import probe\n"
    )
    server = place.start(name="slow_import:probe")
    assert get(server, "/a.txt").body == b"a file"
    with Client(server) as client:
        client.send(request("/app/pid"))
        assert get(server, "/a.txt").body == b"a file"
        (place.directory / "go").touch()
        assert client.reply().status == 200


# Reload and end


PROGRAM = """
def application(environ, start):
    start("200 OK", [])
    return [b"%s"]
"""


def write(path: Path, text: str) -> None:
    """Write a module whose change is seen although it comes within the same second."""
    path.write_text(text)
    os.utime(path, ns=(time.time_ns(), time.time_ns() + len(text) * 1_000_000_000))


def reload(server: Server) -> None:
    server.reload(lambda: server.config)


@pytest.mark.plain
def test_reload_runs_what_lies_on_the_disk_and_loses_nothing(place: Place) -> None:
    module = place.directory / "renewed.py"
    write(module, PROGRAM % "old")
    server = place.start("ApplicationThreads 2", name="renewed:application", processes=2)
    answers: list[bytes] = []
    is_over = threading.Event()

    def ask() -> None:
        with Client(server) as client:
            while not is_over.is_set():
                reply = client.get("/app")
                answers.append(reply.body if reply.status == 200 else b"%d" % reply.status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) > 50)
    write(module, PROGRAM % "renewed")
    reload(server)
    for _ in range(2):
        wait_until(lambda: b"old" not in answers[-50:] and len(answers) > 100)
    is_over.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {b"old", b"renewed"}
    wait_until(lambda: b"old" not in {get(server, "/app").body for _ in range(10)})


@pytest.mark.plain
def test_reload_that_cannot_import_leaves_everything_as_it_was(place: Place) -> None:
    module = place.directory / "spoiled.py"
    write(module, PROGRAM % "old")
    server = place.start(name="spoiled:application")
    write(module, "def (\n")
    reload(server)
    assert place.logs("the configuration was not reloaded")
    assert "SyntaxError" in place.log.read_text()
    for _ in range(3):
        assert get(server, "/app").body == b"old"
    write(module, PROGRAM % "mended")
    reload(server)
    wait_until(lambda: get(server, "/app").body == b"mended")


@pytest.mark.plain
def test_request_in_progress_is_finished_by_the_old_process(place: Place) -> None:
    server = place.start()
    with Client(server) as client:
        client.send(request(f"/app/wait?{place.directory}/go"))
        (file,) = place.wait_for("go.")
        old = int(file.suffix[1:])
        reload(server)
        wait_until(lambda: pid_of(server) != old)
        assert is_alive(old)
        (place.directory / "go").touch()
        assert client.reply().body == b"at last"
    wait_until(lambda: not is_alive(old))


@pytest.mark.plain
def test_no_process_outlives_the_server(serve: Serve, place: Place) -> None:
    server = place.start(processes=2)
    before = pid_of(server)
    spawner = spawner_of(server)
    with Client(server) as client:
        client.send(request(f"/app/wait?{place.directory}/go"))
        place.wait_for("go.")
        stopping = threading.Thread(target=server.stop, kwargs={"timeout_s": 30.0, "grace_s": 0.0})
        stopping.start()
        wait_until(lambda: server.is_draining)
        (place.directory / "go").touch()
        assert client.reply().body == b"at last"
        stopping.join()
    wait_until(lambda: not is_alive(before) and not is_alive(spawner))


def test_what_is_lent_beyond_the_drain_timeout_is_cut_off(place: Place) -> None:
    server = place.start("DrainTimeout 0.3")
    first = pid_of(server)
    with Client(server) as client:
        client.send(request(f"/app/wait?{place.directory}/never"))
        place.wait_for("never.")
        server.stop(grace_s=0.0)
        with pytest.raises((ProtocolError, ConnectionError)):
            client.reply()
    wait_until(lambda: not is_alive(first))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_server_that_is_killed(tmp_path: Path, number: int) -> None:
    path = str(Path(__file__).parents[1] / "support")
    arguments = ("wsgi_programs:probe", "--processes", "2", "--threads", "2")
    with launch.running(tmp_path, *arguments, PYTHONPATH=path) as server:
        pid = int(get(server.port, "/pid").body)
        server.signal(number)
        assert server.wait() == (0 if number == signal.SIGTERM else -number)
    wait_until(lambda: not is_alive(pid))


@pytest.mark.plain
def test_applications_given_by_a_program_run_in_its_threads(serve: Serve) -> None:
    def application(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [])
        return [str(os.getpid()).encode()]

    server = serve(
        "ApplicationProcesses 1",
        "Application /named wsgi_programs:probe",
        applications={"/given": application},
    )
    assert int(get(server, "/given").body) == os.getpid()
    assert int(get(server, "/named/pid").body) != os.getpid()


# Recycling, and development


@pytest.mark.plain
def test_process_is_replaced_after_its_requests_and_none_is_lost(place: Place) -> None:
    server = place.start("ApplicationRecycle requests=20 jitter=5")
    pids = []
    with Client(server) as client:
        while len(set(pids)) < 4:
            reply = client.get("/app/pid")
            assert reply.status == 200
            pids.append(int(reply.body))
            assert len(pids) < 20_000
    assert pids[:20] == [pids[0]] * 20
    wait_until(lambda: not is_alive(pids[0]))


@pytest.mark.plain
@pytest.mark.parametrize("limit", ["age=1", "memory=60M"])
def test_process_is_replaced_when_it_is_old_or_large(place: Place, limit: str) -> None:
    if limit.startswith("memory") and sys.platform != "linux":
        pytest.skip("the platform does not tell")
    server = place.start(f"ApplicationRecycle {limit}")
    first = pid_of(server)
    if limit.startswith("memory"):
        assert get(server, f"/app/grow?{60 << 20}").status == 200
    wait_until(lambda: pid_of(server) != first)
    wait_until(lambda: not is_alive(first))
    assert "ended it" not in place.log.read_text()


@pytest.mark.plain
@pytest.mark.skipif(sys.platform != "linux", reason="the platform does not tell")
def test_bound_of_memory_below_what_a_process_needs_replaces_none(place: Place) -> None:
    server = place.start("ApplicationRecycle memory=1M", processes=2)
    assert place.logs("more than ApplicationRecycle memory: that replaces none")
    assert len({pid_of(server) for _ in range(20)}) <= 2
    assert server._takers._processes is not None
    assert set(server._takers._processes.crew.children) == {1, 2}
    assert place.log.read_text().count("replaces none") == 1


@pytest.mark.plain
def test_changed_file_is_imported_anew_and_an_error_shown(place: Place) -> None:
    module = place.directory / "developed.py"
    write(module, PROGRAM % "old")
    server = place.start("ApplicationReload on", name="developed:application", processes=0)
    assert get(server, "/app").body == b"old"
    write(module, PROGRAM % "renewed")
    wait_until(lambda: get(server, "/app").body == b"renewed")
    write(module, "def spoiled(\n")
    wait_until(lambda: get(server, "/app").status == 500)
    assert b"SyntaxError" in get(server, "/app").body
    assert b"developed.py" in get(server, "/app").body
    write(module, PROGRAM % "mended again")
    wait_until(lambda: get(server, "/app").body == b"mended again")


@pytest.mark.plain
@pytest.mark.parametrize("preload", ["off", "on"])
def test_file_saved_during_a_long_import_is_imported_anew(place: Place, preload: str) -> None:
    """What the import has read by then is old, and nothing else would show it."""
    read, saved = place.directory / "read_early.py", place.directory / "saved"
    write(read, PROGRAM % "old")
    text = f"""
from pathlib import Path
from read_early import application
if not Path({str(saved)!r}).exists():
    Path({str(read)!r}).write_text({PROGRAM % "renewed"!r})
    Path({str(saved)!r}).touch()
"""
    write(place.directory / "long_import.py", text)
    server = place.start("ApplicationReload on", f"Preload {preload}", name="long_import:application")
    wait_until(lambda: get(server, "/app").body == b"renewed")
    write(read, PROGRAM % "renewed again")
    wait_until(lambda: get(server, "/app").body == b"renewed again")


@pytest.mark.plain
def test_error_of_the_first_import_is_shown_too(place: Place) -> None:
    module = place.directory / "begun_badly.py"
    write(module, "1 / 0\n")
    server = place.start("ApplicationReload on", name="begun_badly:application")
    reply = get(server, "/app")
    assert (reply.status, b"ZeroDivisionError" in reply.body) == (500, True)
    write(module, PROGRAM % "mended")
    wait_until(lambda: get(server, "/app").body == b"mended")


# What is counted


def metrics_of(server: Server) -> dict[str, float]:
    lines = get(server, "/-/metrics").body.decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


@pytest.mark.plain
def test_metrics_tell_what_waits_runs_and_ends(place: Place) -> None:
    server = place.start("StatusPath /-/", "ApplicationThreads 1")
    wait_until(lambda: metrics_of(server)["fastws_application_processes"] == 1)
    with Client(server) as first, Client(server) as second:
        for client in (first, second):
            client.send(request(f"/app/wait?{place.directory}/go"))
        wait_until(lambda: metrics_of(server)["fastws_application_waiting"] == 1)
        assert metrics_of(server)["fastws_application_busy"] == 1
        (place.directory / "go").touch()
        for client in (first, second):
            assert client.reply().status == 200
    wait_until(lambda: metrics_of(server)["fastws_application_busy"] == 0)
    found = metrics_of(server)
    assert found["fastws_application_requests_total"] == 2
    assert found["fastws_application_waiting"] == 0
    assert found["fastws_application_waiting_seconds_total"] > 0
    assert found["fastws_application_seconds_total"] > 0
    assert get(server, f"/app/kill?{signal.SIGKILL:d}").status == 502
    assert pid_of(server)  # of another
    reload(server)
    ends = 'fastws_application_process_ends_total{reason="%s"}'
    wait_until(lambda: metrics_of(server)[ends % "crashed"] == metrics_of(server)[ends % "reloaded"] == 1)


@pytest.mark.plain
def test_spawner_that_is_killed_is_replaced_and_so_is_what_it_left(place: Place) -> None:
    server = place.start(processes=2)
    before = pid_of(server)
    os.kill(spawner_of(server), signal.SIGKILL)
    for _ in range(20):
        assert get(server, "/app/pid").status == 200
    wait_until(lambda: not is_alive(before))
    assert get(server, f"/app/kill?{signal.SIGKILL:d}").status == 502
    assert pid_of(server) != before
    assert place.logs("the spawner of application processes has ended")


@pytest.mark.plain
def test_processes_are_started_again_once_descriptors_are_free(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = place.start("ApplicationTimeout 60", processes=2)
    before = pid_of(server)

    def lack(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        for module, name in ((tempfile, "TemporaryFile"), (subprocess, "Popen"), (os, "dup")):
            patch.setattr(module, name, lack)
        os.kill(spawner_of(server), signal.SIGKILL)
        assert place.logs("no application process could be started: Too many open files")
        assert get(server, "/a.txt").status == 200
    wait_until(lambda: is_replaced(server, before))
    wait_until(lambda: sum([worker.channels.count for worker in server._pool.workers]) == 2)
    assert "Traceback" not in place.log.read_text()


@pytest.mark.plain
def test_reload_without_descriptors_leaves_everything_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = place.start("Preload on")
    before = pid_of(server)

    def lack(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", lack)
        reload(server)
    assert place.logs("Application: no process could be started: Too many open files")
    assert pid_of(server) == before
    reload(server)
    wait_until(lambda: is_replaced(server, before))
    assert "Traceback" not in place.log.read_text()


TAKEN_OVER = """
import gc
from fastws.processes.stream import Outlet

def application(environ, start):
    start("200 OK", [])
    if environ["PATH_INFO"] == "/forge":
        [outlet] = [each for each in gc.get_objects() if type(each) is Outlet]
        outlet.send(bytes.fromhex(environ["QUERY_STRING"]))
    elif environ["PATH_INFO"] == "/slow":
        import time
        yield b"begun"
        time.sleep(600)
    import os
    yield str(os.getpid()).encode()
"""


@pytest.mark.plain
@pytest.mark.parametrize(
    "said",
    [wire.pack(1, 99), wire.pack(3, wire.ANSWER), wire.pack(0, wire.LOG, b"x")],
    ids=["unknown", "empty", "garbled"],
)
def test_process_that_says_what_none_says_is_replaced_and_its_requests_are_502(
    place: Place, said: bytes
) -> None:
    write(place.directory / "taken_over.py", TAKEN_OVER)
    server = place.start("ApplicationThreads 2", name="taken_over:application")
    before = int(get(server, "/app").body)
    with Client(server) as slow:
        slow.send(request("/app/slow"))
        assert slow.head()[0] == 200
        assert get(server, f"/app/forge?{said.hex()}").status == 502
        with pytest.raises(ProtocolError):
            slow.read(1000)
    wait_until(lambda: not is_alive(before), "its end")
    wait_until(lambda: get(server, "/app").status == 200)
    assert int(get(server, "/app").body) != before
    text = place.log.read_text()
    assert text.count("it says what no process says") == 1
    assert "Traceback" not in text
    assert f"({before}): SIGKILL ended it" not in text
    wait_until(lambda: len(processes_of(server).crew.children) == 1)


SPOILING = """
import gc
from pathlib import Path
from fastws.processes.forks import _Forks

for forks in gc.get_objects():
    if type(forks) is _Forks and Path(%r).exists():
        forks._control.sendall(bytes.fromhex(%r))
"""


@pytest.mark.plain
@pytest.mark.parametrize(
    "said",
    [wire.pack(1, 99), wire.pack(1, wire.DEAD), wire.pack_json(2, wire.BORN, "2")],
    ids=["unknown", "empty", "garbled"],
)
def test_spawner_that_says_what_none_says_is_killed(place: Place, said: bytes) -> None:
    spoils = place.directory / "spoils"
    write(place.directory / "spoiling.py", SPOILING % (str(spoils), said.hex()) + PROGRAM % "served")
    server = place.start("Preload on", name="spoiling:application")
    before = spawner_of(server)
    spoils.touch()
    reload(server)
    assert place.logs("the spawner says what no spawner says, ")
    assert place.logs("the configuration was not reloaded")
    assert (spawner_of(server), get(server, "/app").body) == (before, b"served")
    wait_until(lambda: len(processes_of(server).crew.children) == 1)
    assert "Traceback" not in place.log.read_text()
    spoils.unlink()
    reload(server)
    wait_until(lambda: not is_alive(before))
    assert get(server, "/app").body == b"served"


HANGING = """
import os, time
from pathlib import Path
if Path(%r).exists():
    Path(%r).write_text(str(os.getppid()) + " " + str(os.getpid()))
    time.sleep(600)
"""


def hang(place: Place, name: str) -> Path:
    """Have module ``name`` hang in its import while there is a file, which is returned."""
    hangs = place.directory / "hangs"
    hangs.touch()
    text = HANGING % (str(hangs), str(place.directory / "importing")) + PROGRAM % "served"
    write(place.directory / f"{name}.py", text)
    return hangs


def importing(place: Place) -> int:
    """Return the process that hangs in an import."""
    path = place.directory / "importing"
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)
    return int(path.read_text().split()[1])


@pytest.mark.plain
@pytest.mark.parametrize("preload", ["off", "on"])
def test_reload_that_hangs_in_an_import_leaves_no_process(
    place: Place, monkeypatch: pytest.MonkeyPatch, preload: str
) -> None:
    hangs = hang(place, "hanging")
    hangs.unlink()
    server = place.start(f"Preload {preload}", name="hanging:application")
    monkeypatch.setattr(processes, "CHANGE_S", 1.0)
    before = spawner_of(server)
    hangs.touch()
    reload(server)
    assert place.logs("they were not imported within 1 s")
    hung = importing(place)
    wait_until(lambda: not is_alive(hung), "the end of what hangs")
    assert (spawner_of(server), get(server, "/app").body) == (before, b"served")
    hangs.unlink()
    reload(server)
    assert get(server, "/app").body == b"served"
    wait_until(lambda: is_alive(before) == (preload == "off"))
    wait_until(lambda: len(processes_of(server).crew.children) == 1)
    assert "Traceback" not in place.log.read_text()


@pytest.mark.plain
def test_spawner_that_is_slow_forks_and_kills_in_the_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = place.start()
    monkeypatch.setattr(processes, "CHANGE_S", 0.1)
    before, old = spawner_of(server), pid_of(server)
    os.kill(before, signal.SIGSTOP)
    try:
        reload(server)
        assert place.logs("they were not imported within 0.1 s")
        (late,) = [each for each in processes_of(server).crew.children.values() if not each.pid]
        kill_at = late.kill_at
        wait_until(lambda: late.kill_at > kill_at, "the attempt to kill what is not yet forked")
    finally:
        os.kill(before, signal.SIGCONT)
    wait_until(lambda: len(processes_of(server).crew.children) == 1)
    assert (spawner_of(server), pid_of(server)) == (before, old)
    assert "the spawner" not in place.log.read_text()


@pytest.mark.plain
def test_spawner_that_hangs_from_the_start_ends_after_a_reload(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = hang(place, "hanging_first")
    monkeypatch.setattr(processes, "START_S", 0.1)
    server = place.start(
        "Preload on", "DrainTimeout 1", "ApplicationTimeout 1", name="hanging_first:application"
    )
    hung = importing(place)
    assert hung == spawner_of(server)
    assert get(server, "/a.txt").status == 200
    hangs.unlink()
    reload(server)
    assert get(server, "/app").body == b"served"
    assert place.logs("the spawner hangs in the import for application process 1")
    wait_until(lambda: not is_alive(hung), "the end of what hangs")
    wait_until(lambda: list(processes_of(server).crew.children) == [2])
    assert "Traceback" not in place.log.read_text()


COUNTING = (
    """
import os
with open(%r, "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
    + PROGRAM
)


@pytest.mark.plain
def test_preloaded_modules_are_imported_once_and_anew_by_a_reload(place: Place) -> None:
    module, imports = place.directory / "preloaded.py", place.directory / "imports.txt"
    write(module, COUNTING % (str(imports), "old"))
    server = place.start("Preload on", name="preloaded:application", processes=3)
    wait_until(lambda: server._takers.status().processes == 3)
    assert get(server, "/app").body == b"old"
    assert len(imports.read_text().split()) == 1
    write(module, COUNTING % (str(imports), "renewed"))
    reload(server)
    wait_until(lambda: {get(server, "/app").body for _ in range(10)} == {b"renewed"})
    wait_until(lambda: len({each.spawner for each in processes_of(server).crew.children.values()}) == 1)
    assert len(set(imports.read_text().split())) == 2
    write(module, "def (\n")
    reload(server)
    assert get(server, "/app").body == b"renewed"
    assert place.logs("SyntaxError")


def test_server_leaves_no_descriptor_behind(place: Place) -> None:
    before = open_descriptors()
    server = place.start(processes=2)
    assert pid_of(server)
    reload(server)
    server.stop(grace_s=0.0)
    wait_until(lambda: open_descriptors() <= before, "the end of what was open")


@pytest.fixture
def default_timeout() -> Iterator[None]:
    """Sockets that anything makes from now on have a timeout, as some applications ask for."""
    socket.setdefaulttimeout(3.0)
    yield
    socket.setdefaulttimeout(None)


@pytest.mark.usefixtures("default_timeout")
def test_processes_serve_where_sockets_have_a_timeout_by_default(place: Place) -> None:
    server = place.start()
    pid = pid_of(server)
    with Client(server, receive_buffer=4096) as client:
        client.send(request("/app/large?3000000"))
        assert [pid_of(server) for _ in range(20)] == [pid] * 20
        assert len(client.reply().body) == 3_000_000
    assert "it ended" not in place.log.read_text()


@pytest.mark.plain
def test_module_that_is_preloaded_may_give_sockets_a_timeout(place: Place) -> None:
    (place.directory / "hasty.py").write_text(
        "import socket\nsocket.setdefaulttimeout(0.01)\nfrom wsgi_programs import probe\n"
    )
    server = place.start("Preload on", name="hasty:probe")
    pid = pid_of(server)
    time.sleep(0.1)  # ten times as long
    assert pid_of(server) == pid
