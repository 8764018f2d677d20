# The response table's records, for the reactor that looks answers up in it.

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from ..native.stat cimport stat_t

cdef extern from "fcntl.h" nogil:
    enum:
        O_RDONLY, O_CLOEXEC, O_NONBLOCK, O_NOCTTY
    int open(const char *path, int flags)

# A file or directory that an answer depends on, in the state in which it did.
cdef struct Dependency:
    const char *path
    uint64_t device, inode
    long long size, mtime_ns, ctime_ns

cdef enum:
    MAX_DEPENDS = 4

# One published answer, in one piece of memory with all that a hit reads but the body: where there are many, each
# piece more is another wait for memory.
cdef struct Entry:
    Entry *next                # in its bucket
    Entry *next_dead
    PyObject *body_object      # bytes, and what owns them; both referenced by the entry, released with the GIL
    PyObject *content
    Dependency *depends        # these and the texts follow the entry
    const char *path
    const char *head
    const char *not_modified
    const char *etag
    const char *last_modified
    const char *body           # in body_object
    size_t body_len
    size_t cost                # what it counts for in the cache, bytes
    size_t place               # in the ring
    uint64_t hash
    uint64_t checked_turn      # the turn of the last look at its dependencies
    uint32_t path_len, head_len, not_modified_len, etag_len, last_modified_len
    int status
    uint32_t length_line       # where Content-Length stands in the head; 0: no ranges
    uint32_t after_length      # and where that line ends
    int codings
    int depend_count
    int body_file              # which of depends the body is read from; -1: it is in memory
    bint is_dead               # a dependency has changed; it is never used again
    bint is_used               # since the clock's hand last passed


cdef void lay_out(Entry *entry, int status, bytes head, bytes body)


cdef class Table:
    cdef Entry **_buckets
    cdef Entry **_ring         # every entry once, in no order: the CLOCK's face
    cdef Entry *_dead          # found stale, to be freed with the GIL
    cdef size_t _bucket_count, _entry_count, _ring_room, _hand, _cost, _cost_max
    cdef uint64_t _stale, _evicted

    cdef Entry *look_up(self, const char *path, uint32_t size, int codings) noexcept nogil
    cdef bint is_fresh(self, Entry *entry, uint64_t turn) noexcept nogil
    cdef int open_body(self, Entry *entry) noexcept nogil
    cdef bint has(self, bytes path, int codings, tuple depends, object content) except -1
    cdef int publish(self, object published) except -1
    cdef void _mark_stale(self, Entry *entry) noexcept nogil
    cdef void bury(self) noexcept
    cdef void clear(self, size_t cost_max) noexcept
    cdef dict counters(self)
    cdef void _link(self, Entry *entry) noexcept
    cdef void _unlink(self, Entry *entry) noexcept
    cdef void _evict(self) noexcept
    cdef bint _reserve(self) noexcept
