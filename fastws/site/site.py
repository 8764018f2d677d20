"""The site: ``respond(request) -> Decision``. Everything about a response is decided here, once.

A site belongs to one configuration and knows no socket. All workers share it.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable

from ..application.mounts import Call, Mounts
from ..backend import Opener
from ..config.settings import Config
from ..files import representation as rep
from ..files.locate import Located
from ..files.root import Hidden, Root, not_found
from ..files.variants import Asked, Choice
from ..http import conditional, forms
from ..http.authority import check_host, is_authority
from ..http.errors import HTTPError, UndecidedError
from ..http.forwarded import Proxies
from ..http.mediatypes import extension_of
from ..http.messages import Fields, FileSlice, Request, Response
from ..http.negotiation import IDENTITY_CODING
from ..http.target import Target, parse_target
from ..http.urlpath import encode_path
from ..http.vocabulary import READ_METHODS
from ..language.named_tuple import NamedTuple
from ..pages import listing, message
from . import publication
from .filling import Filling
from .places import Place, Places
from .policy import is_long_lived
from .publication import Decision
from .rules import APPLICATION, EITHER, FILE, GUARDED, HIDDEN, MOVED, STATUS, Answerer, Rules
from .status import StatusSource
from .tohttps import ToHttps

KNOWN_FORMS = 4096
"""Forms of files that are remembered; about 4 MB."""

KNOWN_CALLS = 1024
"""Paths of applications that are remembered; of at most 8 KiB each."""

_NO_REQUEST = Request("", "", "", {}, 0)
_LENT = Response(200, ())
"""Stands for what an application will answer."""

_ON_THE_WAY = frozenset({"via", "forwarded", "x-forwarded-for", "cdn-loop", "surrogate-capability"})
"""Fields by which a proxy or a content delivery network shows, which may keep what it gets."""


class _Exchange:
    """A request that is being answered.

    ``answerer`` is what answers its path. ``paths`` are those that patterns are compared with: the URL's, and the
    file's where it is another. ``user`` is who asks, '' where anybody may; ``now_ns`` when the request began.
    ``place`` is where the file is, once one is looked for.
    """

    __slots__ = ("answerer", "body", "now_ns", "paths", "peer", "place", "request", "target", "user")

    place: Place

    def __init__(self, request: Request, target: Target, body: bytes | None, peer: str, now_ns: int) -> None:
        self.request = request
        self.target = target
        self.body = body
        self.peer = peer
        self.now_ns = now_ns
        self.answerer = FILE
        self.paths: tuple[str, ...] = (target.path,)
        self.user = ""


class _Known(NamedTuple):
    """What was found out about one form of a file.

    ``form`` is without its bytes; ``fields`` are those of a 200. ``is_stable`` tells that all of it is true as
    long as the file's identity is the same, ``is_only`` that the file has no other form.
    """

    kind: str
    fields: Fields
    form: rep.Form
    is_stable: bool
    is_only: bool


class Site:
    """Answers requests by one configuration.

    ``replays`` tells that published answers are replayed, so that small files are worth being read into memory;
    ``opener`` opens them; ``hidden`` knows files that are never served; ``status`` knows what StatusPath shows;
    ``mounts`` are the applications. Raises ``ConfigError`` if BasicAuth cannot be had.
    """

    def __init__(
        self,
        config: Config,
        logger: logging.Logger,
        *,
        replays: bool,
        opener: Opener,
        hidden: Hidden,
        status: StatusSource | None = None,
        mounts: Mounts | None = None,
    ) -> None:
        self.config = config
        self._log = logger
        self._replays = replays
        self._places = Places(config, logger, opener=opener, replays=replays, hidden=hidden)
        self._rules = Rules(config, self._places, logger, status, mounts)
        self._lends = bool(mounts)
        self._status = status
        self._proxies = Proxies(config.trusted_proxies)
        self._calls: dict[
            str, Call
        ] = {}  # of requests that an application answered, by the path as it was sent
        self._known: dict[tuple[str, str, str], _Known] = {}  # by path, file and coding
        self._listings = listing.Listings()
        self.fill = Filling(self._rules, self._places, logger)
        self.error = self._rules.error
        self.to_https = ToHttps(self, self._rules.common)

    def close(self) -> None:
        """End the background work; the site still answers."""
        self._places.close()

    def refuse(self, request: Request, peer: str = "") -> Response | None:
        """Return the error or redirect that answers ``request`` whatever its body is, which is still to come.

        None: the body matters. Raises only ``UndecidedError``.
        """
        response = self._respond(request, None, peer).response
        if response.status < 300 and response.file is not None:
            response.file.close()
        return response if response.status >= 300 else None

    def respond(self, request: Request, body: bytes = b"", peer: str = "") -> Decision:
        """Return the response to ``request`` and what may be replayed; raises only ``UndecidedError``.

        1. the version, the Host field and the method are acceptable (400, 501); OPTIONS asks no more (204).
           For an application, every method is, and OPTIONS for a trusted proxy (503 before the end)
        2. the target is a path inside the root (400)
        3. it is not one of the server's own pages below StatusPath (200, 503)
        4. the configuration does not send it elsewhere (3xx)
        5. the path is not hidden (404), and the client may see it (401); an application's is left to it,
           with FilesFirst unless a file is there
        6. the path leads to a file (301 to or from a slash; 403, 404, 500) or to a listing (200)
        7. the file has a content type (501) and the method suits it (405); a form is filled in
        8. it is there in a form that the client accepts (406)
        9. the preconditions hold (304, 412)
        10. the range, if any, is satisfiable (206, 416)
        11. all of the file (200)
        """
        return self._respond(request, body, peer)

    def call_again(self, request: Request) -> Call | None:
        """Return the call for a path that was an application's for everybody; None where ``respond`` tells."""
        if not self._calls or request.method == "CONNECT":
            return None
        path, _, query = request.target.partition("?")
        known = self._calls.get(path)
        if known is None or "#" in query or request.version not in self.config.http_types:
            return None
        host = request.fields.get("host")
        if host is None or not is_authority(host):
            return None
        return Call(known.mount, request, known.script_name, known.path_info, query, "", known.fields)

    def _respond(self, request: Request, body: bytes | None, peer: str) -> Decision:
        """Do so; without the ``body`` what depends on it is a 200."""
        now_ns = time.time_ns()
        path = ""
        try:
            self._check(request, peer)
            if request.method == "OPTIONS" and not self.lends(request):
                return Decision(self._say_methods(request, peer))
            target = parse_target(request.target)
            path = target.path
            decision = self._decide(_Exchange(request, target, body, peer, now_ns))
        except HTTPError as error:
            decision = Decision(self.error(error, path))
        except UndecidedError:
            raise
        except Exception:
            self._log.exception("unexpected exception while answering %s %s", request.method, request.target)
            decision = Decision(self.error(HTTPError(500, "unexpected exception"), path))
        if request.method == "HEAD":
            decision = decision._replace(response=decision.response._replace(body=()))
        return decision

    def lends(self, request: Request) -> bool:
        """Tell whether the path of ``request`` is an application's. Raises ``HTTPError`` 400."""
        if not self._lends or request.target == "*" or request.method == "CONNECT":  # which asks for a tunnel
            return False
        return self._rules.lends(parse_target(request.target).path)

    def _check(self, request: Request, peer: str) -> None:
        if request.version not in self.config.http_types:
            raise HTTPError(400, f"{request.version} is not spoken here.", close=True)
        check_host(request)
        if request.method in self.config.request_methods or self.lends(request):
            return
        if request.method != "OPTIONS" or not self._proxies.has(peer):
            raise HTTPError(501, f"The method {request.method} is not implemented.")

    def _say_methods(self, request: Request, peer: str) -> Response:
        """Return the methods for a path, and its configured fields: for CORS preflights and health checks.

        That needs no password and tells nothing of files: browsers send no credentials with a preflight. A trusted
        proxy that asks for itself checks the server, and is told of the end. Raises ``HTTPError`` 503.
        """
        if self._status is not None and self._status.is_draining and self._proxies.has(peer):
            raise HTTPError(503, "The server is about to end.")
        path = "" if request.target == "*" else parse_target(request.target).path
        kind = self._rules.types.known(path)
        takes_forms = kind is None or kind.startswith("text/html")
        methods = [name for name in self.config.request_methods if name != "POST" or takes_forms]
        allow = ("Allow", ", ".join(methods))
        fields = (*self._rules.common, allow, *self._rules.header_fields(path))
        return Response(204, fields)

    def _decide(self, exchange: _Exchange) -> Decision:
        path = exchange.target.path
        answerer = self._rules.answerer(path)
        if answerer is STATUS:
            response = self._rules.status_page(exchange.request, path, exchange.peer)
            if response is not None:
                return self._complete(response, self._rules.header_fields(path))
            exchange.answerer, answerer = answerer, self._rules.answerer(path, shows_status=False)
        else:
            exchange.answerer = answerer
        return _ANSWERERS[answerer](self, exchange)

    def _complete(self, response: Response, configured: Fields) -> Decision:
        """Return a response that only its own fields are known of."""
        fields = (*self._rules.common, *response.fields, *configured)
        return Decision(Response(response.status, fields, response.body))

    # Elsewhere and nowhere

    def _redirect(self, exchange: _Exchange) -> Decision:
        target = exchange.target
        return self._moved(*self._rules.redirect(target), self._rules.header_fields(target.path))

    def _moved(self, location: str, status: int, configured: Fields) -> Decision:
        body = message.redirect_page(status, location)
        fields = (
            ("Location", location),
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
        )
        return self._complete(Response(status, fields, (body,)), configured)

    def _hide(self, exchange: _Exchange) -> Decision:
        raise not_found()

    # Files

    def _admit_and_serve(self, exchange: _Exchange) -> Decision:
        path = exchange.target.path
        exchange.user = self._rules.authorize(exchange.request, path)
        return _ANSWERERS[self._rules.unguarded(path)](self, exchange)

    # Applications

    def _serve_or_lend(self, exchange: _Exchange) -> Decision:
        """Serve the file that is there to a GET or HEAD, and leave all else to the application."""
        if exchange.request.method in READ_METHODS:
            try:
                return self._serve(exchange, files_alone=True)
            except HTTPError as error:
                if error.status != 404:
                    raise
        return self._lend(exchange)

    def _lend(self, exchange: _Exchange) -> Decision:
        mount = self._rules.mount(exchange.target.path)
        assert mount is not None
        call = self._rules.call(mount, exchange.request, exchange.target, exchange.user)
        if exchange.answerer is APPLICATION:
            if len(self._calls) >= KNOWN_CALLS:
                self._calls.clear()  # one step, whatever other threads are doing
            self._calls[exchange.request.target.partition("?")[0]] = call._replace(request=_NO_REQUEST)
        return Decision(_LENT, None, call)

    def _serve(self, exchange: _Exchange, *, files_alone: bool = False) -> Decision:
        """Serve what the path leads to. With ``files_alone`` all that is no file of that path raises 404."""
        target, rules = exchange.target, self._rules
        path = target.path
        exchange.place = place = self._places.only or self._places.find(path)
        with place.folder.open() as root:
            located = self._places.locate(root, path, place)
            if files_alone and not _is_file(located):
                raise not_found()
            if isinstance(located, str):
                return self._to_slash(target, located)
            if located.relative != path[len(place.prefix) + 1 :]:
                # Under another name (an index, a clean URL) the file is no less protected.
                exchange.paths = (path, f"{place.prefix}/{located.relative}")
                exchange.user = rules.authorize(exchange.request, exchange.paths[1]) or exchange.user
            try:
                if located.is_directory:
                    decision = Decision(self._list(exchange, root, located))
                else:
                    decision = self._respond_with_file(exchange, root, located)
            except HTTPError as error:
                decision = Decision(self.error(error, *exchange.paths))
            if decision.response.file is not None:
                root.keep(decision.response.file)
        if not exchange.user:
            return decision
        return decision._replace(response=decision.response._replace(user=exchange.user))

    def _to_slash(self, target: Target, path: str) -> Decision:
        """Send the client to the same ``path`` with a slash at its end, or without one."""
        query = "" if target.query is None else f"?{target.query}"
        return self._moved(encode_path(path) + query, 301, self._rules.passing_fields(target.path))

    def _list(self, exchange: _Exchange, root: Root, located: Located) -> Response:
        request, target = exchange.request, exchange.target
        if request.method not in READ_METHODS:
            raise self._method_not_allowed("A directory takes no form.")
        found = exchange.place.folder.list(root, located, listing.parse_view(target.query))
        fields, page = self._listings.render(request, target.path, found)
        configured = self._rules.fields(*exchange.paths)
        return Response(200, (*self._rules.common, *fields, *configured), (page,))

    def _respond_with_file(self, exchange: _Exchange, root: Root, located: Located) -> Decision:
        request, file = exchange.request, located.file
        known = self._known.get((exchange.target.path, located.relative, IDENTITY_CODING))
        if (
            known is not None
            and known.is_only
            and file is not None
            and known.form.identity == file.identity
            and request.method in READ_METHODS
            and not exchange.place.folder.variants.wants_body(file)
        ):
            choice = Choice(rep.Representation(known.form, file=file), ((located.relative, file.identity),))
            return self._send(exchange, known, choice, located)
        return self._find_out(exchange, root, located)

    def _find_out(self, exchange: _Exchange, root: Root, located: Located) -> Decision:
        variants = exchange.place.folder.variants
        kind, coding = self._rules.types.describe(exchange.paths[-1][1:])
        kind = kind or self._rules.types.default
        if kind is None:
            extension = extension_of(located.relative)
            raise HTTPError(501, f"The server knows no content type for {extension or 'such'} files.")
        if exchange.request.method not in READ_METHODS:
            return Decision(self._submit(exchange, "" if coding else kind, located))
        if coding:
            assert located.file is not None
            choice = variants.as_stored(located.relative, located.file, coding, exchange.now_ns)
            known = self._describe(exchange, located, kind, (), choice.chosen.form)
            return self._send(exchange, known, choice, located)
        vary = rep.VARY_CODINGS if variants.are_negotiable(kind) else ()
        try:
            asked = Asked(
                exchange.request, exchange.now_ns, functools.partial(self._is_kept, exchange, located)
            )
            choice = variants.choose(root, located.relative, located.file, kind, asked)
            known = self._describe(exchange, located, kind, vary, choice.chosen.form)
            return self._send(exchange, known, choice, located)
        except HTTPError as error:
            error.fields = (*error.fields, *vary)
            raise

    def _is_kept(self, exchange: _Exchange, located: Located) -> bool:
        """Tell whether a cache is likely to keep the answer: it comes by way of one, or lives long."""
        if not _ON_THE_WAY.isdisjoint(exchange.request.fields):
            return True
        for name, value in self._rules_for(located)(*exchange.paths):
            if name == "Cache-Control":
                return is_long_lived(value)
        return False

    def _rules_for(self, located: Located) -> Callable[..., Fields]:
        return self._rules.passing_fields if located.is_fallback else self._rules.fields

    def _describe(
        self, exchange: _Exchange, located: Located, kind: str, vary: Fields, form: rep.Form
    ) -> _Known:
        """Return what is to be known of ``form``, found out once for each state of its file."""
        path, now_ns = exchange.target.path, exchange.now_ns
        key = path, located.relative, form.coding
        known = self._known.get(key)
        if known is not None and known.form.is_like(form):
            return known
        is_stable = form.is_settled and not rep.is_held_back(form.identity, now_ns)
        configured = self._rules_for(located)(*exchange.paths)
        fields = (*self._rules.common, *rep.content_fields(kind, form), *vary, *configured)
        known = _Known(kind, fields, form, is_stable, is_only=not vary)
        if is_stable:
            if len(self._known) >= KNOWN_FORMS:
                self._known.clear()  # one step, whatever other threads are doing
            self._known[key] = known
        return known

    def _send(self, exchange: _Exchange, known: _Known, choice: Choice, located: Located) -> Decision:
        """Return what of the chosen form the request asks for."""
        request, chosen, fields = exchange.request, choice.chosen, known.fields
        status = conditional.evaluate(
            request.method, request.fields, chosen.form.etag, chosen.form.last_modified, exchange.now_ns / 1e9
        )
        if status == 304:
            return Decision(Response(304, rep.not_modified_fields(fields)))
        if status == 412:
            raise HTTPError(412, "The file is not in the state that the request asks for.")
        response = None
        if request.method == "GET" and "range" in request.fields and not chosen.form.is_coded:
            response = rep.partial(request.fields, known.kind, fields, chosen)
        response = response or rep.whole(fields, chosen)
        published = None
        if known.is_stable and len(response.body) == 1 and self._may_be_published(exchange):
            published = publication.build(  # nobody asks twice for a part of several ranges
                exchange.place, exchange.target, located, choice, fields, exchange.now_ns
            )
        return Decision(response, published)

    def _may_be_published(self, exchange: _Exchange) -> bool:
        """Tell whether the answer is the same for everybody, and somebody will replay it."""
        if exchange.request.method != "GET" or not self._replays or exchange.user:
            return False
        return exchange.answerer in (FILE, EITHER)

    # Forms

    def _submit(self, exchange: _Exchange, kind: str, located: Located) -> Response:
        """Answer a POST: the page with the submitted fields in it."""
        request, body, file = exchange.request, exchange.body, located.file
        if request.method != "POST" or not kind.startswith("text/html") or file is None:
            raise self._method_not_allowed("Only HTML pages take a form.")
        configured = self._rules.header_fields(*exchange.paths)
        fields: Fields = (*self._rules.common, ("Content-Type", kind), *configured)
        if body is None:
            forms.check_type(request.fields.get("content-type"))
            return Response(200, fields)
        contents = exchange.place.folder.contents
        if not contents.is_small(file):
            piece = FileSlice(file, 0, file.identity.size)
            return Response(200, (*fields, ("Content-Length", str(piece.length))), (piece,), file)
        submitted = forms.parse_form(request.fields.get("content-type", ""), body) if body else []
        page = forms.fill_pre(contents.load(file).body, submitted)
        fields = (*fields, ("Content-Length", str(len(page))), ("Cache-Control", "no-store"))
        return Response(200, fields, (page,))

    def _method_not_allowed(self, detail: str) -> HTTPError:
        allowed = [name for name in (*READ_METHODS, "OPTIONS") if name in self.config.request_methods]
        return HTTPError(405, detail, fields=(("Allow", ", ".join(allowed)),))


def _is_file(located: Located | str) -> bool:
    """Tell whether a path leads to a file of its own."""
    return not isinstance(located, str) and not located.is_directory and not located.is_fallback


_ANSWERERS: dict[Answerer, Callable[[Site, _Exchange], Decision]] = {
    MOVED: Site._redirect,
    HIDDEN: Site._hide,
    GUARDED: Site._admit_and_serve,
    APPLICATION: Site._lend,
    EITHER: Site._serve_or_lend,
    FILE: Site._serve,
}
"""What answers where no status page does."""
