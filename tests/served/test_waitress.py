"""The functional tests of waitress, by other hands, against fastws: what fails of them is explained here."""

from __future__ import annotations

from pathlib import Path

import pytest
import waitress_suite

pytestmark = [
    pytest.mark.peer,
    pytest.mark.posix,
    pytest.mark.skipif(
        not (waitress_suite.FOLDER / "tests").is_dir(),
        reason=f"no sources of waitress at {waitress_suite.FOLDER}: python tests/support/waitress_suite.py",
    ),
]

PAGE = "the page of an error is HTML, and its text is fastws's own"
FIELDS = "an error has Cache-Control and X-Content-Type-Options too"
CASE = "the option keep-alive is of no case (RFC 9110 section 7.6.1), and in small letters here"
KEPT = "an answer of unknown length is chunked, in small hexadecimal digits, and the connection is kept"
SHORT = "an answer shorter than its Content-Length is 500 if nothing is sent yet, or else ends the connection"
TEXT = "the body is text, which PEP 3333 forbids: 500 and a traceback in the error log"
LIMIT = "the bound of a head cannot be set: what is no request waits for RequestTimeout or 32 KiB"

EXPLAINED = {
    "BadContentLengthTests.test_short_body": SHORT,
    "EchoTests.test_broken_chunked_encoding": FIELDS,
    "EchoTests.test_broken_chunked_encoding_invalid_extension": PAGE,
    "EchoTests.test_broken_chunked_encoding_invalid_hex": PAGE,
    "EchoTests.test_broken_chunked_encoding_missing_chunk_end": PAGE,
    "EchoTests.test_keepalive_http10_explicit": CASE,
    "EchoTests.test_proxy_headers": "of an address that is trusted every field is handed on, X-Forwarded-Port too",
    "ExpectContinueTests.test_expect_continue": (
        "no 100 is sent where the body is there already (RFC 9110 section 10.1.1)"
    ),
    "FileWrapperTests.test_filelike_longcl_http11": (
        "a file shorter than the application's Content-Length ends the connection; waitress corrects the field"
    ),
    "FileWrapperTests.test_notfilelike_nocl_http11": KEPT,
    "InternalServerErrorTests.test_after_start_response_http10": PAGE,
    "InternalServerErrorTests.test_after_start_response_http11": PAGE,
    "InternalServerErrorTests.test_after_start_response_http11_close": PAGE,
    "InternalServerErrorTests.test_after_write_cb": TEXT,
    "InternalServerErrorTests.test_before_start_response_http_10": PAGE,
    "InternalServerErrorTests.test_before_start_response_http_11": PAGE,
    "InternalServerErrorTests.test_before_start_response_http_11_close": PAGE,
    "InternalServerErrorTests.test_in_generator": TEXT,
    "InternalServerErrorTestsWithTraceback.test_expose_tracebacks_http_10": PAGE,
    "InternalServerErrorTestsWithTraceback.test_expose_tracebacks_http_11": PAGE,
    "NoContentLengthTests.test_http10_list": CASE,
    "NoContentLengthTests.test_http10_listlentwo": "a list of two pieces has a length too",
    "NoContentLengthTests.test_http11_generator": KEPT,
    "NoContentLengthTests.test_http11_listlentwo": "a list of two pieces has a length too, and is not chunked",
    "TooLargeTests.test_request_body_too_large_chunked_encoding": (
        "its chunks have no line end behind them: 400 before the size matters"
    ),
    "TooLargeTests.test_request_body_too_large_with_no_cl_http10_keepalive": LIMIT,
    "TooLargeTests.test_request_body_too_large_with_no_cl_http11": LIMIT,
    "TooLargeTests.test_request_body_too_large_with_wrong_cl_http10_keepalive": LIMIT,
    "TooLargeTests.test_request_body_too_large_with_wrong_cl_http11": LIMIT,
    "TooLargeTests.test_request_headers_too_large_http11": LIMIT,
}


@pytest.mark.parametrize(
    ("mode", "chosen", "family"),
    [
        ("threads", "pure", "Tcp"),
        ("threads", "compiled", "Unix"),
        ("processes", "compiled", "Tcp"),
        ("processes", "pure", "Unix"),
    ],
)
def test_what_fails_of_waitresss_own_tests_is_explained(
    tmp_path: Path, mode: str, chosen: str, family: str
) -> None:
    found = waitress_suite.run(mode, chosen, family, tmp_path)
    assert len(found) >= 68
    failed = {name: why for name, why in found.items() if why}
    unexplained = {name: why for name, why in failed.items() if name not in EXPLAINED}
    assert unexplained == {}
    assert sorted(failed) == sorted(EXPLAINED), "what is explained and does not fail any more"
