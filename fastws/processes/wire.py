"""What the server, the spawner and the application processes say to each other: frames on stream sockets.

A frame is a stream's number, a kind, and a payload; descriptors travel with its first byte (``SCM_RIGHTS``).
"""

from __future__ import annotations

import array
import collections
import errno
import functools
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..application.body import Spool
from ..application.environ import Ends
from ..application.mounts import Call, Mount
from ..http.errors import FastwsError
from ..http.messages import Given, Request
from ..language.named_tuple import NamedTuple

HEADER = struct.Struct("<QBI")
_HEADER_BYTES = HEADER.size
_new_tuple = tuple.__new__
COUNTER = struct.Struct("<Q")
"""How many requests the threads of a process have taken, in a file that it shares with the server."""

REQUEST = 1
"""To a process: a request and its body, or the descriptor of that."""
CREDIT = 2
"""To a process: so many bytes of an answer were taken, and may follow."""
CANCEL = 3
"""To a process: nobody waits for the answer any more."""
QUIT = 4
"""To a process: end when all that it has is answered."""
READY = 5
"""From a process: the applications are imported."""
FAILED = 6
"""From a process: they cannot be; the reason."""
HEAD = 7
"""From a process: the head of an answer."""
DATA = 8
"""From a process: bytes of its body."""
FILE = 9
"""From a process: a part of a file, whose descriptor comes with it."""
OVER = 10
"""From a process: the answer is whole."""
ERROR = 11
"""From a process: the answer ends with an error."""
LOG = 12
"""From a process: a line for the error log."""
RECALL = 20
"""To a process: what no thread has taken is to come back."""
RECALLED = 21
"""From a process: the numbers of these streams, which it has forgotten."""
FREE = 17
"""From a process: the application's thread is free, and the rest of the answer waits for credit."""
ANSWER = 19
"""From a process: a whole answer, head and body."""
CHANGED = 18
"""From a process: a file that it has imported has changed."""
SPAWN = 13
"""To the spawner: a process is to be started, by the socket and the file that come with it."""
KILL = 14
"""To the spawner: a process is to get a signal."""
BORN = 15
"""From the spawner: a process was started; its number of the system."""
DEAD = 16
"""From the spawner: a process has ended; its status."""

RECEIVE_BYTES = 65536
PIECE_BYTES = 65536
"""The most bytes of a body in one frame."""

_FDS = 8  # that come with one call, at most
_LOST = -1  # stands for all of a message for which this process had none free


class BrokenError(FastwsError):
    """An application process says what none says: it is broken, or obeys somebody else by now."""


class Frame(NamedTuple):
    """One frame. Its kind tells whether descriptors come with it, which ``Reader.take_fd`` returns."""

    stream: int
    kind: int
    payload: bytes


def pack(stream: int, kind: int, payload: bytes | memoryview = b"") -> bytes:
    """Return the bytes of a frame."""
    return b"".join((HEADER.pack(stream, kind, len(payload)), payload))


def pack_json(stream: int, kind: int, value: Any) -> bytes:
    """Return the bytes of a frame whose payload is ``value`` as JSON."""
    return pack(stream, kind, json.dumps(value).encode())


def unpack_value(payload: bytes, kind: type) -> Any:
    """Return the value that a payload is as JSON, which is to be of this type. Raises ``BrokenError``."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        value = None
    if type(value) is not kind:
        raise BrokenError(f"a payload that is no {kind.__name__} in JSON: {payload[:40]!r}")
    return value


def unpack_values(payload: bytes, *kinds: type) -> list[Any]:
    """Return the values of a payload, one of each of these types. Raises ``BrokenError``."""
    values: list[Any] = unpack_value(payload, list)
    if [type(value) for value in values] != list(kinds):
        raise BrokenError(f"a payload with other values than are needed: {payload[:40]!r}")
    return values


def unpack_part(payload: bytes) -> tuple[int, int]:
    """Return where a part of a file begins, and its length. Raises ``BrokenError``."""
    offset, length = unpack_values(payload, int, int)
    if not 0 <= offset <= offset + length < 1 << 63:
        raise BrokenError(f"a part that no file has: {payload[:40]!r}")
    return offset, length


_LENGTH = struct.Struct("<q")
_ANSWER = struct.Struct("<qI")
_ANSWER_BYTES = _ANSWER.size
_HEADER_OF_ANSWER = struct.Struct(HEADER.format + _ANSWER.format.removeprefix("<"))
_ASKED = struct.Struct("<HIQ?")


class Place(NamedTuple):
    """What many requests have in common: the mount by its prefix and the name of its application, and the ends."""

    prefix: str
    name: str
    ends: Ends


class Asked(NamedTuple):
    """A request for a process. ``size`` is that of the body, which is in a file of its own if it ``has_file``."""

    call: Call
    ends: Ends
    body: bytes
    size: int
    has_file: bool


def pack_request(stream: int, call: Call, ends: Ends, body: Spool) -> bytes:
    """Return the frame of a request. Texts are separated by NUL, which neither a target nor a field has."""
    mount, request = call.mount, call.request
    has_file = body.size > 0 and body.fileno() >= 0
    method, target, version, fields, _ = request
    parts = [method, target, version, call.script_name, call.path_info, call.user]
    for field in fields.items():
        parts += field
    place = _pack_place(mount.prefix, mount.name, ends)
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    data = b"" if has_file or not body.size else body.read_memory()
    start = _ASKED.pack(len(place), len(text), body.size, has_file)
    size = len(start) + len(place) + len(text) + len(data)
    return b"".join((HEADER.pack(stream, REQUEST, size), start, place, text, data))


def unpack_request(payload: bytes, place_of: Callable[[bytes], tuple[Mount, Ends]]) -> Asked:
    """Return the request in a frame; ``place_of`` returns what ``unpack_place`` tells, with the mount itself."""
    place_size, size, body_size, has_file = _ASKED.unpack_from(payload)
    begin = _ASKED.size + place_size
    end = begin + size
    mount, ends = place_of(payload[_ASKED.size : begin])
    texts = payload[begin:end].decode("utf-8", "surrogatepass").split("\0")
    method, target, version, script_name, path_info, user, *parts = texts
    names_and_values = iter(parts)
    fields = dict(zip(names_and_values, names_and_values, strict=True))
    request = Request(method, target, version, fields, 0)
    query = target.partition("?")[2]
    call = Call(mount, request, script_name, path_info, query, user, ())
    return Asked(call, ends, payload[end:], body_size, has_file)


@functools.lru_cache(maxsize=256)  # of all requests of one client
def _pack_place(prefix: str, name: str, ends: Ends) -> bytes:
    return "\0".join((prefix, name, ends.peer, ends.host, str(ends.port), ends.scheme)).encode(
        "utf-8", "surrogatepass"
    )


def unpack_place(data: bytes) -> Place:
    """Return the place in the frame of a request."""
    prefix, name, peer, host, port, scheme = data.decode("utf-8", "surrogatepass").split("\0")
    return Place(prefix, name, Ends(peer, host, int(port), scheme))


def pack_answer(stream: int, head: Given, body: bytes) -> bytes:
    """Return the frame of a whole answer."""
    length, lines = -1 if head.length is None else head.length, head.lines
    size = _ANSWER.size + len(lines) + len(body)
    return b"".join((_HEADER_OF_ANSWER.pack(stream, ANSWER, size, length, len(lines)), lines, body))


def unpack_answer(payload: bytes) -> tuple[int | None, bytes, bytes]:
    """Return the length, the lines of the head for ``unpack_lines``, and the body. Raises ``BrokenError``."""
    if len(payload) < _ANSWER_BYTES:
        raise BrokenError("an answer that is cut off")
    length, size = _ANSWER.unpack_from(payload)
    end = _ANSWER_BYTES + size
    if end > len(payload):
        raise BrokenError("an answer that is cut off")
    return None if length < 0 else length, payload[_ANSWER_BYTES:end], payload[end:]


def pack_head(stream: int, head: Given) -> bytes:
    """Return the frame of the head of an answer: the length of the body or -1, and its lines."""
    length = -1 if head.length is None else head.length
    return b"".join((HEADER.pack(stream, HEAD, 8 + len(head.lines)), _LENGTH.pack(length), head.lines))


def unpack_head(payload: bytes) -> tuple[int | None, bytes]:
    """Return the length, and the lines of the head for ``unpack_lines``. Raises ``BrokenError``."""
    if len(payload) < _LENGTH.size:
        raise BrokenError("a head that is cut off")
    length: int = _LENGTH.unpack_from(payload)[0]
    return None if length < 0 else length, payload[_LENGTH.size :]


def unpack_lines(text: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return the status line as an application gives it, and the fields. Raises ``ValueError``.

    All of it is to be checked: a process that has been taken over sends what it likes.
    """
    status, *lines = text.decode("latin-1").split("\r\n")
    if not lines or lines.pop():
        raise ValueError("the last line of a head has no end")
    fields = []
    for line in lines:
        name, _, value = line.partition(": ")
        fields.append((name, value))
    return status[len("HTTP/1.1 ") :], fields


class Reader:
    """Takes frames, and the descriptors that come with them, out of a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._fds: collections.deque[int] = collections.deque()

    def receive(self) -> bool:
        """Read once; False at the end of the stream. Raises ``OSError``."""
        if sys.platform == "win32":
            raise NotImplementedError
        data, ancillary, flags, _ = self._sock.recvmsg(
            RECEIVE_BYTES, socket.CMSG_SPACE(_FDS * array.array("i").itemsize)
        )
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            self._fds.append(_LOST)
        self._buffer += data
        return bool(data)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that are whole."""
        begin, size, buffer = 0, len(self._buffer), bytes(self._buffer)
        try:
            while size - begin >= _HEADER_BYTES:
                stream, kind, length = HEADER.unpack_from(buffer, begin)
                end = begin + _HEADER_BYTES + length
                if size < end:
                    return
                payload = buffer[begin + _HEADER_BYTES : end]
                begin = end
                yield _new_tuple(Frame, (stream, kind, payload))  # a third of what a call of the class costs
        finally:
            del self._buffer[:begin]

    def take_fd(self) -> int:
        """Return the next descriptor, which the frame at hand announced; the caller closes it.

        Raises ``OSError`` if it has not come: this process had none free, or nobody has sent it.
        """
        fd = self._fds.popleft() if self._fds else _LOST
        if fd == _LOST:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return fd

    def take_fds(self) -> list[int]:
        """Return the descriptors that nobody has taken; the caller closes them."""
        fds = [fd for fd in self._fds if fd != _LOST]
        self._fds.clear()
        return fds


def send(sock: socket.socket, data: bytes | memoryview, fds: Sequence[int] = ()) -> int:
    """Send what ``sock`` takes, with the descriptors if there are any; return how many bytes it took."""
    if sys.platform == "win32":
        raise NotImplementedError
    if not fds:
        return sock.send(data)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    return sock.sendmsg([data], rights)
