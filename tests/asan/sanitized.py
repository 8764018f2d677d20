"""A pytest plugin for runs under the sanitizers: no deadlines, and without tests whose measure they distort."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# How the name of a test begins, or ends.
DISTORTED = {
    "test_memory_of_a_connection_is_bounded": "AddressSanitizer multiplies what memory takes",
    "test_threads_share_the_first_heap": "AddressSanitizer allocates in its own way",
    "test_sigterm_finishes_many_downloads_in_flight": "its clients read one after another, too slowly now",
    "test_answer_begun_before_the_end_is_followed_by_one_more": "reading takes longer than the drain's grace",
    "test_prepared_answer_fits_the_request": "a turn's time for making answers is over before the second one",
    "test_prepared_answers_and_published_ones_leave_in_their_order": "the same",
    "memory-500]": "AddressSanitizer's shadow takes more than any limit allows",
    "memory=60M]": "every process is larger than that from the start",
    "test_curl_resumes_a_download": "curl hangs with AddressSanitizer's library preloaded",
    "test_coverage_guides_a_short_differential_run": "atheris's runtime and AddressSanitizer's exclude each other",
}

GROWING = "test_ten_seconds_of_everything_leave_memory_and_descriptors_flat"
"""Looks at the server's memory, which grows until what AddressSanitizer keeps of what was freed is full."""

settings.register_profile("sanitized", deadline=None)
settings.load_profile("sanitized")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name, reason in DISTORTED.items():
            if item.name.startswith(name) or item.name.endswith(name):
                item.add_marker(pytest.mark.skip(reason=reason))


DYING = (
    "test_only_requests_in_a_process_that_dies_are_502",
    "test_all_others_go_on_whatever_becomes_of_one_request",
    "test_process_that_is_killed_or_never_ready_leaves_the_old_one",
)
"""Have a process that SIGSEGV ends: that is meant, and no finding."""

OPTIONS = {GROWING: "quarantine_size_mb=8", **dict.fromkeys(DYING, "handle_segv=0")}


@pytest.fixture(autouse=True)
def options_of_a_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    option = OPTIONS.get(request.node.name.partition("[")[0])
    if option:
        monkeypatch.setenv("ASAN_OPTIONS", f"{os.environ['ASAN_OPTIONS']}:{option}")
