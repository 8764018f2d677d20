"""Names and dates of a certificate, compared with a reader by other hands."""

from __future__ import annotations

import base64
import datetime
import random
from pathlib import Path

import pytest
from certificates import CA, dates_of, der_of
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fastws.tls.certificate import certificates_in, read_certificate


def pem_of(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def self_signed(
    not_before: datetime.datetime, not_after: datetime.datetime, *names: x509.GeneralName
) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "common.example")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return CA(tmp_path_factory.mktemp("ca"))


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_names_addresses_and_dates_are_those_that_another_reader_finds(ca: CA, kind: str) -> None:
    pair = ca.pair("Example.org", "*.example.org", "192.0.2.7", "2001:db8::1", kind=kind)
    found = read_certificate(Path(pair.certificate).read_bytes())
    assert set(found.names) == {"example.org", "*.example.org"}
    assert set(found.addresses) == {"192.0.2.7", "2001:db8::1"}
    assert (found.not_before, found.not_after) == dates_of(pair.certificate)


@pytest.mark.parametrize("year", [1950, 1999, 2000, 2049, 2050, 2051, 9999])
def test_years_are_spelled_with_two_digits_up_to_2049_and_with_four_after(year: int) -> None:
    end = datetime.datetime(year, 12, 31, 23, 59, 58, tzinfo=datetime.UTC)
    start = datetime.datetime(1950, 1, 1, tzinfo=datetime.UTC)
    found = read_certificate(self_signed(start, end))
    assert found.not_before == start.timestamp()
    assert found.not_after == end.timestamp()


def test_a_common_name_is_no_name() -> None:
    now = datetime.datetime.now(datetime.UTC)
    assert read_certificate(self_signed(now, now)).names == ()


def test_other_kinds_of_names_and_a_critical_extension_do_not_disturb() -> None:
    now = datetime.datetime.now(datetime.UTC)
    names = x509.RFC822Name("a@example.org"), x509.DNSName("x.example"), x509.UniformResourceIdentifier("a:b")
    assert read_certificate(self_signed(now, now, *names)).names == ("x.example",)


def test_the_first_certificate_of_a_chain_counts_and_text_around_it_does_not(ca: CA) -> None:
    first, second = ca.pair("a.example"), ca.pair("b.example")
    pem = b"Subject: CN=x\n" + Path(first.certificate).read_bytes() + Path(second.certificate).read_bytes()
    assert len(certificates_in(pem)) == 2
    assert certificates_in(pem)[0] == der_of(first.certificate)
    assert read_certificate(pem.replace(b"\n", b"\r\n")).names == ("a.example",)


@pytest.mark.parametrize(
    "text", [b"", b"nothing", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_text_without_a_certificate_is_said_to_be_that(text: bytes) -> None:
    with pytest.raises(ValueError, match="no certificate in PEM"):
        read_certificate(text)


def test_every_cut_and_every_changed_byte_is_read_or_refused(ca: CA) -> None:
    der = der_of(ca.pair("a.example").certificate)
    rng = random.Random(1)
    cases = [der[:length] for length in range(len(der))]
    for _ in range(2000):
        changed = bytearray(der)
        changed[rng.randrange(len(der))] = rng.randrange(256)
        cases.append(bytes(changed))
    assert sum(map(is_refused, cases)) >= len(der)


def is_refused(der: bytes) -> bool:
    try:
        read_certificate(pem_of(der))
    except ValueError as error:
        return "certificate" in str(error)
    return False
