# The hit predicate, for the reactor.

cimport cython
from libc.stdint cimport uint64_t

from .codings_memo cimport CodingsMemo
from .outgoing cimport Queued
from ..native.moment cimport fastws_moment
from ..native.scan cimport fastws_field, fastws_head
from .table cimport Entry, Table


cdef enum Outcome:
    MISS                       # Python must decide
    HIT
    LACK                       # no answer is published; with one it would mostly be a hit


@cython.final
cdef class HitPredicate:
    cdef bint is_draining      # every answer is the last of its connection
    cdef bint _takes_get, _takes_head, _takes_1_0, _takes_1_1
    cdef CodingsMemo _codings

    cdef void configure(self, methods, versions, int default_codings)
    cdef void learn_codings(self, bytes accept_encoding, int codings)
    cdef Outcome judge(self, fastws_head *head, fastws_moment *moment, Table table, uint64_t turn, Entry *prepared,
                       Queued *answer) noexcept nogil
    cdef bint _takes(self, fastws_head *head, bint *is_head, bint *is_1_0) noexcept nogil
    cdef bint _choose_tail(self, Queued *answer, fastws_moment *moment, bint is_1_0,
                           fastws_field *connection) noexcept nogil
    cdef bint _narrow(self, Queued *answer, fastws_field **seen, bint is_head) noexcept nogil
