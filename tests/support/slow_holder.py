"""Holds slow connections as cheaply as can be: a process of its own, told by lines what to do.

``python slow_holder.py PORT KIND COUNT INTERVAL_S``. After the line ``attack`` it drips on COUNT connections to
PORT, which it opens at the first time, each once in INTERVAL_S, and opens anew those that are cut off; after
``rest`` it holds them, and drips as much on connections to itself that nobody reads, for the sake of what that
takes of the processor. Each line is answered by the same one when that has begun; the end of input ends it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import time
from typing import NamedTuple

SPREAD_S = 5.0
"""How long opening takes: opened at once, all would be dropped at once."""


class Kind(NamedTuple):
    """How an attacker begins, and what it does now and then: send ``drip``, or read as many bytes."""

    start: bytes
    drip: bytes
    reads: bool = False


KINDS = {
    "slow headers": Kind(b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-a: b\r\n"),
    "slow body": Kind(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"abcdefgh"),
    "slow read": Kind(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n", b"abcdefgh", reads=True),
}


class Holder:
    def __init__(self, port: int, kind: Kind, count: int, interval_s: float) -> None:
        self.port, self.kind, self.count, self.interval_s = port, kind, count, interval_s
        self.held: list[socket.socket] = []
        self.dripping: list[socket.socket] = []
        self.numbers: dict[int, int] = {}
        self.poll = select.epoll()
        listener = socket.create_server(("127.0.0.1", 0), backlog=count)
        # Its own connections, both ends: what is dripped there waits in the receiver's buffer.
        self.sinks, self.ends = [], []
        for _ in range(count):
            self.sinks.append(socket.create_connection(listener.getsockname()))
            self.ends.append(listener.accept()[0])
        if kind.reads:
            for end in self.ends:
                end.sendall(b"x" * 4096)

    def attack(self) -> None:
        while len(self.held) < self.count:
            self.held.append(self.open(len(self.held)))
            time.sleep(SPREAD_S / self.count)
        self.dripping = self.held

    def rest(self) -> None:
        self.dripping = self.sinks

    def open(self, number: int) -> socket.socket:
        sock = socket.socket()
        if self.kind.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.connect(("127.0.0.1", self.port))
        sock.sendall(self.kind.start)
        self.numbers[sock.fileno()] = number
        self.poll.register(sock, select.EPOLLRDHUP)
        return sock

    def drip(self, number: int) -> None:
        sock = self.dripping[number]
        with contextlib.suppress(OSError):  # no room, or the end: the poll tells
            if self.kind.reads:
                sock.recv(len(self.kind.drip), socket.MSG_DONTWAIT)
            else:
                sock.send(self.kind.drip, socket.MSG_DONTWAIT)

    def run(self) -> None:
        step_s, number, due = self.interval_s / self.count, 0, 0.0
        self.poll.register(sys.stdin, select.EPOLLIN)
        told = select.epoll()
        told.register(sys.stdin, select.EPOLLIN)
        while True:
            wait_s = max(0.0, due - time.monotonic()) if self.dripping else 60.0
            poll = self.poll if self.dripping is self.held else told
            for fd, _ in poll.poll(wait_s):
                if fd == sys.stdin.fileno():
                    line = sys.stdin.readline().strip()
                    if not line:
                        return
                    getattr(self, line)()
                    print(line, flush=True)
                    due = time.monotonic()
                else:  # the server has had enough of this one
                    number_there = self.numbers.pop(fd)
                    self.poll.unregister(fd)
                    self.held[number_there].close()
                    self.held[number_there] = self.open(number_there)
            if self.dripping and time.monotonic() >= due:
                self.drip(number % self.count)
                number, due = number + 1, due + step_s


if __name__ == "__main__":
    Holder(int(sys.argv[1]), KINDS[sys.argv[2]], int(sys.argv[3]), float(sys.argv[4])).run()
