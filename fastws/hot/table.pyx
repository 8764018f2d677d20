# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The response table: published answers by path, fresh as long as their files are, bounded by a CLOCK.

One reactor's own. ``look_up`` and ``is_fresh`` run without the GIL; everything that makes or frees an entry
holds it and is called by the same thread, so that no entry goes away while it is being used.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset
from posix.unistd cimport close

from ..native.stat cimport FASTWS_CTIME_NS, FASTWS_MTIME_NS, fstat, stat, stat_t

cdef extern from "Python.h":
    bytes PyUnicode_EncodeFSDefault(str text)

cdef enum:
    # What an entry takes beside its texts: the record, and the headers and allocator's share of its objects.
    ENTRY_OVERHEAD = 1024


cdef class Table:
    """See ``backend.Reactor.publish``; ``table.pxd`` lists what the reactor calls."""

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

    cdef bint has(self, bytes path, int codings, tuple depends, object content) except -1:
        """See ``backend.Reactor.has``."""
        cdef Dependency known[MAX_DEPENDS]
        cdef Entry *entry = self.look_up(path, <uint32_t>len(path), codings)
        cdef int i
        if entry == NULL or entry.content != <PyObject *>content or entry.depend_count != len(depends):
            return False
        if not _read(depends, known):
            return False
        for i in range(entry.depend_count):
            if not _is_equal(&known[i], &entry.depends[i]):
                return False
        return True

    cdef int publish(self, object published) except -1:
        """Take a ``seam.Published``; see ``backend.Reactor.publish``."""
        cdef str path, etag, last_modified
        cdef bytes path_bytes, head, not_modified_head, body
        cdef tuple depends
        cdef object content
        cdef int codings, body_file
        cdef bint ranges
        cdef size_t cost
        cdef Entry *old
        cdef Entry *entry
        cdef Dependency known[MAX_DEPENDS]
        if not isinstance(published, tuple):
            raise TypeError("what is published is a seam.Published")
        (
            path, codings, head, not_modified_head, body, etag, last_modified, depends, content, body_file, ranges
        ) = <tuple>published
        path_bytes = path.encode("latin-1")
        cost = ENTRY_OVERHEAD + len(path_bytes) + len(head) + len(not_modified_head) + len(body)
        old = self.look_up(path_bytes, <uint32_t>len(path_bytes), codings)
        if old != NULL:
            self._unlink(old)
        self.bury()
        if len(depends) > MAX_DEPENDS or body_file >= len(depends) or not _read(depends, known):
            return 0
        if cost > self._cost_max or not self._reserve():
            return 0
        while self._cost + cost > self._cost_max:
            self._evict()
        entry = _copy(
            [path_bytes, head, not_modified_head, etag.encode("latin-1"), last_modified.encode("latin-1")],
            [PyUnicode_EncodeFSDefault(name) + b"\0" for name, _ in depends],
            known,
        )
        if entry == NULL:
            return 0
        entry.body, entry.body_len = PyBytes_AS_STRING(body), len(body)
        entry.body_file = max(body_file, -1)
        if body_file >= 0:
            entry.body_len = known[body_file].size
        if ranges and b"\r\nContent-Length: " in head:
            entry.length_line = <uint32_t>(head.find(b"\r\nContent-Length: ") + 2)
            entry.after_length = <uint32_t>(head.find(b"\r\n", entry.length_line) + 2)
        entry.status, entry.codings, entry.cost = 200, codings, cost
        Py_INCREF(body)
        Py_INCREF(content)
        entry.body_object, entry.content = <PyObject *>body, <PyObject *>content
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
        cdef object body = <object>entry.body_object, content = <object>entry.content
        while place[0] != entry:
            place = &place[0].next
        place[0] = entry.next
        self._entry_count -= 1
        self._ring[entry.place] = self._ring[self._entry_count]
        self._ring[entry.place].place = entry.place
        self._cost -= entry.cost
        free(entry)
        Py_DECREF(body)
        Py_DECREF(content)

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


cdef void lay_out(Entry *entry, int status, bytes head, bytes body):
    """Make ``entry``, which is in no table, a response of these bytes. The caller keeps them."""
    memset(entry, 0, sizeof(Entry))
    entry.status, entry.body_file = status, -1
    entry.head, entry.head_len = PyBytes_AS_STRING(head), <uint32_t>len(head)
    entry.body, entry.body_len, entry.body_object = PyBytes_AS_STRING(body), len(body), <PyObject *>body


cdef Entry *_copy(list texts, list names, Dependency *known) except? NULL:
    """Return a new entry with these texts and dependencies, NULL if there is no memory for it.

    ``texts`` are path, head, head of the 304, entity tag and date; ``names`` those of ``known``, each with its NUL.
    """
    cdef size_t known_size = len(names) * sizeof(Dependency)
    cdef size_t room_size = sizeof(Entry) + known_size
    cdef Entry *entry
    cdef char *room
    cdef uint32_t size
    cdef bytes text
    cdef int i
    for text in texts:
        room_size += len(text)
    for text in names:
        room_size += len(text)
    entry = <Entry *>malloc(room_size)
    if entry == NULL:
        return NULL
    memset(entry, 0, sizeof(Entry))
    entry.depends, entry.depend_count = <Dependency *>(entry + 1), <int>len(names)
    memcpy(entry.depends, known, known_size)
    room = <char *>entry.depends + known_size
    entry.path = _put(&room, texts[0], &entry.path_len)
    for i in range(entry.depend_count):
        entry.depends[i].path = _put(&room, names[i], &size)
    entry.head = _put(&room, texts[1], &entry.head_len)
    entry.not_modified = _put(&room, texts[2], &entry.not_modified_len)
    entry.etag = _put(&room, texts[3], &entry.etag_len)
    entry.last_modified = _put(&room, texts[4], &entry.last_modified_len)
    return entry


cdef const char *_put(char **room, bytes text, uint32_t *size) noexcept:
    """Copy ``text`` to where ``room`` points, and move that behind it."""
    cdef char *begin = room[0]
    size[0] = <uint32_t>len(text)
    memcpy(begin, PyBytes_AS_STRING(text), size[0])
    room[0] += size[0]
    return begin


cdef bint _is_same(Dependency *known, stat_t *now) noexcept nogil:
    return (
        now.st_ino == known.inode
        and now.st_dev == known.device
        and now.st_size == known.size
        and FASTWS_MTIME_NS(now[0]) == known.mtime_ns
        and FASTWS_CTIME_NS(now[0]) == known.ctime_ns
    )


cdef bint _is_equal(Dependency *one, Dependency *other) noexcept nogil:
    return (
        one.inode == other.inode
        and one.device == other.device
        and one.size == other.size
        and one.mtime_ns == other.mtime_ns
        and one.ctime_ns == other.ctime_ns
    )


cdef bint _read(tuple depends, Dependency *known) except -1:
    """Write the states that an answer depends on to ``known``; False if a time does not fit 64 bits of ns."""
    cdef int i
    for i in range(len(depends)):
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
