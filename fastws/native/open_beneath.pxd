# Declarations of open_beneath.h: what lies below a directory, for the opener.

from .stat cimport stat_t

cdef extern from "open_beneath.h" nogil:
    # A descriptor, -1 with errno.
    int fastws_open_beneath(int directory, const char *path)
    # The same of a regular file of at most `most` bytes, whose status is written; errno 0 for another kind or size.
    int fastws_open_regular(const char *root, const char *path, size_t most, stat_t *status)
    # Whether all of a file of `size` bytes was read.
    bint fastws_read_whole(int fd, char *body, size_t size)
