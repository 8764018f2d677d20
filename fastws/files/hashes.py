"""BLAKE2b, the one hash that the server computes: of contents for their ETags, of passwords to remember them."""

from __future__ import annotations

try:
    # What hashlib has, without the OpenSSL that it loads: several ms of a start.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

__all__ = ["blake2b"]
