# Declarations of send_file.h: files on their way into a socket, for the reactor.

cdef extern from "send_file.h" nogil:
    ctypedef struct fastws_file:
        int fd
        long long offset       # of the next byte
        size_t left

    # True if it is to be called again when the socket has room.
    bint fastws_send_file(int socket, fastws_file *file, size_t budget, bint by_sendfile)
