# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What TLS handshakes are made with: contexts of the OpenSSL that Python itself uses. Twin of ``_tls_py.py``.

The contract of both is ``backend.TLS``. The library is found by name (``native/libssl.h``), and its sessions are the
reactor's (``native/tls_session.h``): Python never sees one.
"""

import os

from libc.stdlib cimport calloc
from libc.string cimport strdup

from .native.libssl cimport SSL_CTX, fastws_libssl
from .native.tls_context cimport (
    fastws_find_libssl, fastws_the_libssl, fastws_tls_add_pair, fastws_tls_clear, fastws_tls_make, fastws_tls_rules,
    fastws_tls_set_first,
)
from .native.tls_session cimport fastws_tls_name

from .tls.settings import CIPHERS, CIPHERSUITES, GROUPS, HYBRID_GROUP, companions

side = "compiled"


def find():
    """See ``backend.TLS.find``."""
    try:
        import _ssl
    except ImportError:
        return "this Python has no module _ssl"
    file = getattr(_ssl, "__file__", None)
    path = None if file is None else os.fsencode(file)
    cdef const char *problem = fastws_find_libssl(<const char *>path if path is not None else NULL)
    return "" if problem == NULL else problem.decode()


def version():
    """See ``backend.TLS.version``."""
    problem = find()
    if problem:
        raise ImportError(problem)
    return fastws_the_libssl.OpenSSL_version(0).decode("ascii", "replace")


cdef class Context:
    """See ``backend.TLSContext``."""

    side = "compiled"

    def __cinit__(self, settings, bytes ticket_key not None):
        problem = find()
        if problem:
            raise ImportError(problem)
        self.made.api = &fastws_the_libssl
        self.made.contexts = <SSL_CTX **>calloc(len(settings.pairs), sizeof(SSL_CTX *))
        if self.made.contexts == NULL:
            raise MemoryError
        for pair in settings.pairs:
            self._add_pairs(settings, pair)
        self._name(settings)
        if not fastws_tls_set_first(&self.made, <const char *>ticket_key, len(ticket_key)):
            raise ValueError(f"a key for tickets of {len(ticket_key)} bytes; OpenSSL wants 80")

    def __dealloc__(self):
        fastws_tls_clear(&self.made)

    def session(self):
        """See ``seam.TLSContext.session``: the reactor has them."""
        raise NotImplementedError

    cdef int _add_pairs(self, settings, pair) except -1:
        """Make the context of a pair, and of those that share its names."""
        cdef fastws_tls_rules rules
        cdef SSL_CTX *made
        ciphers, suites = CIPHERS.encode(), CIPHERSUITES.encode()
        groups, more_groups = GROUPS.encode(), f"{HYBRID_GROUP}:{GROUPS}".encode()
        client_ca = None if settings.client_ca is None else os.fsencode(settings.client_ca)
        rules.minimum, rules.maximum = settings.minimum, settings.maximum
        rules.ciphers, rules.ciphersuites = ciphers, suites
        rules.groups, rules.more_groups = groups, more_groups
        rules.client_ca = NULL
        if client_ca is not None:
            rules.client_ca = client_ca
        made = fastws_tls_make(self.made.api, &rules)
        if made == NULL:
            raise OSError(_last_error(), settings.client_ca)
        self.made.contexts[self.made.context_count] = made
        self.made.context_count += 1
        for each in companions(settings.pairs, pair):
            certificate, key = os.fsencode(each.certificate), os.fsencode(each.key)
            if not fastws_tls_add_pair(self.made.api, made, certificate, key):
                raise OSError(f"{each.certificate} with {each.key}: {_last_error()}")
        return 0

    cdef int _name(self, settings) except -1:
        """Have each name lead to the first pair that is for it."""
        cdef fastws_tls_name *entry
        indexes = {}
        for index, pair in enumerate(settings.pairs):
            for name in pair.names:
                indexes.setdefault(name.encode("ascii"), index)
        self.made.names = <fastws_tls_name *>calloc(len(indexes) + 1, sizeof(fastws_tls_name))
        if self.made.names == NULL:
            raise MemoryError
        for name in sorted(indexes):
            entry = &self.made.names[self.made.name_count]
            entry.name = strdup(name)
            if entry.name == NULL:
                raise MemoryError
            entry.context = self.made.contexts[<size_t>indexes[name]]
            self.made.name_count += 1
        return 0


cdef str _last_error():
    """Return OpenSSL's reason for the last failure, and forget it."""
    cdef char text[256]
    cdef unsigned long error = fastws_the_libssl.ERR_peek_last_error()
    fastws_the_libssl.ERR_error_string_n(error, text, sizeof(text))
    fastws_the_libssl.ERR_clear_error()
    return text.decode("ascii", "replace")
