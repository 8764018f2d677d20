# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The compiled reactor: epoll, and the answers that Python has published, replayed without the GIL.

Twin of ``_reactor_py.py``; the contract of both is ``backend.Reactor``. Between ``wait`` and its return nothing
below touches a Python object: the bytes of a published answer are held by its entry's ``owner``, and entries are
freed only here, with the GIL, by the thread whose reactor this is. ``docs/design.md`` explains turns,
freshness and ownership.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport close, read, write

from ._line cimport (
    FASTWS_LINE_ESCAPED,
    FASTWS_LINE_FIXED,
    fastws_put_combined,
    fastws_put_json,
    fastws_text,
)
from ._scan cimport FASTWS_MAX_FIELDS, fastws_field, fastws_head, fastws_scan_head

from .events import PartialSend

cdef extern from "time.h" nogil:
    struct tm:
        int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday
        long tm_gmtoff
    ctypedef long time_t
    tm *gmtime_r(const time_t *time, tm *result)
    tm *localtime_r(const time_t *time, tm *result)

cdef extern from "sys/stat.h" nogil:
    int stat(const char *path, stat_t *status)

cdef enum:
    # events.py names these; a test compares them.
    ACCEPT, READ, WRITE, RESET, DONE, PARTIAL

cdef enum:
    IDLE, INPUT, OUTPUT

cdef enum:
    ROLE_NONE, ROLE_LISTENER, ROLE_CONNECTION, ROLE_WAKE

cdef enum:
    LOG_OFF, LOG_COMBINED, LOG_JSON

cdef enum:
    TAIL_PERSISTENT, TAIL_KEEP_ALIVE, TAIL_CLOSE, TAILS

cdef enum:
    READY_MAX = 256            # events of one turn
    RECEIVE_BYTES = 16384      # what one connection may read in one turn: as much as a request head may have
    BODY_BYTES = 65536         # and when it is in a body
    ARENA_BYTES = 2097152      # what all may read in one turn; only what is touched takes memory
    QUEUE_MAX = 64             # answers in one sendmsg
    LOG_FULL_BYTES = 65536     # the buffer is handed over at this size; nginx: buffer=64k
    ENTRY_OVERHEAD = 1024      # what an entry takes beside its texts: the record, and the objects' headers
    MEMO_SLOTS = 64            # Accept-Encoding values remembered; browsers have a dozen
    MEMO_TEXT = 96
    HEADERS_MISS = -1

cdef struct Memo:
    uint32_t size
    int codings
    char text[MEMO_TEXT]

cdef struct Input:
    int fd
    const char *data
    size_t size

cdef const char **DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
cdef const char **MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


cdef class Reactor:
    """See ``backend.Reactor``."""

    side = "compiled"
    replays = True

    cdef int _epoll, _wake
    cdef Watched *_watched
    cdef int _watched_room
    cdef epoll_event _ready[READY_MAX]
    cdef Input _inputs[READY_MAX]
    cdef Found _found[READY_MAX]
    cdef int _found_count
    cdef bint _woken
    cdef char *_arena
    cdef size_t _arena_used
    # the moment
    cdef uint64_t _turn
    cdef double _now
    cdef long _second
    cdef char _tails[TAILS][96]
    cdef uint32_t _tail_len[TAILS]
    cdef char _log_time[40]
    # the access log
    cdef int _log_format
    cdef char *_log
    cdef size_t _log_used, _log_room
    # the response table
    cdef Entry **_buckets
    cdef Entry **_ring
    cdef Entry *_dead
    cdef size_t _bucket_count, _entry_count, _ring_room, _hand, _cost, _cost_max
    # the settings of a hit
    cdef uint32_t _line_limit, _field_limit
    cdef size_t _head_limit
    cdef bint _takes_get, _takes_head, _takes_1_0, _takes_1_1, _is_draining
    cdef int _default_codings
    cdef Memo _memo[MEMO_SLOTS]
    cdef uint32_t _memo_next
    # the request being looked at, and the answers gathered
    cdef fastws_head _head
    cdef Queued _queue[QUEUE_MAX]
    cdef iovec _iov[3 * QUEUE_MAX]
    cdef int _queued, _iov_used
    # counted since the start
    cdef uint64_t _hits, _hits_not_modified, _hit_bytes, _stale, _evicted
    cdef double _hit_seconds

    def __cinit__(self):
        self._epoll = self._wake = -1
        self._arena = <char *>malloc(ARENA_BYTES)
        self._bucket_count = 1024
        self._buckets = <Entry **>calloc(self._bucket_count, sizeof(Entry *))
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        self._wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        self._second = -1
        if self._arena == NULL or self._buckets == NULL:
            raise MemoryError
        if self._epoll < 0 or self._wake < 0:
            raise OSError(errno, "epoll_create1 or eventfd failed")
        self._watch(self._wake, NULL, ROLE_WAKE, EPOLLIN)
        self._tick()

    def __dealloc__(self):
        self.close()
        free(self._watched)
        free(self._arena)
        free(self._log)
        free(self._buckets)
        free(self._ring)

    def close(self):
        """See ``backend.Reactor.close``."""
        self._forget_all()
        if self._epoll >= 0:
            close(self._epoll)
        if self._wake >= 0:
            close(self._wake)
        self._epoll = self._wake = -1

    def configure(self, *, limits, methods, versions, size_t cache_bytes, str log_format, int default_codings):
        """See ``backend.Reactor.configure``."""
        self._forget_all()
        self._line_limit, self._head_limit = limits.request_line_bytes, limits.head_bytes
        self._field_limit = min(limits.field_count, FASTWS_MAX_FIELDS)
        self._takes_get, self._takes_head = "GET" in methods, "HEAD" in methods
        self._takes_1_0, self._takes_1_1 = "HTTP/1.0" in versions, "HTTP/1.1" in versions
        self._cost_max = cache_bytes
        self._log_format = {"off": LOG_OFF, "combined": LOG_COMBINED, "json": LOG_JSON}[log_format]
        self._default_codings = default_codings
        memset(self._memo, 0, sizeof(self._memo))
        self._second = -1
        self._tick()

    # Watching

    cdef int _watch(self, int fd, PyObject *owner, int role, uint32_t mask) except -1:
        cdef epoll_event event
        cdef int room
        cdef Watched *grown
        if fd >= self._watched_room:
            room = max(64, 2 * self._watched_room, fd + 1)
            grown = <Watched *>realloc(self._watched, room * sizeof(Watched))
            if grown == NULL:
                raise MemoryError
            memset(&grown[self._watched_room], 0, (room - self._watched_room) * sizeof(Watched))
            self._watched, self._watched_room = grown, room
        self._watched[fd].owner = owner
        self._watched[fd].role = role
        self._watched[fd].interest = IDLE
        self._watched[fd].generation += 1
        self._watched[fd].active = self._now
        event.events = mask
        event.data.u64 = (<uint64_t>self._watched[fd].generation << 32) | <uint32_t>fd
        if epoll_ctl(self._epoll, EPOLL_CTL_ADD, fd, &event) < 0:
            self._watched[fd].role = ROLE_NONE
            raise OSError(errno, "epoll_ctl failed")
        return 0

    def add_listener(self, int fd, owner):
        """See ``backend.Reactor.add_listener``."""
        # One worker is woken for a new connection, not all of them.
        self._watch(fd, <PyObject *>owner, ROLE_LISTENER, EPOLLIN | EPOLLEXCLUSIVE)

    def remove_listener(self, int fd):
        """See ``backend.Reactor.remove_listener``."""
        self._watched[fd].role = ROLE_NONE
        epoll_ctl(self._epoll, EPOLL_CTL_DEL, fd, NULL)

    def add(self, int fd, owner, str peer):
        """See ``backend.Reactor.add``."""
        cdef bytes text = peer.encode("latin-1")[: sizeof(self._watched.peer)]
        self._watch(fd, <PyObject *>owner, ROLE_CONNECTION, EPOLLIN)
        self._watched[fd].peer_len = <uint32_t>len(text)
        memcpy(self._watched[fd].peer, <const char *>text, len(text))

    def remove(self, int fd):
        """See ``backend.Reactor.remove``."""
        # Closing takes the descriptor out of the epoll set; events on their way have an old generation.
        self._watched[fd].role = ROLE_NONE
        self._watched[fd].owner = NULL
        self._watched[fd].generation += 1

    def set_interest(self, int fd, int interest):
        """See ``backend.Reactor.set_interest``."""
        cdef Watched *watched = &self._watched[fd]
        cdef epoll_event event
        cdef int before = watched.interest
        watched.interest = interest
        if (before == OUTPUT) == (interest == OUTPUT):
            return
        event.events = EPOLLOUT if interest == OUTPUT else EPOLLIN
        event.data.u64 = (<uint64_t>watched.generation << 32) | <uint32_t>fd
        if epoll_ctl(self._epoll, EPOLL_CTL_MOD, fd, &event) < 0:
            raise OSError(errno, "epoll_ctl failed")

    def last_activity(self, int fd):
        """See ``backend.Reactor.last_activity``."""
        return self._watched[fd].active

    def wake(self):
        """See ``backend.Reactor.wake``."""
        cdef uint64_t one = 1
        if self._wake >= 0:
            write(self._wake, &one, sizeof(one))

    # One turn after another

    def wait(self, double deadline):
        """See ``backend.Reactor.wait``."""
        self._bury()
        with nogil:
            self._run(deadline)
        return self._report()

    cdef void _run(self, double deadline) noexcept nogil:
        cdef int count
        cdef double left
        self._woken = False
        while True:
            left = deadline - self._now
            # Rounded up: a wait that ends a moment before its deadline would be repeated at once.
            count = epoll_wait(self._epoll, self._ready, READY_MAX, <int>(left * 1000) + 1 if left > 0 else 0)
            self._turn += 1
            self._tick()
            if count > 0:
                self._take_turn(count)
            if self._found_count or self._woken or self._now >= deadline or self._log_used >= LOG_FULL_BYTES:
                return

    cdef void _take_turn(self, int count) noexcept nogil:
        """Receive from every connection that is ready, then answer.

        Receiving comes first, for all: so every request was sent before this turn's first look at the file
        system, and an answer that is fresh by that look is fresh for the request.
        """
        cdef int i, fd, inputs = 0
        cdef Watched *watched
        cdef double begun = self._now
        cdef uint64_t hits = self._hits
        for i in range(count):
            fd = <int><uint32_t>self._ready[i].data.u64
            watched = &self._watched[fd]
            if watched.generation != <uint32_t>(self._ready[i].data.u64 >> 32):
                continue
            if watched.role == ROLE_CONNECTION and watched.interest != OUTPUT:
                inputs += self._receive(fd, watched, &self._inputs[inputs])
            elif watched.role == ROLE_CONNECTION:
                self._find(fd, WRITE, NULL, 0)
            elif watched.role == ROLE_LISTENER:
                self._find(fd, ACCEPT, NULL, 0)
            elif watched.role == ROLE_WAKE:
                self._woken = True
                read(fd, self._arena + self._arena_used, 8)
        for i in range(inputs):
            self._answer(self._inputs[i].fd, self._inputs[i].data, self._inputs[i].size)
        if self._hits != hits:
            self._tick()
            self._hit_seconds += (self._now - begun) * <double>(self._hits - hits)

    cdef int _receive(self, int fd, Watched *watched, Input *taken) noexcept nogil:
        """Read what is there; return 1 if it may hold requests that can be answered from the table."""
        cdef char *data = self._arena + self._arena_used
        cdef size_t room = RECEIVE_BYTES if watched.interest == IDLE else BODY_BYTES
        cdef ssize_t size
        if ARENA_BYTES - self._arena_used < room:
            return 0  # it is still ready at the next turn
        size = recv(fd, data, room, MSG_DONTWAIT)
        if size < 0:
            if errno != EAGAIN and errno != EINTR:
                self._find(fd, RESET, NULL, 0)
            return 0
        watched.active = self._now
        self._arena_used += size
        if size == 0 or watched.interest != IDLE:
            self._find(fd, READ, data, size)
            return 0
        taken.fd, taken.data, taken.size = fd, data, size
        return 1

    cdef Found *_find(self, int fd, int kind, const char *data, size_t size) noexcept nogil:
        cdef Found *found = &self._found[self._found_count]
        self._found_count += 1
        found.fd, found.kind, found.data, found.data_len = fd, kind, data, size
        found.generation = self._watched[fd].generation
        return found

    cdef list _report(self):
        cdef list events = []
        cdef Found *found
        cdef int i
        for i in range(self._found_count):
            found = &self._found[i]
            data = None
            if found.kind == READ or found.kind == DONE:
                data = PyBytes_FromStringAndSize(found.data, found.data_len)
            elif found.kind == PARTIAL:
                data = self._partial(found)
            events.append((<object>self._watched[found.fd].owner, found.kind, data))
        self._found_count = 0
        self._arena_used = 0
        return events

    cdef object _partial(self, Found *found):
        cdef Queued *answer = &found.partial
        cdef bytes head = answer.head[: answer.head_len] + answer.tail[: answer.tail_len]
        cdef size_t offset = max(<ssize_t>0, <ssize_t>found.sent - len(head))
        return PartialSend(
            request=answer.request[: answer.request_len],
            status=answer.status,
            head=head[found.sent :],
            body=<object>answer.entry.body_object if answer.body_len else b"",
            offset=offset,
            close=bool(answer.closes),
            rest=found.data[: found.data_len],
        )

    # Hits

    cdef void _answer(self, int fd, const char *data, size_t size) noexcept nogil:
        """Answer the requests at ``data`` in their order, up to the first that Python must decide."""
        cdef size_t offset = 0
        cdef long length
        cdef Queued *answer
        cdef bint closes = False
        self._queued = self._iov_used = 0
        while offset < size and not closes:
            length = fastws_scan_head(
                data + offset, size - offset, self._line_limit, self._head_limit, self._field_limit, &self._head
            )
            if length <= 0:
                break
            answer = &self._queue[self._queued]
            if not self._match(answer):
                break
            answer.request, answer.request_len = data + offset, <uint32_t>length
            self._gather(answer)
            closes = answer.closes
            offset += length
            if self._queued == QUEUE_MAX and not self._flush(fd, data + size):
                return
        if self._queued and not self._flush(fd, data + size):
            return
        if closes:
            self._find(fd, DONE, data + offset, size - offset)
        elif offset < size:
            self._find(fd, READ, data + offset, size - offset)

    cdef bint _match(self, Queued *answer) noexcept nogil:
        """The hit predicate. Whatever needs a rule is a miss: Python knows the rules."""
        cdef fastws_head *head = &self._head
        cdef const char *query
        cdef uint32_t path_len = head.target_len
        cdef bint is_head, is_1_0
        cdef int codings = HEADERS_MISS
        cdef fastws_field *none_match = NULL
        cdef fastws_field *modified_since = NULL
        cdef Entry *entry
        if head.method_len == 3 and memcmp(head.method, b"GET", 3) == 0 and self._takes_get:
            is_head = False
        elif head.method_len == 4 and memcmp(head.method, b"HEAD", 4) == 0 and self._takes_head:
            is_head = True
        else:
            return False
        if memcmp(head.version, b"HTTP/1.1", 8) == 0 and self._takes_1_1:
            is_1_0 = False
        elif memcmp(head.version, b"HTTP/1.0", 8) == 0 and self._takes_1_0:
            is_1_0 = True
        else:
            return False
        if not self._read_fields(answer, is_1_0, &codings, &none_match, &modified_since):
            return False
        query = <const char *>memchr(head.target, c"?", head.target_len)
        if query != NULL:
            path_len = <uint32_t>(query - head.target)
            if memchr(query, c"#", head.target_len - path_len) != NULL:
                return False
        entry = self._look_up(head.target, path_len, codings)
        if entry == NULL or not self._is_fresh(entry):
            return False
        answer.entry, answer.status = entry, 200
        answer.head, answer.head_len = entry.head, entry.head_len
        answer.body_len = 0 if is_head else entry.body_len
        # Only a precondition that repeats the entry's own validator is decided here.
        if none_match != NULL:
            if not _equals(none_match, entry.etag, entry.etag_len):
                return False
            answer.status = 304
        elif modified_since != NULL:
            if entry.last_modified_len == 0 or not _equals(
                modified_since, entry.last_modified, entry.last_modified_len
            ):
                return False
            answer.status = 304
        if answer.status == 304:
            answer.head, answer.head_len, answer.body_len = entry.not_modified, entry.not_modified_len, 0
        answer.line, answer.line_len = head.method, head.line_len
        entry.is_used = True
        return True

    cdef bint _read_fields(
        self,
        Queued *answer,
        bint is_1_0,
        int *codings,
        fastws_field **none_match,
        fastws_field **modified_since,
    ) noexcept nogil:
        """Look for the fields that may change the answer; False if one of them needs Python.

        Every field that the site looks at is named here; a test compares. What is not named cannot change a
        published answer, among it Authorization and Accept: what depends on them is never published.
        """
        cdef fastws_field *field
        cdef fastws_field *host = NULL
        cdef fastws_field *connection = NULL
        cdef fastws_field *encoding = NULL
        cdef fastws_field *referer = NULL
        cdef fastws_field *agent = NULL
        cdef fastws_field **seen
        cdef uint32_t i
        cdef int tail
        for i in range(self._head.field_count):
            field = &self._head.fields[i]
            seen = NULL
            if field.name_len == 4:
                if _is_name(field, b"host"):
                    seen = &host
            elif field.name_len == 5:
                if _is_name(field, b"range"):
                    return False
            elif field.name_len == 6:
                if _is_name(field, b"expect"):
                    return False
            elif field.name_len == 7:
                if _is_name(field, b"referer"):
                    seen = &referer
            elif field.name_len == 8:
                if _is_name(field, b"if-match") or _is_name(field, b"if-range"):
                    return False
            elif field.name_len == 10:
                if _is_name(field, b"connection"):
                    seen = &connection
                elif _is_name(field, b"user-agent"):
                    seen = &agent
            elif field.name_len == 13:
                if _is_name(field, b"if-none-match"):
                    seen = none_match
            elif field.name_len == 14:
                if _is_name(field, b"content-length"):
                    return False
            elif field.name_len == 15:
                if _is_name(field, b"accept-encoding"):
                    seen = &encoding
            elif field.name_len == 17:
                if _is_name(field, b"transfer-encoding"):
                    return False
                if _is_name(field, b"if-modified-since"):
                    seen = modified_since
            elif field.name_len == 19:
                if _is_name(field, b"if-unmodified-since"):
                    return False
            if seen != NULL:
                if seen[0] != NULL:
                    return False  # repeated: a list, or an error
                seen[0] = field
        if host == NULL:
            if not is_1_0:
                return False
        elif not _is_plain_host(host):
            return False
        tail = TAIL_CLOSE if is_1_0 else TAIL_PERSISTENT
        if connection != NULL:
            if connection.value_len == 10 and _matches(connection.value, b"keep-alive", 10):
                tail = TAIL_KEEP_ALIVE if is_1_0 else TAIL_PERSISTENT
            elif connection.value_len == 5 and _matches(connection.value, b"close", 5):
                tail = TAIL_CLOSE
            else:
                return False
        if self._is_draining:
            tail = TAIL_CLOSE
        answer.closes = tail == TAIL_CLOSE
        answer.tail, answer.tail_len = self._tails[tail], self._tail_len[tail]
        codings[0] = self._default_codings if encoding == NULL else self._recall_codings(encoding)
        answer.referer, answer.referer_len = NULL, 0
        answer.agent, answer.agent_len = NULL, 0
        if referer != NULL:
            answer.referer, answer.referer_len = referer.value, referer.value_len
        if agent != NULL:
            answer.agent, answer.agent_len = agent.value, agent.value_len
        return True

    cdef int _recall_codings(self, fastws_field *field) noexcept nogil:
        cdef Memo *memo
        cdef int i
        for i in range(MEMO_SLOTS):
            memo = &self._memo[i]
            if memo.size == 0:
                break
            if memo.size == field.value_len and memcmp(memo.text, field.value, field.value_len) == 0:
                return memo.codings
        return HEADERS_MISS

    cdef void _gather(self, Queued *answer) noexcept nogil:
        cdef iovec *iov = &self._iov[self._iov_used]
        iov[0].iov_base, iov[0].iov_len = <void *>answer.head, answer.head_len
        iov[1].iov_base, iov[1].iov_len = <void *>answer.tail, answer.tail_len
        self._iov_used += 2
        if answer.body_len:
            iov[2].iov_base, iov[2].iov_len = <void *>answer.entry.body, answer.body_len
            self._iov_used += 1
        self._queued += 1

    cdef bint _flush(self, int fd, const char *end) noexcept nogil:
        """Send what is gathered. False: not all was taken, and an event says what is left; ``end`` is where
        the connection's input ends."""
        cdef msghdr message
        cdef ssize_t sent
        cdef size_t total
        cdef int i
        cdef Queued *answer
        cdef Found *found
        memset(&message, 0, sizeof(message))
        message.msg_iov, message.msg_iovlen = self._iov, self._iov_used
        sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < 0 and errno != EAGAIN and errno != EINTR:
            for i in range(self._queued):
                self._record(fd, &self._queue[i], 0)
            self._find(fd, RESET, NULL, 0)
            return False
        sent = max(sent, 0)
        for i in range(self._queued):
            answer = &self._queue[i]
            total = answer.head_len + answer.tail_len + answer.body_len
            if <size_t>sent < total:
                if sent == 0:
                    self._find(fd, READ, answer.request, end - answer.request)
                else:
                    found = self._find(fd, PARTIAL, answer.request + answer.request_len, 0)
                    found.data_len = end - found.data
                    found.partial, found.sent = answer[0], sent
                return False
            sent -= total
            self._record(fd, answer, answer.body_len)
        self._queued = self._iov_used = 0
        return True

    # The access log

    cdef void _record(self, int fd, Queued *answer, size_t body_sent) noexcept nogil:
        """Count an answer that is over, and write its access line."""
        cdef fastws_text peer, user, time, line, referer, agent
        cdef char *out
        self._hits += 1
        self._hits_not_modified += answer.status == 304
        self._hit_bytes += body_sent
        if self._log_format == LOG_OFF:
            return
        if not self._reserve_log(
            FASTWS_LINE_FIXED + FASTWS_LINE_ESCAPED * (answer.line_len + answer.referer_len + answer.agent_len)
        ):
            return  # out of memory: the line is lost, the answer is not
        peer.data, peer.size = self._watched[fd].peer, self._watched[fd].peer_len
        user.data, user.size = NULL, 0
        time.data, time.size = self._log_time + 1, <unsigned char>self._log_time[0]
        line.data, line.size = answer.line, answer.line_len
        referer.data, referer.size = answer.referer, answer.referer_len
        agent.data, agent.size = answer.agent, answer.agent_len
        out = self._log + self._log_used
        if self._log_format == LOG_JSON:
            out = fastws_put_json(out, peer, user, time, line, answer.status, body_sent, referer, agent)
        else:
            out = fastws_put_combined(out, peer, user, time, line, answer.status, body_sent, referer, agent)
        self._log_used = out - self._log

    cdef bint _reserve_log(self, size_t size) noexcept nogil:
        cdef size_t room
        cdef char *grown
        if self._log_room - self._log_used < size:
            room = 2 * self._log_room + size + LOG_FULL_BYTES
            grown = <char *>realloc(self._log, room)
            if grown == NULL:
                return False
            self._log, self._log_room = grown, room
        return True

    def log(self, bytes line):
        """See ``backend.Reactor.log``."""
        if self._log_format != LOG_OFF and self._reserve_log(len(line)):
            memcpy(self._log + self._log_used, <const char *>line, len(line))
            self._log_used += len(line)

    @property
    def log_is_full(self):
        """See ``backend.Reactor.log_is_full``."""
        return self._log_used >= LOG_FULL_BYTES

    def take_log(self):
        """See ``backend.Reactor.take_log``."""
        lines = PyBytes_FromStringAndSize(self._log, self._log_used)
        self._log_used = 0
        return lines

    # The moment

    cdef void _tick(self) noexcept nogil:
        cdef timespec moment
        cdef time_t second
        clock_gettime(CLOCK_MONOTONIC, &moment)
        self._now = moment.tv_sec + moment.tv_nsec / 1e9
        clock_gettime(CLOCK_REALTIME, &moment)
        second = moment.tv_sec
        if second != self._second:
            self._second = second
            self._spell(second)

    cdef void _spell(self, time_t second) noexcept nogil:
        """Write the texts of this second: the ends of response heads, and the time of access lines."""
        cdef tm utc, local
        cdef char date[40]
        cdef const char *endings[TAILS]
        cdef int i
        cdef long zone
        gmtime_r(&second, &utc)
        snprintf(date, sizeof(date), b"Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", DAYS[utc.tm_wday], utc.tm_mday,
                 MONTHS[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec)
        endings[TAIL_PERSISTENT] = b"\r\n"
        endings[TAIL_KEEP_ALIVE] = b"Connection: keep-alive\r\n\r\n"
        endings[TAIL_CLOSE] = b"Connection: close\r\n\r\n"
        for i in range(TAILS):
            self._tail_len[i] = <uint32_t>snprintf(self._tails[i], sizeof(self._tails[i]), b"%s%s", date, endings[i])
        localtime_r(&second, &local)
        zone = local.tm_gmtoff if local.tm_gmtoff >= 0 else -local.tm_gmtoff
        zone = zone // 3600 * 100 + zone % 3600 // 60
        if self._log_format == LOG_JSON:
            i = snprintf(self._log_time + 1, sizeof(self._log_time) - 1, b"%04d-%02d-%02dT%02d:%02d:%02d%c%04ld",
                         local.tm_year + 1900, local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min,
                         local.tm_sec, c"-" if local.tm_gmtoff < 0 else c"+", zone)
        else:
            i = snprintf(self._log_time + 1, sizeof(self._log_time) - 1, b"%02d/%s/%04d:%02d:%02d:%02d %c%04ld",
                         local.tm_mday, MONTHS[local.tm_mon], local.tm_year + 1900, local.tm_hour, local.tm_min,
                         local.tm_sec, c"-" if local.tm_gmtoff < 0 else c"+", zone)
        self._log_time[0] = <char>i  # its own length first

    # The response table

    cdef Entry *_look_up(self, const char *path, uint32_t size, int codings) noexcept nogil:
        cdef uint64_t hash = _hash(path, size)
        cdef Entry *entry = self._buckets[hash & (self._bucket_count - 1)]
        while entry != NULL:
            if entry.hash == hash and entry.path_len == size and not entry.is_dead:
                if (entry.codings < 0 or entry.codings == codings) and memcmp(entry.path, path, size) == 0:
                    return entry
            entry = entry.next
        return NULL

    cdef bint _is_fresh(self, Entry *entry) noexcept nogil:
        """Look at what the answer depends on, once a turn."""
        cdef stat_t now
        cdef Dependency *known
        cdef int i
        if entry.checked_turn == self._turn:
            return True
        for i in range(entry.depend_count):
            known = &entry.depends[i]
            if (
                stat(known.path, &now) != 0
                or now.st_ino != known.inode
                or now.st_dev != known.device
                or now.st_size != known.size
                or FASTWS_MTIME_NS(now) != known.mtime_ns
                or FASTWS_CTIME_NS(now) != known.ctime_ns
            ):
                entry.is_dead = True
                entry.next_dead, self._dead = self._dead, entry
                self._stale += 1
                return False
        entry.checked_turn = self._turn
        return True

    def publish(
        self,
        str path,
        int codings,
        bytes head,
        bytes not_modified_head,
        bytes body,
        str etag,
        str last_modified,
        tuple depends,
        content,
    ):
        """See ``backend.Reactor.publish``."""
        cdef bytes path_bytes = path.encode("latin-1")
        cdef bytes etag_bytes = etag.encode("latin-1")
        cdef bytes date_bytes = last_modified.encode("latin-1")
        cdef tuple names = tuple([_file_name(name) for name, _ in depends])
        cdef tuple owner = (path_bytes, head, not_modified_head, body, etag_bytes, date_bytes, names, content)
        cdef size_t cost = ENTRY_OVERHEAD + len(path_bytes) + len(head) + len(not_modified_head) + len(body)
        cdef Entry *old = self._look_up(path_bytes, <uint32_t>len(path_bytes), codings)
        cdef Entry *entry
        cdef int i
        self._bury()
        if old != NULL and not old.is_dead:
            self._unlink(old)
        if cost > self._cost_max or len(depends) > MAX_DEPENDS or not self._reserve_ring():
            return
        while self._cost + cost > self._cost_max:
            self._evict()
        entry = <Entry *>calloc(1, sizeof(Entry))
        if entry == NULL:
            return
        entry.path, entry.path_len = PyBytes_AS_STRING(path_bytes), <uint32_t>len(path_bytes)
        entry.head, entry.head_len = PyBytes_AS_STRING(head), <uint32_t>len(head)
        entry.not_modified = PyBytes_AS_STRING(not_modified_head)
        entry.not_modified_len = <uint32_t>len(not_modified_head)
        entry.body, entry.body_len = PyBytes_AS_STRING(body), len(body)
        entry.body_object = <PyObject *>body
        entry.etag, entry.etag_len = PyBytes_AS_STRING(etag_bytes), <uint32_t>len(etag_bytes)
        entry.last_modified, entry.last_modified_len = PyBytes_AS_STRING(date_bytes), <uint32_t>len(date_bytes)
        entry.codings, entry.cost = codings, cost
        for i in range(len(depends)):
            entry.depends[i].path = PyBytes_AS_STRING(names[i])
            (
                entry.depends[i].device,
                entry.depends[i].inode,
                entry.depends[i].size,
                entry.depends[i].mtime_ns,
                entry.depends[i].ctime_ns,
            ) = depends[i][1]
        entry.depend_count = <int>len(depends)
        Py_INCREF(owner)
        entry.owner = <PyObject *>owner
        self._link(entry)

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

    cdef void _bury(self) noexcept:
        """Free the entries that were found stale."""
        cdef Entry *entry
        while self._dead != NULL:
            entry, self._dead = self._dead, self._dead.next_dead
            self._unlink(entry)

    cdef void _forget_all(self) noexcept:
        self._dead = NULL
        while self._entry_count:
            self._unlink(self._ring[self._entry_count - 1])

    cdef bint _reserve_ring(self) noexcept:
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

    def learn_codings(self, str accept_encoding, int codings):
        """See ``backend.Reactor.learn_codings``."""
        cdef bytes text = accept_encoding.encode("latin-1")
        cdef Memo *memo
        cdef int i
        if not 0 < len(text) <= MEMO_TEXT:
            return
        for i in range(MEMO_SLOTS):
            memo = &self._memo[i]
            if memo.size == len(text) and memcmp(memo.text, <const char *>text, len(text)) == 0:
                return
        memo = &self._memo[self._memo_next % MEMO_SLOTS]
        self._memo_next += 1
        memo.size, memo.codings = <uint32_t>len(text), codings
        memcpy(memo.text, <const char *>text, len(text))

    def drain(self):
        """See ``backend.Reactor.drain``."""
        self._is_draining = True

    def counters(self):
        """See ``backend.Reactor.counters``."""
        return {
            "hits": self._hits,
            "hits_not_modified": self._hits_not_modified,
            "hit_body_bytes": self._hit_bytes,
            "hit_seconds": self._hit_seconds,
            "stale": self._stale,
            "evicted": self._evicted,
            "entries": self._entry_count,
            "entry_bytes": self._cost,
        }


cdef bytes _file_name(str name):
    import os

    return os.fsencode(name)


cdef inline uint64_t _hash(const char *text, uint32_t size) noexcept nogil:
    """FNV-1a. Only names of files that exist get into the table, so nobody chooses colliding ones."""
    cdef uint64_t hash = 14695981039346656037ULL
    cdef uint32_t i
    for i in range(size):
        hash = (hash ^ <unsigned char>text[i]) * 1099511628211ULL
    return hash


cdef inline bint _matches(const char *text, const char *lower, size_t size) noexcept nogil:
    """Compare token characters without regard to case; ``lower`` has letters and hyphens only."""
    cdef size_t i
    for i in range(size):
        if (text[i] | 0x20) != lower[i]:
            return False
    return True


cdef inline bint _is_name(fastws_field *field, const char *lower) noexcept nogil:
    return _matches(field.name, lower, field.name_len)


cdef inline bint _equals(fastws_field *field, const char *text, uint32_t size) noexcept nogil:
    return field.value_len == size and memcmp(field.value, text, size) == 0


cdef bint _is_plain_host(fastws_field *host) noexcept nogil:
    """Tell whether the value is surely one that ``framing.check_host`` accepts."""
    cdef uint32_t i = 0, digits = 0
    cdef char c
    while i < host.value_len:
        c = host.value[i]
        if not (c"a" <= (c | 0x20) <= c"z" or c"0" <= c <= c"9" or c == c"." or c == c"-"):
            break
        i += 1
    if i < host.value_len and host.value[i] == c":":
        i += 1
        while i < host.value_len and c"0" <= host.value[i] <= c"9" and digits < 5:
            i += 1
            digits += 1
    return i == host.value_len
