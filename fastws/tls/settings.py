"""What TLS is configured to do, for both sides: the pairs, the versions, the suites, and which pair a name gets.

Module ``ssl`` takes 10 ms and 4 MB: it is imported by the functions that make a context, and by nothing before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..language.named_tuple import NamedTuple

if TYPE_CHECKING:
    import ssl

TLS_1_2, TLS_1_3 = 0x0303, 0x0304
"""Versions as they stand in records: RFC 5246 and RFC 8446."""

ALPN = ("http/1.1",)
"""The protocols that a client may ask for by name, RFC 7301."""

# Mozilla's "intermediate" configuration, whose every suite has forward secrecy and authenticated encryption. Like
# its present edition it has no DHE: that key exchange costs a server seven times as much, which is an attack.
CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
"""The suites of TLS 1.2, as OpenSSL names them. The client's order decides: it knows its processor."""

CIPHERSUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""The suites of TLS 1.3. They are all that OpenSSL offers by default, which Python's ``ssl`` cannot change."""

GROUPS = "X25519:prime256v1:secp384r1"
"""The groups of the key exchange. Python's ``ssl`` can name one or leave OpenSSL's; the pure side leaves them."""

HYBRID_GROUP = "X25519MLKEM768"
"""The group that goes before ``GROUPS`` where OpenSSL has it (3.5), safe from quantum computers too."""

SUITE_NAMES = frozenset((*CIPHERS.split(":"), *CIPHERSUITES.split(":")))


class CertificatePair(NamedTuple):
    """A certificate with its chain, and its private key: paths of two PEM files.

    ``names`` are the DNS names that it is for, in lower case, ``*.example.org`` among them.
    """

    certificate: str
    key: str
    names: tuple[str, ...] = ()


class TLSSettings(NamedTuple):
    """How TLS is spoken on every listener that speaks it. The first of ``pairs`` is for clients that name none.

    ``minimum`` and ``maximum`` are versions such as ``TLS_1_2``. ``client_ca`` is a PEM file of authorities: every
    client must have a certificate of one of them. ``ticket_key`` holds the 80 bytes by which several servers take
    each other's session tickets; without it each start has a key of its own.
    """

    pairs: tuple[CertificatePair, ...]
    minimum: int = TLS_1_2
    maximum: int = TLS_1_3
    client_ca: str | None = None
    ticket_key: bytes | None = None


TICKET_KEY_BYTES = 80
"""As OpenSSL's own keys and nginx's: 16 bytes of name, 32 of HMAC key, 32 of AES key."""


def choose(pairs: Sequence[CertificatePair], server_name: str | None) -> int:
    """Return the index of the pair for the name that a client asks for (SNI, RFC 6066 section 3).

    The first that has the name itself goes before the first with a wildcard for it, RFC 9525 section 6.3: a whole
    first label. The pair 0 is for all other names, and for clients that name none.
    """
    if not server_name or len(pairs) == 1:
        return 0
    name = server_name.lower().rstrip(".")
    _, dot, domain = name.partition(".")
    for wanted in (name, f"*.{domain}" if dot else name):
        for index, pair in enumerate(pairs):
            if wanted in pair.names:
                return index
    return 0


def companions(pairs: Sequence[CertificatePair], pair: CertificatePair) -> tuple[CertificatePair, ...]:
    """Return the pairs of one context, ``pair`` last: those that are for all of its names too stand beside it.

    So a name may have an ECDSA and an RSA certificate, and the client decides. OpenSSL has room for one of each
    kind, the last that is loaded: of several of one kind, the first in the configuration.
    """
    others = [
        other for other in pairs if other is not pair and pair.names and set(pair.names) <= set(other.names)
    ]
    return (*reversed(others), pair)


def server_context(settings: TLSSettings, pair: CertificatePair) -> ssl.SSLContext:
    """Return the context of the standard library that serves with ``pair`` and its ``companions``.

    Raises ``OSError`` (``ssl.SSLError`` included) if a file cannot be read or is not what it should be.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion(settings.minimum)
    context.maximum_version = ssl.TLSVersion(settings.maximum)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(ALPN))
    for each in companions(settings.pairs, pair):
        context.load_cert_chain(each.certificate, each.key, _no_password)
    if settings.client_ca is not None:
        context.load_verify_locations(cafile=settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    """A key with a password is refused: asking for one, as OpenSSL does, would hold up the server's start."""
    raise ValueError("the key is encrypted")


def choosing_context(settings: TLSSettings) -> ssl.SSLContext:
    """Return the context of the first pair, which changes to that of another where a client's name asks for it.

    Raises ``OSError`` as ``server_context`` does.
    """
    pairs = settings.pairs
    contexts = [server_context(settings, pair) for pair in pairs]

    def change(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        index = choose(pairs, name)
        if index:
            connection.context = contexts[index]

    if len(pairs) > 1:
        contexts[0].sni_callback = change
    return contexts[0]
