# Whom requests are from, for the reactor.

cimport cython
from libc.stdint cimport uint64_t

from ..native.access_line cimport fastws_access_line
from ..native.forwarded cimport fastws_proxies
from ..native.scan cimport fastws_field, fastws_head
from .outgoing cimport Queued

cdef enum:
    # Places of the fields that are looked at.
    FORWARDED, FORWARDED_FOR, FORWARDED_PROTO, REAL_IP, REQUEST_ID, TRACE_PARENT, TRACE_STATE
    PASSED_COUNT


@cython.final
cdef class Senders:
    cdef bint is_on            # there is anything to be looked at
    cdef bint _names_requests
    cdef bint _answers_ids
    cdef bint _is_any, _takes_forwarded, _takes_list, _takes_real_ip
    cdef fastws_proxies proxies
    cdef uint64_t _state       # of the names of requests

    cdef int configure(self, tuple proxies, str client_header, str request_id) except -1
    cdef bint trusts(self, const char *peer, size_t size) noexcept nogil
    cdef bint look(self, fastws_head *head, bint is_trusted, Queued *answer) noexcept nogil
    cdef bint _agrees(self, fastws_field *real, Queued *answer) noexcept nogil
    cdef void tell(self, Queued *answer, fastws_access_line *line) noexcept nogil
    cdef bint _name_client(self, fastws_field **seen, Queued *answer) noexcept nogil
    cdef uint64_t _next(self) noexcept nogil
    cdef void _name_request(self, fastws_field *field, Queued *answer) noexcept nogil
