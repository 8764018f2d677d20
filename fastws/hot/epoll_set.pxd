# The epoll set and its records, for the reactor.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from ..native.accept cimport FASTWS_PEER_BYTES
from ..native.send_file cimport fastws_file
from ..native.tls_session cimport fastws_session, fastws_tls_worker
from .senders cimport Senders


cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLLERR, EPOLLHUP
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
    # seam.py numbers the manners.
    PLAIN, TLS

cdef enum:
    ROLE_NONE, ROLE_LISTENER, ROLE_CONNECTION, ROLE_WAKE

# What the reactor knows of one descriptor.
cdef struct Watched:
    PyObject *owner            # borrowed: who added it keeps it until remove(); NULL: the reactor keeps the connection
    double active              # monotonic seconds of the last read
    double listed_since        # monotonic seconds of joining the list by age that it is in; 0: it is in none
    bint is_watched            # epoll reports its events
    bint lingers               # the last answer is sent; what still comes is thrown away, file_sent bytes so far
    int older, newer           # its neighbours in that list, descriptors; -1: none
    uint32_t generation        # tells the descriptor's present use from earlier ones
    int role
    int manner                 # of a listener, and of the connections that it accepts
    int interest
    uint32_t events            # what epoll reports of it
    uint32_t peer_len
    fastws_session *session    # TLS, by which its bytes come and go; NULL: they are plain, or a transport's
    bint is_plain              # its bytes come and go as they are: by neither of the next two
    bint has_transport         # it is read with the GIL, and never written to from here
    bint is_trusted            # its fields are believed: it is a proxy's
    bint waits                 # for room, to send what that transport keeps
    fastws_file file           # being sent without Python's help; nothing is left of it otherwise
    size_t file_sent           # bytes of it so far
    char peer[FASTWS_PEER_BYTES]

# Connections by age, descriptors; -1: none.
cdef struct ByAge:
    int oldest, newest


cdef class EpollSet:
    cdef int fd
    cdef Senders senders
    cdef fastws_tls_worker *tls  # what sessions share; NULL: there are none
    cdef object contexts       # Python's, of those that go on and of those to come
    cdef Watched *records      # by descriptor; they move when one is added
    cdef int _room
    cdef int _pid              # a process that was forked from it has the same descriptors, and nothing to say
    cdef ByAge fresh           # of the connections that are kept, those that wait for a request
    cdef ByAge parting         # those that were answered for the last time, and are not watched
    cdef ByAge lingering       # those that were answered for the last time, and are
    cdef int kept_count        # of all three, and of those that were reported and have no owner yet

    cdef int watch(self, int fd, PyObject *owner, int role, int manner, double now) noexcept nogil
    cdef int record(self, int fd, PyObject *owner, int role, int manner, double now) noexcept nogil
    cdef int watch_recorded(self, int fd) noexcept nogil
    cdef bint _make_room(self, int fd) noexcept nogil
    cdef Watched *find(self, int fd, int role) except NULL
    cdef void unwatch(self, int fd) noexcept nogil
    cdef int set_interest(self, Watched *watched, int fd, int interest) noexcept nogil
    cdef int update(self, int fd) noexcept nogil
    cdef void end_session(self, int fd) noexcept nogil
    cdef void name(self, int fd, const char *peer, size_t size) noexcept nogil
    cdef void name_again(self) noexcept nogil
    cdef str peer_of(self, int fd)
    cdef bint keeps(self, int fd) noexcept nogil
    cdef bint can_keep(self, int manner) noexcept nogil
    cdef bint keep(self, int fd, const char *peer, size_t size, int manner, double now, bint is_watched) noexcept nogil
    cdef int own(self, int fd, PyObject *owner) noexcept nogil
    cdef bint linger(self, int fd, double now) noexcept nogil
    cdef bint linger_on(self, int fd) noexcept nogil
    cdef ByAge *_list_of(self, Watched *watched) noexcept nogil
    cdef void _join(self, ByAge *connections, int fd, double now) noexcept nogil
    cdef void let_go(self, int fd) noexcept nogil
    cdef bint drop(self, int fd) noexcept nogil
    cdef list list_kept(self)
    cdef void close(self) noexcept
