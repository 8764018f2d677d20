"""The states of a connection, and their bounds."""

from __future__ import annotations

from ..seam import LINGER_S

TURN_S = 0.01
"""How long a worker answers by Python before it looks at its sockets again; who comes then waits no longer."""

TURN_REQUESTS = 16
"""How many pipelined requests one connection has answered by Python before others get their turn."""
TURN = range(TURN_REQUESTS)

FIRST_LOOK = 4
"""A transfer is looked at first after this part of StallTime: so long may a client take before it begins."""

WAITING_S = 30.0
"""How long a request waits for what is done in the background; a full queue of costly hashes takes 20 s."""

ASK_TIMES = 8
"""How often one request may find that work is to be done first: two password files, each read anew a few times."""

IDLE = 0
"""State: between requests, and nothing of the next one has come."""
HEAD = 1
"""State: in the head of a request."""
BODY = 2
"""State: in the body of a request."""
WAITING = 3
"""State: until work in the background is done. Nothing is read meanwhile."""
SENDING = 4
"""State: an answer is on its way."""
LINGERING = 5
"""State: the last answer is sent; the client may still be sending."""
CLOSED = 6
"""State: over."""
LENT = 7
"""State: an application has the request, or makes more of its answer. Nothing is read meanwhile."""

STATES = (IDLE, HEAD, BODY, WAITING, SENDING, LINGERING, LENT)
"""Those of open connections, as ``record.tally.CONNECTION_STATES`` names them."""

READING = (IDLE, HEAD, BODY)
"""The states in which the client is waited for."""

PAUSED = (WAITING, LENT)
"""The states that another thread ends, by ``Shared.resume``."""

LONGEST_S = {WAITING: WAITING_S, LINGERING: LINGER_S}
"""How long states last that nothing puts off."""
