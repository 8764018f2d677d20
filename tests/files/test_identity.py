"""Identities of files: from when on a change to the file must change them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from fastws.files.identity import COARSE_NS, SETTLED_NS, is_made_up, is_settled
from fastws.http.messages import Identity

NOW_NS = 1_000_000_000_000_000_001
"""With a fraction of a second, as most file systems have it."""
MS_NS = 1_000_000


@pytest.mark.parametrize(
    ("modified_ms", "changed_ms", "expected"),
    [
        (20, 1000, False),
        (1000, 20, False),
        (0, 1000, False),
        (1000, 0, False),
        (1000, -1000, False),  # a clock that was set back
        (-1000, 20, False),
        (-1000, 1000, True),  # a time in the future was set, and says nothing of when
        (20.001, 20.001, True),
        (1000, 1000, True),
    ],
)
def test_file_is_settled_when_both_its_times_are_20_ms_ago(
    modified_ms: float, changed_ms: float, expected: bool
) -> None:
    modified, changed = (NOW_NS - int(ms * MS_NS) for ms in (modified_ms, changed_ms))
    assert is_settled(Identity(1, 2, 3, modified, changed), NOW_NS) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its tick")
def test_time_to_settle_is_longer_than_a_tick() -> None:
    """What stamps files advances once in a tick of the kernel, which is 10 ms where it is longest."""
    clock_realtime_coarse = 5  # which Python does not name
    assert time.clock_getres(clock_realtime_coarse) * 1e9 < SETTLED_NS


def test_identity_is_settled_by_when_the_file_was_changed() -> None:
    tick = SETTLED_NS
    now = 100 * tick
    assert is_settled(Identity(1, 1, 1, now - 2 * tick, now - 2 * tick), now)
    assert is_settled(Identity(1, 1, 1, now + 9 * tick, now - 2 * tick), now)
    assert not is_settled(Identity(1, 1, 1, now, now - 2 * tick), now)
    assert not is_settled(Identity(1, 1, 1, now - 2 * tick, now - tick), now)
    assert not is_settled(Identity(1, 1, 1, now + 9 * tick, now), now)


@pytest.mark.parametrize("age_ms", [21, 999, 1999, 2019])
@pytest.mark.parametrize(("mtime", "ctime", "is_fine"), [(0, 0, False), (0, 1, True), (1, 0, True)])
def test_file_without_a_fraction_of_a_second_settles_after_two(
    age_ms: int, mtime: int, ctime: int, is_fine: bool
) -> None:
    second = NOW_NS // 10**9 * 10**9
    identity = Identity(1, 2, 3, second + mtime, second + ctime)
    assert is_settled(identity, second + age_ms * MS_NS + 1) is is_fine
    assert is_settled(identity, second + COARSE_NS + 2)


def test_empty_file_may_be_made_up_where_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert not is_made_up(str(tmp_path / "empty"))
    assert is_made_up(str(tmp_path / "none"))
    if Path("/proc/self/mounts").exists():
        assert is_made_up("/proc/self/mounts")
