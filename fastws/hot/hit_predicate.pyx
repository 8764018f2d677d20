# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The hit predicate: whether a request is answered from a published answer, and by which of its bytes.

GET or HEAD without a body, no field that could change the answer but a condition or a range of the plainest form, a
fresh entry. Whatever needs another rule is a miss: Python knows the rules. One reactor's own.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memchr, memcmp

from ..native.moment cimport FASTWS_TAIL_CLOSE, FASTWS_TAIL_KEEP_ALIVE, FASTWS_TAIL_PERSISTENT, fastws_moment
from ..native.scan cimport fastws_field, fastws_head
from .codings_memo cimport CodingsMemo
from .decisive_fields cimport (
    SEEN_AGENT, SEEN_CONNECTION, SEEN_COUNT, SEEN_ENCODING, SEEN_HOST, SEEN_IF_RANGE, SEEN_MODIFIED_SINCE,
    SEEN_NONE_MATCH, SEEN_RANGE, SEEN_REFERER, compare_tag, find_decisive_fields, is_plain_host, read_range, size_of,
    value_equals, value_matches, value_of,
)
from .outgoing cimport Queued, choose_part
from .table cimport Entry, Table


@cython.final
cdef class HitPredicate:
    """See ``backend.Reactor.configure``; ``hit_predicate.pxd`` lists what the reactor calls."""

    cdef void configure(self, methods, versions, int default_codings):
        self._takes_get, self._takes_head = "GET" in methods, "HEAD" in methods
        self._takes_1_0, self._takes_1_1 = "HTTP/1.0" in versions, "HTTP/1.1" in versions
        self._codings = CodingsMemo(default_codings)

    cdef void learn_codings(self, bytes accept_encoding, int codings):
        self._codings.learn(accept_encoding, codings)

    cdef Outcome judge(self, fastws_head *head, fastws_moment *moment, Table table, uint64_t turn, Entry *prepared,
                       Queued *answer) noexcept nogil:
        """Return whether ``answer`` is now the one to the request; ``prepared`` is the entry for it alone, or NULL."""
        cdef const char *query
        cdef uint32_t path_len = head.target_len
        cdef bint is_head, is_1_0
        cdef fastws_field *seen[SEEN_COUNT]
        cdef Entry *entry = prepared
        if not self._takes(head, &is_head, &is_1_0):
            return MISS
        if not find_decisive_fields(head, seen):
            return MISS
        if not is_1_0 if seen[SEEN_HOST] == NULL else not is_plain_host(seen[SEEN_HOST]):
            return MISS
        if not self._choose_tail(answer, moment, is_1_0, seen[SEEN_CONNECTION]):
            return MISS
        query = <const char *>memchr(head.target, c"?", head.target_len)
        if query != NULL:
            path_len = <uint32_t>(query - head.target)
            if memchr(query, c"#", head.target_len - path_len) != NULL:
                return MISS
        answer.path, answer.path_len = head.target, path_len
        answer.codings = self._codings.recall(seen[SEEN_ENCODING])
        answer.line, answer.line_len = head.method, head.line_len
        if entry == NULL:
            entry = table.look_up(head.target, path_len, answer.codings)
            if entry == NULL or not table.is_fresh(entry, turn):
                return LACK
        answer.entry, answer.status = entry, entry.status
        answer.head, answer.head_len = entry.head, entry.head_len
        answer.body_offset, answer.body_len = 0, 0 if is_head else entry.body_len
        if entry.status == 200 and not self._narrow(answer, seen, is_head):
            return MISS
        answer.referer, answer.referer_len = value_of(seen[SEEN_REFERER]), size_of(seen[SEEN_REFERER])
        answer.agent, answer.agent_len = value_of(seen[SEEN_AGENT]), size_of(seen[SEEN_AGENT])
        answer.host, answer.host_len = value_of(seen[SEEN_HOST]), size_of(seen[SEEN_HOST])
        entry.is_used = True
        return HIT

    cdef bint _takes(self, fastws_head *head, bint *is_head, bint *is_1_0) noexcept nogil:
        """Tell method and version; False where the configuration or this predicate does not take one of them."""
        if head.method_len == 3 and memcmp(head.method, b"GET", 3) == 0 and self._takes_get:
            is_head[0] = False
        elif head.method_len == 4 and memcmp(head.method, b"HEAD", 4) == 0 and self._takes_head:
            is_head[0] = True
        else:
            return False
        if memcmp(head.version, b"HTTP/1.1", 8) == 0 and self._takes_1_1:
            is_1_0[0] = False
        elif memcmp(head.version, b"HTTP/1.0", 8) == 0 and self._takes_1_0:
            is_1_0[0] = True
        else:
            return False
        return True

    cdef bint _choose_tail(self, Queued *answer, fastws_moment *moment, bint is_1_0,
                           fastws_field *connection) noexcept nogil:
        """Choose what is said of the connection; False where Connection has more than one plain option."""
        cdef int tail = FASTWS_TAIL_CLOSE if is_1_0 else FASTWS_TAIL_PERSISTENT
        if connection != NULL:
            if value_matches(connection, b"keep-alive", 10):
                tail = FASTWS_TAIL_KEEP_ALIVE if is_1_0 else FASTWS_TAIL_PERSISTENT
            elif value_matches(connection, b"close", 5):
                tail = FASTWS_TAIL_CLOSE
            else:
                return False
        if self.is_draining:
            tail = FASTWS_TAIL_CLOSE
        answer.closes = tail == FASTWS_TAIL_CLOSE
        answer.tail, answer.tail_len = moment.tail[tail], moment.tail_len[tail]
        return True

    cdef bint _narrow(self, Queued *answer, fastws_field **seen, bint is_head) noexcept nogil:
        """Make it a 304 or a part, as preconditions and range ask for; False where Python must read them."""
        cdef Entry *entry = answer.entry
        cdef bint is_part = seen[SEEN_RANGE] != NULL and not is_head
        cdef int found
        # Where this form has no parts Python may choose another, and no validator of it counts.
        if is_part and not entry.length_line:
            return False
        if seen[SEEN_NONE_MATCH] != NULL:
            found = compare_tag(seen[SEEN_NONE_MATCH], entry.etag, entry.etag_len)
            if found < 0:
                return False
        else:
            # Only a date that repeats the entry's own is decided here.
            found = seen[SEEN_MODIFIED_SINCE] != NULL
            if found and not _equals_date(seen[SEEN_MODIFIED_SINCE], entry):
                return False
        if found:
            answer.status = 304
            answer.head, answer.head_len, answer.body_len = entry.not_modified, entry.not_modified_len, 0
            return True
        return not is_part or _choose_part(answer, seen[SEEN_RANGE], seen[SEEN_IF_RANGE])


cdef bint _choose_part(Queued *answer, fastws_field *range_, fastws_field *if_range) noexcept nogil:
    """Choose the range; False where Python must read the fields."""
    cdef Entry *entry = answer.entry
    cdef uint64_t first, length
    if if_range != NULL and not (value_equals(if_range, entry.etag, entry.etag_len) or _equals_date(if_range, entry)):
        return False
    if not read_range(range_, entry.body_len, &first, &length):
        return False
    choose_part(answer, first, length)
    return True


cdef inline bint _equals_date(fastws_field *field, Entry *entry) noexcept nogil:
    return entry.last_modified_len and value_equals(field, entry.last_modified, entry.last_modified_len)
