"""TLS directives: parsed, looked at together with the files that they name, and made into ``TLSSettings``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..language.named_tuple import NamedTuple
from ..tls.settings import TLS_1_2, TLS_1_3, TLSSettings
from .endpoints import REDIRECT, TLS, Endpoint, activated_kinds
from .values import absolute, each, items_of

HTTPS_PORT = 8443
"""Without a configuration file and another port, as 8080 is for plain HTTP."""


class Https(NamedTuple):
    """What the command line says of TLS: paths of two files, or '' for a certificate that is made on the spot.

    ``addresses`` are those of this machine in its networks, which such a certificate is for too.
    """

    certificate: str = ""
    key: str = ""
    addresses: tuple[str, ...] = ()

    def pair(self, directory: str, *, is_exposed: bool) -> tuple[str, str]:
        """Return the paths of certificate and key, those made on the spot in ``directory``.

        Raises ``ValueError`` if there is none.
        """
        if self.certificate:
            return os.path.abspath(self.certificate), os.path.abspath(self.key or self.certificate)
        from ..tls.localhost import MissingMakerError, localhost_pair

        if not directory:
            raise ValueError("there is no place for a certificate, as this account has no home directory")
        try:
            found = localhost_pair(directory, self.addresses, is_exposed=is_exposed)
        except MissingMakerError as error:
            raise ValueError(str(error)) from None
        except OSError as error:
            raise ValueError(f"a certificate cannot be kept in {directory!r}: {error.strerror}") from None
        return found.certificate, found.key


VERSIONS = {"TLSv1.2": TLS_1_2, "TLSv1.3": TLS_1_3}

LONGEST_AGE_S = 10 * 366 * 86400
"""Of StrictTransportSecurity; a browser forgets nothing for that long."""

FILES = ("tls_certificates", "tls_client_ca", "tls_ticket_key")
"""The fields of ``Config`` that name files."""

FIELDS = ("listen", "listen_ports", *FILES)
"""The fields of ``Config`` that ``problems`` looks at."""


def parse_certificate(words: Sequence[str], base: str) -> tuple[tuple[str, str], ...]:
    """``certificate key``: absolute paths. What is in them is looked at when all lines are read."""
    return ((absolute(words[0], base), absolute(words[1], base)),)


def parse_versions(words: Sequence[str], base: str) -> tuple[str, ...]:
    """Versions of TLS, each at most once."""
    found = each(_version, items_of(words))
    return tuple(sorted(dict.fromkeys(found)))


def _version(text: str) -> str:
    wanted = text.lower().removeprefix("tls").removeprefix("v")
    for name in VERSIONS:
        if name.endswith(wanted) and len(wanted) == 3:
            return name
    raise ValueError(f"{text!r} is none of {', '.join(VERSIONS)}; older versions are broken and not spoken")


def problems(values: Mapping[str, Any], *, has_certificate: bool) -> Iterator[tuple[str, object, str]]:
    """Yield directive, the value in its line (None: any) and what is wrong, for the values of a whole draft.

    ``has_certificate`` tells that a certificate was given, rightly or wrongly.
    """
    kinds = {*[endpoint.kind for endpoint in values["listen"]], *activated_kinds()}
    if any(values[field] for field in FILES):
        yield from file_problems(values)
    if TLS in kinds and not has_certificate:
        text = "tls needs a certificate and its key; TLSCertificate names the files"
        yield "Listen", _first(values["listen"], TLS), text
    if REDIRECT in kinds and TLS not in kinds:
        text = "redirect leads to a port that speaks TLS; a line such as 'Listen 8443 tls' is needed"
        yield "Listen", _first(values["listen"], REDIRECT), text


def file_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, object, str]]:
    """Yield the same for the files that the values name, as this process finds them now."""
    from ..tls.pairs import authority_problem, problem_of, ticket_key_problem  # only where TLS is configured

    for pair in values["tls_certificates"]:
        if wrong := problem_of(*pair):
            yield "TLSCertificate", pair, wrong
    if values["tls_client_ca"] is not None and (wrong := authority_problem(values["tls_client_ca"])):
        yield "TLSClientCA", None, wrong
    if values["tls_ticket_key"] is not None and (wrong := ticket_key_problem(values["tls_ticket_key"])):
        yield "TLSTicketKey", None, wrong


def _first(listen: Sequence[Endpoint], kind: str) -> Endpoint | None:
    return next((endpoint for endpoint in listen if endpoint.kind == kind), None)


def tls_settings(
    certificates: Sequence[tuple[str, str]],
    versions: Sequence[str],
    client_ca: str | None,
    ticket_key: str | None,
) -> TLSSettings:
    """Return what the directives say together; the certificates' names are read from their files.

    Raises ``ValueError`` if a file cannot be read any more.
    """
    from ..tls.pairs import read_pair, read_ticket_key

    numbers = [VERSIONS[name] for name in versions]
    return TLSSettings(
        tuple([read_pair(*pair) for pair in certificates]),
        min(numbers),
        max(numbers),
        client_ca,
        None if ticket_key is None else read_ticket_key(ticket_key),
    )
