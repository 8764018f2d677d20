"""The load client: ``python -m fastws.client`` fetches many files, then one file many times, and checks all.

Each thread fetches its files one after another over one kept-alive connection. A server may close such a
connection at any time (RFC 9112 section 9.5); then the thread opens another and goes on. A request is sent
a second time only where that is safe: on a connection that had carried a response before and was closed
without a byte of the next one (RFC 9112 section 9.3.1).

Times are what a Python program with this many threads sees, from ``send`` to the last byte of the body:
good for comparing two runs, not for finding the limits of the server.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TextIO
from urllib.parse import unquote

from .connection import Connection, ExchangeError, NoResponseError, Reply, ServerDownError
from .createfile import DEFAULT_COUNT, INTERRUPTED, file_name
from .output import OutputError, output
from .report import Outcome, Phase, Report, choose_report

if TYPE_CHECKING:
    from ssl import SSLContext

HTTP_PORT, HTTPS_PORT = 8080, 8443
"""Where fastws listens without a configuration file."""

_REPORT_EVERY_S = 0.1
_ERRORS_SHOWN = 5


class Target(NamedTuple):
    """Whom to ask and how. ``expected`` maps a path to the SHA-256 of its body; empty: not checked.

    ``context`` is for TLS, None for plain HTTP.
    """

    host: str
    port: int
    timeout_s: float
    delay_s: float = 0.0
    expected: Mapping[str, bytes] = {}
    context: SSLContext | None = None


class Log:
    """The log file: whole lines from any thread, none after it was closed.

    ``failure`` is what kept a line from being written, after which no other is.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.failure: OSError | None = None

    def write(self, thread: str, port: int, text: str) -> None:
        """Write one line: time, thread, local port, text."""
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        with self._lock:
            # A thread that outlived an interrupt may still come here.
            if self._file.closed or self.failure is not None:
                return
            try:
                self._file.write(f"{now} {thread} port {port} {text}\n")
            except OSError as error:
                self.failure = error

    def close(self) -> None:
        """Write what is buffered, and close the file."""
        with self._lock:
            try:
                self._file.close()
            except OSError as error:
                self.failure = self.failure or error


class Fetcher(threading.Thread):
    """One thread's share of a phase: ``paths`` in their order, over one connection at a time."""

    def __init__(
        self, name: str, paths: Sequence[str], target: Target, log: Log, stop: threading.Event
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.outcomes: list[Outcome] = []
        self.problems: list[str] = []
        self.reconnects = 0
        self.server_down: ServerDownError | None = None
        self._paths = paths
        self._target = target
        self._log = log
        self._stop_event = stop
        self._connection: Connection | None = None

    def connect(self) -> bool:
        """Open the first connection ahead of ``run``; tell whether the server is there."""
        try:
            self._connection = self._open()
        except ServerDownError as error:
            self.server_down = error
        return self.server_down is None

    def run(self) -> None:
        """Fetch everything, unless told to stop or the server is down."""
        try:
            for index, path in enumerate(self._paths):
                if self._stop_event.wait(self._target.delay_s if index else 0):
                    break
                self.outcomes.append(self._fetch(path))
            if self._connection:
                self._note(self._connection, self._connection.check_idle())
        except ServerDownError as error:
            self.server_down = error
            self._stop_event.set()
        except Exception as error:  # of which nobody would hear in the results
            self.problems.append(f"unexpected {error!r}")
            self._stop_event.set()
        finally:
            if self._connection:
                self._connection.close()

    def _fetch(self, path: str) -> Outcome:
        connection = self._usable_connection()
        started = time.perf_counter()
        try:
            try:
                reply = connection.exchange(path)
            except NoResponseError:
                if not connection.reused:
                    raise
                connection = self._usable_connection()
                reply = connection.exchange(path)
            latency_ms = (time.perf_counter() - started) * 1000
        except ExchangeError as error:
            outcome = Outcome(path, error.status, 0, None, str(error))
        else:
            outcome = Outcome(path, reply.status, len(reply.body), latency_ms, self._judge(path, reply))
        self._log.write(self.name, connection.local_port, str(outcome))
        return outcome

    def _judge(self, path: str, reply: Reply) -> str:
        if reply.status != 200:
            return f"status {reply.status} instead of 200"
        expected = self._target.expected.get(path)
        if expected is not None and hashlib.sha256(reply.body).digest() != expected:
            return f"body of {len(reply.body)} bytes differs from the file"
        return reply.error

    def _usable_connection(self) -> Connection:
        old = self._connection
        if old is None:
            self._connection = self._open()
            return self._connection
        self._note(old, old.check_idle())
        if not old.unusable:
            return old
        # Opened before the old one is closed: so the kernel cannot give the same local port again.
        new = self._connection = self._open()
        old.close()
        self.reconnects += 1
        text = f"reconnect, before on port {old.local_port}: {old.unusable}"
        self._log.write(self.name, new.local_port, text)
        if new.local_port == old.local_port:
            self._note(new, "the new connection has the local port of the old one")
        return new

    def _open(self) -> Connection:
        target = self._target
        return Connection(target.host, target.port, target.timeout_s, target.context)

    def _note(self, connection: Connection, problem: str) -> None:
        if problem:
            self.problems.append(f"port {connection.local_port}: {problem}")
            self._log.write(self.name, connection.local_port, f"error: {problem}")


def run_phase(
    number: int, title: str, shares: Sequence[Sequence[str]], target: Target, log: Log, report: Report
) -> tuple[Phase, ServerDownError | None]:
    """Fetch every share by a thread of its own; return the results and why it ended early, if it did."""
    stop = threading.Event()
    fetchers = [
        Fetcher(f"phase-{number}/thread-{i}", share, target, log, stop) for i, share in enumerate(shares, 1)
    ]
    planned = sum(map(len, shares))
    started = time.perf_counter()
    # Show nothing for a phase that cannot start: a server that is down is one line.
    if fetchers[0].connect():
        report.start(title, planned)
        _fetch_all(fetchers, stop, report)
    phase = Phase(
        title=title,
        planned=planned,
        outcomes=tuple(outcome for each in fetchers for outcome in each.outcomes),
        problems=tuple(problem for each in fetchers for problem in each.problems),
        reconnects=sum(each.reconnects for each in fetchers),
        elapsed_s=time.perf_counter() - started,
    )
    return phase, next((each.server_down for each in fetchers if each.server_down), None)


def _fetch_all(fetchers: Sequence[Fetcher], stop: threading.Event, report: Report) -> None:
    try:
        for fetcher in fetchers:
            fetcher.start()
        for fetcher in fetchers:
            while fetcher.is_alive():
                fetcher.join(_REPORT_EVERY_S)
                report.progress(sum(len(each.outcomes) for each in fetchers))
    finally:
        stop.set()  # on an interrupt; the threads are daemons, so one that hangs holds up nothing
    report.progress(sum(len(each.outcomes) for each in fetchers))


def run(paths: Sequence[str], threads: int, target: Target, log: Log, report: Report) -> int:
    """Run both phases and show them; return 0 if all was as expected, else 1 with the reasons on stderr."""
    repeated = [paths[0]] * len(paths)
    plan = {
        f"{len(paths)} different files": paths,
        f"{paths[0].rpartition('/')[2]} {len(paths)} times": repeated,
    }
    phases: list[Phase] = []
    down = None
    with report:
        for number, (title, wanted) in enumerate(plan.items(), 1):
            shares = [wanted[i::threads] for i in range(min(threads, len(wanted)))]
            phase, down = run_phase(number, title, shares, target, log, report)
            phases.append(phase)
            if down:
                break
        if any(phase.outcomes for phase in phases):
            report.close(phases)
    errors = [f"{phase.title}: {error}" for phase in phases for error in phase.errors()]
    if down:
        errors = [f"{down} (is the server running?)"]
    for line in errors[:_ERRORS_SHOWN]:
        _complain(line)
    if len(errors) > _ERRORS_SHOWN:
        _complain(f"{len(errors) - _ERRORS_SHOWN} more errors are in the log")
    return 1 if errors else 0


def read_expected(root: str, paths: Sequence[str]) -> dict[str, bytes]:
    """Return the SHA-256 of the file of every path under the folder ``root``; raises ``OSError``."""
    expected = {}
    for path in paths:
        with open(os.path.join(root, unquote(path).lstrip("/")), "rb") as file:
            expected[path] = hashlib.file_digest(file, "sha256").digest()
    return expected


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 if everything was as expected, else 1 (a wrong argument exits with 2)."""
    options = _build_parser().parse_args(argv)
    try:
        return _fetch_and_report(options)
    except KeyboardInterrupt:
        _complain(f"interrupted; what was done is in {options.log}")
        return INTERRUPTED
    except OSError as error:
        _complain(f"cannot open {error.filename}: {error.strerror}" if error.filename else str(error))
    except RuntimeError as error:  # no more threads
        _complain(f"{error}; --threads asks for fewer")
    return 1


def _fetch_and_report(options: argparse.Namespace) -> int:
    paths = [options.path_prefix + file_name(number) for number in range(1, options.count + 1)]
    expected = read_expected(options.root, paths) if options.root is not None else {}
    context = _context_of(options)
    port = options.port or (HTTP_PORT if context is None else HTTPS_PORT)
    target = Target(options.host, port, options.timeout, options.delay, expected, context)
    log = Log(open(options.log, "w", encoding="utf-8"))  # noqa: SIM115, for a failure to close it is reported
    try:
        with output() as out:
            status = run(paths, options.threads, target, log, choose_report(out))
    except OutputError as error:
        _complain(str(error))
        status = 1
    finally:
        log.close()
    if log.failure is not None:
        _complain(f"cannot write {options.log}: {log.failure.strerror}")
        status = 1
    return status


def _context_of(options: argparse.Namespace) -> SSLContext | None:
    if not (options.https or options.insecure or options.ca is not None):
        return None
    from .secure import client_context  # ssl takes its time to be imported

    try:
        return client_context(options.ca, is_insecure=options.insecure)
    except OSError as error:
        is_read = hasattr(error, "reason")  # an SSLError, which this module does not import
        reason = "it holds no certificate in PEM" if is_read else error.strerror
        raise OSError(f"cannot use {options.ca} for --ca: {reason}") from None


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # standard error is closed too
        if sys.stderr is not None:
            print(f"fastws-client: {text}", file=sys.stderr)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastws-client",
        description="Fetch many files, then one file as many times, and check every response.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    whole = _number(int, 1, 1_000_000)
    parser.add_argument("--host", default="127.0.0.1", help="server's name or address")
    parser.add_argument(
        "--port",
        type=_number(int, 1, 65535),
        default=argparse.SUPPRESS,
        help=f"server's port (default: {HTTP_PORT}, with TLS {HTTPS_PORT})",
    )
    parser.set_defaults(port=None)
    parser.add_argument("--https", action="store_true", help="speak TLS; --ca and --insecure imply it")
    parser.add_argument("--ca", metavar="FILE", help="certificates to trust, in place of the system's")
    parser.add_argument("--insecure", action="store_true", help="take any certificate")
    parser.add_argument("--threads", type=_number(int, 1, 1000), default=4, help="threads, a connection each")
    parser.add_argument("--count", type=whole, default=DEFAULT_COUNT, help="requests in each of the phases")
    parser.add_argument("--path-prefix", type=_prefix, default="/files/", help="URL path before file1.html")
    parser.add_argument(
        "--delay", type=_number(float, 0, 86400), default=0.0, help="seconds a thread waits between requests"
    )
    parser.add_argument(
        "--timeout", type=_number(float, 0.001, 86400), default=10.0, help="seconds without a byte to give up"
    )
    parser.add_argument("--root", help="document root, to compare every body with its file")
    parser.add_argument("--log", default="log_client.txt", help="log file, written anew by every run")
    return parser


def _number(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not low <= value <= high:
            what = "whole number" if kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {what} from {low:g} to {high:g}")
        return value

    return parse


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[!-~]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} has characters that must be percent-encoded")
    stripped = text.strip("/")
    return f"/{stripped}/" if stripped else "/"


if __name__ == "__main__":
    sys.exit(main())
