"""Which pair a name gets, and the contexts of the standard library, in memory."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from certificates import CA, shake_hands

from fastws.tls.settings import (
    CIPHERS,
    CIPHERSUITES,
    SUITE_NAMES,
    TLS_1_2,
    TLS_1_3,
    CertificatePair,
    TLSSettings,
    choose,
    choosing_context,
    companions,
    server_context,
)


def pair(*names: str) -> CertificatePair:
    return CertificatePair(names[0] if names else "none", "key", names)


PAIRS = (
    pair("example.org", "www.example.org"),
    pair("*.example.org"),
    pair("shop.example.org"),
    pair("*.a.example.org"),
)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("example.org", 0),
        ("www.example.org", 0),
        ("WWW.Example.ORG", 0),
        ("www.example.org.", 0),
        ("other.example.org", 1),
        ("shop.example.org", 2),  # though a wildcard stands before it
        ("x.a.example.org", 3),
        ("a.example.org", 1),
        ("y.x.a.example.org", 0),  # a wildcard is one label
        ("elsewhere.example", 0),
        ("localhost", 0),
        ("*.example.org", 1),
        ("", 0),
        (None, 0),
    ],
)
def test_a_name_gets_the_pair_that_is_for_it_before_a_wildcard_before_the_first(
    name: str | None, index: int
) -> None:
    assert choose(PAIRS, name) == index


def test_pairs_that_are_for_all_names_of_another_stand_beside_it_and_the_first_is_loaded_last() -> None:
    a, b, c = pair("x"), pair("x", "y"), pair("x", "y", "z")
    pairs = (a, b, c, pair("y"))
    assert companions(pairs, a) == (c, b, a)
    assert companions(pairs, b) == (c, b)
    assert companions(pairs, c) == (c,)
    assert companions((pair(), pair()), pair()) == (pair(),)  # nothing is known of their names


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return CA(tmp_path_factory.mktemp("ca"))


def settings_of(*pairs: CertificatePair, **more: object) -> TLSSettings:
    return TLSSettings(pairs, **more)  # type: ignore[arg-type]


def test_the_client_gets_the_certificate_of_the_name_that_it_asks_for(ca: CA) -> None:
    context = choosing_context(settings_of(ca.pair("a.example"), ca.pair("b.example", "*.c.example")))
    for name, expected in (
        ("a.example", "a.example"),
        ("b.example", "b.example"),
        ("x.c.example", "b.example"),
    ):
        client = shake_hands(context, ca.client(), name)
        assert ("DNS", expected) in client.getpeercert()["subjectAltName"]
    client = shake_hands(context, ca.client(check_hostname=False), None)
    assert ("DNS", "a.example") in client.getpeercert()["subjectAltName"]


@pytest.mark.parametrize("order", [("ecdsa", "rsa"), ("rsa", "ecdsa")])
def test_one_name_has_an_ecdsa_and_an_rsa_certificate(ca: CA, order: tuple[str, str]) -> None:
    settings = settings_of(*[ca.pair("both.example", kind=kind) for kind in order])
    context = server_context(settings, settings.pairs[0])
    for authentication in ("ECDSA", "RSA"):
        only = ca.client(ciphers=f"ECDHE-{authentication}-AES128-GCM-SHA256", maximum=TLS_1_2)
        client = shake_hands(context, only, "both.example")
        assert client.cipher()[0] == f"ECDHE-{authentication}-AES128-GCM-SHA256"


def test_of_two_certificates_of_one_kind_the_first_is_sent(ca: CA) -> None:
    settings = settings_of(ca.pair("a.example"), ca.pair("a.example", "b.example"))
    client = shake_hands(choosing_context(settings), ca.client(), "a.example")
    assert client.getpeercert()["subjectAltName"] == (("DNS", "a.example"),)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_every_suite_of_the_list_is_accepted_and_no_other_one(ca: CA, kind: str) -> None:
    settings = settings_of(ca.pair("a.example", kind=kind))
    context = server_context(settings, settings.pairs[0])
    everything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    everything.set_ciphers("ALL:@SECLEVEL=0")
    accepted = set()
    for cipher in everything.get_ciphers():
        name = cipher["name"]
        version = TLS_1_3 if name.startswith("TLS_") else TLS_1_2
        client = ca.client(
            ciphers="DEFAULT" if version == TLS_1_3 else f"{name}:@SECLEVEL=0", maximum=version
        )
        client.minimum_version = ssl.TLSVersion(version)
        try:
            accepted.add(shake_hands(context, client, "a.example").cipher()[0])
        except ssl.SSLError:
            continue
    expected = {name for name in CIPHERS.split(":") if kind.upper() in name}
    assert {name for name in accepted if not name.startswith("TLS_")} == expected
    assert {name for name in accepted if name.startswith("TLS_")} <= set(CIPHERSUITES.split(":"))
    assert accepted <= SUITE_NAMES
    offered = {cipher["name"] for cipher in context.get_ciphers()}
    assert offered == SUITE_NAMES


def test_the_suites_of_tls_1_3_are_all_that_the_library_offers(ca: CA) -> None:
    settings = settings_of(ca.pair("a.example"))
    names = {each["name"] for each in server_context(settings, settings.pairs[0]).get_ciphers()}
    assert {name for name in names if name.startswith("TLS_")} == set(CIPHERSUITES.split(":"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("minimum", "maximum", "spoken"),
    [
        (TLS_1_2, TLS_1_3, ("TLSv1.2", "TLSv1.3")),
        (TLS_1_2, TLS_1_2, ("TLSv1.2",)),
        (TLS_1_3, TLS_1_3, ("TLSv1.3",)),
    ],
)
def test_only_the_versions_of_the_settings_are_spoken(
    ca: CA, minimum: int, maximum: int, spoken: tuple[str, ...]
) -> None:
    settings = settings_of(ca.pair("a.example"), minimum=minimum, maximum=maximum)
    context = server_context(settings, settings.pairs[0])
    found = []
    for version in ssl.TLSVersion:
        if version in (
            ssl.TLSVersion.MINIMUM_SUPPORTED,
            ssl.TLSVersion.MAXIMUM_SUPPORTED,
            ssl.TLSVersion.SSLv3,
        ):
            continue
        client = ca.client(ciphers="ALL:@SECLEVEL=0", maximum=version)
        client.minimum_version = version
        try:
            found.append(shake_hands(context, client, "a.example").version())
        except ssl.SSLError:
            continue
    assert tuple(found) == spoken


def test_http_1_1_is_chosen_by_name_and_other_protocols_are_not(ca: CA) -> None:
    settings = settings_of(ca.pair("a.example"))
    context = server_context(settings, settings.pairs[0])
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)):
        client = ca.client()
        if offered:
            client.set_alpn_protocols(offered)
        assert shake_hands(context, client, "a.example").selected_alpn_protocol() == chosen


def test_a_client_needs_a_certificate_of_the_authority_where_one_is_named(ca: CA, tmp_path: Path) -> None:
    settings = settings_of(ca.pair("a.example"), client_ca=ca.path, maximum=TLS_1_2)
    context = server_context(settings, settings.pairs[0])
    with pytest.raises(ssl.SSLError):
        shake_hands(context, ca.client(), "a.example")
    client = ca.client()
    own = ca.pair("client.example")
    client.load_cert_chain(own.certificate, own.key)
    assert shake_hands(context, client, "a.example").version() == "TLSv1.2"
    stranger = CA(tmp_path)
    other = stranger.pair("client.example")
    client = ca.client()
    client.load_cert_chain(other.certificate, other.key)
    with pytest.raises(ssl.SSLError):
        shake_hands(context, client, "a.example")


def test_nothing_is_compressed_and_nothing_renegotiated(ca: CA) -> None:
    settings = settings_of(ca.pair("a.example"))
    context = server_context(settings, settings.pairs[0])
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert shake_hands(context, ca.client(), "a.example").compression() is None
