"""Other people's request parsers, each wrapped so that it ends with method, target and every field line."""

from __future__ import annotations

from collections.abc import Callable

import h11
import httptools

Parsed = tuple[bytes, bytes, list[tuple[bytes, bytes]]]
Decoded = tuple[str, str, str, dict[str, str]]


class _Collector:
    """A protocol as servers on httptools have it: names in lower case, values as they came."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_message_begin(self) -> None:
        self.target = b""
        self.fields = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))


def httptools_parser() -> Callable[[bytes], Parsed]:
    """Return a function that feeds one connection's parser with the next request."""
    protocol = _Collector()
    parser = httptools.HttpRequestParser(protocol)

    def parse(data: bytes) -> Parsed:
        parser.feed_data(data)
        return parser.get_method(), protocol.target, protocol.fields

    return parse


class _Decoder:
    """Collects what ``fastws.http.messages.Request`` holds: text, field names in lower case as keys."""

    def __init__(self) -> None:
        self.target = ""
        self.fields: dict[str, str] = {}

    def on_message_begin(self) -> None:
        self.fields = {}

    def on_url(self, url: bytes) -> None:
        self.target = url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields[name.decode("latin-1").lower()] = value.decode("latin-1")


def httptools_decoder() -> Callable[[bytes], Decoded]:
    """Return a function like ``httptools_parser``'s whose result is text, as fastws's is."""
    protocol = _Decoder()
    parser = httptools.HttpRequestParser(protocol)

    def parse(data: bytes) -> Decoded:
        parser.feed_data(data)
        method = parser.get_method().decode("latin-1")
        return method, protocol.target, parser.get_http_version(), protocol.fields

    return parse


def h11_parse(data: bytes) -> Parsed:
    """Parse the first request of a new connection: h11 wants a response before it takes a second one."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event.method, event.target, list(event.headers)
