"""Certificates for tests, made on the spot by an authority of their own, and handshakes in memory."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fastws import Server
from fastws.tls.settings import CertificatePair
from fastws.transport.listener import kind_of

KINDS = {"ecdsa": trustme.KeyType.ECDSA, "rsa": trustme.KeyType.RSA}


class CA:
    """An authority with the files of its certificates in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self._count = 0
        self.path = str(directory / "ca.pem")
        self._authority.cert_pem.write_to_path(self.path)

    def pair(
        self,
        *names: str,
        kind: str = "ecdsa",
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
    ) -> CertificatePair:
        """Make a certificate for ``names``, addresses among them; the key is readable by its owner alone."""
        self._count += 1
        made = self._authority.issue_cert(
            *names, key_type=KINDS[kind], not_before=not_before, not_after=not_after
        )
        certificate = self._directory / f"{self._count}.pem"
        key = self._directory / f"{self._count}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.touch(0o600)
        key.write_bytes(made.private_key_pem.bytes())
        return CertificatePair(str(certificate), str(key), tuple(name.lower() for name in names))

    def client(
        self, *, ciphers: str = "", maximum: int | None = None, check_hostname: bool = True
    ) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path)
        context.check_hostname = check_hostname
        if ciphers:
            context.set_ciphers(ciphers)
        if maximum is not None:
            context.maximum_version = ssl.TLSVersion(maximum)
        return context


def dates_of(path: str) -> tuple[float, float]:
    """Return from when to when the first certificate of a PEM file is valid, in seconds since the epoch."""
    found = x509.load_pem_x509_certificate(Path(path).read_bytes())
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def der_of(path: str) -> bytes:
    """Return the first certificate of a PEM file."""
    return x509.load_pem_x509_certificate(Path(path).read_bytes()).public_bytes(Encoding.DER)


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Carry out a handshake in memory and return the client's side of it; raises ``ssl.SSLError``."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = {ours, theirs}
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                continue
        if not waiting:
            return ours
    raise AssertionError("the handshake does not end")


def port_of(server: Server, kind: str) -> int:
    """Return the first port of ``server`` at which that is spoken: ``plain``, ``tls`` or ``redirect``."""
    for address, listener in server.listeners.by_address.items():
        if kind_of(server.config, address) == kind:
            return int(listener.getsockname()[1])
    raise AssertionError(f"{kind} is spoken nowhere")
