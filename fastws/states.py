"""The states of a connection, and their bounds."""

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

WAITING_S = 30.0
"""How long a request waits for its password to be checked; a full queue of costly hashes takes 20 s."""

ASK_TIMES = 8
"""How often one request may find that a password has to be checked: two files, each read anew a few times."""


class State(IntEnum):
    """What the connection is doing."""

    HEAD = 0  # between requests, or in a request head
    BODY = 1
    WAITING = 2  # for a password to be checked: nothing is read meanwhile
    SENDING = 3
    LINGERING = 4  # the last answer is sent; the client may still be sending
    CLOSED = 5


LONGEST_S = {State.WAITING: WAITING_S, State.LINGERING: LINGER_S}
"""How long states last that nothing puts off."""
