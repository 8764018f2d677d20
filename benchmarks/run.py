"""Measure fastws beside its peers: CPU time a request, ratios within one run, goals.

``python benchmarks/run.py`` runs the whole table and writes ``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the working tree's fastws is the one measured

from measure import RowResult, measure_row  # noqa: E402
from peers import PEERS, build_floor, why_missing  # noqa: E402
from report import machine, now, print_row, row_record, versions  # noqa: E402
from rows import BEFORE, FILES, QUICK_FILES, Row, table, with_before  # noqa: E402
from samples import write_many, write_root  # noqa: E402
from special import SPECIAL  # noqa: E402


def _arguments() -> argparse.Namespace:
    keys = ", ".join(table())
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", nargs="+", metavar="ROW", help=f"only these rows, of: {keys}")
    parser.add_argument(
        "--peers", nargs="+", metavar="PEER", help="only these servers; see peers.py for the names"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 5)")
    parser.add_argument("--seconds", type=int, help="length of each wrk run (default 2)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s, fewer files and connections")
    parser.add_argument(
        "--before", metavar="PYTHON",
        help="interpreter of an environment with another fastws, which is measured in turn with this one",
    )  # fmt: skip
    parser.add_argument("--name", default="latest", help="name of the file in results/ (default: latest)")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (1 if arguments.quick else 2)
    for given, known in ((arguments.rows, table()), (arguments.peers, PEERS)):
        unknown = [name for name in given or () if name not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; known are: {', '.join(known)}")
    return arguments


def _say(text: str) -> None:
    """Show progress on a terminal, over the line before."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def _measure(row: Row, root: Path, directory: Path, arguments: argparse.Namespace) -> RowResult:
    if row.key in SPECIAL:
        return SPECIAL[row.key](row, root, directory, arguments.rounds)
    wanted = [
        case for case in row.cases if not arguments.peers or case.peer.removesuffix(BEFORE) in arguments.peers
    ]
    missing = {case.label: reason for case in wanted if (reason := why_missing(PEERS[case.peer])) is not None}
    cases = [case for case in wanted if case.label not in missing]
    result = RowResult(row, skipped=missing)
    peers = dict.fromkeys(case.peer for case in cases)
    for group in [{peer} for peer in peers] if row.peer_by_peer else [set(peers)]:
        part = measure_row(
            row,
            [case for case in cases if case.peer in group],
            root,
            directory,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            say=_say,
        )
        result.samples |= part.samples
        result.skipped |= part.skipped
        result.extra |= part.extra
    return result


def _write(path: Path, arguments: argparse.Namespace, records: list[dict[str, Any]], begun: str) -> None:
    document = {
        "name": arguments.name, "begun": begun, "ended": now(), "machine": machine(), "versions": versions(),
        "settings": {"rounds": arguments.rounds, "seconds": arguments.seconds, "quick": arguments.quick},
        "rows": records,
    }  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    """Run the rows that were asked for; exit status 1 when a goal was measured and missed."""
    arguments = _arguments()
    if shutil.which("wrk") is None:
        print("wrk is not installed (Debian: apt install wrk)", file=sys.stderr)
        return 2
    if not {0, 1} <= os.sched_getaffinity(0):
        print("cores 0 and 1 are needed: one for the server, one for wrk", file=sys.stderr)
        return 2
    reason = build_floor()
    if reason is not None:
        print(f"no floor: {reason}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers and files are cleaned up on the way
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for the idle connections, here and in servers
    rows = [
        row
        for key, row in table(quick=arguments.quick).items()
        if not arguments.rows or key in arguments.rows
    ]
    if arguments.before:
        rows = [with_before(row, arguments.before) for row in rows]
    begun, records = now(), []
    with tempfile.TemporaryDirectory(prefix="fastws-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        root = directory / "root"
        write_root(root)
        if any(row.needs_files for row in rows):
            _say("writing many files")
            write_many(directory / "many-root", QUICK_FILES if arguments.quick else FILES)
        for row in rows:
            result = _measure(row, directory / "many-root" if row.needs_files else root, directory, arguments)
            _say("")
            records.append(row_record(result))
            print_row(records[-1])
            _write(HERE / "results" / f"{arguments.name}.json", arguments, records, begun)
    print(f"\nwritten: {HERE / 'results' / f'{arguments.name}.json'}")
    return 1 if any(goal["ok"] is False for record in records for goal in record["goals"]) else 0


if __name__ == "__main__":
    sys.exit(main())
