"""Where a message ends: RFC 9112 sections 3.2, 6, 7 and 9, a row for each rule of a server."""

from __future__ import annotations

import tracemalloc

import pytest
from corpus import MAX_BODY_BYTES, bytewise

from fastws.h1.framing import (
    CHUNK_LINE_BYTES,
    CHUNKED,
    ChunkedDecoder,
    LengthDecoder,
    body_decoder,
    body_length,
    expects_continue,
    is_persistent,
)
from fastws.http.authority import check_host, is_authority
from fastws.http.errors import HTTPError
from fastws.http.messages import Limits, Request
from fastws.http.vocabulary import NO_TRAILERS

LIMITS = Limits()


def request(version: str = "HTTP/1.1", **fields: str) -> Request:
    return Request(
        "POST", "/", version, {name.replace("_", "-"): value for name, value in fields.items()}, 99
    )


# Content-Length (6.2, 6.3)

LENGTHS = [("0", 0), ("5", 5), ("0005", 5), ("999999999999999999", 10**18 - 1)]


@pytest.mark.parametrize(("value", "length"), LENGTHS)
def test_content_length_is_a_decimal_number(value: str, length: int) -> None:
    assert body_length(request(content_length=value)) == length


BAD_LENGTHS = [
    "", "5, 5", "5,5", "5, 6", ", 5", "5,", "+5", "-5", "-0", "5 5", " 5", "0x5", "5.0", "5e0", "1_0", "5a", '"5"',
    "\xb2", "\u0665", "\uff15", "5\x00", "1000000000000000000", str(2**63), str(2**64), str(2**64 + 5), "0" * 40,
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_LENGTHS)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_content_length_in_any_doubt_is_400_and_close(value: str, version: str) -> None:
    with pytest.raises(HTTPError) as caught:
        body_length(request(version, content_length=value))
    assert (caught.value.status, caught.value.close) == (400, True)


def test_a_request_without_framing_fields_has_no_body() -> None:
    assert body_length(request()) == 0


# Transfer-Encoding (6.1, 6.3)


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED"])
def test_chunked_is_understood_in_any_case(value: str) -> None:
    assert body_length(request(transfer_encoding=value)) == CHUNKED


@pytest.mark.parametrize(
    "value", ["gzip, chunked", "x, y,chunked", "identity, chunked", "deflate\t,\tCHUNKED"]
)
def test_a_coding_before_chunked_is_501_and_close(value: str) -> None:
    with pytest.raises(HTTPError) as caught:
        body_length(request(transfer_encoding=value))
    assert (caught.value.status, caught.value.close) == (501, True)


BAD_CODINGS = [
    "", ",", "identity", "gzip", "chunked, gzip", "chunked, chunked", "chunked, identity",
    "gzip, chunked, chunked",
    '"chunked"', "'chunked'", "chunked;q=1", "gzip;x, chunked", "xchunked", "chunkedx", "x chunked", "chunked x",
    ",chunked", "chunked,", ", chunked", "gzip,, chunked", "chunked\xa0", "\xa0chunked", "\x0bchunked",
    "chunked\r", "chunked\x00",
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_CODINGS)
def test_a_transfer_coding_in_any_doubt_is_400_and_close(value: str) -> None:
    with pytest.raises(HTTPError) as caught:
        body_length(request(transfer_encoding=value))
    assert (caught.value.status, caught.value.close) == (400, True)


@pytest.mark.parametrize("coding", ["chunked", "identity", "gzip, chunked", ""])
@pytest.mark.parametrize("length", ["5", "0", ""])
def test_content_length_beside_transfer_encoding_is_400_and_close(coding: str, length: str) -> None:
    with pytest.raises(HTTPError) as caught:
        body_length(request(transfer_encoding=coding, content_length=length))
    assert (caught.value.status, caught.value.close) == (400, True)


@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked", ""])
def test_http_1_0_with_transfer_encoding_is_400_and_close(coding: str) -> None:
    with pytest.raises(HTTPError) as caught:
        body_length(request("HTTP/1.0", transfer_encoding=coding))
    assert (caught.value.status, caught.value.close) == (400, True)


# Host (3.2)

HOSTS = [
    "",
    "a",
    "a.example",
    "A.Example.:80",
    "127.0.0.1:8080",
    "[::1]",
    "[2001:db8::1]:80",
    "[::ffff:192.0.2.1]",
    "a_b-c~d",
    "a:",
    "x:65535",
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_valid_host_passes(host: str) -> None:
    check_host(request(host=host))


BAD_HOSTS = [
    "a, b", "a,a", ", a", "u@a", "u:p@a", "@a", "a/b", "a?b", "a#b", "a b", "a\tb", "a\\b", "a:b", "a:-1", "a:+1",
    "a:80:80", "a:123456", "[::1", "::1", "[::1]x", "[::1]:x", "[a]b]", "[]", "\xe9", "a%41", "<a>", '"a"',
    "a\u212a", "[:]", "[....]", "[192.0.2.1]", "[1::2::3]", "[12345::]", "[::1%eth0]", "[v1.a]",
]  # fmt: skip


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_an_invalid_or_repeated_host_is_400_and_close(host: str, version: str) -> None:
    assert not is_authority(host)
    with pytest.raises(HTTPError) as caught:
        check_host(request(version, host=host))
    assert (caught.value.status, caught.value.close) == (400, True)


def test_host_is_required_but_in_http_1_0() -> None:
    check_host(request("HTTP/1.0"))
    for version in ("HTTP/1.1", "HTTP/1.2"):
        with pytest.raises(HTTPError) as caught:
            check_host(request(version))
        assert (caught.value.status, caught.value.close) == (400, True)


# Persistence (9.3)


@pytest.mark.parametrize(
    ("version", "connection", "persists"),
    [
        ("HTTP/1.1", None, True),
        ("HTTP/1.1", "", True),
        ("HTTP/1.1", "keep-alive", True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.1", "Close", False),
        ("HTTP/1.1", "TE , close", False),
        ("HTTP/1.1", "close, keep-alive", False),
        ("HTTP/1.1", "closed", True),
        ("HTTP/1.1", "not-close", True),
        ("HTTP/1.1", "close\xa0", True),
        ("HTTP/1.1", "\x85close", True),
        ("HTTP/1.0", None, False),
        ("HTTP/1.0", "", False),
        ("HTTP/1.0", "keep-alive", True),
        ("HTTP/1.0", "Keep-Alive\t,x", True),
        ("HTTP/1.0", "keep-alive, close", False),
        ("HTTP/1.0", "close", False),
    ],
)
def test_persistence_follows_version_and_connection(
    version: str, connection: str | None, persists: bool
) -> None:
    fields = {} if connection is None else {"connection": connection}
    assert is_persistent(request(version, **fields)) is persists


# Expect (RFC 9110 section 10.1.1)


def test_only_100_continue_can_be_expected() -> None:
    assert expects_continue(request(expect="100-continue"))
    assert expects_continue(request(expect="100-Continue"))
    assert not expects_continue(request())
    assert not expects_continue(request("HTTP/1.0", expect="100-continue"))
    for value in ("", "100", "200-ok", "100-continue, x"):
        with pytest.raises(HTTPError) as caught:
            expects_continue(request(expect=value))
        assert (caught.value.status, caught.value.close) == (417, True)


# Bodies of known length


@pytest.mark.parametrize("length", [0, 1, 5, 6])
def test_a_body_of_known_length_takes_its_bytes_and_no_more(length: int) -> None:
    for pieces in ([b"abcdef"], bytewise(b"abcdef"), [b"abc", b"def"]):
        decoder = LengthDecoder(length)
        taken = sum(decoder.feed(piece) for piece in pieces)
        assert decoder.is_complete
        assert taken == decoder.received == length
        assert decoder.body == b"abcdef"[:length]


def test_a_body_is_incomplete_until_its_last_byte() -> None:
    decoder = LengthDecoder(3)
    assert decoder.feed(b"ab") == 2
    assert not decoder.is_complete
    assert decoder.feed(b"cd") == 1
    assert decoder.is_complete


# Chunks (7.1)


def decode(
    data: bytes, pieces: list[bytes] | None = None, max_bytes: int = MAX_BODY_BYTES
) -> tuple[bytes, bytes] | None:
    """Return the body and the bytes after it, None while it is incomplete."""
    decoder = ChunkedDecoder(max_bytes, LIMITS)
    rest = b""
    for piece in pieces or [data]:
        rest += piece[decoder.feed(piece) :]
    assert decoder.received == len(data) - len(rest)
    return (bytes(decoder.body), rest) if decoder.is_complete else None


CHUNKED_BODIES = [
    (b"0\r\n\r\n", b""),
    (b"000\r\n\r\n", b""),
    (b"5\r\nabcde\r\n0\r\n\r\n", b"abcde"),
    (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    (b"a\r\n0123456789\r\n0B\r\n0123456789a\r\n00\r\n\r\n", b"01234567890123456789a"),
    (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    (b'1;a\r\nx\r\n1 ;b=c\r\ny\r\n1\t; d="e\\""\r\nz\r\n0;f\r\n\r\n', b"xyz"),
    (b"1\r\na\r\n0\r\nX: 1\r\nY:\r\nZ: \t\xe9 \r\n\r\n", b"a"),
    (b'1;a="";b="\t !#~\xe9\\"\\\\\\\t;=";c\r\nx\r\n0 ;\td = e\t;f\r\n\r\n', b"x"),
    (b"1;!#$%&'*+-.^_`|~09azAZ=!#$\r\nx\r\n0\r\n\r\n", b"x"),
    (b"0\r\n" + b"X: y\r\n" * 100 + b"\r\n", b""),
    (b"0\r\nContent-MD5: x\r\nDigest: y\r\nHosts: z\r\nServer-Timing: w\r\n\r\n", b""),
    (b"1;" + b"x" * (CHUNK_LINE_BYTES - 4) + b"\r\na\r\n0\r\n\r\n", b"a"),
    (b"0000000000000001\r\na\r\n0000000000000000\r\n\r\n", b"a"),
]


@pytest.mark.parametrize(("data", "body"), CHUNKED_BODIES)
def test_chunks_become_the_body_whole_bytewise_and_before_the_next_request(data: bytes, body: bytes) -> None:
    following = b"GET / HTTP/1.1\r\n"
    assert decode(data) == (body, b"")
    assert decode(data, bytewise(data)) == (body, b"")
    assert decode(data + following) == (body, following)
    for cut in range(1, len(data), max(1, len(data) // 60)):
        assert decode(data[:cut]) is None
        assert decode(data, [data[:cut], data[cut:]]) == (body, b"")


BAD_CHUNKS = [
    # sizes
    (b"\r\n", 400), (b"g\r\n", 400), (b"0x5\r\n", 400), (b"+5\r\n", 400), (b"-5\r\n", 400), (b"-0\r\n", 400),
    (b"1_0\r\n", 400), (b" 5\r\n", 400), (b"\t5\r\n", 400), (b"5 \r\n", 400), (b"5\t\r\n", 400), (b"5 5\r\n", 400),
    (b"5,5\r\n", 400), (b"5h\r\n", 400), (b"5\x00\r\n", 400), (b"\xb2\r\n", 400), (b"5\x0b\r\n", 400),
    (b'"5"\r\n', 400), (b"10000000000000000\r\n", 400), (b"10000000000000005\r\n", 400),
    (b"0" * 17 + b"\r\n", 400),
    (b"F" * 16 + b"\r\n", 413), (b"8000000000000000\r\n", 413), (b"100001\r\n", 413),
    # line ends
    (b"5\n", 400), (b"5\r5\r\n", 400), (b"5\r\r\n", 400), (b"0\r\n\n", 400), (b"0\r\n\r\r\n", 400),
    (b"1\r\na\n", 400), (b"1\r\na\rb\r\n", 400), (b"1\r\nab\r\n", 400), (b"2\r\na\r\n0\r\n", 400),
    (b"1\r\na0\r\n\r\n", 400), (b"1\r\na \r\n", 400),
    # extensions
    (b"5;a\n", 400), (b"5;a\rb\r\n", 400), (b"5;\x00\r\n", 400), (b"5;a=\x7f\r\n", 400), (b'5;a="\n"\r\n', 400),
    (b"5;\r\n", 400), (b"5 ;\r\n", 400), (b"5;a;\r\n", 400), (b"5;=b\r\n", 400), (b"5;a=\r\n", 400),
    (b"5;bad[=x\r\n", 400), (b"5;a b\r\n", 400), (b"5;a \r\n", 400), (b"5;a=b \r\n", 400), (b"5;a=b c\r\n", 400),
    (b"5;a=[\r\n", 400), (b"5;;a\r\n", 400),
    (b"5;a=\xe9\r\n", 400), (b"5;\xe9\r\n", 400), (b"5;a,b\r\n", 400), (b"5;a==b\r\n", 400),
    (b"5;a=b=c\r\n", 400), (b'5;"a"\r\n', 400), (b'5;a="\r\n', 400), (b'5;a="b\r\n', 400), (b'5;a="b\\"\r\n', 400),
    (b'5;a="b"c\r\n', 400), (b'5;a="b"c="d"\r\n', 400), (b'5;a=b"c"\r\n', 400), (b"5;a='b c'\r\n", 400),
    (b'5;a="\x01"\r\n', 400), (b'5;a="\\\x01"\r\n', 400), (b'5;a="\x7f"\r\n', 400), (b"0;\r\n", 400),
    (b"5 a=b\r\n", 400), (b"5;" + b"x" * (CHUNK_LINE_BYTES - 3) + b"\r\n", 400),
    (b"5;" + b"x" * CHUNK_LINE_BYTES, 400), (b"5" * (CHUNK_LINE_BYTES + 1), 400),
    # trailers
    (b"0\r\nX\r\n", 400), (b"0\r\n: a\r\n", 400), (b"0\r\nX : a\r\n", 400), (b"0\r\n X: a\r\n", 400),
    (b"0\r\nX: a\r\n b\r\n", 400), (b"0\r\nX: a\x00\r\n", 400), (b"0\r\nX: a\rb\r\n", 400), (b"0\r\nX: a\n", 400),
    (b"0\r\nX\xe9: a\r\n", 400), (b"0\r\nGET / HTTP/1.1\r\n", 400),
    (b"0\r\n" + b"X: y\r\n" * 101, 431), (b"0\r\nX: " + b"a" * 16384, 431),
    (b"0\r\n" + (b"X: " + b"a" * 995 + b"\r\n") * 17, 431),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), BAD_CHUNKS)
def test_chunks_in_any_doubt_are_refused_and_close(data: bytes, status: int) -> None:
    for pieces in ([data], bytewise(data), [data + b"0\r\n\r\n"]):
        decoder = ChunkedDecoder(MAX_BODY_BYTES, LIMITS)
        with pytest.raises(HTTPError) as caught:
            any(decoder.feed(piece) < 0 for piece in pieces)
        assert (caught.value.status, caught.value.close) == (status, True)
        assert not decoder.is_complete


@pytest.mark.parametrize("name", sorted(NO_TRAILERS))
def test_field_that_is_needed_before_the_body_is_no_trailer(name: str) -> None:
    for spelled in (name, name.title(), name.upper()):
        data = b"1\r\na\r\n0\r\nX: y\r\n" + spelled.encode() + b": 1\r\n"
        for pieces in ([data + b"\r\n"], bytewise(data)):
            decoder = ChunkedDecoder(MAX_BODY_BYTES, LIMITS)
            with pytest.raises(HTTPError, match=name) as caught:
                any(decoder.feed(piece) < 0 for piece in pieces)
            assert (caught.value.status, caught.value.close) == (400, True)
            assert not decoder.is_complete


def test_the_body_limit_counts_all_chunks_and_holds_exactly() -> None:
    assert decode(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", max_bytes=5) == (b"abcde", b"")
    with pytest.raises(HTTPError) as caught:
        decode(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", max_bytes=5)
    assert caught.value.status == 413


def test_a_chunk_that_is_too_large_is_refused_before_it_comes() -> None:
    with pytest.raises(HTTPError) as caught:
        decode(b"6\r\n", max_bytes=5)
    assert caught.value.status == 413


@pytest.mark.parametrize("more", [b"x", b"\rx", b"abc"])
def test_a_chunk_longer_than_its_size_is_refused_before_a_line_ends(more: bytes) -> None:
    decoder = ChunkedDecoder(100, Limits())
    with pytest.raises(HTTPError, match=r"^400: A chunk is longer than its size says\.$"):
        decoder.feed(b"2\r\nok" + more)


def test_chunk_sizes_and_extensions_are_bounded_as_the_data_is() -> None:
    """What a chunk costs does not depend on how little is in it."""
    for chunk in (b"1\r\na\r\n", b"1;" + b"x" * 200 + b"\r\na\r\n"):
        decoder = ChunkedDecoder(20_000, LIMITS)
        decoder.feed(chunk * (20_000 // (len(chunk) - 1)))
        with pytest.raises(HTTPError) as caught:
            decoder.feed(chunk)
        assert (caught.value.status, caught.value.close) == (413, True)
    data = b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"
    assert decode(data, max_bytes=1000) == (b"a" * 1000, b"")  # what is small may come in any chunks


def test_an_endless_line_is_not_collected() -> None:
    decoder = ChunkedDecoder(MAX_BODY_BYTES, LIMITS)
    fed = 0
    with pytest.raises(HTTPError):  # noqa: PT012 - how far it gets is the point
        for _ in range(CHUNK_LINE_BYTES + 1):
            decoder.feed(b"5")
            fed += 1
    assert fed == CHUNK_LINE_BYTES


@pytest.mark.parametrize("size", [1, 2, 7])
def test_a_body_in_tiny_pieces_takes_little_more_memory_than_its_size(size: int) -> None:
    count = (1 << 14) // size
    chunk = b"%x\r\n" % size + (b"ab" * size)[:size] + b"\r\n"
    decoders = LengthDecoder(count * size), ChunkedDecoder(MAX_BODY_BYTES, LIMITS)
    tracemalloc.start()
    try:
        for _ in range(count):
            decoders[0].feed(bytes(range(size)))
            decoders[1].feed(chunk)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(decoders[0].body) == len(decoders[1].body) == count * size
    assert held < 2 * 2 * count * size


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_body_of_no_more_than_its_limit_is_taken(size: int) -> None:
    decoder = body_decoder(size, 10, Limits())
    assert decoder.feed(b"x" * 20) == size
    assert decoder.is_complete


def test_a_body_that_announces_more_than_its_limit_is_413() -> None:
    with pytest.raises(HTTPError) as raised:
        body_decoder(11, 10, Limits())
    assert (raised.value.status, raised.value.close) == (413, True)
