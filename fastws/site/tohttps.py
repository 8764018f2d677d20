"""The site of an address that redirects: every request is sent on to https, if this server has its host."""

from __future__ import annotations

from ..application.mounts import Call
from ..http.authority import check_host, is_authority
from ..http.errors import HTTPError
from ..http.messages import Fields, Request, Response
from ..http.target import authority_of, parse_target, path_of
from ..language.named_tuple import NamedTuple
from ..pages.message import redirect_page
from .publication import Answering, Decision

CHALLENGES = "/.well-known/acme-challenge/"
"""Where an authority looks for the proof that a host is somebody's (RFC 8555 section 8.3)."""

HTTPS_PORT = 443


class Hosts(NamedTuple):
    """The hosts that are sent to https, and its port there.

    ``names`` are DNS names in lower case, wildcards among them, ``addresses`` IP addresses: those of the
    certificates. Anything else would be a certificate error there, or a stranger's host: the Host field is what a
    client wrote, and a cache in between would keep the answer for others.
    """

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    port: int = HTTPS_PORT

    def has(self, host: str) -> bool:
        """Tell whether ``host``, a name or an address without its port, is one of them."""
        if host.startswith("["):
            return _canonical(host[1:-1]) in self.addresses
        name = host.lower().removesuffix(".")
        _, dot, domain = name.partition(".")
        return name in self.names or bool(dot and f"*.{domain}" in self.names) or name in self.addresses


class ToHttps:
    """Answers requests by 308 to the same host, path and query. Any thread may ask; ``hosts`` may be replaced."""

    def __init__(self, site: Answering, common: Fields) -> None:
        """``site`` answers below ``CHALLENGES`` and knows errors; ``common`` are fields of every answer."""
        self._site = site
        self._common = common
        self.hosts = Hosts()
        self.error = site.error

    def respond(self, request: Request, body: bytes = b"", peer: str = "") -> Decision:
        """Return the response to ``request``; raises only ``UndecidedError``."""
        path = ""
        try:
            check_host(request)
            host = _host_of(request)
            target = parse_target(request.target)
            path = target.path
            if path.startswith(CHALLENGES):
                return self._site.respond(request, body, peer)._replace(publication=None)
            if not self.hosts.has(host):
                raise HTTPError(421, "This server has no certificate for that host.")
            query = "" if target.query is None else f"?{target.query}"
            response = self._moved(f"https://{host}{self._port()}{path_of(request.target)}{query}")
        except HTTPError as error:
            response = self.error(error, path)
        return Decision(response._replace(body=()) if request.method == "HEAD" else response)

    def call_again(self, request: Request) -> Call | None:
        """See ``Answering.call_again``; only ``respond`` knows."""
        return None

    def lends(self, request: Request) -> bool:
        """Tell whether an application answers ``request``. Raises ``HTTPError`` 400."""
        return request.target.startswith(CHALLENGES) and self._site.lends(request)

    def refuse(self, request: Request, peer: str = "") -> Response | None:
        """Return what answers ``request`` whatever its body is; None: the body matters. See ``Site.refuse``."""
        if request.target.startswith(CHALLENGES):
            return self._site.refuse(request, peer)
        return self.respond(request, b"", peer).response

    def _port(self) -> str:
        return "" if self.hosts.port == HTTPS_PORT else f":{self.hosts.port}"

    def _moved(self, location: str) -> Response:
        body = redirect_page(308, location)
        fields: Fields = (
            *self._common,
            ("Location", location),
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
        )
        return Response(308, fields, (body,))


def _host_of(request: Request) -> str:
    """Return the host of the target (RFC 9112 section 3.2.2), else that of the Host field; raises 400 for none."""
    authority = authority_of(request.target)
    if authority is None:
        authority = request.fields.get("host", "")
    if not authority or not is_authority(authority):
        raise HTTPError(400, "The request names no host that it could be sent to.")
    end = authority.find("]") + 1
    return authority[:end] if end else authority.partition(":")[0]


def _canonical(address: str) -> str:
    import ipaddress  # only requests for an IPv6 address need it

    return str(ipaddress.ip_address(address))
