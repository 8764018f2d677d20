# Declarations of codings_memo.pyx, for the hit predicate.

from libc.stdint cimport uint32_t

from ..native.scan cimport fastws_field

# Accept-Encoding values whose sets of codings are known, first in first out.
cdef struct KnownCodings:
    uint32_t size
    int codings
    char text[96]

cdef class CodingsMemo:
    cdef KnownCodings _known[64]   # browsers have a dozen
    cdef uint32_t _learned
    cdef int _default

    cdef int recall(self, fastws_field *field) noexcept nogil
    cdef void learn(self, bytes text, int codings)
