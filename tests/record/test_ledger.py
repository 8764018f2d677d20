"""What is noted of an answer that is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastws import backend
from fastws.http.forwarded import Sender
from fastws.http.messages import Request, Response
from fastws.record.clock import Clock
from fastws.record.ledger import Ledger
from fastws.record.logfile import ErrorLog
from fastws.seam import DURATION_BOUNDS_S, ReplaySettings

ASKED = Request("GET", "/a.txt?b", "HTTP/1.1", {"referer": "http://there/", "user-agent": "agent"}, 0)


class Client(NamedTuple):
    secured: tuple[str, str] | None = None


CLIENT, SENDER = Client(), Sender("192.0.2.1")


class Books:
    """A ledger, and what it has written."""

    def __init__(self, side: backend.Backend, path: Path) -> None:
        self._path = path
        self.error_log = ErrorLog(str(path), "info")
        self.reactor = side.reactor()
        self.ledger = Ledger("worker-3", side.parser, self.reactor, self.error_log)

    def access_lines(self) -> list[str]:
        return self.reactor.take_log().decode().splitlines()

    def error_lines(self) -> list[str]:
        self.error_log.flush()
        return self._path.read_text().splitlines()

    def begin(self, log_format: str) -> Ledger:
        self.reactor.configure(
            ReplaySettings(
                limits=backend_limits(),
                methods=("GET",),
                versions=("HTTP/1.1",),
                cache_bytes=0,
                log_format=log_format,
                default_codings=0,
            ),
            lambda *_: False,
        )
        self.ledger.configure(log_format, Clock(log_format))
        return self.ledger


def backend_limits() -> object:
    from fastws.http.messages import Limits

    return Limits()


@pytest.fixture
def books(side: backend.Backend, tmp_path: Path) -> Iterator[Books]:
    made = Books(side, tmp_path / "errors.txt")
    yield made
    made.reactor.close()
    made.error_log.close()


def test_answer_is_counted_and_has_its_line(books: Books) -> None:
    ledger = books.begin("combined")
    ledger.record(CLIENT, SENDER, ASKED, Response(200, (), user="anna"), 6, 0.3)
    (line,) = books.access_lines()
    assert line.startswith("192.0.2.1 - anna [")
    assert line.endswith('] "GET /a.txt?b HTTP/1.1" 200 6 "http://there/" "agent"')
    assert books.error_lines() == []
    status = ledger.status(4)
    assert (status.connections, list(status.requests), status.body_bytes) == (4, [0, 1, 0, 0, 0], 6)
    assert [bound for bound, count in zip(DURATION_BOUNDS_S, status.durations, strict=False) if count] == [
        0.5
    ]
    assert (status.cache_hits, status.cache_misses) == (0, 1)


def test_answer_without_a_request_has_an_empty_request_line(books: Books) -> None:
    ledger = books.begin("json")
    ledger.record(CLIENT, SENDER, None, Response(400, (), detail="No."), 2, 0.0)
    (line,) = books.access_lines()
    entry = json.loads(line)
    assert (entry["request"], entry["status"]) == ("", 400)
    (reason,) = books.error_lines()
    assert reason.endswith('info [worker-3] 192.0.2.1: 400 No. ""')


@pytest.mark.parametrize(("status", "level"), [(404, "info"), (501, "info"), (500, "error"), (503, "error")])
def test_reason_of_what_the_server_cannot_help_is_an_information(
    books: Books, status: int, level: str
) -> None:
    books.begin("combined").record(CLIENT, SENDER, ASKED, Response(status, (), detail="Why."), 0, 0.0)
    (reason,) = books.error_lines()
    assert reason.endswith(f'{level} [worker-3] 192.0.2.1: {status} Why. "GET /a.txt?b HTTP/1.1"')


def test_off_writes_no_line_and_counts_all_the_same(books: Books) -> None:
    ledger = books.begin("off")
    ledger.record(CLIENT, SENDER, ASKED, Response(304, ()), 0, 0.0)
    assert books.access_lines() == []
    assert list(ledger.status(0).requests) == [0, 0, 1, 0, 0]


def test_answer_that_was_published_for_its_request_is_a_miss(books: Books) -> None:
    ledger = books.begin("combined")
    ledger.count_miss()  # the reactor counts it among its hits
    status = ledger.status(0)
    assert (status.cache_hits, status.cache_misses) == (-1, 1)


def test_json_line_says_how_the_connection_is_secured(books: Books) -> None:
    ledger = books.begin("json")
    for secured in (None, ("", ""), ("TLSv1.3", "TLS_AES_128_GCM_SHA256")):
        ledger.record(Client(secured), SENDER, ASKED, Response(200, ()), 6, 0.3)
    found = [json.loads(line) for line in books.access_lines()]
    assert [(each["tls_version"], each["tls_cipher"]) for each in found] == [
        ("", ""),
        ("", ""),
        ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ]
