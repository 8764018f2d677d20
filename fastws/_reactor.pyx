# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The compiled reactor: epoll, and the answers that Python has published, replayed without the GIL.

Twin of ``_reactor_py.py``; the contract of both is ``backend.Reactor``. Between ``wait`` and its return nothing
below touches a Python object: the bytes of a published answer are held by its entry, and entries are
freed only here, with the GIL, by the thread whose reactor this is. ``docs/design.md`` explains turns,
freshness and ownership.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport strlen
from posix.unistd cimport close, read, write

from .native.accept cimport FASTWS_PEER_BYTES, fastws_accept
from .hot.epoll cimport (
    IDLE, INPUT, NOTHING, OUTPUT, ROLE_CONNECTION, ROLE_LISTENER, ROLE_WAKE, EpollSet, Watched, epoll_event, epoll_wait,
)
from .hot.outgoing cimport QUEUE_MAX, Gathered, Queued, head_of
from .hot.hit cimport HIT, LACK, MISS, HitPredicate, Outcome
from .native.access_line cimport fastws_access_line
from .hot.log_buffer cimport Lines
from .native.moment cimport fastws_look_at_clock, fastws_moment, fastws_tick
from .native.scan cimport FASTWS_MAX_FIELDS, fastws_head, fastws_scan_head
from .native.send_file cimport fastws_file, fastws_send_file
from .hot.table cimport Entry, Table, lay_out

from .seam import DURATION_BOUNDS_S, Filled, PartialSend, ReplayCounters
from .transported import Transported

cdef object PUBLISHED = Filled.PUBLISHED
cdef object UNDECIDED = Filled.UNDECIDED

cdef enum:
    # events.py names these; a test compares them.
    ACCEPT, READ, WRITE, RESET, DONE, PARTIAL, ARRIVE, REASON

cdef enum:
    READY_MAX = 256            # events of one turn
    ACCEPT_MAX = 64            # connections that are accepted in one turn
    RECEIVE_BYTES = 16384      # what one connection may read in one turn: as much as a request head may have
    BODY_BYTES = 65536         # and when it is in a body
    ARENA_BYTES = 2097152      # what all may read in one turn; only what is touched takes memory
    ANSWER_BYTES = 2097152     # of a file together with its head; nginx: sendfile_max_chunk 2m
    FILE_BYTES = 524288        # of a file that goes on, in one turn: here less than 2 MiB costs half, see benchmarks/
    DURATION_BUCKETS = 13      # as many as events.DURATION_BOUNDS_S, and one for what took longer
    LONGEST_WAIT_S = 3600      # of one epoll_wait, so that its milliseconds fit an int

cdef double[DURATION_BUCKETS - 1] _bounds_s = DURATION_BOUNDS_S
cdef double FILL_S = 0.01      # a turn that has published for longer leaves to Python what a connection lacks next
cdef double KEEP_S = 0.1       # a connection that stays longer is Python's, whose timers know how long it may

cdef struct Input:
    int fd
    const char *data
    size_t size

cdef struct Lack:
    # Requests that begin with one whose answer may be published for it.
    Input input
    const char *path
    const char *line           # the request line
    uint32_t path_len, line_len
    int codings

cdef class Reactor:
    """See ``backend.Reactor``."""

    side = "compiled"
    replays = True

    cdef EpollSet _set
    cdef object _transported
    cdef set _held_back        # of _transported
    cdef set _due              # of those, what is read in this turn
    cdef int _wake
    cdef epoll_event _ready[READY_MAX]
    cdef Input _inputs[READY_MAX]
    cdef Found _found[READY_MAX]
    cdef int _found_count
    cdef Lack _lacks[READY_MAX]
    cdef int _lack_count
    cdef object _fill
    cdef Entry _prepared       # made for one request
    cdef bint _woken
    cdef int _accept_most      # how many connections are accepted in a turn
    cdef int _room             # how many may be kept
    cdef char *_arena
    cdef size_t _arena_used
    cdef uint64_t _turn
    cdef fastws_moment _moment
    cdef Lines _lines
    cdef Table _table
    # the settings of a hit
    cdef uint32_t _line_limit, _field_limit
    cdef size_t _head_limit
    cdef HitPredicate _hit
    # the request being looked at, and the answers gathered
    cdef fastws_head _head
    cdef Gathered _gathered
    # counted since the start
    cdef uint64_t _hits, _hits_not_modified, _hit_bytes, _file_bytes, _filled, _missing
    cdef double _hit_seconds
    cdef uint64_t _durations[DURATION_BUCKETS]

    def __cinit__(self):
        self._wake = -1
        self._accept_most = 1
        self._arena = <char *>malloc(ARENA_BYTES)
        if self._arena == NULL:
            raise MemoryError
        self._set, self._lines, self._table, self._hit = EpollSet(), Lines(), Table(), HitPredicate()
        self._gathered = Gathered()
        self._transported = Transported()
        self._held_back, self._due = self._transported.held_back, set()
        self._wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self._wake < 0:
            raise OSError(errno, "eventfd failed")
        fastws_tick(&self._moment, self._lines.is_json)
        _check(self._set.watch(self._wake, NULL, ROLE_WAKE, self._moment.now))

    def __dealloc__(self):
        if self._wake >= 0:
            close(self._wake)
        free(self._arena)

    def close(self):
        """See ``backend.Reactor.close``."""
        self._set.close()
        self._transported.clear()
        if self._wake >= 0:
            close(self._wake)
        self._wake = -1

    def configure(self, *, limits, methods, versions, size_t cache_bytes, str log_format, int default_codings, fill):
        """See ``backend.Reactor.configure``."""
        self._fill = fill
        self._table.clear(cache_bytes)
        self._line_limit, self._head_limit = limits.request_line_bytes, limits.head_bytes
        self._field_limit = min(limits.field_count, FASTWS_MAX_FIELDS)
        self._lines.configure(log_format)
        self._hit.configure(methods, versions, default_codings)
        self._moment.second = -1
        fastws_tick(&self._moment, self._lines.is_json)

    # Watching

    def add_listener(self, int fd, owner):
        """See ``backend.Reactor.add_listener``."""
        if fd < 0:
            raise ValueError(f"Invalid file descriptor: {fd}")  # what a closed socket has
        _check(self._set.watch(fd, <PyObject *>owner, ROLE_LISTENER, self._moment.now))

    def remove_listener(self, int fd):
        """See ``backend.Reactor.remove_listener``."""
        self._set.find(fd, ROLE_LISTENER)
        self._set.unwatch(fd)

    def accept(self, listener, int limit):
        """See ``backend.Reactor.accept``."""
        cdef int listener_fd = listener.fileno()
        cdef list accepted = []
        cdef char peer[FASTWS_PEER_BYTES]
        cdef int fd
        while len(accepted) < limit:
            with nogil:
                fd = fastws_accept(listener_fd, peer)
            if fd < 0:
                if errno == EAGAIN or accepted:
                    break
                raise OSError(errno, os.strerror(errno))
            accepted.append((fd, peer.decode("ascii")))
        return accepted

    def add(self, int fd, owner, str peer, transport=None):
        """See ``backend.Reactor.add``."""
        cdef Py_ssize_t size
        cdef const char *text = PyUnicode_AsUTF8AndSize(peer, &size)
        if self._set.keeps(fd):
            self._set.own(fd, <PyObject *>owner)
        else:
            _check(self._set.watch(fd, <PyObject *>owner, ROLE_CONNECTION, self._moment.now))
            self._set.name(fd, text, size)
        if transport is not None:
            self._transported.add(fd, transport)
            self._set.records[fd].has_transport = True

    def remove(self, int fd):
        """See ``backend.Reactor.remove``."""
        if self._set.find(fd, ROLE_CONNECTION).has_transport:
            self._transported.remove(fd)
        self._set.unwatch(fd)

    def keep(self, int fd, str peer):
        """See ``backend.Reactor.keep``."""
        cdef Py_ssize_t size
        cdef const char *text = PyUnicode_AsUTF8AndSize(peer, &size)
        return self._set.keep(fd, text, size, self._moment.now)

    @property
    def kept(self):
        """See ``backend.Reactor.kept``."""
        return self._set.kept_count

    def take_kept(self):
        """See ``backend.Reactor.take_kept``."""
        return self._set.list_kept()

    def set_interest(self, int fd, int interest):
        """See ``backend.Reactor.set_interest``."""
        _check(self._set.set_interest(self._set.find(fd, ROLE_CONNECTION), fd, interest))

    def transfer(self, int fd, int file, long long offset, size_t length):
        """See ``backend.Reactor.transfer``."""
        cdef Watched *watched = self._set.find(fd, ROLE_CONNECTION)
        _check(self._set.set_interest(watched, fd, OUTPUT))
        watched.file.fd, watched.file.offset = file, offset
        watched.file.left = 0 if watched.has_transport else length
        watched.file_sent = 0

    def transferred(self, int fd):
        """See ``backend.Reactor.transferred``."""
        return self._set.find(fd, ROLE_CONNECTION).file_sent

    def end_transfer(self, int fd):
        """See ``backend.Reactor.end_transfer``."""
        cdef Watched *watched = self._set.find(fd, ROLE_CONNECTION)
        cdef size_t sent = watched.file_sent
        watched.file.left = watched.file_sent = 0
        return sent

    def last_activity(self, int fd):
        """See ``backend.Reactor.last_activity``."""
        return self._set.find(fd, ROLE_CONNECTION).active

    def wake(self):
        """See ``backend.Reactor.wake``."""
        cdef uint64_t one = 1
        if self._wake >= 0:
            write(self._wake, &one, sizeof(one))

    # One turn after another

    def wait(self, double deadline, int room=0):
        """See ``backend.Reactor.wait``."""
        if self._held_back:
            self._list_due()
        self._room = room
        self._table.bury()
        with nogil:
            self._run(0 if self._due else deadline)
        events = self._report()
        if self._lack_count:
            self._answer_lacks(events)
            self._hand_over_old()
            events += self._report()
        while self._due:
            self._read_through(self._due.pop(), events)
        return events

    # Connections with a transport

    cdef int _list_due(self) except -1:
        """Find those that wait for bytes which their transports may hold, and which no event announces."""
        for fd in self._held_back:
            if self._set.records[<int>fd].interest in (IDLE, INPUT):
                self._due.add(fd)

    cdef int _read_through(self, int fd, list events) except -1:
        cdef Watched *watched = &self._set.records[fd]
        self._due.discard(fd)
        came = self._transported.read(fd, RECEIVE_BYTES if watched.interest == IDLE else BODY_BYTES)
        if came is not None:
            watched.active = self._moment.now
            events.append((<object>watched.owner, came[0], came[1]))

    cdef void _run(self, double deadline) noexcept nogil:
        cdef int count
        cdef double left, until
        self._woken = False
        self._found_count = self._lack_count = 0
        fastws_look_at_clock(&self._moment)  # Python may have taken its time
        while True:
            until = deadline
            if self._set.oldest >= 0:
                until = min(until, self._set.records[self._set.oldest].kept_since + KEEP_S)
            left = min(until - self._moment.now, LONGEST_WAIT_S)
            # Rounded up: a wait that ends a moment before its deadline would be repeated at once.
            count = epoll_wait(self._set.fd, self._ready, READY_MAX, <int>(left * 1000) + 1 if left > 0 else 0)
            self._turn += 1
            fastws_tick(&self._moment, self._lines.is_json)
            if count > 0:
                self._take_turn(count)
            if self._lack_count:
                return
            self._hand_over_old()
            if self._found_count or self._woken or self._moment.now >= deadline or self._lines.is_full():
                return

    cdef void _take_turn(self, int count) noexcept nogil:
        """Receive from every connection that is ready, then answer.

        Receiving comes first, for all: so every request was sent before this turn's first look at the file
        system, and an answer that is fresh by that look is fresh for the request.
        """
        cdef int i, fd, inputs = 0
        cdef Watched *watched
        cdef double begun = self._moment.now
        cdef uint64_t hits = self._hits
        cdef uint64_t wakes
        self._arena_used = 0  # the turn before this one left nothing to report
        for i in range(count):
            fd = <int><uint32_t>self._ready[i].data.u64
            watched = &self._set.records[fd]
            if watched.generation != <uint32_t>(self._ready[i].data.u64 >> 32):
                continue
            if watched.role == ROLE_CONNECTION and watched.interest == OUTPUT:
                self._write(fd, watched)
            elif watched.role == ROLE_CONNECTION and watched.interest == NOTHING:
                self._find(fd, RESET, NULL, 0)
            elif watched.role == ROLE_CONNECTION:
                inputs += self._receive(fd, watched, &self._inputs[inputs])
            elif watched.role == ROLE_LISTENER:
                self._accept(fd)
            elif watched.role == ROLE_WAKE:
                self._woken = True
                read(fd, &wakes, sizeof(wakes))
        for i in range(inputs):
            self._answer(&self._inputs[i], True, NULL)
        self._measure(begun, hits)

    cdef void _accept(self, int listener) noexcept nogil:
        """Accept and keep connections; report those for which there is no room, and errors."""
        cdef char peer[FASTWS_PEER_BYTES]
        cdef int fd, count = 0, most = self._accept_most
        while count < most and self._set.kept_count < self._room:
            fd = fastws_accept(listener, peer)
            if fd < 0 and errno == EAGAIN:
                self._accept_most = max(count, 1)
                return
            if fd < 0:
                break
            if not self._set.keep(fd, peer, strlen(peer), self._moment.now):
                close(fd)  # the next one will not be watched either, and Python will say so
                break
            count += 1
        if count < most:
            self._find(listener, ACCEPT, NULL, 0)
        else:
            # Where they come one by one, asking whether there is another costs more than the next turn's event.
            self._accept_most = min(2 * most, ACCEPT_MAX)

    cdef void _hand_over_old(self) noexcept nogil:
        """Report the connections that stayed for KEEP_S."""
        while self._set.oldest >= 0 and self._found_count < READY_MAX:
            if self._moment.now - self._set.records[self._set.oldest].kept_since < KEEP_S:
                break
            self._find(self._set.oldest, ARRIVE, NULL, 0)

    cdef void _measure(self, double begun, uint64_t hits) noexcept nogil:
        """Count the answers that came after the first ``hits`` as having taken all the time since ``begun``: one
        look at the clock for all of them."""
        cdef uint64_t answers = self._hits - hits
        cdef int bucket = 0
        cdef double seconds
        if not answers:
            return
        fastws_look_at_clock(&self._moment)  # no tick: a partial answer still needs this second's texts
        seconds = self._moment.now - begun
        while bucket < DURATION_BUCKETS - 1 and seconds > _bounds_s[bucket]:
            bucket += 1
        self._durations[bucket] += answers
        self._hit_seconds += seconds * <double>answers

    cdef int _receive(self, int fd, Watched *watched, Input *taken) noexcept nogil:
        """Read what is there; return 1 if it may hold requests that can be answered from the table."""
        cdef char *data = self._arena + self._arena_used
        cdef size_t room = RECEIVE_BYTES if watched.interest == IDLE else BODY_BYTES
        cdef ssize_t size
        if watched.has_transport:
            self._find(fd, READ, NULL, 0)
            return 0
        if ARENA_BYTES - self._arena_used < room:
            return 0  # it is still ready at the next turn
        size = recv(fd, data, room, MSG_DONTWAIT)
        if size < 0:
            if errno != EAGAIN and errno != EINTR and not self._set.drop(fd):
                self._find(fd, RESET, NULL, 0)
            return 0
        watched.active = self._moment.now
        self._arena_used += size
        if size == 0 and self._set.drop(fd):
            return 0
        if size == 0 or watched.interest != IDLE:
            self._find(fd, READ, data, size)
            return 0
        taken.fd, taken.data, taken.size = fd, data, size
        return 1

    cdef void _write(self, int fd, Watched *watched) noexcept nogil:
        """Go on with the file that is being sent, and leave to Python what else there is to do."""
        cdef size_t left = watched.file.left
        cdef bint goes_on = left and fastws_send_file(fd, &watched.file, FILE_BYTES)
        watched.file_sent += left - watched.file.left
        self._file_bytes += left - watched.file.left
        if not goes_on:
            self._find(fd, WRITE, NULL, 0)

    cdef Found *_find(self, int fd, int kind, const char *data, size_t size) noexcept nogil:
        cdef Found *found = &self._found[self._found_count]
        self._found_count += 1
        self._set.let_go(fd)  # Python is about to have it
        found.fd, found.kind, found.data, found.data_len = fd, kind, data, size
        found.generation, found.file = self._set.records[fd].generation, -1
        return found

    def replay(self, int fd, bytes data not None, double asked_at=0):
        """See ``backend.Reactor.replay``."""
        cdef Input input
        cdef uint64_t hits = self._hits
        cdef double begun
        input.fd, input.data, input.size = fd, PyBytes_AS_STRING(data), len(data)
        if self._set.find(fd, ROLE_CONNECTION).has_transport:
            return READ, data
        self._turn += 1  # a look at the files for these bytes, which were read after the last one
        self._found_count = 0
        with nogil:
            fastws_tick(&self._moment, self._lines.is_json)
            begun = asked_at or self._moment.now
            self._answer(&input, False, NULL)
            self._measure(begun, hits)
        if self._found_count == 0:
            return READ, b""
        self._found_count = 0
        return self._found[0].kind, self._event_data(&self._found[0])

    cdef list _report(self):
        """Return the events found, which need nothing of the table from then on."""
        cdef list events = []
        cdef Found *found
        cdef int i
        try:
            for i in range(self._found_count):
                found = &self._found[i]
                if found.kind == READ and self._set.records[found.fd].has_transport:
                    self._read_through(found.fd, events)
                else:
                    events.append(self._event(found))
        except BaseException:
            for i in range(self._found_count):  # the files that nobody will hear of
                if self._found[i].file >= 0:
                    close(self._found[i].file)
            raise
        self._found_count = 0
        return events

    # Answers that are published for the request

    cdef void _answer_lacks(self, list events) except *:
        """Have published or prepared what is lacking, and answer; the rest is Python's to decide."""
        cdef Lack *lack
        cdef Entry *entry
        cdef Entry *prepared
        cdef uint64_t hits
        cdef double begun = self._moment.now
        cdef bint is_hit
        cdef int i = 0
        while i < self._lack_count:  # what follows in the same input may be lacking too
            lack, hits, prepared = &self._lacks[i], self._hits, NULL
            i += 1
            entry = self._table.look_up(lack.path, lack.path_len, lack.codings)
            is_hit = entry != NULL and self._table.is_fresh(entry, self._turn)  # by now: it was lacking to another
            answer = PUBLISHED if is_hit else self._fill_in(lack)
            if answer is UNDECIDED:
                self._find(lack.input.fd, READ, lack.input.data, lack.input.size)
            else:
                if answer is not PUBLISHED:
                    prepared, peer = &self._prepared, self._set.peer_of(lack.input.fd)
                    lay_out(prepared, answer.status, answer.head, answer.body)
                with nogil:
                    fastws_tick(&self._moment, self._lines.is_json)  # files may have taken their time
                    self._answer(&lack.input, self._moment.now - begun < FILL_S, prepared)
                    self._filled += not is_hit and self._hits > hits
                    self._measure(begun, hits)
                if prepared != NULL and (self._hits > hits or self._is_partial()):
                    line = lack.line[: lack.line_len].decode("latin-1")
                    events.append((peer, REASON, (answer.status, answer.detail, line)))
            if self._found_count:
                events += self._report()

    cdef bint _is_partial(self) noexcept:
        """Tell whether the last answer was begun and is to be finished by Python."""
        return self._found_count > 0 and self._found[0].kind == PARTIAL

    cdef object _fill_in(self, Lack *lack):
        """Return what is ``Filled``, or a ``Prepared``. What is published is fresh: files were looked at after the request came."""
        cdef Entry *entry
        answer = self._fill(self, lack.path[: lack.path_len].decode("latin-1"), lack.codings)
        if answer is PUBLISHED:
            entry = self._table.look_up(lack.path, lack.path_len, lack.codings)
            if entry == NULL:
                return UNDECIDED
            entry.checked_turn = self._turn
        return answer

    cdef tuple _event(self, Found *found):
        cdef PyObject *owner = self._set.records[found.fd].owner
        if owner != NULL:
            return <object>owner, found.kind, self._event_data(found)
        came = None if found.kind == ARRIVE else (found.kind, self._event_data(found))
        return (found.fd, self._set.peer_of(found.fd)), ARRIVE, came

    cdef object _event_data(self, Found *found):
        if found.kind == READ or found.kind == DONE:
            return PyBytes_FromStringAndSize(found.data, found.data_len)
        return self._partial(found) if found.kind == PARTIAL else None

    cdef object _partial(self, Found *found):
        cdef Queued *answer = &found.partial
        cdef bytes head = head_of(answer)
        cdef size_t offset = max(<ssize_t>0, <ssize_t>found.sent - len(head))
        return PartialSend(
            request=answer.request[: answer.request_len],
            status=answer.status,
            head=head[found.sent :],
            body=<object>answer.entry.body_object if answer.body_len else b"",
            file=found.file,
            length=answer.body_len,
            offset=offset,
            begin=answer.body_offset,
            close=bool(answer.closes),
            rest=found.data[: found.data_len],
        )

    # Hits

    cdef void _answer(self, Input *input, bint may_lack, Entry *prepared) noexcept nogil:
        """Answer the requests of ``input`` in their order, up to the first that Python must decide, or publish.

        ``prepared`` is for the first of them, if not NULL.
        """
        cdef int fd = input.fd
        cdef const char *data = input.data
        cdef size_t size = input.size
        cdef size_t offset = 0
        cdef long length
        cdef int file
        cdef Queued *answer = NULL
        cdef Outcome outcome = MISS
        cdef Lack *lack
        cdef bint closes = False
        self._gathered.clear()
        while offset < size and not closes:
            length = fastws_scan_head(
                data + offset, size - offset, self._line_limit, self._head_limit, self._field_limit, &self._head
            )
            outcome = MISS
            if length <= 0:
                break
            answer = &self._gathered.queue[self._gathered.count]
            outcome = self._hit.judge(&self._head, &self._moment, self._table, self._turn, prepared, answer)
            prepared = NULL
            if outcome != HIT:
                break
            answer.request, answer.request_len = data + offset, <uint32_t>length
            if answer.body_len and answer.entry.body_file >= 0:
                file = self._table.open_body(answer.entry)
                if file < 0:
                    break
                if not self._answer_from(file, fd, answer, data + size):
                    return
            else:
                self._gathered.add()
                if self._gathered.count == QUEUE_MAX and not self._flush(fd, data + size):
                    return
            closes = answer.closes
            offset += length
        if self._gathered.count and not self._flush(fd, data + size):
            return
        if closes:
            if offset < size or not self._set.drop(fd):
                self._find(fd, DONE, data + offset, size - offset)
        elif offset < size and outcome == LACK and may_lack and self._lack_count < READY_MAX:
            lack = &self._lacks[self._lack_count]
            self._lack_count += 1
            lack.input.fd, lack.input.data, lack.input.size = fd, data + offset, size - offset
            lack.path, lack.path_len, lack.codings = answer.path, answer.path_len, answer.codings
            lack.line, lack.line_len = answer.line, answer.line_len
        elif offset < size:
            self._find(fd, READ, data + offset, size - offset)

    cdef bint _flush(self, int fd, const char *end) noexcept nogil:
        """Send what is gathered. False: not all was taken, and an event says what is left; ``end`` is where
        the connection's input ends."""
        return self._finish(fd, self._gathered.send(fd, 0), end)

    cdef bint _finish(self, int fd, ssize_t sent, const char *end) noexcept nogil:
        """Record the gathered answers of which ``sent`` bytes were sent; see ``_flush``."""
        cdef size_t total
        cdef int i
        cdef Queued *answer
        cdef Found *found
        if sent < 0 and errno != EAGAIN and errno != EINTR:
            for i in range(self._gathered.count):
                self._record(fd, &self._gathered.queue[i], 0)
            if not self._set.drop(fd):
                self._find(fd, RESET, NULL, 0)
            return False
        sent = max(sent, 0)
        for i in range(self._gathered.count):
            answer = &self._gathered.queue[i]
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
        self._gathered.clear()
        return True

    cdef bint _answer_from(self, int file, int fd, Queued *answer, const char *end) noexcept nogil:
        """Send an answer whose body is in ``file``, after what is gathered; then close it, or pass it on with the
        event that says what is left. False: there is such an event."""
        cdef fastws_file body
        cdef ssize_t sent
        cdef size_t total = answer.head_len + answer.tail_len
        cdef Found *found
        if self._gathered.count and not self._flush(fd, end):
            close(file)
            return False
        self._gathered.queue[0] = answer[0]
        self._gathered.add()
        sent = self._gathered.send(fd, MSG_MORE)
        body.fd, body.offset, body.left = file, answer.body_offset, answer.body_len
        if sent == <ssize_t>total:
            fastws_send_file(fd, &body, ANSWER_BYTES)
            self._file_bytes += answer.body_len - body.left
            if not body.left:
                close(file)
                self._record(fd, answer, answer.body_len)
                self._gathered.clear()
                return True
        if sent <= 0:
            close(file)
            return self._finish(fd, sent, end)
        found = self._find(fd, PARTIAL, answer.request + answer.request_len, 0)
        found.data_len = end - found.data
        found.partial, found.sent, found.file = answer[0], sent + answer.body_len - body.left, file
        return False

    # The access log

    cdef void _record(self, int fd, Queued *answer, size_t body_sent) noexcept nogil:
        """Count an answer that is over, and write its access line."""
        cdef fastws_access_line line
        cdef Watched *watched = &self._set.records[fd]
        self._hits += 1
        self._hits_not_modified += answer.status == 304
        self._missing += answer.status == 404
        self._hit_bytes += body_sent
        line.peer.data, line.peer.size = watched.peer, watched.peer_len
        line.user.data, line.user.size = b"", 0
        line.time.data, line.time.size = self._moment.log_time, self._moment.log_time_len
        line.request.data, line.request.size = answer.line, answer.line_len
        line.status, line.size = answer.status, body_sent
        line.referer.data, line.referer.size = answer.referer, answer.referer_len
        line.agent.data, line.agent.size = answer.agent, answer.agent_len
        self._lines.put(&line)

    def log(self, bytes line):
        """See ``backend.Reactor.log``."""
        self._lines.append(line)

    @property
    def log_is_full(self):
        """See ``backend.Reactor.log_is_full``."""
        return self._lines.is_full()

    def take_log(self):
        """See ``backend.Reactor.take_log``."""
        return self._lines.take()

    def publish(self, published):
        """See ``backend.Reactor.publish``."""
        self._table.publish(published)

    def learn_codings(self, str accept_encoding, int codings):
        """See ``backend.Reactor.learn_codings``."""
        self._hit.learn_codings(accept_encoding.encode("latin-1"), codings)

    def drain(self):
        """See ``backend.Reactor.drain``."""
        self._hit.is_draining = True

    def counters(self):
        """See ``backend.Reactor.counters``."""
        cdef int i
        return ReplayCounters(
            hits=self._hits,
            not_modified=self._hits_not_modified,
            body_bytes=self._hit_bytes,
            duration_s=self._hit_seconds,
            file_bytes=self._file_bytes,
            filled=self._filled,
            missing=self._missing,
            durations=tuple([self._durations[i] for i in range(DURATION_BUCKETS)]),
            **self._table.counters(),
        )


cdef int _check(int error) except -1:
    """Raise the ``OSError`` of ``error``, if it is one."""
    if error:
        raise OSError(error, os.strerror(error))
    return 0
