"""Instructions a request, counted by callgrind: the same number on every run, whatever else the machine does.

``python benchmarks/instructions.py [hit 304 404 range first whole] [--pure]`` prints what the process executes
outside of the kernel for one request of each kind, from the bytes read to the access line. It needs valgrind.
Requests come over a socket pair, one by one, to a worker that runs in the main thread; this script's own client
is counted too, and is most of what a hit shows.

``--gate`` counts only what runs within the compiled reactor's ``wait``, which all kinds but ``whole`` never leave,
and fails if that differs by more than 1.5 % from ``instructions.json``. ``--renew`` writes that file. The counts
depend on the interpreter and on the compilers, so each build that has been measured has figures of its own; an
unknown one is counted and not compared. The CPU does not matter much: glibc is told to use no AVX.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the working tree's fastws is the one measured

COUNTS = (300, 1300)  # requests of the two runs; what start and end cost is in both
MODIFIED_S = 1_000_000_000  # the files' date
KINDS = {
    "hit": ("/page.html", ""),
    "304": ("/page.html", f"If-Modified-Since: {formatdate(MODIFIED_S, usegmt=True)}\r\n"),
    "404": ("/none.html", ""),
    "range": ("/page.html", "Range: bytes=0-99\r\n"),
    "first": ("/{number}.html", ""),
    "whole": ("/page.html", "If-None-Match: none\r\n"),  # a miss with all of the file
}

FIGURES = HERE / "instructions.json"
GATE = ("hit", "304", "range", "404", "first")
GATE_WARM, GATE_COUNT = 50, 1000
TOLERANCE = 0.015
WAIT = "__pyx_pw_*Reactor_*wait"
MARK = "getppid"  # a call that nothing else makes: callgrind writes its counts before it


class Desk:
    """A worker in this thread, and a client of it."""

    def __init__(self, root: str) -> None:
        from fastws import Server, defaults
        from fastws.engine.worker import Worker
        from fastws.seam import Accepted

        config = defaults(root).with_overrides(
            listen_ports=(0,), access_log="off", error_log="off", compression=False, worker_threads=1
        )
        self._server = Server(config)
        pool = self._server._pool
        self._worker = Worker(0, pool._equipment, pool, config, self._server._site)
        self.reactor = self._worker.reactor
        self._client, ours = socket.socketpair()
        ours.setblocking(False)
        self._worker.admission.adopt(Accepted(ours.detach(), "127.0.0.1"))

    def ask(self, kind: str, numbers: range) -> None:
        """Ask as many times as there are numbers."""
        from fastws.engine.worker import EVENTS

        path, fields = KINDS[kind]
        client = self._client
        for number in numbers:
            client.send(f"GET {path.format(number=number)} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
            events = self.reactor.wait(time.monotonic())
            self._worker.shared.begin_turn()
            for owner, kind, data in events:
                if kind in EVENTS:
                    owner.handle(EVENTS[kind], data)
                else:
                    self._worker._take_event(owner, kind, data)
            while self._worker.shared.turns:  # under valgrind one request may take longer than a turn
                self._worker._take_turns()
            client.recv(1 << 20)
            client.setblocking(False)  # head and file may come in two pieces
            with contextlib.suppress(BlockingIOError):
                client.recv(1 << 20)
            client.setblocking(True)


def _count_for_gate(root: str) -> None:
    """Ask for each kind; callgrind writes its counts before and after those that count."""
    desk = Desk(root)
    desk.ask("whole", range(GATE_WARM))
    for kind in GATE:
        desk.ask(kind, range(GATE_WARM))
        os.getppid()
        desk.ask(kind, range(GATE_WARM, GATE_WARM + GATE_COUNT))
        os.getppid()


def _run_in_valgrind(*arguments: str, options: tuple[str, ...]) -> str:
    """Run this script; return what valgrind says."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", *options, sys.executable, __file__, *arguments],
        env=os.environ | {"PYTHONHASHSEED": "0", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable,-AVX2"},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"counting failed:\n{done.stderr}")
    return done.stderr


def _instructions(kind: str, count: int, root: str) -> int:
    said = _run_in_valgrind(
        "--count", str(count), "--root", root, kind, options=("--callgrind-out-file=/dev/null",)
    )
    found = re.search(r"Collected : (\d+)", said)
    assert found is not None, said
    return int(found[1])


def gate_counts(root: str) -> dict[str, int]:
    """Return the instructions a request within ``wait``, for each kind of the gate."""
    with tempfile.TemporaryDirectory() as directory:
        _run_in_valgrind(
            "--in-valgrind", "--root", root,
            options=(f"--callgrind-out-file={directory}/out", f"--toggle-collect={WAIT}", f"--dump-before={MARK}"),
        )  # fmt: skip
        dumps = sorted(Path(directory).glob("out.*"), key=lambda path: int(path.suffix[1:]))
        totals = [re.search(r"^(?:summary|totals): (\d+)", dump.read_text(), re.MULTILINE) for dump in dumps]
    counted = [int(found[1]) if found else 0 for found in totals][1 : 2 * len(GATE) : 2]
    assert [bool(count) for count in counted] == [True] * len(GATE), (
        f"callgrind found no calls of {WAIT} and {MARK}"
    )
    return {kind: total // GATE_COUNT for kind, total in zip(GATE, counted, strict=False)}


def build() -> str:
    """Return what the counts depend on: the interpreter, how it was compiled, and the extensions' compiler."""
    compiler = subprocess.run(
        [*(sysconfig.get_config_var("CC") or "cc").split(), "-dumpfullversion", "-dumpversion"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    is_optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    how = f"{platform.python_compiler()}, {'' if is_optimised else 'not '}optimised"
    libc = " ".join(platform.libc_ver())
    return (
        f"{python} ({how}), extensions by {compiler or 'an unknown compiler'}, {libc}, {platform.machine()}"
    )


def compare(counts: dict[str, int], known: dict[str, int]) -> list[str]:
    """Return a line for each kind whose count differs from what is known by more than the tolerance."""
    return [
        f"{kind}: {counts[kind]:,} instructions, {known[kind]:,} known: {counts[kind] / known[kind] - 1:+.1%}"
        for kind in counts
        if kind not in known or abs(counts[kind] / known[kind] - 1) > TOLERANCE
    ]


def gate(*, renew: bool) -> int:
    """Count, and compare or write; return the exit status."""
    with _files() as root:
        counts = gate_counts(root)
    figures: dict[str, dict[str, int]] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    own = build()
    known = figures.get(own)
    for kind, count in counts.items():
        before = f" {count / known[kind] - 1:+7.1%}" if known and kind in known else ""
        print(f"{kind:6} {count:9,} instructions a request within wait{before}")
    if renew:
        FIGURES.write_text(json.dumps(dict(sorted((figures | {own: counts}).items())), indent=2) + "\n")
        return 0
    if known is None:
        print(f"NOT COMPARED: no figures for {own}; --renew adds them to {FIGURES.name}")
        return 0
    wrong = compare(counts, known)
    for line in wrong:
        print(f"FAILED: {line}; if that is meant: python benchmarks/instructions.py --renew")
    return 1 if wrong else 0


@contextlib.contextmanager
def _files() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # a path of another length would cost more or less
        for name in ("page", *range(max(*COUNTS, GATE_WARM + GATE_COUNT))):
            Path(root, f"{name}.html").write_bytes(b"x" * 1024)
            os.utime(Path(root, f"{name}.html"), (MODIFIED_S, MODIFIED_S))
        os.utime(root, (0, 0))
        time.sleep(1.1)  # a file of the present second is not yet remembered
        yield root


def main() -> int:
    """Count the kinds that were asked for, all by default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--pure", action="store_true", help="count the pure side")
    parser.add_argument("--gate", action="store_true", help=f"compare with {FIGURES.name}")
    parser.add_argument("--renew", action="store_true", help=f"write {FIGURES.name}")
    parser.add_argument("--in-valgrind", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_valgrind:
        _count_for_gate(arguments.root)
        return 0
    if arguments.count:
        Desk(arguments.root).ask(arguments.kinds[0], range(arguments.count))
        return 0
    if shutil.which("valgrind") is None:
        print("SKIPPED: valgrind is not installed (Debian: apt install valgrind)", file=sys.stderr)
        return 0 if arguments.gate else 2
    if arguments.gate or arguments.renew:
        return gate(renew=arguments.renew)
    if arguments.pure:
        os.environ["FASTWS_NO_EXTENSIONS"] = "1"
    with _files() as root:
        for kind in arguments.kinds or KINDS:
            few, many = (_instructions(kind, count, root) for count in COUNTS)
            print(f"{kind:6} {(many - few) // (COUNTS[1] - COUNTS[0]):9,} instructions a request")
    return 0


if __name__ == "__main__":
    sys.exit(main())
