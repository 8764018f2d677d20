# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which Accept-Encoding value means which accepted-codings set: what Python has read before is not read again."""

from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from ..native.scan cimport fastws_field

cdef enum:
    UNKNOWN = -2               # no entry has it as its codings


cdef class CodingsMemo:
    """Which Accept-Encoding value means which accepted-codings set, by number; bounded, filled by Python."""

    def __cinit__(self, int default):
        self._default = default

    cdef int recall(self, fastws_field *field) noexcept nogil:
        """Return the set's number, that of no field at all for NULL, ``UNKNOWN`` if Python must say."""
        cdef KnownCodings *known
        cdef int i
        if field == NULL:
            return self._default
        for i in range(64):
            known = &self._known[i]
            if known.size == 0:
                break
            if known.size == field.value_len and memcmp(known.text, field.value, field.value_len) == 0:
                return known.codings
        return UNKNOWN

    cdef void learn(self, bytes text, int codings):
        """Remember ``text``, if it is not as long as nobody's is."""
        cdef KnownCodings *known
        cdef int i
        if not 0 < len(text) <= <Py_ssize_t>sizeof(known.text):
            return
        for i in range(64):
            known = &self._known[i]
            if known.size == len(text) and memcmp(known.text, <const char *>text, len(text)) == 0:
                return
        known = &self._known[self._learned % 64]
        self._learned += 1
        known.size, known.codings = <uint32_t>len(text), codings
        memcpy(known.text, <const char *>text, len(text))
