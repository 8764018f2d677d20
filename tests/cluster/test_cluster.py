"""Three nodes behind HAProxy and Varnish: what is planned costs no request, the rest costs what is documented."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import launch
import pytest
from certificates import CA
from cluster import CLIENT, SEARCHED, Cluster, Load, Node, cluster, missing
from rawhttp import put, wait_until

REASON = missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)

TIMEOUT_SERVER_S = 3.0
"""``timeout server`` of examples/cluster/haproxy.cfg: as long a request waits at a node that says nothing."""


COUNT = 12
"""Clients of a load."""


@pytest.fixture(scope="module")
def authority_of_cluster(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return CA(tmp_path_factory.mktemp("cluster-authority"))


@pytest.fixture(scope="module")
def hanging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HangingDisk]:
    disk = HangingDisk(tmp_path_factory.mktemp("disk"))
    yield disk
    disk.close()


class HangingDisk:
    """A directory behind a FUSE program; while that is stopped, whatever asks for a file waits."""

    def __init__(self, place: Path) -> None:
        self.root = place / "mounted"
        self.behind = place / "behind"
        self.root.mkdir()
        self.behind.mkdir()
        self._program: subprocess.Popen[bytes] | None = None

    def mount(self) -> None:
        """Have the files be there. No attribute is kept by the kernel: each is asked for."""
        options = "attr_timeout=0,entry_timeout=0,direct_io"
        self._program = subprocess.Popen(
            ["bindfs", "-f", "-o", options, str(self.behind), str(self.root)],
            env={"PATH": SEARCHED},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.root.is_mount, "the mount")

    def hang(self) -> None:
        """Answer nothing."""
        assert self._program is not None
        self._program.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        assert self._program is not None
        self._program.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Unmount."""
        if self._program is not None:
            self.go_on()
            subprocess.run(["umount", "-l", str(self.root)], check=False, timeout=30)
            self._program.terminate()
            self._program.wait(30)


@pytest.fixture(scope="module")
def there(
    tmp_path_factory: pytest.TempPathFactory, authority_of_cluster: CA, hanging: HangingDisk
) -> Iterator[Cluster]:
    """The cluster; the files of node 2 are on a disk that can hang."""
    directory = tmp_path_factory.mktemp("cluster")

    def write(root: Path) -> None:
        put(root, {"page.html": b"<p>page</p>\n" * 100, "large.bin": bytes(4 << 20)})

    with ExitStack() as stack:
        made = stack.enter_context(cluster(directory, write))
        subprocess.run(["cp", "-pR", f"{directory / 'root2'}/.", str(hanging.behind)], check=True, timeout=60)
        hanging.mount()
        text = (made.nodes[1].directory / "ws.conf").read_text()
        (made.nodes[1].directory / "ws.conf").write_text(
            text.replace(str(directory / "root2"), str(hanging.root))
        )
        ticket = bytes(range(80))
        for node in made.nodes:
            renew(node, authority_of_cluster)
            (node.directory / "tls" / "ticket.key").write_bytes(ticket)
            (node.directory / "tls" / "ticket.key").chmod(0o600)
            node.start()
            stack.callback(end, node)
        made.start_front()
        yield made


def end(node: Node) -> None:
    if node.pid:
        node.kill()


def renew(node: Node, authority: CA) -> None:
    """Put a new certificate in place, as an administrator does: whole files, moved."""
    pair = authority.pair("localhost")
    for path, name in zip(pair[:2], ("fullchain.pem", "privkey.pem"), strict=True):
        fresh = node.directory / "tls" / f"{name}.new"
        shutil.copy(path, fresh)
        fresh.chmod(0o600)
        fresh.replace(node.directory / "tls" / name)


# What is planned: not one request fails


def test_restart_of_one_after_another_fails_no_request(there: Cluster) -> None:
    with there.load() as load:
        for node in there.nodes:
            node.stop()
            node.start()
            there.await_up(node)
    assert load.result["failures"] == {}, load.result
    assert load.result["requests"] > 500


def test_upgrade_of_one_after_another_fails_no_request(there: Cluster) -> None:
    with there.load() as load:
        for node in there.nodes:
            before, times_down = node.pid, there.times_down(node)
            assert f"has replaced {before}" in node.upgrade()
            there.await_up(node)
            assert there.times_down(node) == times_down, "ready all the time"
    assert load.result["failures"] == {}, load.result
    assert load.result["requests"] > 500


def test_certificate_is_renewed_on_all_without_a_failed_request(
    there: Cluster, authority_of_cluster: CA
) -> None:
    ca = str(authority_of_cluster.path)
    per_connection, count = 5, 6
    words = ["--ca", ca, "--per-connection", str(per_connection), "--count", str(count)]

    def reloads(node: Node) -> int:
        return (node.directory / "errors.txt").read_text().count("configuration reloaded")

    with there.load(8443, *words) as load:
        for node in there.nodes:
            renew(node, authority_of_cluster)
            before = reloads(node)
            node.signal(signal.SIGHUP)
            wait_until(lambda node=node, before=before: reloads(node) > before, "a reload")  # type: ignore[misc]
        # After so many more requests, each has been asked over a connection that is newer.
        asked = [there.asked(node) + per_connection * count for node in there.nodes]
        wait_until(
            lambda: all(there.asked(node) > goal for node, goal in zip(there.nodes, asked, strict=True))
        )
    assert load.result["failures"] == {}, load.result
    assert len(load.result["serials"]) >= 4, "old certificates, then those of three nodes"


# What is not planned


def test_node_that_is_killed_costs_nothing_that_may_be_asked_again(there: Cluster) -> None:
    node = there.nodes[0]
    with there.load() as load:
        node.kill()
        wait_until(lambda: not there.is_up(node), "HAProxy to notice")
        time.sleep(0.5)
        node.start()
        there.await_up(node)
    assert load.result["failures"] == {}, load.result
    assert load.result["longest_s"] < TIMEOUT_SERVER_S + 2


def test_node_that_is_cut_off_costs_time_and_no_request(there: Cluster) -> None:
    node = there.nodes[2]
    with there.load() as load:
        there.network.cut_off("n3")
        wait_until(lambda: not there.is_up(node), "HAProxy to notice")
        time.sleep(TIMEOUT_SERVER_S + 1)
        there.network.join("n3")
        there.await_up(node)
    assert load.result["failures"] == {}, load.result
    assert_two_waits_at_most(load)


def test_node_whose_disk_hangs_costs_time_and_no_request(there: Cluster, hanging: HangingDisk) -> None:
    node = there.nodes[1]
    with there.load() as load:
        hanging.hang()
        try:
            wait_until(lambda: not there.is_up(node), "HAProxy to notice")
            time.sleep(TIMEOUT_SERVER_S + 1)
        finally:
            hanging.go_on()
        there.await_up(node)
    assert load.result["failures"] == {}, load.result
    assert_two_waits_at_most(load)


def assert_two_waits_at_most(load: Load) -> None:
    """Each client has waited for the node twice at most, before HAProxy gave it up."""
    assert load.result["slow"] <= 2 * COUNT, load.result
    assert load.result["longest_s"] < 2 * TIMEOUT_SERVER_S + 2


# What the nodes know


def test_logs_have_the_address_of_each_client(there: Cluster) -> None:
    own = {there.network.address(number) for number in range(CLIENT + 1, CLIENT + 4)}
    marks = {}
    for number in range(1, 4):
        for port in (8080, 80):
            for _ in range(3):
                target = f"/page.html?mark={number}-{port}-{time.monotonic_ns()}"
                assert there.get(port, target, client=CLIENT + number)[0] == 200
                marks[target] = there.network.address(CLIENT + number)

    def logged() -> dict[str, str]:
        lines = [line.split() for node in there.nodes for line in node.log()]
        return {line[6]: line[0] for line in lines if len(line) > 6 and line[6] in marks}

    wait_until(lambda: len(logged()) == len(marks), "the lines")
    assert logged() == marks
    # Nobody else has asked, but for HAProxy's checks and the clients of other tests.
    peers = {line.split()[0] for node in there.nodes for line in node.log()}
    assert peers <= own | {there.network.address(CLIENT), there.network.address(1)}


def test_cache_revalidates_against_any_node(there: Cluster) -> None:
    coded = 0
    while coded < 6:  # until each has compressed it, twice in turn
        _, fields, _ = there.get(8080, "/page.html", "Accept-Encoding: gzip")
        coded = coded + 1 if "content-encoding" in fields else 0
    target = f"/page.html?cached={time.monotonic_ns()}"
    status, fields, body = there.get(80, target)
    assert status == 200

    def answered() -> dict[str, list[str]]:
        """The statuses that each node has logged."""
        return {node.name: [line.split()[8] for line in node.log() if target in line] for node in there.nodes}

    deadline = time.monotonic() + launch.END_S
    while not all("304" in statuses for statuses in answered().values()):
        assert time.monotonic() < deadline, answered()
        time.sleep(1.1)  # it is fresh in Varnish for a second
        answer = there.get(80, target)
        assert (answer[0], answer[1]["etag"], answer[2]) == (200, fields["etag"], body)
    assert [status for statuses in answered().values() for status in statuses].count("200") == 1


def test_node_is_asked_in_vain_by_others_than_the_balancer(there: Cluster) -> None:
    assert there.get(8080, "/-/metrics")[0] == 404
    assert there.get(8080, "/-/readyz")[0] == 404
