"""Whom a request is from, by what trusted proxies say; and that the compiled loop reads the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws import backend
from fastws.http.errors import HTTPError
from fastws.http.forwarded import (
    ANY,
    UNKNOWN,
    Proxies,
    canonical,
    is_loopback,
    new_request_id,
    request_id_of,
    sender_of,
    without_forged,
)

NETWORKS = ("10.0.0.0/8", "192.0.2.1/32", "2001:db8:1::/48", "unix")
PROXIES = Proxies(NETWORKS)
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("peer", "is_one"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8:1:ffff::1", True),
        ("2001:db8:2::1", False),
        ("::ffff:10.0.0.1", True),
        ("::10.0.0.1", False),
        ("unix:", True),
        ("unknown", False),
        ("", False),
        ("_hidden", False),
    ],
)
def test_proxies_are_those_in_the_networks(peer: str, is_one: bool) -> None:
    assert PROXIES.has(peer) is is_one


def test_no_address_is_a_proxy_where_none_is_named() -> None:
    assert not Proxies()
    assert not Proxies().has("127.0.0.1")
    assert not Proxies().has("unix:")
    assert Proxies(["unix"])
    assert not Proxies(["unix"]).has("127.0.0.1")
    assert Proxies(["::/0"]).has("10.0.0.1")


@pytest.mark.parametrize("text", ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_addresses_are_known(text: str) -> None:
    assert is_loopback(text)


@pytest.mark.parametrize(
    "text", ["126.255.255.255", "128.0.0.0", "::2", "::", "::127.0.0.1", "unix:", "", "unknown"]
)
def test_other_addresses_are_not_loopback(text: str) -> None:
    assert not is_loopback(text)


LISTS = {
    "198.51.100.7": "198.51.100.7",
    "203.0.113.9, 198.51.100.7": "198.51.100.7",
    "203.0.113.9, 198.51.100.7, 10.1.1.1": "198.51.100.7",
    "203.0.113.9 ,198.51.100.7,\t10.1.1.1 ,, 192.0.2.1": "198.51.100.7",
    "10.1.1.1, 10.2.2.2": "10.1.1.1",
    "198.51.100.7:4711": "198.51.100.7",
    "[2001:DB8::7]:4711": "2001:db8::7",
    "[2001:db8::7]": "2001:db8::7",
    "2001:db8:0:0::7": "2001:db8::7",
    "2001:db8:1::5, 2001:db8:1::1": "2001:db8:1::5",
    "::ffff:198.51.100.7": "198.51.100.7",
    "unknown": UNKNOWN,
    "198.51.100.7, unknown": UNKNOWN,
    "198.51.100.7, <script>": UNKNOWN,
    "198.51.100.7, 10.0.0.256": UNKNOWN,
    "198.51.100.7, 10.0.0.1:port": UNKNOWN,
    "198.51.100.7, [10.0.0.1]": UNKNOWN,
    "198.51.100.7, 2001:db8::1%eth0": UNKNOWN,
    "_hidden": "_hidden",
    "_" + "x" * 44: "_" + "x" * 44,
    "_" + "x" * 45: UNKNOWN,
    " , ": UNKNOWN,
}
"""X-Forwarded-For, and the client."""


@pytest.mark.parametrize("value", LISTS, ids=repr)
def test_client_is_the_last_that_is_no_trusted_proxy(value: str) -> None:
    assert sender_of({"x-forwarded-for": value}, PROXY, PROXIES).peer == LISTS[value]


ELEMENTS = {
    "for=198.51.100.7": ("198.51.100.7", ""),
    'For="[2001:db8::7]:4711";Proto=HTTPS;by=203.0.113.60': ("2001:db8::7", "https"),
    'for="198.51.100.7:4711"': ("198.51.100.7", ""),
    "for=203.0.113.9;proto=https, for=198.51.100.7;proto=http": ("198.51.100.7", "http"),
    "for=198.51.100.7;proto=https,for=10.0.0.2;proto=http": ("198.51.100.7", "https"),
    "for=10.1.1.1;proto=https, for=10.0.0.2;proto=http": ("10.1.1.1", "https"),
    "for=unknown;proto=https": (UNKNOWN, "https"),
    'for="_gazonk"': ("_gazonk", ""),
    'for="_gazonk:_port"': ("_gazonk", ""),
    "proto=https": (UNKNOWN, "https"),
    "for=198.51.100.7;proto=gopher": ("198.51.100.7", ""),
    r'for="198.51\.100.7"': ("198.51.100.7", ""),
    'host="a, b; for=1.2.3.4";for=198.51.100.7': ("198.51.100.7", ""),
    ", for=198.51.100.7 ; proto=https ,": ("198.51.100.7", "https"),
    'for=""': (UNKNOWN, ""),
    ",": (UNKNOWN, ""),
}
"""Forwarded, and the client and the scheme."""


@pytest.mark.parametrize("value", ELEMENTS, ids=repr)
def test_forwarded_names_client_and_scheme(value: str) -> None:
    assert sender_of({"forwarded": value}, PROXY, PROXIES)[:2] == ELEMENTS[value]


@pytest.mark.parametrize(
    "value",
    [
        'for="1.2.3.4, for=198.51.100.7',  # what a client may send to swallow what a proxy adds
        'for="1.2.3.4, for="[2001:db8::7]"',
        "for=1.2.3.4;for=198.51.100.7",
        "for",
        "for=",
        "=x",
        "for=[2001:db8::7]",
        "for=198.51.100.7 proto=https",
        'for="a\\',
        "for=\xe4",
    ],
)
def test_malformed_forwarded_is_400(value: str) -> None:
    with pytest.raises(HTTPError, match="malformed") as raised:
        sender_of({"forwarded": value}, PROXY, PROXIES)
    assert raised.value.status == 400


SCHEMES = {
    "https": "https",
    "HTTP": "http",
    "http, https": "https",
    "https,http": "http",
    "": "",
    "wss": "",
    "x": "",
}


@pytest.mark.parametrize("value", SCHEMES)
def test_scheme_is_the_last_of_x_forwarded_proto(value: str) -> None:
    assert sender_of({"x-forwarded-proto": value}, PROXY, PROXIES) == (PROXY, SCHEMES[value], "")


def test_x_real_ip_names_the_client_where_nothing_else_does() -> None:
    fields = {"x-real-ip": " 198.51.100.7"}
    assert sender_of(fields, PROXY, PROXIES).peer == "198.51.100.7"
    assert sender_of({"x-real-ip": "1.2.3.4, 5.6.7.8"}, PROXY, PROXIES).peer == UNKNOWN


def test_x_real_ip_may_be_a_proxy_in_the_chain() -> None:
    fields = {"x-real-ip": "10.1.1.1"}
    assert (
        sender_of(fields | {"x-forwarded-for": "203.0.113.9, 10.1.1.1"}, PROXY, PROXIES).peer == "203.0.113.9"
    )
    assert sender_of(fields | {"forwarded": "for=203.0.113.9"}, PROXY, PROXIES).peer == "203.0.113.9"
    assert sender_of(fields, PROXY, PROXIES).peer == "10.1.1.1"


def test_proxy_that_says_nothing_is_the_client_itself() -> None:
    assert sender_of({}, PROXY, PROXIES) == (PROXY, "", "")


@pytest.mark.parametrize(
    "fields",
    [
        {"forwarded": "for=203.0.113.9", "x-forwarded-for": "198.51.100.7"},
        {"forwarded": "for=198.51.100.7;proto=http", "x-forwarded-proto": "https"},
        {"forwarded": "for=unknown", "x-forwarded-for": "198.51.100.7"},
        {
            "x-real-ip": "198.51.100.7",
            "x-forwarded-for": "203.0.113.9",
        },  # of which a client may have sent either
        {"x-real-ip": "198.51.100.7", "x-forwarded-for": "198.51.100.7, 203.0.113.9"},
        {"x-real-ip": "nonsense", "x-forwarded-for": "198.51.100.7"},
    ],
)
def test_contradiction_is_400(fields: dict[str, str]) -> None:
    with pytest.raises(HTTPError, match="ClientHeader") as raised:
        sender_of(fields, PROXY, PROXIES)
    assert raised.value.status == 400


def test_fields_that_agree_are_believed() -> None:
    fields = {
        "forwarded": 'for="198.51.100.7:1";proto=https',
        "x-forwarded-for": "203.0.113.9, 198.51.100.7",
        "x-forwarded-proto": "https",
        "x-real-ip": "198.51.100.7",
    }
    assert sender_of(fields, PROXY, PROXIES) == ("198.51.100.7", "https", "")


ALL = {
    "forwarded": "for=203.0.113.1;proto=http",
    "x-forwarded-for": "203.0.113.2",
    "x-forwarded-proto": "https",
    "x-real-ip": "203.0.113.3",
}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Forwarded", ("203.0.113.1", "http")),
        ("X-Forwarded-For", ("203.0.113.2", "https")),
        ("X-Real-IP", ("203.0.113.3", "https")),
    ],
)
def test_only_the_chosen_field_is_read(header: str, expected: tuple[str, str]) -> None:
    assert sender_of(ALL, PROXY, PROXIES, header)[:2] == expected
    malformed = ALL | dict.fromkeys(ALL.keys() - {header.lower(), "x-forwarded-proto"}, '"')
    assert sender_of(malformed, PROXY, PROXIES, header)[:2] == expected


def test_fields_that_are_not_believed_are_taken_out() -> None:
    fields = ALL | {"x-forwarded-host": "a", "true-client-ip": "b", "x-forwarded": "c", "accept": "d"}
    assert without_forged(fields, ANY) is fields
    assert without_forged(fields, None) == {"x-forwarded": "c", "accept": "d"}
    assert without_forged(fields, "X-Forwarded-For").keys() == fields.keys() - {"forwarded", "x-real-ip"}
    assert without_forged(fields, "X-Real-IP").keys() == fields.keys() - {"forwarded", "x-forwarded-for"}
    kept = without_forged(fields, "Forwarded").keys()
    assert kept == {"forwarded", "true-client-ip", "x-forwarded", "accept"}
    plain = {"accept": "d"}
    assert without_forged(plain, None) is plain


@pytest.mark.parametrize("given", ["a", "x" * 128, "0af7651916cd43dd8448eb211c80319c", "!#[]~"])
def test_name_of_a_request_is_that_of_a_trusted_proxy(given: str) -> None:
    assert request_id_of({"x-request-id": given}, is_trusted=True) == given
    assert request_id_of({"x-request-id": given}, is_trusted=False) != given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", 'a"b', "a\\b", "\xe4", "a, b"])
def test_other_names_of_a_request_are_replaced(given: str) -> None:
    made = request_id_of({"x-request-id": given}, is_trusted=True)
    assert len(made) == 32
    assert int(made, 16)
    assert made != new_request_id()


# The compiled loop reads a part of it, and that part alike

NODES = st.one_of(
    st.sampled_from(
        ["10.0.0.1", "192.0.2.1", "198.51.100.7", "2001:db8:1::1", "2001:DB8::7", "::ffff:10.0.0.9"]
    ),
    st.sampled_from(
        ["[2001:db8::7]", "[2001:db8:1::1]:80", "198.51.100.7:1", "10.0.0.1:99999", "unknown", "_x", ""]
    ),
    st.text("0123456789abcdef.:[]_ \t%", max_size=20),
)
PAIRS = st.one_of(
    st.builds('for="{}"'.format, NODES),
    st.builds("for={}".format, NODES),
    st.sampled_from(
        ["proto=https", "proto=http", "by=x", 'host="a,b;c"', "FOR=10.0.0.1", "x=y", 'by="', "", r'for="\1"']
    ),
)
FORWARDED = st.lists(st.lists(PAIRS, max_size=4).map(";".join), max_size=4).map(", ".join)
FIELDS = st.dictionaries(
    st.sampled_from(["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"]), st.text("ab")
).flatmap(
    lambda chosen: st.fixed_dictionaries(
        {
            name: {
                "forwarded": FORWARDED,
                "x-forwarded-for": st.lists(NODES, max_size=4).map(", ".join),
                "x-forwarded-proto": st.sampled_from(["https", "http", "x"]),
                "x-real-ip": NODES,
            }[name]
            for name in chosen
        }
    )
)


@given(FIELDS, st.sampled_from([ANY, "Forwarded", "X-Forwarded-For", "X-Real-IP"]))
def test_loop_names_the_same_client_or_leaves_it_to_python(fields: dict[str, str], header: str) -> None:
    if backend.load().reactor.side != "compiled":
        pytest.skip("the compiled side was left out on purpose")
    from fastws.hot.senders import name_client

    lines = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
    found = name_client(f"GET / HTTP/1.1\r\n{lines}\r\n".encode("latin-1"), NETWORKS, header)
    if found is None:
        return
    fields = {name: value.strip(" \t") for name, value in fields.items()}
    assert (found or PROXY) == sender_of(fields, PROXY, PROXIES, header).peer


@pytest.mark.parametrize(
    "value",
    [
        "for=198.51.100.7",
        'For="[2001:db8::7]:4711";Proto=HTTPS;by=203.0.113.60',
        "for=203.0.113.9;proto=https, for=198.51.100.7;proto=http",
        "for=198.51.100.7;proto=https,for=10.0.0.2;host=a",
    ],
)
def test_loop_reads_plain_elements(value: str) -> None:
    if backend.load().reactor.side != "compiled":
        pytest.skip("the compiled side was left out on purpose")
    from fastws.hot.senders import name_client

    head = f"GET / HTTP/1.1\r\nForwarded: {value}\r\n\r\n".encode()
    assert name_client(head, NETWORKS, ANY) == ELEMENTS.get(value, ("198.51.100.7",))[0]


@pytest.mark.parametrize("value", LISTS)
def test_loop_reads_plain_lists(value: str) -> None:
    if backend.load().reactor.side != "compiled":
        pytest.skip("the compiled side was left out on purpose")
    from fastws.hot.senders import name_client

    head = f"GET / HTTP/1.1\r\nX-Forwarded-For: {value}\r\n\r\n".encode()
    named = LISTS[value]
    assert name_client(head, NETWORKS, ANY) == (None if canonical(named) == UNKNOWN else named)
