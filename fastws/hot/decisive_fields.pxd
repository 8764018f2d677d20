# The request fields that the hit predicate looks at, for the reactor.

from libc.stdint cimport uint32_t, uint64_t

from ..native.scan cimport fastws_field, fastws_head


# Places of the fields whose one value a hit may depend on.
cdef enum:
    SEEN_HOST, SEEN_CONNECTION, SEEN_ENCODING, SEEN_REFERER, SEEN_AGENT, SEEN_NONE_MATCH, SEEN_MODIFIED_SINCE
    SEEN_RANGE, SEEN_IF_RANGE
    SEEN_COUNT

cdef bint find_decisive_fields(fastws_head *head, fastws_field **seen) noexcept nogil
cdef bint is_plain_host(fastws_field *host) noexcept nogil
cdef const char *value_of(fastws_field *field) noexcept nogil
cdef uint32_t size_of(fastws_field *field) noexcept nogil
cdef bint value_equals(fastws_field *field, const char *text, uint32_t size) noexcept nogil
cdef bint value_matches(fastws_field *field, const char *lower, uint32_t size) noexcept nogil
cdef int compare_tag(fastws_field *field, const char *etag, uint32_t size) noexcept nogil
cdef bint read_range(fastws_field *field, uint64_t size, uint64_t *first, uint64_t *length) noexcept nogil
