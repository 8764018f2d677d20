"""Three nodes, HAProxy, Varnish and clients, each in a network namespace of its own, joined by a bridge.

All of it is as examples/cluster/ has it, but for the addresses, some ports and the path of a socket.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import launch
from rawhttp import put, wait_until

EXAMPLES = launch.REPOSITORY / "examples" / "cluster"
PROGRAMS = {"ip": "ip", "haproxy": "haproxy", "varnish": "varnishd", "bindfs": "bindfs"}
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

BALANCER, CLIENT = 1, 100
"""The last numbers of addresses; nodes have 11, 12 and 13, and clients 101, 102 and 103 as well."""

LOAD = Path(__file__).with_name("cluster_load.py")


def missing() -> str:
    """Return why there can be no cluster here, or ''."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    for package, program in PROGRAMS.items():
        if shutil.which(program, path=SEARCHED) is None:
            return f"{program} of {package} is not installed"
    name = f"fw{os.getpid()}t"
    done = run("ip", "netns", "add", name, check=False)
    if done.returncode:
        return f"network namespaces are not permitted here: {done.stderr.strip()}"
    run("ip", "netns", "del", name)
    return ""


def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command that is soon over."""
    environment = {**os.environ, "PATH": SEARCHED}
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, env=environment, check=False)
    assert not check or not done.returncode, (words, done.stderr)
    return done


class Network:
    """The namespaces. ``close`` removes them, and what runs in them."""

    def __init__(self) -> None:
        self.prefix = f"10.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}"
        self._base = f"fw{os.getpid()}"
        self._stack = ExitStack()
        remove_left_behind()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        self._add("edge")
        self._in("edge", "ip", "link", "add", "bridge", "type", "bridge")
        self._in("edge", "ip", "address", "add", f"{self.address(BALANCER)}/24", "dev", "bridge")
        self._in("edge", "ip", "link", "set", "bridge", "up")
        for name, numbers in {"c": range(CLIENT, CLIENT + 4), "n1": [11], "n2": [12], "n3": [13]}.items():
            self._add(name)
            run(
                *("ip", "link", "add", f"to-{name}", "netns", self.name("edge")),
                *("type", "veth", "peer", "name", "eth0", "netns", self.name(name)),
            )
            self._in("edge", "ip", "link", "set", f"to-{name}", "master", "bridge", "up")
            for number in numbers:
                self._in(name, "ip", "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            self._in(name, "ip", "link", "set", "eth0", "up")

    def _add(self, name: str) -> None:
        run("ip", "netns", "add", self.name(name))
        self._stack.callback(self._remove, name)
        self._in(name, "ip", "link", "set", "lo", "up")

    def _remove(self, name: str) -> None:
        for pid in run("ip", "netns", "pids", self.name(name), check=False).stdout.split():
            with suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
        run("ip", "netns", "del", self.name(name), check=False)

    def _in(self, name: str, *words: str) -> None:
        run("ip", "-n", self.name(name), *words[1:])

    def name(self, name: str) -> str:
        """The name of a namespace as the system has it."""
        return f"{self._base}-{name}"

    def address(self, number: int) -> str:
        """The address with this last number."""
        return f"{self.prefix}.{number}"

    def enter(self, name: str) -> list[str]:
        """The words that have a command run in a namespace."""
        return [shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{self.name(name)}"]

    def cut_off(self, name: str) -> None:
        """Pull the plug."""
        self._in("edge", "ip", "link", "set", f"to-{name}", "down")

    def join(self, name: str) -> None:
        """Put it in again."""
        self._in("edge", "ip", "link", "set", f"to-{name}", "up")

    def close(self) -> None:
        """Remove everything."""
        self._stack.close()


def remove_left_behind() -> None:
    """Remove the namespaces of processes that were killed before they could."""
    for line in run("ip", "netns", "list").stdout.splitlines():
        found = re.match(r"fw([0-9]+)-", line)
        if found and not os.path.exists(f"/proc/{found[1]}"):
            for pid in run("ip", "netns", "pids", line.split()[0], check=False).stdout.split():
                with suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", line.split()[0], check=False)


class Node:
    """One server of the cluster, and its successors."""

    def __init__(self, network: Network, number: int, directory: Path, root: Path, side: str) -> None:
        self.number, self.directory, self.side = number, directory, side
        self.name = f"node{number}"
        self._network = network
        self._program: subprocess.Popen[bytes] | None = None
        put(directory, {"run/empty": b"", "tls/empty": b""})
        text = (EXAMPLES / "ws.conf").read_text().replace("192.0.2.", f"{network.prefix}.")
        text = text.replace("/srv/www", str(root)).replace("ErrorLog        -", "ErrorLog errors.txt")
        text = text.replace("AccessLog       -", "AccessLog access.txt").replace(
            "DrainDelay      2", "DrainDelay 1.2"
        )
        (directory / "ws.conf").write_text(text)

    def start(self) -> None:
        """Start it."""
        assert self._program is None
        self._program = subprocess.Popen(
            [*self._network.enter(f"n{self.number}"), *launch.command()],
            cwd=self.directory,
            env=launch.environment(self.side, self.directory / "state"),
            stdout=subprocess.DEVNULL,
            stderr=(self.directory / "stderr").open("ab"),
            start_new_session=True,
        )
        wait_until(lambda: self._pid_or_0() or self._has_ended(), f"{self.name} to start")
        assert self._pid_or_0(), (self.directory / "stderr").read_text()

    def _has_ended(self) -> bool:
        return self._program is not None and self._program.poll() is not None

    def _pid_or_0(self) -> int:
        try:
            return int((self.directory / "run" / "pid").read_text())
        except (OSError, ValueError):
            return 0

    @property
    def pid(self) -> int:
        return self._pid_or_0()

    def signal(self, number: int) -> None:
        """Send the process that counts a signal."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """Have it drain and end."""
        self.signal(signal.SIGTERM)
        wait_until(lambda: not self.pid, f"{self.name} to end")
        self._forget()

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        self._forget()
        (self.directory / "run" / "pid").unlink(missing_ok=True)

    def _forget(self) -> None:
        assert self._program is not None
        with suppress(subprocess.TimeoutExpired):
            self._program.wait(launch.END_S)
        self._program = None

    def upgrade(self) -> str:
        """Have ``fastws upgrade`` run, in the node's namespace; return what it said."""
        done = subprocess.run(
            [*self._network.enter(f"n{self.number}"), *launch.command("upgrade")],
            cwd=self.directory,
            env=launch.environment(self.side, self.directory / "state"),
            capture_output=True,
            text=True,
            timeout=launch.END_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def log(self) -> list[str]:
        """The lines of its access log."""
        return (self.directory / "access.txt").read_text().splitlines()


class Load:
    """Clients that ask from the namespace of the clients, and what came of it."""

    def __init__(self, network: Network, words: Sequence[str]) -> None:
        self._program = subprocess.Popen(
            [*network.enter("c"), sys.executable, str(LOAD), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.result: dict[str, Any] = {}

    def end(self) -> None:
        """Have them end."""
        if not self.result:
            text, _ = self._program.communicate("", timeout=30)
            self.result = json.loads(text)

    def close(self) -> None:
        """End them whatever they do."""
        self._program.kill()
        self._program.communicate()


class Cluster:
    """All of it."""

    def __init__(self, network: Network, directory: Path, stack: ExitStack) -> None:
        self.network, self.directory = network, directory
        self._stack = stack
        self._stats = directory / "haproxy.sock"
        self.nodes: list[Node] = []

    def start(self, roots: Sequence[Path]) -> None:
        """Start nodes and what is in front of them; the third node is pure."""
        for number, root in enumerate(roots, 1):
            node = Node(
                self.network,
                number,
                self.directory / f"node{number}",
                root,
                "pure" if number == 3 else "compiled",
            )
            self.nodes.append(node)

    def start_front(self) -> None:
        """Start HAProxy and Varnish."""
        text = (EXAMPLES / "haproxy.cfg").read_text().replace("192.0.2.", f"{self.network.prefix}.")
        text = text.replace("/run/haproxy/admin.sock mode 660", f"{self._stats} mode 600")
        text = text.replace("maxconn 20000", "maxconn 2000")  # descriptors may be few here
        (self.directory / "haproxy.cfg").write_text(text)
        self._run("haproxy", "-db", "-f", "haproxy.cfg")
        storage = ["-n", str(self.directory / "varnish"), "-s", "malloc,16M", "-p", "thread_pool_min=10"]
        self._run(
            *(
                "varnishd",
                "-F",
                "-a",
                f"{self.network.address(BALANCER)}:80",
                "-f",
                str(EXAMPLES / "varnish.vcl"),
            ),
            *("-p", "thread_pools=1", "-j", "none", *storage),
        )
        wait_until(
            lambda: self._stats.exists() and all(self.is_ready(node) for node in self.nodes), "nodes to be up"
        )
        wait_until(lambda: self.get(80, "/page.html")[0] == 200, "Varnish")

    def _run(self, *words: str) -> None:
        program = subprocess.Popen(
            [*self.network.enter("edge"), shutil.which(words[0], path=SEARCHED) or words[0], *words[1:]],
            cwd=self.directory,
            stdout=(self.directory / f"{words[0]}.log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stack.callback(program.wait, 30)
        self._stack.callback(program.terminate)

    def rows(self, node: Node) -> list[dict[str, str]]:
        """What HAProxy knows of a node, in either of its backends, by the names of its statistics."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self._stats))
            sock.sendall(b"show stat\n")
            lines = sock.makefile().read().splitlines()
        names = lines[0].removeprefix("# ").split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:] if line]
        found = [row for row in rows if row["svname"] == node.name]
        assert [row["pxname"] for row in found] == ["nodes", "tls_nodes"]
        return found

    def is_up(self, node: Node) -> bool:
        """Tell whether HAProxy gives a node connections of either kind: one failed check does not end that."""
        return all(row["status"].startswith("UP") for row in self.rows(node))

    def is_ready(self, node: Node) -> bool:
        """Tell whether its last checks have found it ready; a star says that the next one is under way."""
        return all(
            (row["status"], row["check_status"].removeprefix("* ")) == ("UP", "L7OK")
            for row in self.rows(node)
        )

    def times_down(self, node: Node) -> int:
        """Return how often HAProxy has taken a node out."""
        return sum(int(row["chkdown"]) for row in self.rows(node))

    def await_up(self, node: Node) -> None:
        """Wait until it is ready, and given connections."""
        wait_until(lambda: self.is_ready(node), f"{node.name} to be up")

    def get(
        self, port: int, target: str, *lines: str, client: int = CLIENT
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask once, from one of the clients' addresses."""
        program = [*self.network.enter("c"), sys.executable, str(LOAD), "--once", "--target", target]
        words = ["--address", self.network.address(BALANCER), "--port", str(port)]
        words += [
            "--from",
            self.network.address(client),
            *itertools.chain(*[("--line", line) for line in lines]),
        ]
        done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        status, fields, body = json.loads(done.stdout)
        return status, fields, body.encode("latin-1")

    def asked(self, node: Node) -> int:
        """Return how many requests of clients a node has written down; checks of HAProxy ask for /-/."""
        return sum("/-/" not in line for line in node.log())

    @contextmanager
    def load(self, port: int = 8080, *words: str) -> Iterator[Load]:
        """Have clients ask until the block ends."""
        sources = ",".join(self.network.address(number) for number in range(CLIENT + 1, CLIENT + 4))
        where = ["--address", self.network.address(BALANCER), "--port", str(port), "--from", sources]
        before = [self.asked(node) for node in self.nodes]
        load = Load(self.network, [*where, *words])
        try:  # what happens then happens to clients that have begun
            wait_until(
                lambda: all(self.asked(node) > count for node, count in zip(self.nodes, before, strict=True)),
                "every node to be asked",
            )
            yield load
            time.sleep(0.5)
            load.end()
        finally:
            load.close()


@contextmanager
def cluster(directory: Path, write: Callable[[Path], None]) -> Iterator[Cluster]:
    """Run a cluster whose nodes have copies of the tree that ``write`` makes, until the block ends."""
    with ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        write(directory / "root1")
        for number in (2, 3):
            subprocess.run(
                ["cp", "-pR", str(directory / "root1"), str(directory / f"root{number}")],
                check=True,
                timeout=60,
            )
        made = Cluster(network, directory, stack)
        made.start([directory / f"root{number}" for number in (1, 2, 3)])
        yield made
