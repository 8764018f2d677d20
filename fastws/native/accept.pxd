# Declarations of accept.h.

cdef extern from "accept.h" nogil:
    enum:
        FASTWS_PEER_BYTES
    int fastws_accept(int listener, char *peer)
