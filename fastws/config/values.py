"""Parsers of directive values: the words behind a directive's name → the value that ``Config`` holds.

Every parser takes the words of one line (quotes removed) and the directory that relative paths start from,
and raises ``ValueError`` whose arguments are texts, one for each thing that is wrong, which say what is allowed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ..http.mediatypes import with_charset
from ..http.vocabulary import TOKEN

Parse = Callable[[Sequence[str], str], object]

CODINGS = ("br", "gzip", "zstd")
LOWEST_PORT = 1024
HIGHEST_PORT = 65535
LONGEST_S = 86400.0  # a day: longer is a slip of the pen, not a timeout

# Patterns are text: re compiles and keeps the few that a configuration needs; the import stays cheap.
_FIELD_VALUE = r"[!-~\xa0-\xff](?:[\t -~\xa0-\xff]*[!-~\xa0-\xff])?"  # section 5.5, trimmed
_MEDIA_TYPE = (
    rf"{TOKEN}/{TOKEN}"
    rf'(?:[ \t]*;[ \t]*{TOKEN}=(?:{TOKEN}|"[ !#-\[\]-~]*"))*'
)  # section 8.3.1
_NUMBER = r"[0-9]{1,18}"
_DECIMAL = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_SIZE = r"([0-9]{1,15})([KMGkmg]?)"
_HOST_NAME = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z_][A-Za-z0-9_-]{0,62}\.?"
_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
APPLICATION = rf"{_DOTTED}:{_DOTTED}(?:\(\))?"
_EXTENSION = r"\.[^./\s]+"
_OCTETS = frozenset(map(str, range(256)))
_FACTOR = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_OWN_FIELDS = {
    "cache-control": "use CacheControl",
    "content-type": "use ContentType",
    "server": "use ServerHeader",
    "location": "use Redirect",
}
_COMPUTED_FIELDS = frozenset(
    {
        "accept-ranges",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def number(low: int, high: int) -> Parse:
    """A parser of one whole number from ``low`` to ``high``."""

    def parse(words: Sequence[str], base: str) -> int:
        return _whole_number(words[0], low, high)

    return parse


def seconds(low: float) -> Parse:
    """A parser of a time in seconds, fractions allowed, from ``low`` to a day."""

    def parse(words: Sequence[str], base: str) -> float:
        if not re.fullmatch(_DECIMAL, words[0]) or not low <= float(words[0]) <= LONGEST_S:
            raise ValueError(f"{words[0]!r} is not a number of seconds from {low:g} to {LONGEST_S:g}")
        return float(words[0])

    return parse


def size(high: int) -> Callable[[Sequence[str], str], int]:
    """A parser of a number of bytes up to ``high``, whole GiB; K, M and G multiply by powers of 1024."""

    def parse(words: Sequence[str], base: str) -> int:
        match = re.fullmatch(_SIZE, words[0])
        if not match or (value := int(match[1]) * _FACTOR[match[2].upper()]) > high:
            raise ValueError(
                f"{words[0]!r} is not a size from 0 to {high >> 30}G: digits, then K, M or G (powers of 1024)"
            )
        return value

    return parse


def choice(*names: str) -> Parse:
    """A parser of one of ``names``, in any case."""

    def parse(words: Sequence[str], base: str) -> str:
        return one_of(words[0].lower(), names)

    return parse


def choice_of(*names: str) -> Parse:
    """A parser of one of ``names``, in any case; gives the name as it is spelled here."""
    spelled = {name.lower(): name for name in names}

    def parse(words: Sequence[str], base: str) -> str:
        if words[0].lower() not in spelled:
            raise ValueError(f"{words[0]!r} is none of {', '.join(names)}")
        return spelled[words[0].lower()]

    return parse


def chosen(*names: str) -> Parse:
    """A parser of a list of ``names`` separated by commas or spaces, each at most once; gives a tuple."""

    def parse(words: Sequence[str], base: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each(lambda item: one_of(item.upper(), names), items_of(words))))

    return parse


def optional(parse: Parse) -> Parse:
    """``parse``, or None for the word ``off``."""

    def parse_optional(words: Sequence[str], base: str) -> object:
        return None if words[0].lower() == "off" else parse(words, base)

    return parse_optional


def parse_switch(words: Sequence[str], base: str) -> bool:
    """``on`` or ``off``."""
    if words[0].lower() not in ("on", "off"):
        raise ValueError(f"{words[0]!r} is neither on nor off")
    return words[0].lower() == "on"


def parse_reuse_port(words: Sequence[str], base: str) -> bool:
    """``on`` or ``off``; where the kernel does not spread connections over the servers of a port, only ``off``."""
    is_on = parse_switch(words, base)
    if is_on and sys.platform != "linux":
        raise ValueError("'on' needs Linux, whose SO_REUSEPORT spreads connections; 'off' is allowed here")
    return is_on


def parse_hosts(words: Sequence[str], base: str) -> tuple[str, ...]:
    """IPv4 and IPv6 addresses, IPv6 with or without brackets, and names, which stand for all their addresses."""
    hosts = [host for hosts in each(hosts_of, items_of(words)) for host in hosts]
    if len(set(hosts)) < len(hosts):
        raise ValueError("an address is listed twice; each may be listed once")
    return tuple(hosts)


def parse_ports(words: Sequence[str], base: str) -> tuple[int, ...]:
    """TCP ports; whether one that needs a privilege was meant is another question."""
    ports = each(port, items_of(words))
    if len(set(ports)) < len(ports):
        raise ValueError("a port is listed twice; each may be listed once")
    return ports


def parse_user(words: Sequence[str], base: str) -> str:
    """The name of an account of this machine."""
    if sys.platform == "win32":
        raise ValueError(
            "this platform has no accounts to change to; the account that starts the server runs it"
        )
    import pwd  # only needed where privileges are dropped

    try:
        return pwd.getpwnam(words[0]).pw_name
    except KeyError:
        raise ValueError(f"{words[0]!r} is not the name of an account of this machine") from None


def parse_path(words: Sequence[str], base: str) -> str:
    """An absolute path; symbolic links are not resolved."""
    return absolute(words[0], base)


def parse_log(words: Sequence[str], base: str) -> str:
    """``-`` (standard error), ``off``, or an absolute path."""
    return words[0].lower() if words[0].lower() in ("-", "off") else absolute(words[0], base)


def parse_index(words: Sequence[str], base: str) -> tuple[str, ...]:
    """Plain file names."""
    return each(_file_name, items_of(words))


def parse_content_type(words: Sequence[str], base: str) -> dict[str, str]:
    """``.ext type/subtype``: one lower-case extension → value of Content-Type."""
    extension, kind = all_of(
        lambda: matching(_EXTENSION, words[0], "not one extension with its dot, such as .html").lower(),
        lambda: parse_media_type(words[1:], base),
    )
    return {extension: kind}


def parse_added_type(words: Sequence[str], base: str) -> dict[str, str]:
    """``.ext|glob type/subtype``: one lower-case extension or pattern → value of Content-Type."""
    key, kind = all_of(lambda: _extension_or_glob(words[0]), lambda: parse_media_type(words[1:], base))
    return {key: kind}


def parse_coding(words: Sequence[str], base: str) -> dict[str, str]:
    """``.ext|glob br|gzip|zstd|off``: one lower-case extension or pattern → content coding, or ``off``."""
    key, coding = all_of(
        lambda: _extension_or_glob(words[0]), lambda: one_of(words[1].lower(), (*CODINGS, "off"))
    )
    return {key: coding}


def parse_media_type(words: Sequence[str], base: str) -> str:
    """A media type with optional parameters; text without a charset is declared to be UTF-8."""
    allowed = "not type/subtype, such as text/html or text/html; charset=utf-8"
    return with_charset(matching(_MEDIA_TYPE, " ".join(words), allowed))


def parse_server(words: Sequence[str], base: str) -> str:
    """The value of the Server field, or ``off``."""
    return "off" if words[0].lower() == "off" else _field_value(words)


def parse_header(words: Sequence[str], base: str) -> tuple[tuple[str, str, str], ...]:
    """``"Name" "value" [glob]``."""
    name, value, glob = all_of(
        lambda: _field_name(words[0]),
        lambda: _field_value(words[1:2]),
        lambda: _glob(words[2] if len(words) > 2 else "*"),
    )
    return ((name, value, glob),)


def parse_cache_control(words: Sequence[str], base: str) -> tuple[tuple[str, str], ...]:
    """``glob value``; the value may be several words."""
    glob, value = all_of(lambda: _glob(words[0]), lambda: _field_value(words[1:]))
    return ((glob, value),)


def parse_error_page(words: Sequence[str], base: str) -> dict[int, str]:
    """``status /path``."""
    status, path = all_of(lambda: _whole_number(words[0], 400, 599), lambda: parse_url_path(words[1:], base))
    return {status: path}


def parse_url_path(words: Sequence[str], base: str) -> str:
    """A path of this site: one leading slash, not percent-encoded, no ``..``."""
    path = words[0]
    if not path.startswith("/") or "//" in path or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} is not a path of this site: '/' first, no '//', '/./' or '/../'")
    return path


def parse_status_path(words: Sequence[str], base: str) -> str:
    """A path of this site that ends with a slash and is not the whole site."""
    path = parse_url_path(words, base)
    if len(path) < 3 or not path.endswith("/"):
        raise ValueError(f"{path!r} is not a folder of its own such as /-/, with '/' first and last")
    return path


def parse_networks(words: Sequence[str], base: str) -> tuple[str, ...]:
    """IP addresses and networks."""
    return each(_network, items_of(words))


def parse_proxies(words: Sequence[str], base: str) -> tuple[str, ...]:
    """IP addresses and networks, and ``unix``, each at most once."""
    return tuple(dict.fromkeys(each(_proxy, items_of(words))))


def _proxy(text: str) -> str:
    return "unix" if text.lower() == "unix" else _network(text)


def parse_basic_auth(words: Sequence[str], base: str) -> tuple[tuple[str, str], ...]:
    """``glob htpasswd-file``, the file readable now: a typing error must not leave a door open."""
    glob, path = all_of(lambda: _glob(words[0]), lambda: _readable_file(absolute(words[1], base)))
    return ((glob, path),)


def parse_static(words: Sequence[str], base: str) -> dict[str, str]:
    """``/prefix/ dir``: a path with a slash at its end, that is not the whole site → an absolute path."""
    prefix, path = all_of(
        lambda: parse_status_path(words[:1], base), lambda: _readable_directory(absolute(words[1], base))
    )
    return {prefix: path}


def parse_body_size(words: Sequence[str], base: str) -> dict[str, int]:
    """``size [glob]``: a pattern, ``*`` if there is none → bytes. A mapping says it in the other order."""
    if len(words) > 1 and words[0].startswith(("/", "*")):
        words = words[::-1]
    limit, glob = all_of(
        lambda: size(1 << 30)(words, base), lambda: _glob(words[1] if len(words) > 1 else "*")
    )
    return {glob: limit}


def parse_processes(words: Sequence[str], base: str) -> int:
    """A number of processes, 0 where the platform cannot hand descriptors to them."""
    count = _whole_number(words[0], 0, 256)
    if count and sys.platform == "win32":
        raise ValueError("this platform has no fork; 0 is allowed, threads of the server")
    return count


def parse_recycle(words: Sequence[str], base: str) -> dict[str, int]:
    """``requests=…``, ``jitter=…``, ``memory=…``, ``age=…``: name → number, bytes or seconds."""
    if len(words) == 2 and "=" not in words[0]:  # of a mapping
        words = ["=".join(words)]
    found: dict[str, int] = {}
    for name, value in each(_pair, words):
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    return found


def _pair(word: str) -> tuple[str, int]:
    name, _, text = word.partition("=")
    name = one_of(name.lower(), ("requests", "jitter", "memory", "age"))
    if name == "memory":
        return name, int(size(1 << 40)([text], ""))
    return name, _whole_number(text, 1, 10**9)


def parse_reload(words: Sequence[str], base: str) -> bool:
    """``on`` or ``off``, where there are processes that can be replaced."""
    is_on = parse_switch(words, base)
    if is_on and sys.platform == "win32":
        raise ValueError("this platform has no fork; off is allowed")
    return is_on


def parse_application(words: Sequence[str], base: str) -> dict[str, str]:
    """``/prefix module:callable``: a prefix without a slash at its end, or ``/`` → the name of an application."""
    prefix, name = all_of(
        lambda: parse_url_path(words[:1], base).rstrip("/") or "/",
        lambda: matching(
            APPLICATION, words[1], "not module:callable, such as mysite.wsgi:application, or module:factory()"
        ),
    )
    return {prefix: name}


def all_of(*parts: Callable[[], Any]) -> tuple[Any, ...]:
    """The values of all ``parts``; raises ``ValueError`` with what is wrong with each of them."""
    values: list[Any] = []
    wrong: list[str] = []
    for part in parts:
        try:
            values.append(part())
        except ValueError as error:
            wrong.extend(error.args)
    if wrong:
        raise ValueError(*wrong)
    return tuple(values)


def each(parse: Callable[[str], object], items: Iterable[str]) -> tuple[Any, ...]:
    """The values of all ``items``; raises ``ValueError`` with what is wrong with each of them."""
    return all_of(*[partial(parse, item) for item in items])


def items_of(words: Sequence[str]) -> list[str]:
    """List items separated by commas or spaces, whether quoted singly, together or not at all."""
    items = [item for item in re.split(r'[,\s"]+', " ".join(words)) if item]
    if not items:
        raise ValueError("the list is empty; at least one value is needed")
    return items


def _whole_number(text: str, low: int, high: int) -> int:
    if not re.fullmatch(_NUMBER, text) or not low <= int(text) <= high:
        raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
    return int(text)


def matching(pattern: str, text: str, otherwise: str) -> str:
    """``text`` if it matches as a whole; raises ``ValueError`` that says what it is ``otherwise``."""
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{text!r} is {otherwise}")
    return text


def one_of(text: str, names: Sequence[str]) -> str:
    """``text`` if it is one of ``names``; raises ``ValueError`` that lists them."""
    if text not in names:
        raise ValueError(f"{text!r} is none of {', '.join(names)}")
    return text


def hosts_of(text: str) -> tuple[str, ...]:
    """The addresses that one address or name stands for; raises ``ValueError``."""
    if re.fullmatch(_HOST_NAME, text):
        from .names import addresses_of  # only configurations that hold a name pay for it

        return addresses_of(text)
    return (_host(text),)


def _host(text: str) -> str:
    if _is_ipv4(text):
        return text
    import ipaddress  # only configurations that name another address pay for it

    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]") if ":" in text else text))
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address such as 127.0.0.1, 0.0.0.0 (every IPv4 address) or ::1, nor a name"
        ) from None


def _is_ipv4(text: str) -> bool:
    numbers = text.split(".")
    return len(numbers) == 4 and all(number in _OCTETS for number in numbers)


def port(text: str) -> int:
    """A TCP port; raises ``ValueError``."""
    if not re.fullmatch(_NUMBER, text):
        raise ValueError(f"{text!r} is not a number; ports from {LOWEST_PORT} to {HIGHEST_PORT} are allowed")
    if int(text) == 0:
        raise ValueError(
            f"port 0 is below {LOWEST_PORT}; --port 0 on the command line takes a free port,"
            f" in a file {LOWEST_PORT} to {HIGHEST_PORT} are allowed"
        )
    if int(text) > HIGHEST_PORT:
        raise ValueError(f"port {text} is above {HIGHEST_PORT}; {LOWEST_PORT} to {HIGHEST_PORT} are allowed")
    return int(text)


def _file_name(text: str) -> str:
    if "/" in text or text.startswith("."):
        raise ValueError(f"{text!r} is not a plain file name without '/' and leading dot")
    return text


def _field_name(text: str) -> str:
    matching(TOKEN, text, "not a field name: letters, digits and !#$%&'*+-.^_`|~ are allowed")
    if hint := _OWN_FIELDS.get(text.lower()):
        raise ValueError(f"{text} cannot be set here: {hint}")
    if text.lower() in _COMPUTED_FIELDS:
        raise ValueError(f"{text} cannot be set: the server computes it for each response")
    return text


def _network(text: str) -> str:
    import ipaddress  # only configurations that name an address pay for it

    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"{error}; addresses and networks such as 10.0.0.0/8 are allowed") from None


def _readable_file(path: str) -> str:
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise ValueError(f"{path!r} is not a file that can be read; an htpasswd file is needed")
    return path


def _readable_directory(path: str) -> str:
    if not os.path.isdir(path) or not os.access(path, os.R_OK | os.X_OK):
        raise ValueError(f"{path!r} is not a directory that can be read")
    return path


def absolute(path: str, base: str) -> str:
    """The absolute form of a path that starts from ``base``; symbolic links are not resolved."""
    if not path:
        raise ValueError("the path is empty")
    return os.path.abspath(os.path.join(base, path))


def _glob(text: str) -> str:
    if not text.startswith(("/", "*")):
        raise ValueError(f"{text!r} is not a pattern of paths such as *.css or /assets/*: '/' or '*' first")
    return text


def _extension_or_glob(text: str) -> str:
    if text.startswith("."):
        return matching(_EXTENSION, text, "not one extension with its dot, such as .html").lower()
    if not text.startswith(("/", "*")):
        raise ValueError(
            f"{text!r} is neither an extension with its dot, such as .html, nor a pattern of paths such as"
            " */LICENSE or /assets/*"
        )
    return text


def _field_value(words: Sequence[str]) -> str:
    allowed = "not a field value: printable ISO 8859-1 text without controls"
    return matching(_FIELD_VALUE, " ".join(words), allowed)
