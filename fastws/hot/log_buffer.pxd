# The buffer of access lines, for the reactor.

from ..native.access_line cimport fastws_access_line


cdef class LogBuffer:
    cdef readonly bint is_json, is_timed
    cdef bint _is_off
    cdef char *_data
    cdef size_t _used, _room

    cdef void configure(self, str log_format)
    cdef bint is_full(self) noexcept nogil
    cdef void put(self, fastws_access_line *line) noexcept nogil
    cdef void append(self, bytes line)
    cdef bytes take(self)
    cdef bint _reserve(self, size_t size) noexcept nogil
