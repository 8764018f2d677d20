"""A certificate for this machine alone, made on the spot and kept, so that a browser has to be convinced once.

It is signed by an authority whose key is thrown away at once: trusting it, one trusts nothing else.
"""

from __future__ import annotations

import datetime
import os
import socket
import tempfile
import time
from collections.abc import Iterable

from .certificate import read_certificate
from .pairs import WARN_S, problem_of, read_pair
from .settings import CertificatePair

NAMES = ("localhost", "127.0.0.1", "::1")

VALID_S = 397 * 86400.0
"""What browsers take at most from authorities that everybody trusts; Apple's devices take 825 days of others."""

MOST_NAMES = 64
"""Of one certificate, so that it stays small on a machine that has seen many networks."""

MISSING = (
    "a certificate for this machine is made by the package trustme: pip install 'fastws-server[tls]'."
    " Files that are there already, such as those of mkcert, are named by --tls-cert and --tls-key"
)


class MissingMakerError(Exception):
    """The package that makes certificates is not installed; the text says what to do."""


def localhost_pair(
    directory: str, addresses: Iterable[str] = (), *, is_exposed: bool = False
) -> CertificatePair:
    """Return the pair that ``directory`` keeps for this machine's names and ``addresses``, made if need be.

    One that is there is used as long as it does not expire soon and is for all of them, or where the server is not
    ``is_exposed`` to others, for the names of the loopback interface. A new one has those of the old one too: a
    machine that moves between networks keeps it. Raises ``MissingMakerError``, and ``OSError`` if the directory
    cannot be written.
    """
    certificate = os.path.join(directory, "localhost.pem")
    key = os.path.join(directory, "localhost.key")
    names = list(dict.fromkeys((*NAMES, *_host_names(), *addresses)))
    kept = _kept(certificate, key)
    if kept is None or not set(names if is_exposed else NAMES) <= set(kept):
        _make(directory, certificate, key, list(dict.fromkeys((*names, *(kept or ()))))[:MOST_NAMES])
    return read_pair(certificate, key)


def _host_names() -> tuple[str, ...]:
    """Return the names by which a network may know this machine: its own, and that of multicast DNS."""
    name = socket.gethostname().partition(".")[0].lower()
    is_plain = name.isascii() and name.replace("-", "").isalnum() and len(name) <= 63
    return (name, f"{name}.local") if is_plain and name not in NAMES else ()


def _kept(certificate: str, key: str) -> tuple[str, ...] | None:
    """Return the names and addresses of the pair that is there; None without one that is good for a while."""
    if problem_of(certificate, key, time.time() + WARN_S):
        return None
    with open(certificate, "rb") as file:
        found = read_certificate(file.read())
    return (*found.names, *found.addresses)


def _make(directory: str, certificate: str, key: str, names: list[str]) -> None:
    try:
        import trustme
    except ImportError:
        raise MissingMakerError(MISSING) from None
    now = datetime.datetime.now(datetime.UTC)
    authority = trustme.CA(organization_name="fastws", organization_unit_name=socket.gethostname())
    made = authority.issue_cert(
        *names,
        not_before=now - datetime.timedelta(days=1),  # clocks differ
        not_after=now + datetime.timedelta(seconds=VALID_S),
        key_type=trustme.KeyType.ECDSA,
    )
    # With the authority in the file it is all that a client needs to be given.
    chain = b"".join([*[blob.bytes() for blob in made.cert_chain_pems], authority.cert_pem.bytes()])
    os.makedirs(directory, mode=0o700, exist_ok=True)
    _write(key, made.private_key_pem.bytes())
    _write(certificate, chain)


def _write(path: str, data: bytes) -> None:
    """Put a file that only its owner can read in the place of ``path``, at once."""
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path))  # mode 0600
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
