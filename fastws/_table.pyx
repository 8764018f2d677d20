# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The response table: published answers by path, fresh as long as their files are, bounded by a CLOCK.

One reactor's own. ``look_up`` and ``is_fresh`` run without the GIL; everything that makes or frees an entry
holds it and is called by the same thread, so that no entry goes away while it is being used.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp
from posix.unistd cimport close

from ._stat cimport FASTWS_CTIME_NS, FASTWS_MTIME_NS, fstat, stat, stat_t

cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(str text)

cdef enum:
    # What an entry takes beside its texts: the record, and the headers and allocator's share of its objects.
    ENTRY_OVERHEAD = 1024


cdef class Table:
    """See ``backend.Reactor.publish``; ``_table.pxd`` lists what the reactor calls."""

    def __cinit__(self):
        self._bucket_count = 1024
        self._buckets = <Entry **>calloc(self._bucket_count, sizeof(Entry *))
        if self._buckets == NULL:
            raise MemoryError

    def __dealloc__(self):
        self.clear(0)
        free(self._buckets)
        free(self._ring)

    cdef Entry *look_up(self, const char *path, uint32_t size, int codings) noexcept nogil:
        cdef uint64_t hash = _hash(path, size)
        cdef Entry *entry = self._buckets[hash & (self._bucket_count - 1)]
        while entry != NULL:
            if entry.hash == hash and entry.path_len == size and not entry.is_dead:
                if (entry.codings < 0 or entry.codings == codings) and memcmp(entry.path, path, size) == 0:
                    return entry
            entry = entry.next
        return NULL

    cdef bint is_fresh(self, Entry *entry, uint64_t turn) noexcept nogil:
        """Look at what the answer depends on, once a turn."""
        cdef stat_t now
        cdef Dependency *known
        cdef int i
        if entry.checked_turn == turn:
            return True
        for i in range(entry.depend_count):
            known = &entry.depends[i]
            if stat(known.path, &now) != 0 or not _is_same(known, &now):
                self._mark_stale(entry)
                return False
        entry.checked_turn = turn
        return True

    cdef void _mark_stale(self, Entry *entry) noexcept nogil:
        entry.is_dead = True
        entry.next_dead, self._dead = self._dead, entry
        self._stale += 1

    cdef int open_body(self, Entry *entry) noexcept nogil:
        """Open the file that the body of a fresh entry is read from; -1 if it cannot be had as it was.

        What was opened decides: it is the file that Python once found to lie inside the root, or none.
        """
        cdef Dependency *known = &entry.depends[entry.body_file]
        cdef stat_t now
        cdef int fd = open(known.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        if fd >= 0 and (fstat(fd, &now) != 0 or not _is_same(known, &now)):
            close(fd)
            fd = -1
            self._mark_stale(entry)
        return fd

    cdef int publish(
        self,
        str path,
        int codings,
        bytes head,
        bytes not_modified_head,
        bytes body,
        str etag,
        str last_modified,
        tuple depends,
        object content,
        int body_file,
    ) except -1:
        """See ``backend.Reactor.publish``."""
        cdef bytes path_bytes = path.encode("latin-1")
        cdef bytes etag_bytes = etag.encode("latin-1")
        cdef bytes date_bytes = last_modified.encode("latin-1")
        cdef tuple names = tuple([PyUnicode_EncodeFSDefault(name) for name, _ in depends])
        cdef tuple owner = (path_bytes, head, not_modified_head, body, etag_bytes, date_bytes, names, content)
        cdef size_t cost = ENTRY_OVERHEAD + len(path_bytes) + len(head) + len(not_modified_head) + len(body)
        cdef Entry *old = self.look_up(path_bytes, <uint32_t>len(path_bytes), codings)
        cdef Entry *entry
        cdef Dependency known[MAX_DEPENDS]
        if old != NULL:
            self._unlink(old)
        self.bury()
        if len(depends) > MAX_DEPENDS or body_file >= len(depends) or not _spell(depends, names, known):
            return 0
        if cost > self._cost_max or not self._reserve():
            return 0
        while self._cost + cost > self._cost_max:
            self._evict()
        entry = <Entry *>calloc(1, sizeof(Entry))
        if entry == NULL:
            return 0
        entry.path, entry.path_len = PyBytes_AS_STRING(path_bytes), <uint32_t>len(path_bytes)
        entry.head, entry.head_len = PyBytes_AS_STRING(head), <uint32_t>len(head)
        entry.not_modified = PyBytes_AS_STRING(not_modified_head)
        entry.not_modified_len = <uint32_t>len(not_modified_head)
        entry.body, entry.body_len = PyBytes_AS_STRING(body), len(body)
        entry.body_object = <PyObject *>body
        entry.body_file = max(body_file, -1)
        if body_file >= 0:
            entry.body_len = known[body_file].size
        entry.etag, entry.etag_len = PyBytes_AS_STRING(etag_bytes), <uint32_t>len(etag_bytes)
        entry.last_modified, entry.last_modified_len = PyBytes_AS_STRING(date_bytes), <uint32_t>len(date_bytes)
        entry.codings, entry.cost = codings, cost
        entry.depends, entry.depend_count = known, <int>len(depends)
        Py_INCREF(owner)
        entry.owner = <PyObject *>owner
        self._link(entry)
        return 0

    cdef void _link(self, Entry *entry) noexcept:
        cdef Entry **bucket
        entry.hash = _hash(entry.path, entry.path_len)
        bucket = &self._buckets[entry.hash & (self._bucket_count - 1)]
        entry.next, bucket[0] = bucket[0], entry
        entry.place = self._entry_count
        self._ring[self._entry_count] = entry
        self._entry_count += 1
        self._cost += entry.cost

    cdef void _unlink(self, Entry *entry) noexcept:
        cdef Entry **place = &self._buckets[entry.hash & (self._bucket_count - 1)]
        cdef object owner = <object>entry.owner
        while place[0] != entry:
            place = &place[0].next
        place[0] = entry.next
        self._entry_count -= 1
        self._ring[entry.place] = self._ring[self._entry_count]
        self._ring[entry.place].place = entry.place
        self._cost -= entry.cost
        free(entry)
        Py_DECREF(owner)

    cdef void _evict(self) noexcept:
        """CLOCK: the hand passes over what was used since it last came by, and takes the next."""
        cdef Entry *entry
        while True:
            if self._hand >= self._entry_count:
                self._hand = 0
            entry = self._ring[self._hand]
            if not entry.is_used:
                break
            entry.is_used = False
            self._hand += 1
        self._unlink(entry)
        self._evicted += 1

    cdef void bury(self) noexcept:
        """Free the entries that were found stale."""
        cdef Entry *entry
        while self._dead != NULL:
            entry, self._dead = self._dead, self._dead.next_dead
            self._unlink(entry)

    cdef void clear(self, size_t cost_max) noexcept:
        """Forget everything, and take no more than ``cost_max`` bytes from now on."""
        self._cost_max = cost_max
        self._dead = NULL
        while self._entry_count:
            self._unlink(self._ring[self._entry_count - 1])

    cdef bint _reserve(self) noexcept:
        """Make room for one more entry in the ring, and enough buckets for short chains."""
        cdef size_t room, i, count
        cdef Entry **grown
        cdef Entry *entry
        if self._entry_count == self._ring_room:
            room = 2 * self._ring_room + 64
            grown = <Entry **>realloc(self._ring, room * sizeof(Entry *))
            if grown == NULL:
                return False
            self._ring, self._ring_room = grown, room
        if self._entry_count > self._bucket_count:
            count = 4 * self._bucket_count
            grown = <Entry **>calloc(count, sizeof(Entry *))
            if grown == NULL:
                return False
            for i in range(self._entry_count):
                entry = self._ring[i]
                entry.next, grown[entry.hash & (count - 1)] = grown[entry.hash & (count - 1)], entry
            free(self._buckets)
            self._buckets, self._bucket_count = grown, count
        return True

    cdef dict counters(self):
        return {
            "stale": self._stale,
            "evicted": self._evicted,
            "entries": self._entry_count,
            "entry_bytes": self._cost,
        }


cdef bint _is_same(Dependency *known, stat_t *now) noexcept nogil:
    return (
        now.st_ino == known.inode
        and now.st_dev == known.device
        and now.st_size == known.size
        and FASTWS_MTIME_NS(now[0]) == known.mtime_ns
        and FASTWS_CTIME_NS(now[0]) == known.ctime_ns
    )


cdef bint _spell(tuple depends, tuple names, Dependency *known) except -1:
    """Write what an answer depends on to ``known``; False if a file's time does not fit 64 bits of ns."""
    cdef int i
    for i in range(len(depends)):
        known[i].path = PyBytes_AS_STRING(names[i])
        try:
            known[i].device, known[i].inode, known[i].size, known[i].mtime_ns, known[i].ctime_ns = depends[i][1]
        except OverflowError:
            return False
    return True


cdef inline uint64_t _hash(const char *text, uint32_t size) noexcept nogil:
    """FNV-1a. Only names of files that exist get into the table, so nobody chooses colliding ones."""
    cdef uint64_t hash = 14695981039346656037ULL
    cdef uint32_t i
    for i in range(size):
        hash = (hash ^ <unsigned char>text[i]) * 1099511628211ULL
    return hash
