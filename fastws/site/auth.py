"""Basic authentication (RFC 7617) by htpasswd files with bcrypt hashes.

The only module that tries the optional package ``bcrypt``. A hash takes its 50 to 250 ms on purpose. So name and
password are remembered with the outcome, as a keyed hash in memory: a page of fifty files costs one computation,
and so does a program that keeps asking with yesterday's password. What is not remembered is not computed here, but
said to be undecided.
"""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Any

from ..config.settings import Config
from ..files.hashes import blake2b
from ..files.identity import identity_of, is_settled
from ..http.errors import PASSWORD, ConfigError, HTTPError, Problem, UndecidedError
from ..http.messages import Identity
from ..http.urlpath import glob_pattern
from ..language.named_tuple import NamedTuple
from .places import Places
from .spelling import Spellings, has_short_name

KNOWN_PASSWORDS = 1024
"""Names and passwords remembered as right, and as many as wrong."""

PASSWORD_BYTES = 72
"""What bcrypt looks at; htpasswd and Apache cut a longer password too."""

_CREDENTIALS = re.compile(r"[Bb][Aa][Ss][Ii][Cc] +([A-Za-z0-9+/]+={0,2})")
_HASH = re.compile(rb"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    spellings: Spellings
    challenge: str
    file: Htpasswd


class Auth:
    """Asks for a password where the configuration does; the first matching line decides. Any thread may ask.

    What is spelled otherwise and is the same file in ``places`` is protected too. Raises ``ConfigError`` if there
    is such a line and no ``bcrypt``, or an htpasswd file is malformed.
    """

    def __init__(self, config: Config, logger: logging.Logger, places: Places | None = None) -> None:
        self._rules: list[_Rule] = []
        self._places = places
        self.is_on = bool(config.basic_auth)
        """Whether anything is protected."""
        if not config.basic_auth:
            return
        check = _load_bcrypt(*config.given.get("BasicAuth", ("configuration", 0)))
        files = {path: Htpasswd(path, check, logger) for _, path in config.basic_auth}
        problems = tuple(problem for file in files.values() for problem in file.problems)
        if problems:
            raise ConfigError(problems)
        for glob, path in config.basic_auth:
            self._rules.append(_Rule(glob_pattern(glob), Spellings(glob), _challenge(glob), files[path]))

    def guards(self, path: str) -> bool:
        """Tell whether a password is asked for at the decoded ``path``."""
        return any(self._covers(rule, path) for rule in self._rules)

    def _covers(self, rule: _Rule, path: str) -> bool:
        """Tell whether ``path``, or another spelling of it for the same file, is protected by ``rule``."""
        if rule.pattern.fullmatch(path):
            return True
        assert self._places is not None  # a check asks nothing
        if rule.spellings.may_match(path):
            other = rule.spellings.respell(path)
            return other is None or self._places.means_same(path, other)
        return has_short_name(path) and not self._places.is_stored(path)

    def authorize(self, path: str, authorization: str | None) -> str:
        """Return who asks for the decoded ``path``, '' if anybody may.

        Raises ``HTTPError`` 401 with a challenge, 500 if the htpasswd file cannot be read, and ``UndecidedError``
        where the password has to be checked first.
        """
        for rule in self._rules:
            if self._covers(rule, path):
                challenge = rule.challenge
                credentials = _parse_credentials(authorization)
                if credentials is None:
                    raise HTTPError(401, "This page needs a name and a password.", fields=_field(challenge))
                if not rule.file.admits(*credentials):
                    raise HTTPError(401, "Name or password is wrong.", fields=_field(challenge))
                return credentials[0].decode("latin-1")
        return ""


class Htpasswd:
    """Names and bcrypt hashes of one file, read again when it changes.

    ``problems`` are the lines that could not be used when it was last read.
    """

    def __init__(self, path: str, check: Any, logger: logging.Logger) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self._checkpw = check
        self._log = logger
        self._secret = os.urandom(32)
        # Apart, so that no flood of guesses makes the server forget who was let in.
        self._right: dict[bytes, None] = {}
        self._wrong: dict[bytes, None] = {}
        self._state: tuple[Identity | None, dict[bytes, bytes], bytes] = (None, {}, b"")
        try:
            self._read()
        except OSError as error:
            self.problems = [Problem(path, 0, f"cannot be read: {error.strerror}")]

    def admits(self, name: bytes, password: bytes) -> bool:
        """Tell whether ``name`` has this ``password``. An unknown name takes as long as a wrong password.

        Raises ``UndecidedError`` if that is not remembered.
        """
        users, anybody = self._users()
        expected = users.get(name, anybody)
        password = password[:PASSWORD_BYTES]
        if not expected:
            return False
        # The hash of the file is part of it, and whether it is this name's: what has changed is forgotten.
        known = b"%b%c%c%b%b" % (expected, name in users, len(password), password, name)
        digest = blake2b(known, key=self._secret, digest_size=32).digest()
        if digest in self._right:
            return True
        if digest in self._wrong:
            return False

        def compute() -> None:
            self._remember(digest, self._is_password(password, expected) and name in users)

        raise UndecidedError(digest, compute, PASSWORD)

    def _remember(self, digest: bytes, is_right: bool) -> None:
        memo = self._right if is_right else self._wrong
        if len(memo) >= KNOWN_PASSWORDS:
            memo.clear()
        memo[digest] = None

    def _is_password(self, password: bytes, expected: bytes) -> bool:
        try:
            return bool(self._checkpw(password, expected))
        except ValueError:  # such as a NUL in the password
            return False

    def _users(self) -> tuple[dict[bytes, bytes], bytes]:
        identity, users, anybody = self._state
        try:
            if identity_of(os.stat(self.path)) != identity:
                known = self.problems
                users, anybody = self._read()
                if self.problems != known:
                    for problem in self.problems:
                        self._log.error("%s", problem)
        except OSError as error:
            raise HTTPError(500, f"The password file {self.path}: {error.strerror}") from None
        return users, anybody

    def _read(self) -> tuple[dict[bytes, bytes], bytes]:
        begun_ns = time.time_ns()
        with open(self.path, "rb") as file:
            identity = identity_of(os.fstat(file.fileno()))
            lines = file.read().splitlines()
        users: dict[bytes, bytes] = {}
        problems: list[Problem] = []
        for number, line in enumerate(lines, 1):
            name, _, hashed = line.strip().partition(b":")
            if not line.strip() or line.startswith(b"#"):
                continue
            if name and _HASH.fullmatch(hashed):
                users.setdefault(name, hashed)
            else:
                problems.append(Problem(self.path, number, "is not NAME:HASH with a bcrypt hash ($2y$...)"))
        self.problems = problems
        # A hash to compare with in the place of an unknown name's: of the same cost, and nobody's.
        anybody = next(iter(users.values()), b"")
        self._state = (identity if is_settled(identity, begun_ns) else None, users, anybody)
        return users, anybody


def _load_bcrypt(file: str, line: int) -> Any:
    try:
        import bcrypt
    except ImportError:
        text = "BasicAuth: the package bcrypt is needed: pip install 'fastws-server[auth]'"
        raise ConfigError((Problem(file, line, text),)) from None
    return bcrypt.checkpw


def _parse_credentials(value: str | None) -> tuple[bytes, bytes] | None:
    """Return name and password (RFC 7617 section 2), None if there are none or they are malformed."""
    import binascii  # only sites with passwords need it

    match = _CREDENTIALS.fullmatch(value or "")
    if match is None:
        return None
    try:
        name, colon, password = binascii.a2b_base64(match[1], strict_mode=True).partition(b":")
    except binascii.Error:
        return None
    return (name, password) if colon else None


def _challenge(glob: str) -> str:
    """Return the challenge; each rule is a realm of its own, as browsers remember a password by realm."""
    realm = re.sub(r'(["\\])', r"\\\1", re.sub(r"[^\x20-\x7e]", "?", glob))
    return f'Basic realm="{realm}", charset="UTF-8"'


def _field(challenge: str) -> tuple[tuple[str, str], ...]:
    return (("WWW-Authenticate", challenge),)
