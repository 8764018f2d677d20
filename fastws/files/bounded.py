"""What is remembered within a bound: the least recently used is forgotten first."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """Values by key, each with a weight, of which all together have at most ``most``. Any thread may call."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._lock = threading.Lock()
        self._entries: dict[K, tuple[V, int]] = {}  # the least recently used first

    def get(self, key: K) -> V | None:
        """Return what is kept for ``key``, None if nothing is."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                return None
            self._entries[key] = entry
            return entry[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """Keep ``value``, at the cost of others where need be; what is heavier than all may be is not kept."""
        with self._lock:
            self._drop(key)
            if weight > self.most:
                return
            self._entries[key] = (value, weight)
            self.used += weight
            while self.used > self.most:
                self._drop(next(iter(self._entries)))

    def forget(self, key: K) -> None:
        """Keep nothing for ``key``."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.used -= entry[1]
