"""Clients with several addresses that ask over kept connections, count what fails, and note what took longest.

They go on until standard input ends, and print what came of it as JSON. A program of its own: it runs in a network
namespace.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import ssl
import sys
import threading
import time

TIMEOUT_S = 10.0


class Clients:
    """Threads with one connection each."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._sources = given.source.split(",")
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self.count = 0
        self.failures: collections.Counter[str] = collections.Counter()
        self.longest_s = 0.0
        self.slow = 0
        self.nodes: collections.Counter[str] = collections.Counter()
        self.serials: collections.Counter[str] = collections.Counter()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(given.count)]

    def _connect(self, number: int) -> http.client.HTTPConnection:
        source = (self._sources[number % len(self._sources)], 0)
        where = (self._given.address, self._given.port)
        if self._given.ca:
            context = ssl.create_default_context(cafile=self._given.ca)
            context.check_hostname = False
            return http.client.HTTPSConnection(
                *where, timeout=TIMEOUT_S, source_address=source, context=context
            )
        return http.client.HTTPConnection(*where, timeout=TIMEOUT_S, source_address=source)

    def _run(self, number: int) -> None:
        connection, asked = None, 0
        while not self._is_over.is_set():
            start = time.monotonic()
            try:
                if connection is None:
                    connection, asked = self._connect(number), 0
                    connection.connect()
                    if self._given.ca:
                        self._note_certificate(connection)
                connection.request("GET", self._given.target)
                answer = connection.getresponse()
                body = answer.read()
                problem = "" if answer.status == 200 and body else f"status {answer.status}"
                is_last = answer.will_close
            except (OSError, http.client.HTTPException) as error:
                problem, is_last = f"{type(error).__name__}: {error}", True
            asked += 1
            self._note(problem, time.monotonic() - start)
            if is_last or asked == self._given.per_connection:
                if connection is not None:
                    connection.close()
                connection = None
            time.sleep(self._given.pause)

    def _note(self, problem: str, took_s: float) -> None:
        with self._lock:
            self.count += 1
            self.longest_s = max(self.longest_s, took_s)
            self.slow += took_s > 1
            if problem:
                self.failures[problem] += 1

    def _note_certificate(self, connection: http.client.HTTPConnection) -> None:
        certificate = connection.sock.getpeercert()
        with self._lock:
            self.serials[certificate["serialNumber"]] += 1

    def end(self) -> None:
        """End after the present request."""
        self._is_over.set()
        for thread in self.threads:
            thread.join(TIMEOUT_S + 5)


def once(given: argparse.Namespace) -> None:
    """Ask once and print the answer."""
    connection = http.client.HTTPConnection(
        given.address, given.port, timeout=TIMEOUT_S, source_address=(given.source, 0)
    )
    fields = dict(line.split(": ", 1) for line in given.line)
    try:
        connection.request("GET", given.target, headers=fields)
        answer = connection.getresponse()
        said = [answer.status, {name.lower(): value for name, value in answer.getheaders()}]
        said.append(answer.read().decode("latin-1"))
    except OSError as error:
        said = [0, {}, str(error)]
    print(json.dumps(said))


def main() -> None:
    """Do what the arguments ask."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--from", dest="source", required=True)
    parser.add_argument("--target", default="/page.html")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--per-connection", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.005)
    parser.add_argument("--ca")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--line", action="append", default=[])
    given = parser.parse_args()
    if given.once:
        once(given)
        return
    clients = Clients(given)
    start = time.monotonic()
    for thread in clients.threads:
        thread.start()
    sys.stdin.read()
    clients.end()
    result = {
        "requests": clients.count,
        "failures": dict(clients.failures),
        "slow": clients.slow,
        "longest_s": round(clients.longest_s, 2),
        "seconds": round(time.monotonic() - start, 2),
        "serials": dict(clients.serials),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
