from __future__ import annotations

import hashlib

from fastws.files.hashes import blake2b


def test_the_hash_is_hashlibs() -> None:
    assert blake2b(b"x", digest_size=12).digest() == hashlib.blake2b(b"x", digest_size=12).digest()
