"""Django's own tests of its live server, with fastws in its place: what fails of them is explained here."""

from __future__ import annotations

from pathlib import Path

import django_suite
import pytest

pytestmark = [
    pytest.mark.peer,
    pytest.mark.posix,
    pytest.mark.skipif(
        not (django_suite.FOLDER / "tests").is_dir(),
        reason=f"no sources of Django at {django_suite.FOLDER}: python tests/support/django_suite.py",
    ),
]

CLOSED = "a client that sends Connection: close has its connection closed (RFC 9112 section 9.6)"
EXPLAINED = {
    "LiveServerViews.test_closes_connection_without_content_length": (
        "an answer of unknown length is chunked, and the connection is kept"
    ),
    "LiveServerViews.test_keep_alive_connection_clears_previous_request_data": CLOSED,
    "LiveServerViews.test_keep_alive_on_connection_with_content_length": CLOSED,
}
NOT_OF_FASTWS = ("LiveServerTestCloseConnectionTest", "SingleThreadLiveServerViews", "LiveServerThreadTest")


@pytest.mark.parametrize("chosen", ["compiled", "pure"])
def test_what_fails_of_djangos_live_server_tests_is_explained(tmp_path: Path, chosen: str) -> None:
    found, said = django_suite.run(chosen, tmp_path)
    short = {".".join(name.split(".")[-2:]): end for name, end in found.items()}
    own = {name: end for name, end in short.items() if not name.startswith(NOT_OF_FASTWS)}
    failed = {name for name, end in own.items() if end != "ok"}
    assert len(own) >= 20, said
    assert failed == set(EXPLAINED), said
