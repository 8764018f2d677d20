"""Throughput of the whole server through real sockets, on both sides; its CPU time beside a peer's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from load import Load, Wire, verify
from measure import measure_row
from peers import PEERS, why_missing
from pytest_benchmark.fixture import BenchmarkFixture
from report import ratio
from rows import table
from samples import SIZES, body, write_root
from servers import Server

REQUESTS = 100
PURE_TO_WAITRESS = 0.5
ONE_KIB = Load("/1k.html")
CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("benchmark") / "root"
    write_root(path)
    return path


@pytest.fixture(params=["fastws", "fastws pure"])
def port(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Iterator[int]:
    with Server(PEERS[request.param], root, tmp_path, cores=CORES[:1]) as server:
        verify(server.port, ONE_KIB, 200, body(SIZES["/1k.html"]))
        yield server.port


def _one_after_another(wire: Wire, request: bytes) -> None:
    for _ in range(REQUESTS):
        wire.send(request)
        wire.read()


def _pipelined(wire: Wire, request: bytes) -> None:
    wire.send(request * REQUESTS)
    for _ in range(REQUESTS):
        wire.read()


@pytest.mark.parametrize("send", [_one_after_another, _pipelined])
def test_hundred_requests_over_one_connection(
    benchmark: BenchmarkFixture, port: int, send: Callable[[Wire, bytes], None]
) -> None:
    benchmark.group = f"100 requests of 1 KiB, {send.__name__.strip('_').replace('_', ' ')}"
    wire = Wire(port)
    try:
        benchmark(send, wire, ONE_KIB.request())
    finally:
        wire.close()


@pytest.mark.ratio
@pytest.mark.peer
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.skipif(len(CORES) < 2, reason="wrk needs a core of its own")
def test_the_pure_side_takes_at_most_half_the_cpu_time_of_waitress(root: Path, tmp_path: Path) -> None:
    names = ("fastws pure", "waitress + whitenoise")
    reason = why_missing(PEERS[names[1]])
    if reason:
        pytest.skip(reason)
    row = table()["1k"]
    cases = [
        replace(case, server_cores=(CORES[0],), wrk_cores=(CORES[1],))
        for case in row.cases
        if case.peer in names
    ]
    result = measure_row(row, cases, root, tmp_path, rounds=5, seconds=1, say=lambda text: None)
    assert not result.skipped
    reached = ratio(result, *names)
    assert reached is not None
    assert reached <= PURE_TO_WAITRESS
