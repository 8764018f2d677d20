"""Visitors of a server while others keep it busy; JSON says what they are to do, and what they found.

In an open loop each request is sent when it is due, whatever became of those before, and its wait counts from
then. In a closed loop, ``loops`` clients ask one request after another.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any

HEAD = "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n"
RATE = 200
"""Requests a second of the open loop."""

PATIENCE_S = 20.0
"""How long is waited for the last answers."""

CROWD_S = 5.0
"""How long is waited for those who keep the server busy to have begun, where it lets some of them wait."""

SLOW_BYTES, SLOW_S = 100, 0.1
"""A slow upload sends so much so often."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _request(path: str, method: str = "GET", more: str = "") -> bytes:
    return HEAD.format(method=method, path=path, more=more).encode()


async def _answer(reader: asyncio.StreamReader) -> int:
    """Read one answer; return its status. Raises ``OSError`` or ``IncompleteReadError``."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"\r\ntransfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    else:
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        await reader.readexactly(length)
    return int(head.split()[1])


class Visitors:
    """Those of one run."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._port: int = told["port"]
        self._path: str = told["path"]
        self._is_kept: bool = told["is_kept"]
        self._waits: list[float] = []
        self._lost = 0
        self._free: list[Streams] = []
        self._to_begin = asyncio.Semaphore(0)  # released by each who keeps the server busy

    async def _connect(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, due: float) -> None:
        """Ask once, on a new connection, or where they are kept on one that is free."""
        try:
            reader, writer = self._free.pop() if self._free else await self._connect()
            writer.write(_request(self._path))
            status = await _answer(reader)
            if self._is_kept:
                self._free.append((reader, writer))
            else:
                writer.close()
        except (OSError, asyncio.IncompleteReadError):
            status = 0
        self._waits.append(time.perf_counter() - due)
        self._lost += status != 200

    async def open_loop(self, seconds: float) -> None:
        """Ask at the rate, for so long."""
        begin, tasks = time.perf_counter(), []
        for number in range(int(RATE * seconds)):
            due = begin + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask(due)))
        await asyncio.wait(tasks, timeout=PATIENCE_S)
        self._waits += [PATIENCE_S] * sum(not task.done() for task in tasks)

    async def loop(self, seconds: float) -> None:
        """Ask one request after another, for so long."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await self.ask(time.perf_counter())

    # Those who keep the server busy

    async def keep_asking(self, path: str) -> None:
        """Ask for a view again and again."""
        while True:
            try:
                reader, writer = await self._connect()
                while True:
                    writer.write(_request(path))
                    self._to_begin.release()
                    await _answer(reader)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)

    async def read_nothing(self, path: str) -> None:
        """Ask for much and read none of it."""
        reader, writer = await self._connect()
        writer.write(_request(path))
        await reader.readuntil(b"\r\n\r\n")  # the reader takes no more than fills its buffer
        self._to_begin.release()
        await asyncio.sleep(3600)

    async def upload_slowly(self, path: str) -> None:
        """Send a body that takes for ever."""
        _, writer = await self._connect()
        writer.write(_request(path, "POST", "Content-Length: 1000000\r\n"))
        self._to_begin.release()
        while True:
            writer.write(b"x" * SLOW_BYTES)
            await asyncio.sleep(SLOW_S)

    async def see_begun(self, count: int) -> None:
        """Wait until so many of those who keep the server busy have begun."""
        for _ in range(count):
            await self._to_begin.acquire()

    def result(self) -> dict[str, float]:
        """Return the waits in ms, and how many requests got no answer with status 200."""
        waits = sorted(self._waits)
        return {
            "p50": waits[len(waits) // 2] * 1e3,
            "p99": waits[len(waits) * 99 // 100] * 1e3,
            "longest": waits[-1] * 1e3,
            "requests": len(waits),
            "lost": self._lost,
        }


async def _main(told: dict[str, Any]) -> dict[str, float]:
    visitors = Visitors(told)
    others = [
        asyncio.create_task(getattr(visitors, deed)(path))
        for deed, path, count in told["others"]
        for _ in range(count)
    ]
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(visitors.see_begun(len(others)), CROWD_S)
    await asyncio.sleep(0.5 if others else 0.1)
    if told["loops"]:
        await asyncio.gather(*[visitors.loop(told["seconds"]) for _ in range(told["loops"])])
    else:
        await visitors.open_loop(told["seconds"])
    for other in others:
        other.cancel()
    return visitors.result()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(json.loads(sys.argv[1])))))
