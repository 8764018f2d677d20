"""A bounded fuzzer: corpus cases, mutated, fed to both parsers whole and in random splits.

``python tests/support/fuzz_differential.py CASES [SEED]`` runs it by itself. A finding names the seed and the
number of the case, and ``mutant(seed, number)`` makes its bytes again.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from functools import cache

from corpus import LIMITS, Refusal, all_cases, outcome, split_at

from fastws import backend
from fastws.http.messages import Limits, Request

SMALL = Limits(request_line_bytes=60, head_bytes=180, field_count=5)
"""Limits that short mutants meet, each alone and together."""

DICTIONARY = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b": ", b"\x7f", b"\x80", b"\xff", b"\x1f",
    b"\x0b", b"HTTP/1.1", b"HTTP/1.0", b"http/1.1", b"HTTP/1.10", b"GET ", b"POST / HTTP/1.1\r\n", b"Host: a\r\n",
    b"host:b\r\n", b"X: y\r\n", b"X : y\r\n", b" folded\r\n", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"%00", b"/../", b"0123456789abcdef", b"\x21\x7e\x20\x09" * 4,
    b"a" * 60, b"a" * 180,
]  # fmt: skip


def _mutations(rng: random.Random, seeds: list[bytes]) -> list[Callable[[bytearray, int], None]]:
    def flip(data: bytearray, at: int) -> None:
        data[at] ^= 1 << rng.randrange(8)

    def replace(data: bytearray, at: int) -> None:
        data[at] = rng.randrange(256)

    def insert(data: bytearray, at: int) -> None:
        data[at:at] = rng.choice(DICTIONARY)

    def overwrite(data: bytearray, at: int) -> None:
        word = rng.choice(DICTIONARY)
        data[at : at + len(word)] = word

    def delete(data: bytearray, at: int) -> None:
        del data[at : at + rng.choice((1, 1, 2, 4, 16))]

    def repeat(data: bytearray, at: int) -> None:
        data[at:at] = data[at : at + rng.choice((1, 2, 16, 40))] * rng.choice((1, 1, 3))

    def splice(data: bytearray, at: int) -> None:
        other = rng.choice(seeds)
        data[at:] = other[rng.randrange(len(other)) :]

    return [flip, replace, insert, overwrite, delete, repeat, splice]


@cache
def _seeds() -> tuple[list[bytes], list[bytes]]:
    short = [case for case in all_cases() if len(case.data) < 2000]
    return [case.data for case in short if not case.status], [case.data for case in short]


def mutant(seed: int, number: int) -> tuple[bytes, random.Random]:
    """Return an input, and the generator that its splits are to be drawn from."""
    rng = random.Random(seed * 1_000_003 + number)
    valid, everything = _seeds()
    data = bytearray(rng.choice(valid if rng.random() < 0.7 else everything))
    mutations = _mutations(rng, everything)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if data:
            rng.choice(mutations)(data, rng.randrange(len(data)))
    return bytes(data), rng


def status_of(found: Request | Refusal | None) -> int:
    """Return the status of a refusal, 0 for a request, -1 for a head that stays open."""
    if found is None:
        return -1
    return found.status if isinstance(found, Refusal) else 0


def compare(
    compiled: backend.Parser, pure: backend.Parser, data: bytes, splits: Iterable[list[bytes]]
) -> set[int]:
    """Assert that both parsers agree on ``data``, however it is split; return the statuses met.

    Between the sides all must be equal. Between the splits a refusal's words may differ (what is certain
    early is found early), its status may not.
    """
    statuses = set()
    for limits in (LIMITS, SMALL):
        whole = outcome(compiled, [data], limits)
        assert outcome(pure, [data], limits) == whole, (data, limits)
        for pieces in splits:
            found = outcome(compiled, pieces, limits)
            assert outcome(pure, pieces, limits) == found, (pieces, limits)
            assert status_of(found) == status_of(whole), (pieces, limits, found, whole)
            assert isinstance(found, Refusal) or found == whole, (pieces, limits)
        statuses.add(status_of(whole))
    return statuses


def run(compiled: backend.Parser, pure: backend.Parser, count: int, seed: int) -> dict[int, int]:
    """Compare both parsers on ``count`` mutants; return how many met each status (0: accepted, -1: open)."""
    seen: dict[int, int] = {}
    for number in range(count):
        data, rng = mutant(seed, number)
        positions = [rng.randrange(len(data) + 1) for _ in range(rng.choice((1, 2, 5)))]
        # Cuts within a line end and right after it are where a parser goes wrong.
        ends = [
            at + rng.randrange(2) for at in range(len(data)) if data[at] in b"\r\n" and rng.random() < 0.3
        ]
        splits = [split_at(data, positions), split_at(data, ends)]
        try:
            statuses = compare(compiled, pure, data, splits)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, case {number}: {error}") from error
        for status in statuses:
            seen[status] = seen.get(status, 0) + 1
    return seen


def main(arguments: list[str]) -> None:
    count = int(arguments[0]) if arguments else 20_000
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(1 << 30)
    print(f"{count} cases with seed {seed}")
    compiled, pure = backend.load(pure=False, required=True).parser, backend.load(pure=True).parser
    for status, times in sorted(run(compiled, pure, count, seed).items()):
        print(f"{ {0: 'accepted', -1: 'needs more'}.get(status, status) }: {times}")


if __name__ == "__main__":
    main(sys.argv[1:])
