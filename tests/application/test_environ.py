"""The environ of a call: what the two ends of a connection make of it."""

from __future__ import annotations

import pytest

from fastws.application.environ import Ends, Manner, build_environ
from fastws.application.mounts import Call, Mount
from fastws.http.messages import Request


def ends_shown(peer: str, host: str, port: int, scheme: str) -> tuple[str, ...]:
    call = Call(Mount("", print), Request("GET", "/", "HTTP/1.0", {}, 0), "", "/", "", "", ())
    environ = build_environ(call, Ends(peer, host, port, scheme), 0, Manner(True, False))
    assert "HTTP_HOST" not in environ
    return environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"]


@pytest.mark.parametrize(
    ("peer", "host", "shown"),
    [
        ("192.0.2.1", "127.0.0.1", ("192.0.2.1", "127.0.0.1")),
        ("2001:db8::1", "::1", ("2001:db8::1", "[::1]")),
        ("192.0.2.1", "::ffff:192.0.2.2", ("192.0.2.1", "192.0.2.2")),  # a socket that accepts both kinds
        ("unix:", "localhost", ("", "localhost")),
        ("unknown", "10.0.0.1", ("", "10.0.0.1")),
    ],
)
def test_name_of_the_server_is_as_a_url_has_it(peer: str, host: str, shown: tuple[str, str]) -> None:
    assert ends_shown(peer, host, 8080, "http") == (*shown, "8080")


@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_socket_without_a_port_has_that_of_the_scheme(scheme: str, port: str) -> None:
    assert ends_shown("unix:", "localhost", 0, scheme)[2] == port
