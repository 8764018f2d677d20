# What the compiled reactor needs of a context for TLS.

from .native.tls_session cimport fastws_tls_context


cdef class Context:
    cdef fastws_tls_context made
    cdef int _add_pairs(self, settings, pair) except -1
    cdef int _name(self, settings) except -1
