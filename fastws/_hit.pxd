# The hit predicate, and the answer that it chooses, for the reactor.

from libc.stdint cimport uint32_t, uint64_t

from ._fields cimport CodingsMemo
from ._moment cimport fastws_moment
from ._scan cimport fastws_field, fastws_head
from ._table cimport Entry, Table


cdef enum Outcome:
    MISS                       # Python must decide
    HIT
    LACK                       # it would be a hit, were the answer published

# One answer gathered for the next sendmsg, or with LACK what should be published.
cdef struct Queued:
    Entry *entry
    const char *path           # of the target
    uint32_t path_len
    int codings                # the number of the accepted-codings set
    const char *request        # the request head
    const char *referer
    const char *agent
    const char *line           # the request line
    uint32_t request_len, referer_len, agent_len, line_len
    int status
    bint closes
    const char *head           # of the response
    const char *tail           # Date, Connection and the empty line
    uint32_t head_len, tail_len
    size_t body_len            # 0 for HEAD and 304


cdef class HitPredicate:
    cdef bint is_draining      # every answer is the last of its connection
    cdef bint _takes_get, _takes_head, _takes_1_0, _takes_1_1
    cdef CodingsMemo _codings

    cdef void configure(self, methods, versions, int default_codings)
    cdef void learn_codings(self, bytes accept_encoding, int codings)
    cdef Outcome judge(self, fastws_head *head, fastws_moment *moment, Table table, uint64_t turn,
                       Queued *answer) noexcept nogil
    cdef bint _choose_tail(self, Queued *answer, fastws_moment *moment, bint is_1_0,
                           fastws_field *connection) noexcept nogil
