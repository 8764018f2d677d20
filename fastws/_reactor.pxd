# Declarations for _reactor.pyx: the system's interfaces that Cython does not ship, and an event.

from libc.stdint cimport uint32_t, uint64_t

from .hot.outgoing cimport Queued


cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_CLOEXEC, EFD_NONBLOCK
    int eventfd(unsigned int initial, int flags)

cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT, MSG_MORE
    ssize_t recv(int fd, void *buffer, size_t size, int flags)

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
