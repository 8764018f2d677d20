"""Slow attacks by slowhttptest, while a normal client goes on at its pace."""

from __future__ import annotations

import os
import random
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from launch import REPOSITORY, Process, running
from rawhttp import Client, get, put, request, wait_until

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not shutil.which("slowhttptest"), reason="needs Debian's slowhttptest"),
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc"),
]

PURE_ONLY = os.environ.get("FASTWS_NO_EXTENSIONS") == "1"
PACE_PER_S = 500
"""Requests a second of the normal client: some way below what the pure side serves."""

REQUEST_TIMEOUT_S = 4
"""Of the server whose attackers are to be dropped; the others run as they come."""

ATTACKS = {
    "slow headers": ("-H", "-i", "2", "-x", "20", "-p", "3"),
    "slow body": ("-B", "-i", "2", "-s", "100000", "-x", "20", "-p", "3"),
    "slow read": ("-X", "-n", "2", "-w", "10", "-y", "20", "-z", "1", "-k", "3", "-p", "3"),
}
TARGETS = {"slow headers": "/", "slow body": "/", "slow read": "/big.bin"}


@pytest.fixture(params=["compiled", "pure"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    """A server as it comes, in a process of its own."""
    if request.param == "compiled" and PURE_ONLY:
        pytest.skip("FASTWS_NO_EXTENSIONS=1: the compiled side was left out on purpose")
    files = {"a.txt": b"a" * 1024, "index.html": b"<pre></pre>", "big.bin": b"b" * (1 << 20)}
    put(tmp_path / "root", files)
    configure(tmp_path)
    with running(tmp_path, side=str(request.param)) as process:
        yield process


def configure(directory: Path, *lines: str) -> None:
    """Write ``ws.conf``."""
    text = ['DocumentRoot "root"', "ListenPort 8080", "DefaultType application/octet-stream", *lines]
    (directory / "ws.conf").write_text("\n".join(text) + "\n")


def descriptors(server: Process) -> int:
    """How many descriptors the server has open."""
    return len(os.listdir(f"/proc/{server.popen.pid}/fd"))


@contextmanager
def attack(
    server: Process, kind: str, connections: int, directory: Path, *, may_fail: bool = False
) -> Iterator[None]:
    """Run slowhttptest until the block ends; the block begins when its connections are there.

    It ends by itself when all of them have been closed; that must not be before the block does, unless
    the attack ``may_fail``.
    """
    before = descriptors(server)
    with open(directory / "slowhttptest.txt", "wb") as output:
        attacker = subprocess.Popen(
            [
                *("slowhttptest", *ATTACKS[kind], "-c", str(connections), "-r", str(connections), "-l", "60"),
                *("-u", f"http://127.0.0.1:{server.port}{TARGETS[kind]}", "-v", "1"),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: descriptors(server) - before >= connections * 0.9, f"{connections} attackers")
        # Meanwhile the kernel copies what slow readers asked for into its buffers, megabytes for each of them.
        wait_until(lambda: is_prompt(server.port), "prompt answers after the onset of the attack")
        yield
        assert may_fail or attacker.poll() is None, "the attack was over before its end"
    finally:
        attacker.kill()
        attacker.wait(20)
    wait_until(lambda: descriptors(server) <= before + 2, "the attackers' connections closed")


def is_prompt(port: int) -> bool:
    """Whether 50 answers one after another take less than a quarter of a second."""
    began = time.monotonic()
    with Client(port) as client:
        for _ in range(50):
            client.get("/a.txt")
    return time.monotonic() - began < 0.25


class Served(NamedTuple):
    """What a normal client got: answers a second, and the longest that it waited for one."""

    per_s: float
    longest_s: float


def served_at_pace(port: int, seconds: float) -> Served:
    """Ask ``PACE_PER_S`` times a second, whether or not the last answer is there; count the answers in time."""
    total = int(PACE_PER_S * seconds)
    length = len(fetch_once(port))
    data = request("/a.txt")
    sent = received = 0
    longest_s = 0.0
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        began = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            due = min(total, int((now - began) * PACE_PER_S) + 1)
            if due > sent:
                sock.sendall(data * (due - sent))
                sent = due
            if select.select([sock], [], [], 0.001)[0]:
                received += len(sock.recv(1 << 20))
            waiting = sent - received / length
            longest_s = max(longest_s, waiting / PACE_PER_S)
        answered = received // length
    return Served(answered / seconds, longest_s)


def fetch_once(port: int) -> bytes:
    """The bytes of one answer, all as long as this one."""
    with Client(port) as client:
        client.send(request("/a.txt"))
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < 1024:
            data += client.sock.recv(1 << 16)
    return data


def served_at_once(port: int, seconds: float) -> float:
    """Ask again as soon as the answer is there; return the answers a second."""
    count = 0
    with Client(port) as client:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            client.get("/a.txt")
            count += 1
    return count / seconds


def processor_s(server: Process) -> float:
    """The processor time that the server has used."""
    fields = Path(f"/proc/{server.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("kind", ATTACKS)
def test_normal_client_keeps_its_pace_under_attack(server: Process, tmp_path: Path, kind: str) -> None:
    """Served on time are at least 99 % of what the same client is served in peace."""
    ratios = []
    for _ in range(8):  # a busy machine may spoil a round
        peace = served_at_pace(server.port, 1)
        with attack(server, kind, 300, tmp_path):
            war = served_at_pace(server.port, 1)
        ratios.append(war.per_s / peace.per_s)
        if ratios[-1] >= 0.99:
            break
    print(f"{kind}: {ratios}")
    assert max(ratios) >= 0.99
    assert get(server.port, "/a.txt").status == 200


@pytest.mark.parametrize("kind", ATTACKS)
def test_attackers_are_dropped_by_the_limits(server: Process, tmp_path: Path, kind: str) -> None:
    """Soon after RequestTimeout or StallTime, all who began an attack are gone, while it goes on."""
    log = tmp_path / "log_webserver_error.txt"
    configure(tmp_path, f"RequestTimeout {REQUEST_TIMEOUT_S}", f"StallTime {2 * REQUEST_TIMEOUT_S}")
    server.signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in log.read_text(), "a reload")
    with attack(server, kind, 20, tmp_path, may_fail=True):
        reason = {"slow headers": " 408 ", "slow body": " 408 ", "slow read": "reads too slowly"}[kind]
        end = time.monotonic() + 4.5 * REQUEST_TIMEOUT_S
        while log.read_text().count(reason) < 18:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ATTACKS)
def test_throughput_under_attack_interleaved_medians(server: Process, tmp_path: Path, kind: str) -> None:
    """As the test of the pace, with 1,000 attackers, and with a client that asks as fast as it can."""
    peace, war, pace, load, cost = [], [], [], [], []
    served_at_once(server.port, 0.5)
    for _ in range(7):
        before = processor_s(server)
        peace.append(served_at_once(server.port, 2))
        each = (processor_s(server) - before) / peace[-1]
        with attack(server, kind, 1000, tmp_path):
            before, began = processor_s(server), time.monotonic()
            time.sleep(1)  # what the attack alone costs
            load.append((processor_s(server) - before) / (time.monotonic() - began))
            before = processor_s(server)
            war.append(served_at_once(server.port, 2))
            cost.append((processor_s(server) - before) / war[-1] / each)
            pace.append(served_at_pace(server.port, 1).per_s / PACE_PER_S)
    ratio = statistics.median(war) / statistics.median(peace)
    print(
        f"{kind}: closed loop {statistics.median(peace):.0f}/s in peace, {statistics.median(war):.0f}/s under"
        f" attack ({ratio:.3f}); paced {statistics.median(pace):.3f}; the attack costs"
        f" {100 * statistics.median(load):.1f} % of a processor, an answer {statistics.median(cost):.2f} times"
        " what it costs in peace"
    )
    assert statistics.median(pace) >= 0.99
    assert statistics.median(load) <= 0.1
    # The closed loop is no measure where attacker, client and server share the processors; what an answer
    # costs the server is.
    assert statistics.median(cost) <= 1.5


# A client that takes all it can get

PAIRS = 100
WINDOW_S = 0.06
PAUSE_S = 0.12
"""Before each window, for whoever else works on this machine."""

HOLDERS, DRIP_S = 1000, 10
"""Attackers' connections, and how often each of them drips: slowhttptest's own default."""

FIRST, SECOND = (("chrt", "-f", "1", "taskset", "-c", number) for number in "01")
"""Run a program on one processor before all others: what else goes on here would swamp the figures."""

BEFORE_SECOND = ("chrt", "-f", "2", "taskset", "-c", "1")


class Window(NamedTuple):
    """What a client got meanwhile: answers a second, and the processor time in s that one cost the server."""

    per_s: float
    cost_s: float


class Held:
    """A server on the first processor and wrk on the second, both stopped except in a ``window``."""

    def __init__(self, server: Process, stack: ExitStack) -> None:
        self.server, self.pid = server, server.popen.pid
        url = f"http://127.0.0.1:{server.port}/a.txt"
        self.wrk = subprocess.Popen(
            [*SECOND, "wrk", "-t1", "-c32", "-d600s", "--timeout", "60s", url], stdout=subprocess.DEVNULL
        )
        stack.callback(self.end)
        self.asker = stack.enter_context(Client(server.port))
        wait_until(lambda: self.answers() > 10_000)
        self.stop()

    def stop(self) -> None:
        self.wrk.send_signal(signal.SIGSTOP)
        os.kill(self.pid, signal.SIGSTOP)
        state = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T")
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        self.used_s = sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def go(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.wrk.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.go()
        self.wrk.kill()
        self.wrk.wait(20)

    def answers(self) -> int:
        """How many answers the server has given; asking counts."""
        page = self.asker.get("/-/metrics").body.decode()
        self.answered = sum(map(int, re.findall(r"^fastws_requests_total\{.*\} (\d+)", page, re.MULTILINE)))
        return self.answered

    def window(self) -> Window:
        answered, used_s, began = self.answered, self.used_s, time.monotonic()
        self.go()
        time.sleep(WINDOW_S)
        answers = self.answers() - answered
        took = time.monotonic() - began
        self.stop()
        return Window(answers / took, (self.used_s - used_s) / answers)


@contextmanager
def holder(server: Held, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``slow_holder.py`` against ``server``; the block begins when its connections are there."""
    script = str(REPOSITORY / "tests" / "support" / "slow_holder.py")
    arguments = [script, str(server.server.port), kind, str(HOLDERS), str(DRIP_S)]
    os.kill(server.pid, signal.SIGCONT)
    before = descriptors(server.server)
    with subprocess.Popen(
        [*BEFORE_SECOND, sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        tell(process, "attack")
        wait_until(lambda: descriptors(server.server) - before >= HOLDERS * 0.95, "the attackers")
        server.stop()
        server.window()
        yield process
        assert process.stdin
        process.stdin.close()
    os.kill(server.pid, signal.SIGCONT)
    wait_until(lambda: descriptors(server.server) <= before + 2, "the attackers gone")
    server.stop()
    server.window()


def tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{word}\n"


def median_with_doubt(values: list[float]) -> str:
    """The median, and where it lies with 95 % certainty (bootstrap)."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(2000))
    return f"{statistics.median(values):.3f} ({medians[50]:.3f} to {medians[-51]:.3f})"


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("wrk"), reason="needs root and Debian's wrk")
@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("which", ["compiled", "pure"])
def test_saturating_client_under_attack_in_paired_windows(tmp_path: Path, which: str, kind: str) -> None:
    """One server is attacked and one is not, in turn, and in the middle they change their parts.

    Server and client have a processor each. The attacker takes part of the client's, a little less of it in peace:
    what it costs to open connections anew is counted as the server's loss. All that was due to the attacked server
    while it was stopped falls into its windows. So that it drops attackers there as often as ever, RequestTimeout
    and StallTime are as much longer as the windows are rarer.
    """
    files = {"a.txt": b"a" * 1024, "index.html": b"<pre></pre>", "big.bin": b"b" * (1 << 20)}
    rarer = 2 * (PAUSE_S + WINDOW_S) / WINDOW_S
    pairs: list[tuple[Window, Window]] = []
    with ExitStack() as stack:
        servers = []
        for name in ("one", "other"):
            put(tmp_path / name / "root", files)
            (tmp_path / name / "ws.conf").write_text(
                'DocumentRoot "root"\nListenPort 8080\nDefaultType application/octet-stream\nStatusPath /-/\n'
                f"KeepaliveTime 600\nRequestTimeout {10 * rarer:.0f}\nStallTime {300 * rarer:.0f}\n"
            )
            process = stack.enter_context(running(tmp_path / name, side=which, prefix=FIRST))
            servers.append(Held(process, stack))
        for calm, target in (servers, reversed(servers)):
            with holder(target, kind) as attacker:
                for number in range(PAIRS // 2):
                    found = {}
                    for word in ("rest", "attack") if number % 2 else ("attack", "rest"):
                        tell(attacker, word)
                        time.sleep(PAUSE_S)
                        found[word] = (target if word == "attack" else calm).window()
                    pairs.append((found["rest"], found["attack"]))
    peace, war = zip(*pairs, strict=True)
    throughput = [b.per_s / a.per_s for a, b in pairs]
    cost = [b.cost_s / a.cost_s for a, b in pairs]
    print(
        f"{which}, {kind}: {statistics.median(w.per_s for w in peace):,.0f} answers/s in peace,"
        f" {statistics.median(w.per_s for w in war):,.0f} under attack, {median_with_doubt(throughput)} times;"
        f" an answer costs {statistics.median(w.cost_s for w in peace) * 1e6:.2f} µs in peace,"
        f" {median_with_doubt(cost)} times that under attack"
    )
    assert statistics.median(throughput) >= 0.95
    assert statistics.median(cost) <= 1.05
