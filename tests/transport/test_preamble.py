"""The preamble of a proxy, without a server: what is taken, what is refused, and that nothing behind it is."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxied import SIGNATURE, header, line

from fastws.http.forwarded import UNKNOWN
from fastws.transport.preamble import (
    LINE_BYTES,
    PREAMBLE_BYTES,
    PreambleError,
    PreambleTransport,
    parse_preamble,
    size_of,
)

LONGEST = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"

TAKEN = {
    line("192.0.2.1"): "192.0.2.1",
    line("0.0.0.0", ports="0 65535"): "0.0.0.0",
    line("2001:DB8::1", "TCP6"): "2001:db8::1",
    line("::ffff:192.0.2.1", "TCP6"): "192.0.2.1",
    line(LONGEST, "TCP6", ports="65535 65535"): LONGEST,
    b"PROXY UNKNOWN\r\n": UNKNOWN,
    line(LONGEST, "UNKNOWN", ports="65535 65535"): UNKNOWN,
    b"PROXY UNKNOWN whatever there is\r\n": UNKNOWN,
    header("192.0.2.1"): "192.0.2.1",
    header("192.0.2.1", additions=b"\x04\x00\x01\x00"): "192.0.2.1",
    header("192.0.2.1", additions=bytes(PREAMBLE_BYTES - 28)): "192.0.2.1",
    header("2001:db8::1"): "2001:db8::1",
    header("::ffff:192.0.2.1"): "192.0.2.1",
    header(command=0): "",
    header("192.0.2.1", command=0): "",
    header(command=0, kind=0xFF, additions=b"whatever there is"): "",
    header(): UNKNOWN,
    header(additions=bytes(12)): UNKNOWN,
    header("192.0.2.1", kind=0x10): UNKNOWN,
    header(kind=0x31, additions=bytes(216)): UNKNOWN,
}
"""Preambles, with the client's address in each."""

REFUSED = {
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1\r\n": "two addresses",
    b"PROXY TCP4  192.0.2.1 192.0.2.1 1 2\r\n": "two addresses",
    b"PROXY TCP4 192.0.2.1 192.0.2.1 1 2 \r\n": "two addresses",
    b"PROXY TCP5 192.0.2.1 192.0.2.1 1 2\r\n": "TCP4, TCP6",
    b"PROXY UDP4 192.0.2.1 192.0.2.1 1 2\r\n": "TCP4, TCP6",
    b"PROXY \r\n": "TCP4, TCP6",
    line("192.0.2.01"): "address",
    line("192.0.2.256"): "address",
    line("192.0.2.1", "TCP6"): "address",
    line("2001:db8::1"): "address",
    line("2001:db8::1%eth0", "TCP6"): "address",
    line("\xb9.0.2.1"): "address",
    line("192.0.2.1", destination="192.0.2"): "address",
    line("192.0.2.1", ports="1 65536"): "port",
    line("192.0.2.1", ports="01 2"): "port",
    line("192.0.2.1", ports="+1 2"): "port",
    line("192.0.2.1", ports="1 \u00b2".encode().decode("latin-1")): "port",
    line("192.0.2.1")[:-2] + b"\n": "whole",
    b"PROXY UNKNOWN " + b"x" * LINE_BYTES: "107",
    SIGNATURE + b"\x11\x11\0\x0c" + bytes(12): "version 1",
    SIGNATURE + b"\x31\x11\0\x0c" + bytes(12): "version 3",
    header("192.0.2.1", command=2): "command 2",
    header("192.0.2.1", kind=0x12): "datagrams",
    header("2001:db8::1", kind=0x22): "datagrams",
    header(kind=0x32, additions=bytes(216)): "datagrams",
    header("192.0.2.1", kind=0x13): "protocol 3",
    header("192.0.2.1", kind=0x41): "family 4",
    header(kind=0x11, additions=bytes(11)): "too short",
    header(kind=0x21, additions=bytes(35)): "too short",
    header(kind=0x31, additions=bytes(215)): "too short",
    header("192.0.2.1", additions=bytes(PREAMBLE_BYTES)): "longer than",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": "no preamble",
    b"\x16\x03\x01": "no preamble",
    b"proxy TCP4": "no preamble",
    b"\r\n\r\n\0\r\nQUIT\r": "no preamble",
}
"""What is no preamble, with a part of the reason."""


@pytest.mark.parametrize("data", TAKEN, ids=repr)
def test_client_is_the_one_that_the_preamble_names(data: bytes) -> None:
    assert parse_preamble(data) == TAKEN[data]


@pytest.mark.parametrize("data", REFUSED, ids=repr)
def test_everything_else_is_refused_with_its_reason(data: bytes) -> None:
    with pytest.raises(PreambleError, match=REFUSED[data]):
        parse_preamble(data)


@pytest.mark.parametrize("data", TAKEN, ids=repr)
def test_size_is_known_from_the_preamble_alone(data: bytes) -> None:
    sizes = [size_of(data[:end]) for end in range(len(data) + 1)]
    assert sizes[-1] == len(data) == size_of(data + b"GET / HTTP/1.1\r\n\r\n")
    assert set(sizes) <= {None, len(data)}


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]),
)
def test_no_bytes_make_it_fail_otherwise(data: bytes, before: bytes) -> None:
    data = before + data
    try:
        size = size_of(data)
        if size is not None and size <= len(data):
            parse_preamble(data[:size])
    except PreambleError:
        pass


# On a socket


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, ours = socket.socketpair()
    ours.setblocking(False)
    with client, ours:
        yield client, ours


@pytest.mark.parametrize("pieces", [1, 7, 5000])
@pytest.mark.parametrize("data", TAKEN, ids=repr)
def test_not_a_byte_behind_the_preamble_is_taken(
    data: bytes, pieces: int, ends: tuple[socket.socket, socket.socket]
) -> None:
    client, ours = ends
    transport = PreambleTransport(ours.fileno())
    behind = b"GET / HTTP/1.1\r\n\r\n"
    whole = data + behind
    found = b""
    for i in range(0, len(whole), pieces):
        client.sendall(whole[i : i + pieces])
        if not found:
            try:
                found = transport.receive(1)
            except BlockingIOError:
                assert i + pieces < len(data)
    assert found == data
    with pytest.raises(BlockingIOError):
        transport.receive(1)
    transport.release()
    assert ours.recv(1000) == behind


def test_what_is_no_preamble_is_returned_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    client, ours = ends
    transport = PreambleTransport(ours.fileno())
    client.sendall(b"G")
    assert transport.receive(1) == b"G"
    transport.release()


def test_end_of_the_stream_is_told(ends: tuple[socket.socket, socket.socket]) -> None:
    client, ours = ends
    transport = PreambleTransport(ours.fileno())
    client.sendall(b"PROXY")
    client.shutdown(socket.SHUT_WR)
    assert transport.receive(1) == b""
    assert transport.send((), False) == transport.unacknowledged() == 0
    assert transport.secured() is None
    with pytest.raises(BrokenPipeError):
        transport.send((b"x",), False)
    with pytest.raises(BrokenPipeError):
        transport.send_file(0, 0, 1)
    transport.shut()
    assert client.recv(1) == b""
    transport.release()
