# What one turn of the loop reads and finds, for the reactor.

cimport cython
from libc.stdint cimport uint32_t, uint64_t

from ..native.forwarded cimport FASTWS_CLIENT_BYTES
from ..native.moment cimport fastws_moment
from ..native.scan cimport fastws_head
from ..native.send_file cimport fastws_file
from .epoll_set cimport EpollSet, Watched, epoll_event
from .hit_predicate cimport HitPredicate, Outcome
from .log_buffer cimport LogBuffer
from .outgoing cimport ID_BYTES, Outgoing, Queued
from .senders cimport Senders
from .table cimport Entry, Table

cdef enum:
    # seam.py numbers the kinds of events; the reactor's tests use its numbers.
    ACCEPT, READ, WRITE, RESET, DONE, PARTIAL, ARRIVE, REASON, CLEAR

cdef enum:
    READY_MAX = 256            # events of one turn
    RECEIVE_BYTES = 16384      # what one connection may read in one turn: as much as a request head may have
    BODY_BYTES = 65536         # and when it is in a body
    DURATION_BUCKETS = 13      # as many as seam.DURATION_BOUNDS_S, and one for what took longer

# What came from one connection, or what is left of it.
cdef struct Input:
    int fd
    const char *data
    size_t size

# One event for Python, found while the GIL was released.
cdef struct Report:
    int fd
    int kind
    uint32_t generation
    const char *data           # READ, DONE: what was read; PARTIAL: what came after the request; in the arena
    size_t data_len
    Queued partial             # PARTIAL: the answer that was sent in part
    size_t sent                # PARTIAL: how much of it
    int file                   # PARTIAL: what its body is read from, to be closed by Python; -1: memory

# Requests that begin with one whose answer may be published for it.
cdef struct Lack:
    Input input
    const char *path
    const char *line           # the request line
    uint32_t path_len, line_len
    int codings
    uint32_t client_len        # 0: that is the peer
    char client[FASTWS_CLIENT_BYTES]

# Counted since the start.
cdef struct Counts:
    uint64_t hits, not_modified, missing, filled
    uint64_t body_bytes, file_bytes
    uint64_t durations[DURATION_BUCKETS]
    double seconds


@cython.final
cdef class Turn:
    cdef Report reports[2 * READY_MAX]  # as many events, and as many connections that are accepted
    cdef int report_count
    cdef Lack lacks[READY_MAX]
    cdef int lack_count
    cdef uint64_t number       # of the turn; an entry was looked at in it, or not
    cdef fastws_moment moment
    cdef Counts counts
    cdef uint32_t prepared_id_len
    cdef char prepared_id[ID_BYTES]  # the name of the request that the last prepared answer was for
    cdef double begun          # when the answers being given were asked for
    cdef EpollSet _epoll
    cdef Table _table
    cdef HitPredicate _predicate
    cdef LogBuffer _log
    cdef Senders _senders
    cdef Outgoing _outgoing
    cdef bint _is_woken
    cdef bint _has_shaken      # so many hands in this turn that the others wait for the next one
    cdef int _accept_most      # how many connections are accepted in a turn
    cdef int _room             # how many may be kept
    cdef double _bounds_s[DURATION_BUCKETS - 1]
    cdef double _linger_s
    cdef size_t _linger_bytes
    cdef epoll_event _ready[READY_MAX]
    cdef Input _inputs[2 * READY_MAX]
    cdef char *_arena          # what is read lies here until the next turn
    cdef size_t _arena_used
    cdef fastws_head _head     # of the request being looked at
    cdef uint32_t _line_limit, _field_limit
    cdef size_t _head_limit
    cdef bint _by_sendfile
    cdef bint _looks           # at whom requests are from

    cdef int configure(self, settings) except -1
    cdef void tick(self) noexcept nogil
    cdef void run(self, double deadline, int room) noexcept nogil
    cdef inline bint is_over(self, double deadline) noexcept nogil:
        """Tell whether Python is wanted, though there may be no report."""
        return self._is_woken or self.moment.now >= deadline or self._log.is_full()
    cdef void answer(self, Input *input, bint may_lack, Entry *prepared) noexcept nogil
    cdef void hand_over_old(self) noexcept nogil
    cdef void measure(self, uint64_t hits) noexcept nogil
    cdef Report *report(self, int fd, int kind, const char *data, size_t size) noexcept nogil
    cdef void _take(self, int count) noexcept nogil
    cdef int _accept(self, int listener, int inputs) noexcept nogil
    cdef bint _look_at_new(self, int fd, Input *taken) noexcept nogil
    cdef void _look_at_parting(self) noexcept nogil
    cdef double _next_by_age(self) noexcept nogil
    cdef void _drop_old(self) noexcept nogil
    cdef bint _drop(self, int fd) noexcept nogil
    cdef bint _receive(self, int fd, Watched *watched, Input *taken) noexcept nogil
    cdef ssize_t _receive_otherwise(self, int fd, Watched *watched) noexcept nogil
    cdef void _note_handshake(self, int fd) noexcept nogil
    cdef bint _goes_on(self, int fd, Watched *watched) noexcept nogil
    cdef void _send_on(self, int fd, Watched *watched) noexcept nogil
    cdef Outcome _look_at_sender(self, int fd, Queued *answer, Entry *prepared, Outcome outcome) noexcept nogil
    cdef int _put(self, int fd, Queued *answer, const char *end) noexcept nogil
    cdef void _leave(self, Input *rest, bint closes, Queued *lacking) noexcept nogil
    cdef bint _flush(self, int fd, const char *end) noexcept nogil
    cdef ssize_t _send(self, int fd, int flags) noexcept nogil
    cdef bint _send_file(self, int fd, fastws_file *file, size_t budget) noexcept nogil
    cdef bint _waits(self, int fd) noexcept nogil
    cdef bint _settle(self, int fd, ssize_t sent, const char *end) noexcept nogil
    cdef bint _answer_from(self, int file, int fd, Queued *answer, const char *end) noexcept nogil
    cdef void _record(self, int fd, Queued *answer, size_t body_sent) noexcept nogil
