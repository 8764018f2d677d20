# The epoll set and its records, for the reactor.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from ..native.accept cimport FASTWS_PEER_BYTES
from ..native.send_file cimport fastws_file


cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout_ms)

cdef enum:
    # seam.py numbers the interests; the reactor's tests use its numbers.
    IDLE, INPUT, OUTPUT, NOTHING

cdef enum:
    ROLE_NONE, ROLE_LISTENER, ROLE_CONNECTION, ROLE_WAKE

# What the reactor knows of one descriptor.
cdef struct Watched:
    PyObject *owner            # borrowed: who added it keeps it until remove(); NULL: the reactor keeps the connection
    double active              # monotonic seconds of the last read
    double kept_since          # monotonic seconds of accepting, of a connection that is kept; otherwise 0
    int older, newer           # its neighbours among those, descriptors; -1: none
    uint32_t generation        # tells the descriptor's present use from earlier ones
    int role
    int interest
    uint32_t peer_len
    bint has_transport         # it is read with the GIL, and never written to from here
    fastws_file file           # being sent without Python's help; nothing is left of it otherwise
    size_t file_sent           # bytes of it so far
    char peer[FASTWS_PEER_BYTES]


cdef class EpollSet:
    cdef int fd
    cdef Watched *records      # by descriptor; they move when one is added
    cdef int _room
    cdef int oldest, _newest   # of the connections that are kept; -1: none
    cdef int kept_count        # of those, and of those that were reported and have no owner yet

    cdef int watch(self, int fd, PyObject *owner, int role, double now) noexcept nogil
    cdef bint _make_room(self, int fd) noexcept nogil
    cdef Watched *find(self, int fd, int role) except NULL
    cdef void unwatch(self, int fd) noexcept nogil
    cdef int set_interest(self, Watched *watched, int fd, int interest) noexcept nogil
    cdef void name(self, int fd, const char *peer, size_t size) noexcept nogil
    cdef str peer_of(self, int fd)
    cdef bint keeps(self, int fd) noexcept nogil
    cdef bint keep(self, int fd, const char *peer, size_t size, double now) noexcept nogil
    cdef void own(self, int fd, PyObject *owner) noexcept nogil
    cdef void let_go(self, int fd) noexcept nogil
    cdef bint drop(self, int fd) noexcept nogil
    cdef list list_kept(self)
    cdef void close(self) noexcept
