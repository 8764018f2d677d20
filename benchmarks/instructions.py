"""Instructions a request, counted by callgrind: the same number on every run, whatever else the machine does.

``python benchmarks/instructions.py [hit 404 range first whole] [--pure]`` prints what the process executes outside
of the kernel for one request of each kind, from the bytes read to the access line. It needs valgrind. Requests
come over a socket pair, one by one, to a worker that runs in the main thread; this script's own client is
counted too, and is most of what a hit shows.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the working tree's fastws is the one measured

COUNTS = (300, 1300)  # requests of the two runs; what start and end cost is in both
KINDS = {
    "hit": ("/page.html", ""),
    "404": ("/none.html", ""),
    "range": ("/page.html", "Range: bytes=0-99\r\n"),
    "first": ("/{number}.html", ""),
    "whole": ("/page.html", "If-None-Match: none\r\n"),  # a miss with all of the file
}


def _count(kind: str, count: int, root: str) -> None:
    """Answer ``count`` requests of one kind in this process."""
    from fastws import Server, backend, defaults
    from fastws.engine.worker import Worker

    config = defaults(root).with_overrides(
        listen_ports=(0,), access_log="off", error_log="off", compression=False, worker_threads=1
    )
    side = backend.load()
    server = Server(config, backend=side)
    worker = Worker(server, 0, side, server._site)
    client, ours = socket.socketpair()
    ours.setblocking(False)
    worker._adopt((ours.detach(), "127.0.0.1"))
    path, fields = KINDS[kind]
    for number in range(count):
        client.send(f"GET {path.format(number=number)} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        for event in worker.reactor.wait(time.monotonic()):
            worker._take_event(*event)
        client.recv(1 << 20)
        client.setblocking(False)  # head and file may come in two pieces
        with contextlib.suppress(BlockingIOError):
            client.recv(1 << 20)
        client.setblocking(True)


def _instructions(kind: str, count: int, root: str) -> int:
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, __file__,
         "--count", str(count), "--root", root, kind],
        env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def main() -> int:
    """Count the kinds that were asked for, all by default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--pure", action="store_true", help="count the pure side")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.count:
        _count(arguments.kinds[0], arguments.count, arguments.root)
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is not installed (Debian: apt install valgrind)", file=sys.stderr)
        return 2
    if arguments.pure:
        os.environ["FASTWS_NO_EXTENSIONS"] = "1"
    with tempfile.TemporaryDirectory() as root:
        for name in ("page", *range(max(COUNTS))):
            Path(root, f"{name}.html").write_bytes(b"x" * 1024)
        os.utime(root, (0, 0))
        time.sleep(1.1)  # a file of the present second is not yet remembered
        for kind in arguments.kinds or KINDS:
            few, many = (_instructions(kind, count, root) for count in COUNTS)
            print(f"{kind:6} {(many - few) // (COUNTS[1] - COUNTS[0]):9,} instructions a request")
    return 0


if __name__ == "__main__":
    sys.exit(main())
