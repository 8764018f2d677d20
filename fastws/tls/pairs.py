"""Pairs of certificate and key on the disk: what is wrong with one, when it expires, that it has changed."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterable

from ..language.named_tuple import NamedTuple
from .certificate import Certificate, read_certificate
from .settings import TICKET_KEY_BYTES, CertificatePair, TLSSettings, server_context

WARN_S = 14 * 86400.0
"""How long before its end a certificate is warned of. certbot and lego renew theirs 30 days before it."""

DAY_S = 86400.0

LARGEST_BYTES = 1 << 20
"""A file beyond this is no certificate."""


class Expiry(NamedTuple):
    """When the certificate at ``path`` expires, in seconds since the epoch."""

    path: str
    names: tuple[str, ...]
    not_after: float


def read_pair(certificate: str, key: str) -> CertificatePair:
    """Return the pair of these files with the certificate's names; raises ``ValueError`` if it cannot be read."""
    try:
        found = read_certificate(_read(certificate))
    except ValueError as error:
        raise ValueError(f"{certificate!r} {error}") from None
    return CertificatePair(certificate, key, found.names)


def expiry_of(pair: CertificatePair) -> Expiry:
    """Return when the pair's certificate expires; raises ``ValueError`` if it cannot be read."""
    return Expiry(pair.certificate, pair.names, read_certificate(_read(pair.certificate)).not_after)


def addresses_of(pair: CertificatePair) -> tuple[str, ...]:
    """Return the IP addresses that the pair's certificate is for; none if it cannot be read."""
    try:
        return read_certificate(_read(pair.certificate)).addresses
    except ValueError:
        return ()


def problem_of(certificate: str, key: str, now: float | None = None) -> str:
    """Return what keeps these two files from being served, or ''. ``now`` is in seconds since the epoch."""
    try:
        found = read_certificate(_read(certificate))
    except ValueError as error:
        return f"{certificate!r} {error}"
    return (
        _validity_problem(certificate, found, time.time() if now is None else now)
        or _key_problem(key)
        or _match_problem(certificate, key)
    )


def _read(path: str) -> bytes:
    """Return the bytes of a file; raises ``ValueError`` that says why it cannot be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_BYTES:
        raise ValueError("holds more than 1 MiB and is no certificate or key in PEM")
    return data


def _validity_problem(path: str, found: Certificate, now: float) -> str:
    if found.not_after <= now:
        return f"{path!r} expired on {day(found.not_after)}"
    if found.not_before > now:
        return f"{path!r} is not valid before {day(found.not_before)}; the clock of this machine may be wrong"
    return ""


def _key_problem(path: str) -> str:
    try:
        data = _read(path)
    except ValueError as error:
        return f"{path!r} {error}"
    if b"-----BEGIN" not in data or b"PRIVATE KEY-----" not in data:
        return f"{path!r} holds no private key in PEM (-----BEGIN PRIVATE KEY-----)"
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data or b"Proc-Type: 4,ENCRYPTED" in data:
        return f"{path!r} is encrypted; a key without a password is needed: openssl pkey -in FILE -out FILE"
    return _exposure_problem(path)


def _exposure_problem(path: str) -> str:
    # The rule of ssh and PostgreSQL; a group may read, as Debian's ssl-cert does.
    if sys.platform != "win32" and os.stat(path).st_mode & stat.S_IROTH:
        return f"{path!r} can be read by every account of this machine; chmod o= FILE"
    return ""


_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key that does not belong to the certificate, or is of another kind."""


def _match_problem(certificate: str, key: str) -> str:
    """Return what OpenSSL has against the two together, which is what will load them."""
    pair = CertificatePair(certificate, key)
    try:
        server_context(TLSSettings((pair,)), pair)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        if reason in _MISMATCHES:
            return f"{key!r} is not the key of {certificate!r}"
        said = str(reason).replace("_", " ").lower()
        return f"{certificate!r} and {key!r} cannot be used: OpenSSL says {said}"
    except ValueError as error:
        return f"{key!r} cannot be used: {error}"
    return ""


def authority_problem(path: str) -> str:
    """Return what keeps a file of authorities from being used, or ''."""
    try:
        read_certificate(_read(path))
    except ValueError as error:
        return f"{path!r} {error}"
    return ""


def ticket_key_problem(path: str) -> str:
    """Return what keeps a file from being the key of session tickets, or ''."""
    try:
        length = len(_read(path))
    except ValueError as error:
        return f"{path!r} {error}"
    if length != TICKET_KEY_BYTES:
        return f"{path!r} holds {length} bytes; {TICKET_KEY_BYTES} are needed: openssl rand -out FILE 80"
    return _exposure_problem(path)


def read_ticket_key(path: str) -> bytes:
    """Return the key of session tickets; raises ``ValueError`` if it cannot be read."""
    return _read(path)


def expiry_warning(expiry: Expiry, now: float) -> str:
    """Return what is to be said of a certificate that expires within ``WARN_S``, else ''."""
    left = expiry.not_after - now
    if left > WARN_S:
        return ""
    if left <= 0:
        return f"the certificate {expiry.path!r} has expired on {day(expiry.not_after)}"
    days = int(left // DAY_S)
    shown = "1 day" if days == 1 else f"{days} days" if days else "less than a day"
    return f"the certificate {expiry.path!r} expires in {shown}, on {day(expiry.not_after)}"


def day(seconds: float) -> str:
    """Return the day and time of a moment, in UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


State = tuple[tuple[int, ...], ...]
"""The identity of each file of some pairs, as it was at one moment."""


def state_of(paths: Iterable[str]) -> State:
    """Return the state of these files, links followed: a swapped link is a change as much as a written file."""
    return tuple(map(_identity, paths))


def _identity(path: str) -> tuple[int, ...]:
    try:
        info = os.stat(path)
    except OSError as error:
        return (-(error.errno or 1),)
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
