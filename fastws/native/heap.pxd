# Declarations of heap.h.

cdef extern from "heap.h" nogil:
    void fastws_share_one_heap()
