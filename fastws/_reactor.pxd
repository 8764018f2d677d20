# Declarations for _reactor.pyx: the system's interfaces that Cython does not ship, and the reactor's records.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from ._hit cimport Queued
from ._sendfile cimport fastws_file


cdef extern from "netinet/in.h" nogil:
    struct sockaddr_in:
        int sin_addr           # their addresses only
    struct sockaddr_in6:
        int sin6_addr

cdef extern from "arpa/inet.h" nogil:
    const char *inet_ntop(int family, const void *address, char *text, unsigned int size)

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
        EPOLLIN, EPOLLOUT, EPOLLEXCLUSIVE
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout_ms)

cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_CLOEXEC, EFD_NONBLOCK
    int eventfd(unsigned int initial, int flags)

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    enum:
        MSG_DONTWAIT, MSG_NOSIGNAL, MSG_MORE
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct sockaddr_storage:
        unsigned short ss_family
    enum:
        AF_INET, AF_INET6, SOCK_NONBLOCK, SOCK_CLOEXEC
    int accept4(int fd, sockaddr *address, socklen_t *size, int flags)
    ssize_t recv(int fd, void *buffer, size_t size, int flags)
    ssize_t send(int fd, const void *buffer, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)

cdef enum:
    PEER_BYTES = 48            # the longest IPv6 address has 45 characters

# What the reactor knows of one descriptor.
cdef struct Watched:
    PyObject *owner            # borrowed: who added it keeps it until remove()
    double active              # monotonic seconds of the last read
    uint32_t generation        # tells the descriptor's present use from earlier ones
    int role
    int interest
    uint32_t peer_len
    fastws_file file           # being sent without Python's help; nothing is left of it otherwise
    size_t file_sent           # bytes of it so far
    char peer[PEER_BYTES]

# One event for Python, found while the GIL was released.
cdef struct Found:
    int fd
    int kind
    uint32_t generation
    const char *data           # READ, DONE: what was read; PARTIAL: what came after the request; in the arena
    size_t data_len
    Queued partial             # PARTIAL: the answer that was sent in part
    size_t sent                # PARTIAL: how much of it
    int file                   # PARTIAL: what its body is read from, to be closed by Python; -1: memory
