"""What an address that redirects answers: 308 to hosts of the certificates, and the proofs of a host."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fastws import backend, defaults
from fastws.files.root import Nothing
from fastws.http.messages import Request, Response
from fastws.site.site import Site
from fastws.site.tohttps import Hosts, ToHttps

HOSTS = Hosts(frozenset({"example.org", "*.example.org"}), frozenset({"192.0.2.7", "2001:db8::1"}), 443)


@pytest.fixture
def to_https(tmp_path: Path) -> ToHttps:
    folder = tmp_path / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / "token").write_text("proof")
    (tmp_path / "index.html").write_text("page")
    config = defaults(str(tmp_path)).with_overrides(access_log="off", error_log="off")
    opener = backend.load(pure=True).opener
    site = Site(config, logging.getLogger("test"), replays=False, opener=opener, hidden=Nothing())
    site.to_https.hosts = HOSTS
    return site.to_https


def ask(
    to_https: ToHttps, target: str = "/", host: str | None = "example.org", method: str = "GET"
) -> Response:
    fields = {} if host is None else {"host": host}
    return to_https.respond(Request(method, target, "HTTP/1.1", fields, 0)).response


def location(response: Response) -> str:
    return dict(response.fields).get("Location", "")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("example.org", "https://example.org/"),
        ("Example.ORG:80", "https://Example.ORG/"),
        ("example.org.", "https://example.org./"),
        ("www.example.org:8080", "https://www.example.org/"),
        ("192.0.2.7", "https://192.0.2.7/"),
        ("[2001:DB8:0::1]:80", "https://[2001:DB8:0::1]/"),
    ],
)
def test_hosts_of_the_certificates_are_sent_to_https(to_https: ToHttps, host: str, expected: str) -> None:
    response = ask(to_https, host=host)
    assert (response.status, location(response)) == (308, expected)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "a.b.example.org",
        "org",
        "localhost",
        "192.0.2.8",
        "[2001:db8::2]",
        "example.org.evil.com",
    ],
)
def test_any_other_host_is_421_and_leads_nowhere(to_https: ToHttps, host: str) -> None:
    response = ask(to_https, host=host)
    assert (response.status, location(response)) == (421, "")
    assert dict(response.fields)["Server"] == "fastws"


@pytest.mark.parametrize("host", [None, "", "a b", "user@example.org", "example.org, evil.example"])
def test_a_host_that_is_none_is_400(to_https: ToHttps, host: str | None) -> None:
    assert ask(to_https, host=host).status == 400


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a/b.html?x=1&y=%20", "https://example.org/a/b.html?x=1&y=%20"),
        ("/?", "https://example.org/?"),
        ("/%E2%82%AC/a%20b", "https://example.org/%E2%82%AC/a%20b"),
        ("/a/../b//c", "https://example.org/a/../b//c"),
        ("/a%2Fb", "https://example.org/a%2Fb"),  # to an application it is not the same as /a/b
        ("//evil.example/x", "https://example.org//evil.example/x"),
        ('/a"<b>\\^', "https://example.org/a%22%3Cb%3E%5C%5E"),
        ("http://www.example.org?a", "https://www.example.org/?a"),
        ("http://www.example.org:80/a?b", "https://www.example.org/a?b"),
        ("/a%0d%0aSet-Cookie:x", "https://example.org/a%0d%0aSet-Cookie:x"),
    ],
)
def test_path_and_query_are_kept(to_https: ToHttps, target: str, expected: str) -> None:
    assert location(ask(to_https, target)) == expected


def test_the_target_decides_before_the_host_field(to_https: ToHttps) -> None:
    assert ask(to_https, "http://evil.example/").status == 421


@pytest.mark.parametrize("target", ["/../x", "/%00", "*", "evil.example:443", "/a#b"])
def test_a_target_that_is_none_is_400(to_https: ToHttps, target: str) -> None:
    assert ask(to_https, target).status == 400


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE", "BREW"])
def test_every_method_is_kept_by_308(to_https: ToHttps, method: str) -> None:
    assert ask(to_https, "/x", method=method).status == 308


def test_head_has_the_fields_and_no_body(to_https: ToHttps) -> None:
    with_body, without = ask(to_https, "/x"), ask(to_https, "/x", method="HEAD")
    assert with_body.fields == without.fields
    assert (with_body.body != (), without.body) == (True, ())


def test_another_port_of_tls_is_named(to_https: ToHttps) -> None:
    to_https.hosts = HOSTS._replace(port=8443)
    assert location(ask(to_https, "/x")) == "https://example.org:8443/x"


def test_what_proves_a_host_is_sent_whatever_the_host(to_https: ToHttps) -> None:
    response = ask(to_https, "/.well-known/acme-challenge/token", host="new.example")
    assert response.status == 200
    if response.file is not None:
        response.file.close()
    assert ask(to_https, "/.well-known/acme-challenge/other").status == 404
    assert ask(to_https, "/.well-known/acme-challenge/../../index.html").status == 308


def test_a_request_whose_body_is_still_to_come_is_answered_at_once(to_https: ToHttps) -> None:
    request = Request("POST", "/x", "HTTP/1.1", {"host": "example.org"}, 0)
    response = to_https.refuse(request)
    assert response is not None
    assert response.status == 308
