"""The threads that run applications, and the queue before them."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rawhttp import wait_until

from fastws.application import threads as module
from fastws.application.body import Spool
from fastws.application.environ import Ends
from fastws.application.loan import Loan
from fastws.application.mounts import Call, Mount
from fastws.application.threads import Threads
from fastws.config.settings import defaults
from fastws.h1.given import check_given
from fastws.http.messages import Request

ENDS = Ends("127.0.0.1", "127.0.0.1", 80, "http")


class Gate:
    """An application that answers when it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        self.entered += 1
        self.opened.wait(60)
        start("200 OK", [])
        return [b"x"]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


def loan_for(gate: Gate) -> Loan:
    request = Request("GET", "/", "HTTP/1.1", {}, 0)
    return Loan(Call(Mount("", gate), request, "", "/", "", "", ()), ENDS, Spool(), lambda: None)


def threads_of(count: int, queue: int) -> Threads:
    made = Threads(logging.getLogger("test"), check_given)
    made.configure(defaults().with_overrides(application_threads=count, application_queue=queue))
    return made


def is_over(loan: Loan) -> bool:
    return loan.take().is_over


def test_as_many_as_there_are_threads_are_never_refused(gate: Gate) -> None:
    for _ in range(50):
        threads = threads_of(3, 0)
        loans = [loan_for(gate) for _ in range(3)]
        assert [threads.submit(loan) for loan in loans] == [True] * 3
        assert not threads.submit(loan_for(gate))
        threads.close()


def test_queue_is_bounded_and_answered_in_order(gate: Gate) -> None:
    threads = threads_of(1, 2)
    loans = [loan_for(gate) for _ in range(3)]
    assert [threads.submit(loan) for loan in loans] == [True] * 3
    assert not threads.submit(loan_for(gate))
    wait_until(lambda: gate.entered == 1)
    assert not threads.submit(loan_for(gate))
    gate.opened.set()
    for loan in loans:
        wait_until(lambda loan=loan: is_over(loan))
    assert threads.submit(loan_for(gate))
    threads.close()


def test_what_nobody_waits_for_makes_room_and_is_not_run(gate: Gate) -> None:
    threads = threads_of(1, 1)
    first, second, third = (loan_for(gate) for _ in range(3))
    assert threads.submit(first)
    assert threads.submit(second)
    wait_until(lambda: gate.entered == 1)
    assert not threads.submit(third)
    second.abandon()
    assert threads.submit(third)
    gate.opened.set()
    wait_until(lambda: is_over(third))
    assert gate.entered == 2
    threads.close()


def test_number_of_threads_changes_with_the_configuration(gate: Gate) -> None:
    threads = threads_of(1, 10)
    loans = [loan_for(gate) for _ in range(3)]
    for loan in loans[:2]:
        threads.submit(loan)
    wait_until(lambda: gate.entered == 1)
    threads.configure(defaults().with_overrides(application_threads=3))
    wait_until(lambda: gate.entered == 2)
    threads.submit(loans[2])
    wait_until(lambda: gate.entered == 3)
    gate.opened.set()
    for loan in loans:
        wait_until(lambda loan=loan: is_over(loan))
    threads.configure(defaults().with_overrides(application_threads=1))
    wait_until(lambda: threads._count == 1)
    threads.close()
    wait_until(lambda: threads._count == 0)
    assert not threads.submit(loan_for(gate))


class Well:
    """A source of loans: a thread that fetches waits until there are some."""

    def __init__(self) -> None:
        self.loans: queue.Queue[list[Loan] | None] = queue.Queue()
        self.fetchers: list[str] = []
        self.rests = self.taken = 0

    def fetch(self) -> list[Loan] | None:
        self.fetchers.append(threading.current_thread().name)
        return self.loans.get(timeout=60)

    def count(self, taken: int) -> None:
        self.taken = taken

    def rest(self) -> None:
        self.rests += 1


def fetching(well: Well, count: int) -> Threads:
    """Return threads of which one waits at ``well``."""
    threads = Threads(logging.getLogger("test"), check_given, source=well)
    threads.limit(count, 10)
    wait_until(lambda: len(well.fetchers) == 1)
    return threads


def test_thread_that_fetches_runs_what_is_quick_itself(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK_S", 60.0)  # longer than a busy machine takes for what is quick here
    well = Well()
    threads = fetching(well, 3)
    gate.opened.set()
    threads._is_quick = True
    for number in range(5):
        well.loans.put([loan_for(gate), loan_for(gate)])
        wait_until(lambda number=number: len(well.fetchers) == number + 2)
    assert set(well.fetchers) == {"application-0"}
    assert (gate.entered, well.taken, threads._count) == (10, 10, 1)
    assert well.rests == len(well.fetchers)
    well.loans.put(None)


def test_another_fetches_as_soon_as_a_call_is_expected_to_take_long(gate: Gate) -> None:
    well = Well()
    threads = fetching(well, 2)
    threads._is_quick = False
    well.loans.put([loan_for(gate)])
    wait_until(lambda: len(well.fetchers) == 2)
    assert well.fetchers == ["application-0", "application-1"]
    gate.opened.set()
    well.loans.put(None)


def test_others_take_what_waits_and_fetch_when_a_call_is_not_quick_after_all(gate: Gate) -> None:
    well = Well()
    threads = fetching(well, 3)
    threads._is_quick = True
    well.loans.put([loan_for(gate), loan_for(gate)])
    wait_until(lambda: gate.entered == 1)
    assert threads.status().waiting == 1
    assert len(well.fetchers) == 1
    assert threads.nudge()
    wait_until(lambda: gate.entered == 2 and len(well.fetchers) == 2)
    gate.opened.set()
    well.loans.put(None)


def test_caller_stands_in_for_threads_as_long_as_all_are_busy(gate: Gate) -> None:
    well = Well()
    threads = fetching(well, 1)
    well.loans.put([loan_for(gate)])
    wait_until(lambda: gate.entered == 1)
    assert not threads.nudge()
    assert threads.nudge()  # somebody fetches: the caller
    assert threads.add([loan_for(gate)])
    assert threads.status().waiting == 1
    gate.opened.set()
    wait_until(lambda: threads.status().busy == threads.status().waiting == 0)
    assert len(well.fetchers) == 1
    assert not threads.add([])
    wait_until(lambda: len(well.fetchers) == 2)
    well.loans.put(None)


def test_what_is_withdrawn_counts_as_taken_and_is_not_run(gate: Gate) -> None:
    well = Well()
    threads = fetching(well, 1)
    loans = [loan_for(gate) for _ in range(3)]
    well.loans.put(loans[:2])
    wait_until(lambda: gate.entered == 1)
    assert threads.withdraw(loans[2:]) == loans[1:]
    assert well.taken == 3
    gate.opened.set()
    wait_until(lambda: len(well.fetchers) == 2)
    assert gate.entered == 1
    well.loans.put(None)


def test_pause_lasts_until_something_comes(gate: Gate) -> None:
    well = Well()
    threads = fetching(well, 1)
    gate.opened.set()
    passed = threading.Semaphore(0)

    def pause_twice() -> None:
        for _ in range(2):
            threads.pause(0.0)
            passed.release()

    pausing = threading.Thread(target=pause_twice, daemon=True)
    pausing.start()
    wait_until(lambda: threads._is_paused)
    assert not passed.acquire(blocking=False)
    well.loans.put([loan_for(gate)])
    assert passed.acquire(timeout=60)
    wait_until(lambda: threads._is_paused)
    threads.unpause()
    assert passed.acquire(timeout=60)
    pausing.join(60)
    well.loans.put(None)


def test_thread_that_takes_one_of_many_wakes_another(gate: Gate) -> None:
    threads = threads_of(2, 10)
    gate.opened.set()
    for loan in [loan_for(gate) for _ in range(2)]:
        threads.submit(loan)
    wait_until(lambda: threads._count == len(threads._parked) > 0)
    count = threads._count
    gate.opened.clear()
    entered = gate.entered
    with threads._lock:
        threads._waiting.extend([loan_for(gate) for _ in range(count)])
        threads._wake_one()
    wait_until(lambda: gate.entered == entered + count)
    gate.opened.set()
    threads.close()


def test_answer_is_over_when_its_length_is_reached(gate: Gate) -> None:
    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "4")])
        yield b"bo"
        yield b"dy"
        gate.opened.wait(60)
        raise RuntimeError("after the end")

    threads = threads_of(1, 1)
    request = Request("GET", "/", "HTTP/1.1", {}, 0)
    loan = Loan(Call(Mount("", application), request, "", "/", "", "", ()), ENDS, Spool(), lambda: None)
    threads.submit(loan)
    pieces: list[bytes] = []

    def takes_all() -> bool:
        portion = loan.take()
        pieces.extend(piece for piece in portion.pieces if isinstance(piece, bytes))
        return portion.is_over

    wait_until(takes_all)
    assert b"".join(pieces) == b"body"
    gate.opened.set()
    wait_until(lambda: threads.status().busy == 0)
    assert loan.take().error is None
    threads.close()


def test_small_pieces_that_wait_together_are_few(gate: Gate) -> None:
    loan = loan_for(gate)
    given = check_given("200 OK", (), ())
    loan.put(given, b"first")
    for number in range(10_000):
        loan.put(None, b"%04d" % number)
    loan.put(None, b"x" * 5000, b"last", is_over=True)
    pieces = loan.take().pieces
    assert len(pieces) < 60
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == (
        b"first" + b"".join(b"%04d" % number for number in range(10_000)) + b"x" * 5000 + b"last"
    )
