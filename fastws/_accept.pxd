# Declarations of _accept.h.

cdef extern from "_accept.h" nogil:
    enum:
        FASTWS_PEER_BYTES
    int fastws_accept(int listener, char *peer)
