"""The listening sockets of one server: opened, kept over a reload, left, closed; and where clients find them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from .. import portable
from ..config.endpoints import PLAIN, PROXY, REDIRECT, TLS
from ..config.settings import Config
from .listener import (
    ACTIVATED,
    Address,
    Listener,
    address_of,
    addresses_in,
    has_preamble,
    is_local,
    kind_of,
    modes_in,
    open_listeners,
    queue_of,
    reachable,
    turn_away,
    with_manner,
    with_manners,
)

_RANKS = {TLS: 0, PLAIN: 1, REDIRECT: 2}


class Listeners:
    """Those that ``config`` names, none before ``open``. One thread at a time changes them."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.by_address: dict[Address, socket.socket] = {}
        self._left: list[socket.socket] = []  # nobody is let in there any more
        self.shared: dict[Address, socket.socket] = {}
        """Those that another process accepts from too: leaving them is no business of its clients."""

    # Open and close

    def open(self, activated: Iterable[socket.socket]) -> None:
        """Open all of them, beside those that the service manager has handed over. Raises ``ListenError``.

        Those that are shared before are used, and closed where the configuration has no use for them.
        """
        self.by_address = self.shared | {(ACTIVATED, n): sock for n, sock in enumerate(activated)}
        self.by_address = self.opened_for(self._config)
        for address in self.shared.keys() - self.by_address.keys():
            self.shared.pop(address).close()

    def share(self, addresses: Iterable[Address]) -> None:
        """Know that another process serves these addresses from now on, by the same sockets."""
        self.shared = {each: self.by_address[each] for each in addresses if each in self.by_address}

    def own(self) -> None:
        """Know that no other process serves any of them."""
        self.shared = {}

    def opened_for(self, config: Config) -> dict[Address, socket.socket]:
        """Return the listeners that ``config`` names, those that are open as they are. Raises ``ListenError``."""
        return open_listeners(
            addresses_in(config), self.by_address, modes_in(config), reuse_port=config.reuse_port
        )

    def give_back(self, opened: Mapping[Address, socket.socket]) -> None:
        """Close those of ``opened_for`` that are not to be used after all."""
        for address, listener in opened.items():
            if address not in self.by_address:
                listener.close()

    def adopt(self, config: Config, opened: dict[Address, socket.socket]) -> dict[Address, Listener]:
        """Use those of ``opened_for(config)``; return the ones that are to be left now."""
        dropped = {
            address: with_manner(self._config, address, sock)
            for address, sock in self.by_address.items()
            if address not in opened
        }
        self._config, self.by_address = config, opened
        return dropped

    def leave(self, accept_rest: Callable[[Listener], None], dropped: Mapping[Address, Listener]) -> None:
        """Let nobody in any more, and hand over what still waits in the queues, unless others serve it."""
        for address, listener in dropped.items():
            if address not in self.shared:
                if address[0] != ACTIVATED:  # with those the service manager may go on
                    turn_away(listener.sock)
                accept_rest(listener)
            self._left.append(listener.sock)

    def leave_all(self, accept_rest: Callable[[Listener], None]) -> None:
        """Do so with all of them."""
        self.leave(accept_rest, self.adopt(self._config, {}))

    def close_left(self) -> None:
        """Close the listeners that were left, which no worker watches any more.

        One that hangs may still watch them: they stay open until it has done what it was told, or has ended.
        """
        left, self._left = self._left, []
        for listener in left:
            listener.close()

    def forget(self) -> None:
        """Let go of them in a forked child, without a word to the clients of its parent."""
        listeners, self.by_address = self.by_address, {}
        for listener in listeners.values():
            listener.close()

    def queues(self) -> dict[str, tuple[int, int]]:
        """Return how many connections wait at each TCP address, and how many may; none where that is not told."""
        found = {}
        for listener in list(self.by_address.values()):
            with suppress(OSError):  # it has just been closed
                if queue := queue_of(listener):
                    found[address_of(listener)] = queue
        return found

    # Where clients find them

    def with_manners(self) -> list[Listener]:
        """Return them all, each with its manner."""
        return with_manners(self._config, self.by_address)

    def addresses(self) -> list[str]:
        """Return them as in URLs: ``127.0.0.1:8080``, ``[::1]:8080``, ``unix:/path``."""
        return [address_of(listener) for listener in self.by_address.values()]

    def described(self) -> list[str]:
        """Return the addresses, each with what is spoken there unless that is HTTP and nothing else."""
        shown = []
        for address, listener in self.by_address.items():
            kind = kind_of(self._config, address)
            words = [] if kind == PLAIN else [kind]
            if has_preamble(self._config, address):
                words.append(PROXY)
            shown.append(address_of(listener) + (f" ({' '.join(words)})" if words else ""))
        return shown

    def schemes(self) -> dict[str, str]:
        """Return the TCP addresses, each with the scheme of its URL: ``http`` or ``https``."""
        return {
            address_of(listener): "https" if kind_of(self._config, address) == TLS else "http"
            for address, listener in self.by_address.items()
            if listener.family != portable.AF_UNIX
        }

    def in_order(self) -> list[socket.socket]:
        """Return those that speak TLS, then plain ones, then those that redirect; those for proxies come last."""
        ranks = {
            address: (has_preamble(self._config, address), _RANKS[kind_of(self._config, address)])
            for address in self.by_address
        }
        return [self.by_address[address] for address in sorted(self.by_address, key=ranks.__getitem__)]

    def port(self) -> int:
        """Return the first TCP port, in that order; ``RuntimeError`` if there is none."""
        for listener in self.in_order():
            if listener.family != portable.AF_UNIX:
                return int(listener.getsockname()[1])
        raise RuntimeError("the server has a port only while it runs, and listens on TCP")

    def url(self) -> str:
        """Return the URL of the first address, in that order; ``RuntimeError`` if there is none."""
        for listener in self.in_order():
            address = address_of(listener)
            scheme = self.schemes().get(address)
            return address if scheme is None else f"{scheme}://{reachable(address)}/"
        raise RuntimeError("the server has a URL only while it runs: inside its block, or after start()")

    def is_first(self, address: str) -> bool:
        """Tell whether ``address``, one of ``addresses``, is that of ``url``."""
        return next(map(address_of, self.in_order()), None) == address

    def are_exposed(self) -> bool:
        """Tell whether other machines can connect, because one is no loopback address."""
        return not all(is_local(listener) for listener in self.by_address.values())
