"""What a request costs HAProxy and the node behind it: ``python benchmarks/balancer.py``, for docs/scaling.md.

One node with one worker, one HAProxy with one thread, and wrk, in turn on each way to the node: A B C, A B C.
The cost is the CPU time of each process over the requests that wrk has completed, the median of the rounds. Then
the memory of a node: without connections, and with many idle ones, plain and over TLS.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import trustme

WAYS = (
    "direct",
    "http, X-Forwarded-For",
    "http, PROXY v2",
    "https to X-Forwarded-For",
    "tcp, PROXY v2",
)

HAPROXY = """
global
    nbthread 1
    maxconn 2000
defaults
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout http-keep-alive 10s
backend fields
    mode http
    option forwardfor
    server node 127.0.0.1:{direct}
backend nodes
    mode http
    server node 127.0.0.1:{node} send-proxy-v2
backend bytes
    mode tcp
    server node 127.0.0.1:{node} send-proxy-v2
frontend http
    mode http
    bind 127.0.0.1:{http}
    default_backend nodes
frontend fields
    mode http
    bind 127.0.0.1:{fields}
    default_backend fields
frontend https
    mode http
    bind 127.0.0.1:{https} ssl crt {pem}
    default_backend fields
frontend tcp
    mode tcp
    bind 127.0.0.1:{tcp}
    default_backend bytes
"""


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def cpu_s(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(words: list[str], directory: Path, *ports: int) -> Iterator[int]:
    """Run a server until the block ends; yield its process."""
    with (directory / f"{Path(words[0]).name}.log").open("ab") as log:
        program = subprocess.Popen(words, cwd=directory, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        for port in ports:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert program.poll() is None, (directory / f"{Path(words[0]).name}.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield program.pid
    finally:
        program.terminate()
        program.wait(30)


def ask(url: str, seconds: int) -> int:
    """Have wrk ask; return how many requests were answered."""
    done = subprocess.run(
        ["wrk", "-t1", "-c64", f"-d{seconds}s", url],
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    assert "Socket errors" not in done.stdout, done.stdout
    assert "Non-2xx" not in done.stdout, done.stdout
    found = re.search(r"(\d+) requests in", done.stdout)
    assert found is not None
    return int(found[1])


def memory(port: int, pid: int, count: int, context: ssl.SSLContext | None) -> float:
    """Return how many bytes each of ``count`` idle connections takes of the node, each having asked once."""
    before, held = resident_bytes(pid), []
    try:
        for _ in range(count):
            client: socket.socket = socket.create_connection(("127.0.0.1", port), 10)
            if context is not None:
                client = context.wrap_socket(client, server_hostname="localhost")
            client.sendall(b"GET /1k HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = 0
            while received < 1024:
                received += len(client.recv(65536))
            held.append(client)
        return (resident_bytes(pid) - before) / count
    finally:
        for client in held:
            with suppress(OSError):
                client.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        authority = trustme.CA()
        made = authority.issue_cert("localhost", "127.0.0.1")
        made.private_key_and_cert_chain_pem.write_to_path(str(directory / "both.pem"))
        made.private_key_pem.write_to_path(str(directory / "key.pem"))
        made.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
        for path in ("key.pem", "both.pem"):
            (directory / path).chmod(0o600)
        (directory / "root").mkdir()
        (directory / "root" / "1k").write_bytes(b"x" * 1024)
        direct, secured, node, http, https, fields, tcp = free_ports(7)
        (directory / "ws.conf").write_text(
            f"Listen {direct}\nListen {secured} tls\nListen {node} proxy\nTrustedProxies 127.0.0.1\n"
            "WorkerThreads 1\nTLSCertificate cert.pem key.pem\nDocumentRoot root\nKeepaliveTime 120\n"
            "AccessLog access.txt\nErrorLog errors.txt\n"
        )
        ports = {"direct": direct, "node": node, "http": http, "https": https, "fields": fields, "tcp": tcp}
        (directory / "haproxy.cfg").write_text(HAPROXY.format(pem=directory / "both.pem", **ports))
        server = stack.enter_context(running([sys.executable, "-m", "fastws"], directory, direct, secured))
        balancer = stack.enter_context(
            running(["haproxy", "-db", "-f", "haproxy.cfg"], directory, http, https)
        )
        schemes = {direct: "http", fields: "http", http: "http", https: "https", tcp: "http"}
        addresses = [f"{scheme}://127.0.0.1:{port}" for port, scheme in schemes.items()]
        urls = dict(zip(WAYS, addresses, strict=True))
        costs: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way, url in urls.items():
                before = cpu_s(server), cpu_s(balancer)
                count = ask(f"{url}/1k", given.seconds)
                costs[way].append(
                    ((cpu_s(server) - before[0]) * 1e6 / count, (cpu_s(balancer) - before[1]) * 1e6 / count)
                )
        for way, samples in costs.items():
            of_node, of_balancer = (statistics.median(each) for each in zip(*samples, strict=True))
            print(f"{way:30} node {of_node:6.1f} us a request, HAProxy {of_balancer:6.1f} us")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        print(f"memory of the node: {resident_bytes(server) / 2**20:.1f} MiB without idle connections")
        for what, port, trusted in (("plain", direct, None), ("TLS", secured, context)):
            each = memory(port, server, given.connections, trusted)
            print(f"an idle connection, {what}: {each / 1024:.1f} KiB of the node")


if __name__ == "__main__":
    main()
