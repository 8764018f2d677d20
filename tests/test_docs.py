"""The documents and what they are about: the modules, the limits, the examples of configuration."""

from __future__ import annotations

import re
from pathlib import Path

from fastws import _reactor_py, accepting, checks, load, states, timers
from fastws.config import defaults
from fastws.framing import CHUNK_LINE_BYTES, ChunkedDecoder
from fastws.listing import LISTED_MAX
from fastws.messages import Limits
from fastws.ranges import MAX_RANGES
from fastws.transmit import TURN_BYTES
from fastws.variants import MEMORY_BYTES

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "fastws"
DESIGN = (REPOSITORY / "docs" / "design.md").read_text()
DEPLOYMENT = (REPOSITORY / "docs" / "deployment.md").read_text()
MODULES = re.findall(r"^\|[^|]*\| `(\w+\.pyx?)` \|", DESIGN, re.MULTILINE)


def test_every_module_has_its_row() -> None:
    assert sorted(MODULES) == sorted(
        path.name for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyx")
    )


def test_limits_are_as_the_page_says() -> None:
    limits, by_default = Limits(), defaults()
    kib, mib = 1 << 10, 1 << 20
    # Chunks take no more than the data may, or than a head may, if that is more.
    least_overhead = ChunkedDecoder(0, limits)._overhead_left
    assert ChunkedDecoder(mib, limits)._overhead_left == mib
    table = DESIGN.split("## Limits\n\n")[1].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    bounds = {what: bound for what, bound, _ in rows}
    assert bounds == {
        "request line": f"{limits.request_line_bytes // kib} KiB",
        "request head": f"{limits.head_bytes // kib} KiB, {limits.field_count} fields",
        "time for a head": f"`RequestTimeout` ({by_default.request_timeout_s:g} s)",
        "request body": f"`MaxBodySize` ({by_default.max_body_bytes // mib} MiB)",
        "line of a chunked body": f"{CHUNK_LINE_BYTES} bytes",
        "chunk sizes and extensions of a body": f"as `MaxBodySize`, at least {least_overhead // kib} KiB",
        "speed of a body, and of a client that reads": (
            f"`MinRate` ({by_default.min_rate_bytes_s} bytes a second) after a start"
        ),
        "idle connection": f"`KeepaliveTime` ({by_default.keepalive_time_s:g} s)",
        "open connections": f"`MaxConnections` ({by_default.max_connections:,})",
        "connections of one address": (
            f"`MaxConnectionsPerAddress` ({by_default.max_connections_per_address or 'none'})"
        ),
        "ranges in a request": f"{MAX_RANGES}",
        "names in a listing": f"{LISTED_MAX:,}",
        "published answers": (
            f"`CacheSize` ({by_default.cache_size_bytes // mib} MiB), shared out to the workers"
        ),
        "passwords that wait to be checked": (
            f"{checks.QUEUE_JOBS}; addresses take turns, and the one with most makes room"
        ),
        "time for that": f"{states.WAITING_S:g} s",
        "descriptors": "the process's limit",
    }
    assert f"accepting rests for {accepting.PAUSE_S} s;" in table[-1]


def test_sizes_and_times_in_the_prose_are_those_of_the_code() -> None:
    page = " ".join(DESIGN.split())
    reactor = (PACKAGE / "_reactor.pyx").read_text()
    compiled = {
        name: int(value) for name, value in re.findall(r"^    (\w+) = (\d+)\b", reactor, re.MULTILINE)
    }
    [full] = re.findall(r"^    FULL_BYTES = (\d+)\b", (PACKAGE / "_lines.pyx").read_text(), re.MULTILINE)
    kib, mib = 1 << 10, 1 << 20
    assert int(full) == _reactor_py.LOG_BYTES
    assert compiled["FILE_BYTES"] == mib // 2
    said = [
        f"Bodies of up to {MEMORY_BYTES // kib} KiB (and `CacheMaxFile`)",
        f"at most {TURN_BYTES // mib} MiB a turn",
        f"({compiled['RECEIVE_BYTES'] // kib} KiB each, {compiled['ARENA_BYTES'] // mib} MiB in all)",
        f"up to {compiled['QUEUE_MAX']} in one `sendmsg`",
        "half a MiB a turn (`Reactor.transfer`)",
        f"when {_reactor_py.LOG_BYTES // kib} KiB are full",
        f"At most {states.TURN_REQUESTS} requests of one connection",
        f"at most {states.LINGER_S:g} s or {states.LINGER_BYTES // mib} MiB",
        f"at most {timers.TICK_S} s late",
    ]
    assert [text for text in said if text not in page] == []


def test_deployment_example_is_a_right_configuration(tmp_path: Path) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", DEPLOYMENT, re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "ListenPort" in block]
    for directory in ("/srv/www", "/var/log/fastws"):
        (tmp_path / directory[1:]).mkdir(parents=True)
        example = example.replace(directory, f"{tmp_path}{directory}")
    (tmp_path / "ws.conf").write_text(example)
    assert load(str(tmp_path / "ws.conf")).listen_ports == (8080,)
