"""The load client's side of TLS: what it trusts, and a socket that can be peeked at. Imported only with https."""

from __future__ import annotations

import socket
import ssl
from typing import Any


def client_context(ca: str | None, *, is_insecure: bool) -> ssl.SSLContext:
    """Return the context of a client that trusts the authorities of the file ``ca``, None: those of the system.

    One that is ``is_insecure`` takes any certificate. Raises ``OSError`` if ``ca`` cannot be read.
    """
    context = ssl.create_default_context(cafile=ca)
    # Python 3.13 does so too: a certificate of a private server may be all that is known of it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = PeekingSocket
    return context


class PeekingSocket(ssl.SSLSocket):
    """Keeps what ``recv`` with MSG_PEEK has decrypted for the next read, as the kernel does for plain sockets."""

    _peeked = b""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return up to ``buflen`` bytes; with MSG_PEEK they stay."""
        if flags & socket.MSG_PEEK:
            if not self._peeked:
                self._peeked = super().recv(buflen, flags & ~socket.MSG_PEEK)
            return self._peeked[:buflen]
        if self._peeked:
            data, self._peeked = self._peeked[:buflen], self._peeked[buflen:]
            return data
        return super().recv(buflen, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Fill ``buffer`` with what was peeked at, or read."""
        if not self._peeked:
            return super().recv_into(buffer, nbytes, flags)
        view = memoryview(buffer).cast("B")
        data = self.recv(min(nbytes or len(view), len(view)), flags)
        view[: len(data)] = data
        return len(data)

    def pending_now(self, most: int) -> bytes | None:
        """Return up to ``most`` bytes that are there, which stay, b"" at the end; None if nothing has come.

        A readable socket is no sign of it: a server sends session tickets after the handshake.
        """
        timeout = self.gettimeout()
        self.settimeout(0.0)
        try:
            return self.recv(most, socket.MSG_PEEK)
        except ssl.SSLWantReadError:
            return None
        finally:
            self.settimeout(timeout)
