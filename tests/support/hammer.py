"""Clients that ask in a closed loop while something happens to the server, and count what fails."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rawhttp import Client, ProtocolError, Reply, wait_until

from fastws import Server
from fastws.engine.worker import Worker

Check = Callable[[Reply], None]


class Hammer:
    """Threads with one connection each; a new one only after ``Connection: close``.

    A client ends when the port refuses it. ``failures`` are requests that were sent over a connection that was
    made and got no whole answer, or one that ``check`` objects to by an assertion.
    """

    def __init__(
        self, port: int, targets: Sequence[str], lines: Sequence[str], count: int, check: Check
    ) -> None:
        self.failures: list[str] = []
        self.refused = 0
        self._answers = [0] * count
        self._port, self._targets, self._lines, self._check = port, targets, lines, check
        self._is_over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]

    @property
    def answers(self) -> int:
        """Requests that were answered."""
        return sum(self._answers)

    def _run(self, number: int) -> None:
        while not self._is_over.is_set():
            try:
                client = Client(self._port)
            except OSError:
                self.refused += 1
                return
            with client:
                try:
                    self._ask(client, number)
                except (ProtocolError, OSError, AssertionError) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    return

    def _ask(self, client: Client, number: int) -> None:
        while not self._is_over.is_set():
            reply = client.get(self._targets[self._answers[number] % len(self._targets)], *self._lines)
            self._check(reply)
            self._answers[number] += 1
            if reply.all("Connection") == ["close"]:
                return

    def more(self, count: int = 20) -> None:
        """Wait until every client has had so many answers more, or has ended."""
        goals = [answers + count for answers in self._answers]
        for number, thread in enumerate(self.threads):
            wait_until(
                lambda n=number, t=thread: self._answers[n] >= goals[n] or not t.is_alive(), "progress"
            )

    def end(self) -> None:
        """Have every client end after its present request, and wait for it."""
        self._is_over.set()
        self.join()

    def join(self) -> None:
        """Wait until every client has ended by itself."""
        for thread in self.threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self.threads)


def is_200(reply: Reply) -> None:
    """The check that suits most."""
    assert reply.status == 200


@contextmanager
def hammering(
    port: int, *targets: str, lines: Sequence[str] = (), count: int = 8, check: Check = is_200
) -> Iterator[Hammer]:
    """Hammer on ``port`` with the field ``lines`` until the block ends, and have no failure."""
    hammer = Hammer(port, targets, lines, count, check)
    for thread in hammer.threads:
        thread.start()
    try:
        hammer.more()
        yield hammer
    finally:
        hammer.end()
    assert hammer.failures == []


@contextmanager
def holding(server: Server) -> Iterator[None]:
    """Have no worker do anything until the block ends."""
    release = threading.Event()
    held = threading.Barrier(len(server._pool.workers) + 1)

    def hold(_: Worker) -> None:
        held.wait(30)
        release.wait(30)

    for worker in server._pool.workers:
        worker.tell(hold)
    held.wait(30)
    try:
        yield
    finally:
        release.set()


def is_refused(port: int) -> bool:
    """Whether nobody listens on ``port``."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5):
            return False
    except ConnectionRefusedError:
        return True
