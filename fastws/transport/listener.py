"""Bind and listen, and end that without losing a client."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from .. import portable
from ..config import endpoints
from ..config.endpoints import ANYBODY, Spoken, tcp_endpoints
from ..config.settings import Config
from ..http.errors import ListenError
from ..language.named_tuple import NamedTuple
from ..seam import PLAIN, PROXY, REDIRECT, TLS

BACKLOG = 4096  # what Linux cuts to net.core.somaxconn, whose default is this

Address = tuple[str, int]
"""(host, port); ("unix:/path", 0); ("activated", n) for the n-th that the service manager handed over."""

ACTIVATED = "activated"


class Listener(NamedTuple):
    """A listening socket, and the manner (``seam``) in which the connections that it accepts are served."""

    sock: socket.socket
    manner: int = PLAIN


_REASONS = {
    errno.EADDRINUSE: "the port is in use by another program",
    errno.EADDRNOTAVAIL: "this machine does not have the address",
    errno.EACCES: "binding to it is not permitted",
    errno.EAFNOSUPPORT: "this machine does not speak that kind of address",
}


class UnixListener(socket.socket):
    """A listening Unix-domain socket that knows the file it made."""

    path = ""
    mode = ANYBODY
    _file_number = (0, 0)

    def bind_to(self, path: str, mode: int = ANYBODY) -> None:
        """Make the socket file with these permissions; connecting takes the right to write."""
        # The file is made with its mode: by its name, another one could be met that was put in its place.
        umask = os.umask(0o777 & ~mode)
        try:
            self.bind(path)
        finally:
            os.umask(umask)
        self.path, self.mode, self._file_number = path, mode, _file_number(path)

    @property
    def file_number(self) -> tuple[int, int]:
        """Device and inode of the file that it made."""
        return self._file_number

    def inherit(self, path: str, file_number: tuple[int, int]) -> None:
        """Know the file that another process has made."""
        self.path, self._file_number, self.mode = path, file_number, -1
        with suppress(OSError):
            self.mode = stat.S_IMODE(os.lstat(path).st_mode)

    def change_mode(self, mode: int) -> None:
        """Give the file other permissions, unless another program has put its own in its place."""
        with suppress(OSError):
            if mode != self.mode and _file_number(self.path) == self._file_number:
                os.chmod(self.path, mode)
                self.mode = mode

    def remove_file(self) -> None:
        """Remove the socket file, unless another program has put its own in its place."""
        try:
            if _file_number(self.path) == self._file_number:
                os.unlink(self.path)
        except OSError:
            pass  # it is gone, or belongs to whoever took away the right to remove it


def _file_number(path: str) -> tuple[int, int]:
    info = os.lstat(path)
    return info.st_dev, info.st_ino


def open_listeners(
    wanted: Iterable[Address],
    kept: Mapping[Address, socket.socket],
    modes: Mapping[str, int],
    *,
    reuse_port: bool = False,
) -> dict[Address, socket.socket]:
    """Return the listening socket of each address, those of ``kept`` as they are, and all activated ones.

    ``modes`` are the permissions of Unix-domain sockets by their paths. With ``reuse_port`` other servers may
    listen on the TCP ports that are opened. Raises ``ListenError`` if one cannot be had; then none is opened.
    """
    listeners = {address: sock for address, sock in kept.items() if address[0] == ACTIVATED}
    opened: list[socket.socket] = []
    for address in wanted:
        listener = kept.get(address)
        if listener is None:
            try:
                listener = _listen(address, modes, reuse_port=reuse_port)
            except ListenError:
                for other in opened:
                    turn_away(other)
                    other.close()
                raise
            opened.append(listener)
        listeners[address] = listener
    for listener in listeners.values():
        if isinstance(listener, UnixListener):
            listener.change_mode(modes.get(listener.path, ANYBODY))
    return listeners


def _listen(address: Address, modes: Mapping[str, int], *, reuse_port: bool) -> socket.socket:
    host, port = address
    if not host.startswith("unix:"):
        return listen_tcp(host, max(port, 0), reuse_port=reuse_port)
    path = host.removeprefix("unix:")
    return listen_unix(path, modes.get(path, ANYBODY))


def listen_tcp(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Return a non-blocking socket that listens on ``host`` (IPv4 or IPv6) and ``port`` (0: a free one).

    With ``reuse_port``, others of the same account that ask for it may listen there too. Raises ``ListenError``.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, portable.SO_SAME_PORT, 1)
        if reuse_port and sys.platform == "linux":  # elsewhere no configuration asks for it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # :: is every IPv6 address and no more, whatever the system's default; 0.0.0.0 can stand beside it.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it: an answer never waits for the acknowledgement of the one before.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        if listener is not None:
            listener.close()
        shown = f"[{host}]" if ":" in host else host
        raise ListenError(f"cannot listen on {shown}:{port}: {_reason(error)}") from None
    return listener


def listen_unix(path: str, mode: int = ANYBODY) -> UnixListener:
    """Return a non-blocking socket that listens on the Unix-domain socket ``path``, with these permissions.

    A socket file that nobody listens on any more is replaced. Raises ``ListenError``.
    """
    if portable.AF_UNIX is None:
        raise ListenError(f"cannot listen on unix:{path}: Python has no Unix-domain sockets on this platform")
    listener = UnixListener(portable.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path, listener.family):
            os.unlink(path)
        listener.bind_to(path, mode)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on unix:{path}: {_reason(error).replace('port', 'path')}") from None
    return listener


def inherited(host: str, fd: int, file_number: Sequence[int]) -> socket.socket:
    """Return the listening socket ``fd`` of another process, which this one has been started with.

    ``file_number`` are device and inode of the file of a Unix-domain socket.
    """
    if host.startswith("unix:"):
        unix = UnixListener(fileno=fd)
        unix.inherit(host.removeprefix("unix:"), (file_number[0], file_number[1]))
        listener: socket.socket = unix
    else:
        listener = socket.socket(fileno=fd)
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


def _is_stale(path: str, family: int) -> bool:
    try:
        # Connecting to a file that is no socket is refused just the same.
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # where a full queue would make it wait
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


def turn_away(listener: socket.socket) -> None:
    """Let no new client in, while those that wait can still be accepted. Not for sockets of others.

    Closing a listener resets whatever waits in its queue, and between the last accept and the close another
    client may have joined it. A Unix-domain socket without its file can be reached no more. For TCP, Linux
    is told to drop what opens a connection and to let pass what completes one; who is dropped tries
    again after a second and finds the port closed.
    """
    if isinstance(listener, UnixListener):
        listener.remove_file()
    elif sys.platform == "linux" and listener.family != portable.AF_UNIX:
        try:
            import ctypes  # once in a server's life
        except ImportError:  # a Python without it: the gap stays, small as it is
            return
        program = ctypes.create_string_buffer(_DROP_SYN)
        count = len(_DROP_SYN) // 8
        pointer = struct.pack("HP", count, ctypes.addressof(program))
        with suppress(OSError):  # a kernel without socket filters
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


_SO_ATTACH_FILTER = 26  # socket(7); the socket module does not have it

# Classic BPF over a TCP header: drop segments with SYN and without ACK.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of flags
        (0x54, 0, 0, 0x12),  # of which SYN and ACK
        (0x15, 0, 1, 0x02),  # if SYN alone
        (0x06, 0, 0, 0),  # take nothing of it
        (0x06, 0, 0, 0xFFFFFFFF),  # else all
    )
)


def address_of(listener: socket.socket) -> str:
    """Return where ``listener`` listens, as in a URL: ``127.0.0.1:8080``, ``[::1]:8080``, ``unix:/path``."""
    name = listener.getsockname()
    if listener.family == portable.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def queue_of(listener: socket.socket) -> tuple[int, int] | None:
    """Return how many connections wait to be accepted and how many may, None where the system does not tell.

    tcp(7): in the TCP_INFO of a listening socket Linux has these two numbers in place of unacknowledged and
    selectively acknowledged segments, as ss(8) shows them. /proc/net/tcp has them too, among all sockets of the
    machine.
    """
    if sys.platform != "linux" or listener.family == portable.AF_UNIX:
        return None
    try:
        waiting, most = _QUEUE.unpack(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE.size))
    except (OSError, struct.error):
        return None
    return waiting, most


_QUEUE = struct.Struct("24x2I")  # struct tcp_info: 8 bytes, 4 numbers, tcpi_unacked, tcpi_sacked


def is_local(listener: socket.socket) -> bool:
    """Tell whether only this machine can connect to ``listener``."""
    if listener.family == portable.AF_UNIX:
        return True
    host = str(listener.getsockname()[0])
    return host == "::1" or host.startswith("127.")


def addresses_in(config: Config) -> list[Address]:
    """Return where ``config`` says that the server listens."""
    return list(spoken_in(config))


def spoken_in(config: Config) -> dict[Address, Spoken]:
    """Return what ``config`` says is spoken at each address. Those that take a free port have one key each."""
    found: dict[Address, Spoken] = {}
    for host, port, spoken in tcp_endpoints(config.hosts, config.listen_ports, config.listen):
        while port <= 0 and (host, port) in found:
            port -= 1
        found[host, port] = spoken
    unix = [each for each in config.listen if each.is_unix]
    return found | {(each.address, 0): Spoken(each.kind, each.has_preamble) for each in unix}


def modes_in(config: Config) -> dict[str, int]:
    """Return the permissions of Unix-domain sockets by their paths."""
    return {each.address.removeprefix("unix:"): each.mode for each in config.listen if each.is_unix}


_MANNERS = {endpoints.PLAIN: PLAIN, endpoints.TLS: TLS, endpoints.REDIRECT: REDIRECT}


def manner_of(config: Config, address: Address) -> int:
    """Return the manner in which ``config`` has the connections to ``address`` served."""
    return _MANNERS[kind_of(config, address)]


def has_preamble(config: Config, address: Address) -> bool:
    """Tell whether ``config`` has connections to ``address`` begin with the preamble of a proxy."""
    return config.proxy_protocol or spoken_in(config).get(address, Spoken()).has_preamble


def kind_of(config: Config, address: Address) -> str:
    """Return what ``config`` says is spoken at ``address``."""
    if address[0] == ACTIVATED:
        return dict(enumerate(endpoints.activated_kinds())).get(address[1], endpoints.PLAIN)
    return spoken_in(config).get(address, Spoken()).kind


def with_manners(config: Config, listeners: Mapping[Address, socket.socket]) -> list[Listener]:
    """Return the listeners of ``config``, each with its manner."""
    return [with_manner(config, address, sock) for address, sock in listeners.items()]


def with_manner(config: Config, address: Address, sock: socket.socket) -> Listener:
    """Return the listener at ``address`` with its manner."""
    manner = manner_of(config, address)
    return Listener(sock, manner | PROXY if has_preamble(config, address) else manner)


def reachable(address: str) -> str:
    """Return ``address`` as a browser on this machine can use it."""
    for anywhere, here in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if address.startswith(anywhere):
            return here + address[len(anywhere) :]
    return address
