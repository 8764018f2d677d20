# stat(2), and a file's times in ns.

from libc.stdint cimport uint64_t

cdef extern from "sys/stat.h" nogil:
    struct stat_t "stat":
        uint64_t st_dev, st_ino
        unsigned int st_mode
        long long st_size
    int stat(const char *path, stat_t *status)
    int fstat(int fd, stat_t *status)

cdef extern from *:
    """
    #include <sys/stat.h>
    /* Unsigned, for a file's time may lie beyond what 64 bits of nanoseconds hold: it may wrap, then. */
    #define FASTWS_NS(t) ((long long)((unsigned long long)(t).tv_sec * 1000000000ULL + (unsigned long long)(t).tv_nsec))
    #define FASTWS_MTIME_NS(s) FASTWS_NS((s).st_mtim)
    #define FASTWS_CTIME_NS(s) FASTWS_NS((s).st_ctim)
    """
    long long FASTWS_MTIME_NS(stat_t status) nogil
    long long FASTWS_CTIME_NS(stat_t status) nogil
