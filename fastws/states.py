"""What a connection may be doing, the bounds of it, and the bytes that it says by itself."""

from __future__ import annotations

from enum import IntEnum

LINGER_S = 2.0
"""How long a closing connection waits for the client to read the last answer; nginx: lingering_timeout 5s."""

LINGER_BYTES = 1 << 20
"""How much a closing connection reads and throws away meanwhile."""

TURN_REQUESTS = 16
"""How many pipelined requests one connection has answered by Python before others get their turn."""

UNHURRIED_S = 60.0
"""How often a transfer is looked at where the configuration sets no rate, and so nothing is asked of it."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
END = b"\r\n"
KEEP_ALIVE_END = b"Connection: keep-alive\r\n\r\n"
CLOSE_END = b"Connection: close\r\n\r\n"


class State(IntEnum):
    """What the connection is doing."""

    HEAD = 0  # between requests, or in a request head
    BODY = 1
    SENDING = 2
    LINGERING = 3  # the last answer is sent; the client may still be sending
    CLOSED = 4
