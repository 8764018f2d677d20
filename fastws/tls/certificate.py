"""The first certificate of a PEM file: for which names and from when to when it is valid.

Python's ``ssl`` tells that of the other side's certificate alone, after a handshake that verified it: nothing of
one that has expired or whose key is missing. DER has one spelling for each value (X.690 section 10), and of RFC
5280's structure five fields are needed, so they are read here. Signatures, key and chain are left to OpenSSL,
which loads the same file.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from ..language.named_tuple import NamedTuple

_LABEL = rb"(?:X509 |TRUSTED )?CERTIFICATE-----"
_PEM = rb"-----BEGIN " + _LABEL + rb"([A-Za-z0-9+/=\s]+)-----END " + _LABEL

_OID, _SEQUENCE = 0x06, 0x30
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # of a TBSCertificate, RFC 5280 section 4.1
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87  # of a GeneralName, section 4.2.1.6
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")


class Certificate(NamedTuple):
    """What one certificate says of itself. Times are seconds since the epoch.

    ``names`` are the DNS names of subjectAltName in lower case, ``addresses`` the IP addresses there as text. A
    common name is none of them: clients have ignored it for years (RFC 9525 section 2).
    """

    names: tuple[str, ...]
    addresses: tuple[str, ...]
    not_before: float
    not_after: float


def certificates_in(pem: bytes) -> list[bytes]:
    """Return the certificates (DER) of a PEM file in their order; raises ``ValueError`` where text is broken."""
    return [binascii.a2b_base64(body) for body in re.findall(_PEM, pem)]


def read_certificate(pem: bytes) -> Certificate:
    """Return what the first certificate of a PEM file says; raises ``ValueError`` if there is none."""
    found = certificates_in(pem)
    if not found:
        raise ValueError("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
    try:
        return _read_der(found[0])
    except (IndexError, ValueError, UnicodeDecodeError):
        raise ValueError("holds a certificate that is damaged") from None


def _read_der(der: bytes) -> Certificate:
    """Walk through Certificate and TBSCertificate: version, serial, algorithm, issuer, validity, …, extensions."""
    members = list(_values(_first(_first(der, _SEQUENCE), _SEQUENCE)))
    if members[0][0] == _VERSION:
        del members[0]
    not_before, not_after = (_seconds(*time) for time in _values(members[3][1]))
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    for tag, extensions in members[4:]:
        if tag == _EXTENSIONS:
            names, addresses = _alternative_names(extensions)
    return Certificate(names, addresses, not_before, not_after)


def _alternative_names(extensions: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for _, extension in _values(_first(extensions, _SEQUENCE)):
        parts = list(_values(extension))  # extnID, perhaps critical, extnValue
        if parts[0] == (_OID, _SUBJECT_ALT_NAME):
            names = list(_values(_first(parts[-1][1], _SEQUENCE)))
            return (
                tuple([value.decode("ascii").lower() for tag, value in names if tag == _DNS_NAME]),
                tuple([_address(value) for tag, value in names if tag == _IP_ADDRESS]),
            )
    return (), ()


def _first(data: bytes, tag: int) -> bytes:
    """Return the content of the first value in ``data``; raises ``ValueError`` if its tag is another one."""
    for found, content in _values(data):
        if found == tag:
            return content
        break
    raise ValueError("another value than expected")


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each value in ``data``; raises ``IndexError`` or ``ValueError`` if it is cut."""
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4:
                raise ValueError("no length of DER")
            length = int.from_bytes(data[position : position + count], "big")
            position += count
        if position + length > len(data):
            raise ValueError("a value is cut")
        yield tag, data[position : position + length]
        position += length


def _seconds(tag: int, text: bytes) -> float:
    """The time that RFC 5280 section 4.1.2.5 spells with two digits for years before 2050, and with four after."""
    import calendar  # only where TLS is configured

    digits = text.decode("ascii")
    if tag == _UTC_TIME:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    elif tag != _GENERALIZED_TIME:
        raise ValueError("no time")
    if not re.fullmatch(r"[0-9]{14}Z", digits):
        raise ValueError("no time in UTC with seconds")
    parts = [int(digits[:4]), *[int(digits[i : i + 2]) for i in range(4, 14, 2)]]
    return float(calendar.timegm((parts[0], parts[1], parts[2], parts[3], parts[4], parts[5])))


def _address(packed: bytes) -> str:
    import ipaddress

    return str(ipaddress.ip_address(packed))
