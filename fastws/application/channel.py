"""What a worker waits for, where applications are in other processes: that these have said something."""

from __future__ import annotations

from typing import Protocol


class Channel(Protocol):
    """What an application process says, for the worker that waits for it. Only that worker's thread calls."""

    fd: int
    """The socket to wait for; it is the channel's."""

    def hear(self) -> bool:
        """Take what has come; False if nothing more will. It does not block."""

    def give_back(self, *, for_good: bool) -> None:
        """Tell that this worker waits for it no longer; ``for_good``: nor is another to."""
