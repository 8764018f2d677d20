# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""One turn of the loop after another: receive from all that are ready, then answer what the table answers.

Nothing here touches a Python object between ``run`` and its return, or within ``answer``: so both release the GIL.
What needs it is written down: an event as a report, and an answer that could be published as a lack. The bytes of a
published answer are held by its entry. Entries are freed only with the GIL, by the thread whose reactor this is.
"""

cimport cython
from libc.errno cimport EAGAIN, EINTR, EPROTO, EPROTONOSUPPORT, errno
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, strlen
from posix.unistd cimport close, read

from ..native.accept cimport FASTWS_PEER_BYTES, fastws_accept
from ..native.access_line cimport fastws_access_line
from ..native.moment cimport FASTWS_KEEP_ALIVE_LINE, FASTWS_SECURE_LINE, fastws_look_at_clock, fastws_secure_tail, fastws_tick
from ..native.scan cimport FASTWS_MAX_FIELDS, fastws_scan_head
from ..native.send_file cimport fastws_file, fastws_send_file
from ..native.tls_session cimport (
    FASTWS_TLS_ROOM, fastws_session, fastws_tls_flush, fastws_tls_cipher, fastws_tls_receive,
    fastws_tls_send_file, fastws_tls_version, fastws_tls_waits,
)
from .epoll_set cimport (
    EPOLLERR, EPOLLHUP, IDLE, NOTHING, OUTPUT, ROLE_CONNECTION, ROLE_LISTENER, ROLE_WAKE, Watched, epoll_wait,
)
from .hit_predicate cimport HIT, LACK, MISS
from .outgoing cimport ID_NAME_LEN, QUEUE_MAX, Outgoing, Queued, copy_answer
from .table cimport Entry

cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT, MSG_MORE
    ssize_t recv(int fd, void *buffer, size_t size, int flags)

cdef enum:
    ACCEPT_MAX = 64            # connections that are accepted in one turn
    ARENA_BYTES = 2097152      # what all may read in one turn; only what is touched takes memory
    ANSWER_BYTES = 2097152     # of a file together with its head; nginx: sendfile_max_chunk 2m
    FILE_BYTES = 524288        # of a file that goes on, in one turn: here less than 2 MiB costs half, see benchmarks/
    LONGEST_WAIT_S = 3600      # of one epoll_wait, so that its milliseconds fit an int

# What Python may ask: enums leave no trace in a module.
BOUNDS = {"ARENA_BYTES": ARENA_BYTES, "FILE_BYTES": FILE_BYTES, "RECEIVE_BYTES": RECEIVE_BYTES, "BODY_BYTES": BODY_BYTES,
          "QUEUE_MAX": QUEUE_MAX}

cdef double PART_S = 0.005     # when a connection that nothing watches is looked at after its last answer
cdef double SHAKE_S = 0.005    # so long a turn shakes hands; whose turn it is then waits for the next one
cdef double KEEP_S = 0.1       # a connection that stays longer is Python's, whose timers know how long it may


@cython.final
cdef class Turn:
    """``turn.pxd`` lists what the reactor calls and reads. ``bounds_s`` are those of the counted durations; a
    connection that closes lingers for ``linger_s`` or until so many bytes have come."""

    def __cinit__(self, EpollSet epoll, Table table, HitPredicate predicate, LogBuffer log, bounds_s, double linger_s,
                  size_t linger_bytes):
        self._epoll, self._table, self._predicate, self._log = epoll, table, predicate, log
        self._senders = epoll.senders
        self._outgoing = Outgoing()
        self._bounds_s, self._linger_s, self._linger_bytes = bounds_s, linger_s, linger_bytes
        self._accept_most = 1
        self._arena = <char *>malloc(ARENA_BYTES)
        if self._arena == NULL:
            raise MemoryError
        self.tick()

    def __dealloc__(self):
        free(self._arena)

    cdef int configure(self, settings) except -1:
        """Take a ``ReplaySettings``, and spell the time anew."""
        cdef bytes secure_line = settings.secure_line, keep_alive_line = settings.keep_alive_line
        cdef Py_ssize_t size = len(secure_line)
        if size >= FASTWS_SECURE_LINE or len(keep_alive_line) >= FASTWS_KEEP_ALIVE_LINE:
            raise ValueError("a field line is too long")
        self._senders.configure(settings.proxies, settings.client_header, settings.request_id)
        self._looks = self._senders.is_on
        memcpy(self.moment.keep_alive_line, <const char *>keep_alive_line, len(keep_alive_line) + 1)
        memcpy(self.moment.secure_line, <const char *>secure_line, size + 1)
        self.moment.secure_len = <unsigned>size
        self._by_sendfile = settings.by_sendfile
        limits = settings.limits
        self._line_limit, self._head_limit = limits.request_line_bytes, limits.head_bytes
        self._field_limit = min(limits.field_count, FASTWS_MAX_FIELDS)
        self.moment.second = -1
        self.prepared_id_len = 0
        self.tick()
        return 0

    cdef void tick(self) noexcept nogil:
        """Look at the clocks."""
        fastws_tick(&self.moment, self._log.is_json)

    cdef void run(self, double deadline, int room) noexcept nogil:
        """Take turns until there is a report or a lack, the deadline is over, the log is full or somebody wakes."""
        cdef int count
        cdef double left, until
        self._room = room
        self._is_woken = False
        self.report_count = self.lack_count = 0
        fastws_look_at_clock(&self.moment)  # Python may have taken its time
        while True:
            until = min(deadline, self._next_by_age()) if self._epoll.kept_count else deadline
            left = min(until - self.moment.now, LONGEST_WAIT_S)
            # Rounded up: a wait that ends a moment before its deadline would be repeated at once.
            count = epoll_wait(self._epoll.fd, self._ready, READY_MAX, <int>(left * 1000) + 1 if left > 0 else 0)
            self.number += 1
            self.tick()
            if count > 0:
                self._take(count)
            if self.lack_count:
                return
            if self._epoll.kept_count:
                self.hand_over_old()
                self._look_at_parting()
                self._drop_old()
            if self.report_count or self.is_over(deadline):
                return

    cdef void _take(self, int count) noexcept nogil:
        """Receive from every connection that is ready, then answer.

        Receiving comes first, for all: so every request was sent before this turn's first look at the file
        system, and an answer that is fresh by that look is fresh for the request.
        """
        cdef int i, fd, inputs = 0
        cdef Watched *watched
        cdef uint64_t hits = self.counts.hits
        cdef uint64_t wakes
        self.begun = self.moment.now
        self._has_shaken = False
        self._arena_used = 0  # the turn before this one left nothing to report
        for i in range(count):
            fd = <int><uint32_t>self._ready[i].data.u64
            watched = &self._epoll.records[fd]
            if watched.generation != <uint32_t>(self._ready[i].data.u64 >> 32):
                continue
            if not watched.is_plain and not self._goes_on(fd, watched):
                continue
            if watched.role == ROLE_CONNECTION and watched.interest == OUTPUT:
                self._send_on(fd, watched)
            elif watched.role == ROLE_CONNECTION and watched.interest == NOTHING:
                if self._ready[i].events & (EPOLLERR | EPOLLHUP):
                    self.report(fd, RESET, NULL, 0)
                else:
                    self._epoll.update(fd)
            elif watched.role == ROLE_CONNECTION:
                inputs += self._receive(fd, watched, &self._inputs[inputs])
            elif watched.role == ROLE_LISTENER:
                inputs = self._accept(fd, inputs)
            elif watched.role == ROLE_WAKE:
                self._is_woken = True
                read(fd, &wakes, sizeof(wakes))
        for i in range(inputs):
            self.answer(&self._inputs[i], True, NULL)
        self.measure(hits)

    cdef void measure(self, uint64_t hits) noexcept nogil:
        """Count the answers that came after the first ``hits`` as having taken all the time since ``begun``: one
        look at the clock for all of them."""
        cdef uint64_t answers = self.counts.hits - hits
        cdef int bucket = 0
        cdef double seconds
        if not answers:
            return
        fastws_look_at_clock(&self.moment)  # no tick: a partial answer still needs this second's texts
        seconds = self.moment.now - self.begun
        while bucket < DURATION_BUCKETS - 1 and seconds > self._bounds_s[bucket]:
            bucket += 1
        self.counts.durations[bucket] += answers
        self.counts.seconds += seconds * <double>answers

    cdef Report *report(self, int fd, int kind, const char *data, size_t size) noexcept nogil:
        """Write down an event for Python."""
        cdef Report *made = &self.reports[self.report_count]
        self.report_count += 1
        self._epoll.let_go(fd)  # Python is about to have it, and have it watched
        made.fd, made.kind, made.data, made.data_len = fd, kind, data, size
        made.generation, made.file = self._epoll.records[fd].generation, -1
        return made

    # Connections

    cdef int _accept(self, int listener, int inputs) noexcept nogil:
        """Accept and keep connections; report those for which there is no room, and errors.

        Return how many inputs there are with what they have sent already.
        """
        cdef char peer[FASTWS_PEER_BYTES]
        cdef int manner = self._epoll.records[listener].manner
        cdef int fd, count = 0, most = self._accept_most if self._epoll.can_keep(manner) else 0
        while count < most and self._epoll.kept_count < self._room:
            fd = fastws_accept(listener, peer)
            if fd < 0 and errno == EAGAIN:
                self._accept_most = max(count, 1)
                return inputs
            if fd < 0:
                break
            if not self._epoll.keep(fd, peer, strlen(peer), manner, self.moment.now, inputs == READY_MAX):
                close(fd)  # the next one will not be watched either, and Python will say so
                break
            count += 1
            if inputs < READY_MAX:
                inputs += self._look_at_new(fd, &self._inputs[inputs])
        if count < most or not most:
            self.report(listener, ACCEPT, NULL, 0)
        else:
            # Where they come one by one, asking whether there is another costs more than the next turn's event.
            self._accept_most = min(2 * most, ACCEPT_MAX)
        return inputs

    cdef bint _look_at_new(self, int fd, Input *taken) noexcept nogil:
        """Read what a new connection has sent, and watch it if that is nothing yet; see ``_receive``."""
        if self._receive(fd, &self._epoll.records[fd], taken):
            return True
        if self._epoll.keeps(fd) and not self._epoll.records[fd].lingers and self._epoll.watch_recorded(fd):
            self._drop(fd)
        return False

    cdef double _next_by_age(self) noexcept nogil:
        """Return when the next connection has been kept, or has lingered, for long enough."""
        cdef double due = INFINITY
        if self._epoll.parting.oldest >= 0:
            due = self._epoll.records[self._epoll.parting.oldest].listed_since + PART_S
        if self._epoll.fresh.oldest >= 0:
            due = min(due, self._epoll.records[self._epoll.fresh.oldest].listed_since + KEEP_S)
        if self._epoll.lingering.oldest >= 0:
            due = min(due, self._epoll.records[self._epoll.lingering.oldest].listed_since + self._linger_s)
        return due

    cdef void hand_over_old(self) noexcept nogil:
        """Report the connections that stayed for KEEP_S."""
        cdef int fd = self._epoll.fresh.oldest
        while fd >= 0 and self.report_count < READY_MAX:
            if self.moment.now - self._epoll.records[fd].listed_since < KEEP_S:
                break
            self.report(fd, ARRIVE, NULL, 0)
            fd = self._epoll.fresh.oldest

    cdef void _look_at_parting(self) noexcept nogil:
        """Close the connections whose clients have ended by now, and watch the others."""
        cdef int fd = self._epoll.parting.oldest
        cdef Input ignored
        while fd >= 0 and self.moment.now - self._epoll.records[fd].listed_since >= PART_S:
            if ARENA_BYTES - self._arena_used < BODY_BYTES:
                return  # at the next turn
            self._receive(fd, &self._epoll.records[fd], &ignored)
            # It is closed by now, or there may be more to come.
            if self._epoll.parting.oldest == fd and not self._epoll.linger_on(fd):
                self._drop(fd)
            fd = self._epoll.parting.oldest

    cdef void _drop_old(self) noexcept nogil:
        """Close the connections that have lingered for long enough."""
        cdef int fd = self._epoll.lingering.oldest
        while fd >= 0 and self.moment.now - self._epoll.records[fd].listed_since >= self._linger_s:
            self._drop(fd)
            fd = self._epoll.lingering.oldest

    cdef bint _drop(self, int fd) noexcept nogil:
        """Close a connection that is kept; False if it is another's to close."""
        if not self._epoll.drop(fd):
            return False
        if self._predicate.is_draining:
            self._is_woken = True  # Python may be waiting for the last one
        return True

    cdef bint _receive(self, int fd, Watched *watched, Input *taken) noexcept nogil:
        """Read what is there; tell whether it may hold requests that can be answered from the table."""
        cdef char *data = self._arena + self._arena_used
        cdef size_t room = RECEIVE_BYTES if watched.interest == IDLE else BODY_BYTES
        cdef ssize_t size
        if watched.is_plain:
            if ARENA_BYTES - self._arena_used < room:
                return False  # it is still ready at the next turn
            size = recv(fd, data, room, MSG_DONTWAIT)
            if size < 0 and errno != EAGAIN and errno != EINTR and not self._drop(fd):
                self.report(fd, RESET, NULL, 0)
        else:
            size = self._receive_otherwise(fd, watched)
        if size < 0:
            return False
        if size == 0 and self._drop(fd):
            return False
        if watched.lingers:
            watched.file_sent += size
            if watched.file_sent > self._linger_bytes:
                self._drop(fd)
            return False
        watched.active = self.moment.now
        self._arena_used += size
        if size == 0 or watched.interest != IDLE:
            self.report(fd, READ, data, size)
            return False
        taken.fd, taken.data, taken.size = fd, data, size
        return True

    # TLS

    cdef ssize_t _receive_otherwise(self, int fd, Watched *watched) noexcept nogil:
        """Read plain bytes to the end of what is used of the arena, -1 if there are none; see ``_receive``."""
        cdef fastws_session *session = watched.session
        cdef bint was_open
        cdef ssize_t size
        if session == NULL:
            self.report(fd, READ, NULL, 0)  # by its transport, with the GIL
            return -1
        was_open = session.is_open
        if ARENA_BYTES - self._arena_used < FASTWS_TLS_ROOM or (not was_open and self._has_shaken):
            return -1  # it is still ready at the next turn
        size = fastws_tls_receive(session, fd, self._arena + self._arena_used)
        self._epoll.update(fd)
        if not was_open:
            self._note_handshake(fd)
        if size >= 0:
            return size
        if errno == EPROTONOSUPPORT:
            self.report(fd, CLEAR, NULL, 0)
        elif errno == EPROTO:
            # The client has broken a rule, and may read what it was told about that.
            if not self._epoll.linger(fd, self.moment.now):
                self.report(fd, DONE, NULL, 0)
        elif errno != EAGAIN and errno != EINTR and not self._drop(fd):
            self.report(fd, RESET, NULL, 0)
        return -1

    cdef void _note_handshake(self, int fd) noexcept nogil:
        """Note a step of a handshake: one costs a thousand times what a request costs, and a turn has time for few."""
        cdef Watched *watched = &self._epoll.records[fd]
        fastws_look_at_clock(&self.moment)
        self._has_shaken = self.moment.now - self.begun > SHAKE_S
        if watched.session.is_open:
            watched.active = self.moment.now

    cdef bint _goes_on(self, int fd, Watched *watched) noexcept nogil:
        """Send what is kept of a connection's bytes; tell whether the event is for what it is interested in."""
        cdef int state
        if watched.session == NULL:
            if watched.waits and watched.interest != OUTPUT:
                self.report(fd, READ, NULL, 0)  # which its transport takes for a look at what it keeps
                return False
            return True
        if not fastws_tls_waits(watched.session):
            return True
        state = fastws_tls_flush(watched.session, fd)
        if state < 0 and not self._drop(fd):
            self.report(fd, RESET, NULL, 0)
        if state <= 0:
            return False
        self._epoll.update(fd)
        return watched.interest == OUTPUT

    cdef bint _waits(self, int fd) noexcept nogil:
        """Tell whether some of what is sent is still kept by a session."""
        cdef fastws_session *session = self._epoll.records[fd].session
        return session != NULL and fastws_tls_waits(session)

    # Sending

    cdef ssize_t _send(self, int fd, int flags) noexcept nogil:
        """Send what is gathered; return how many bytes were taken, -1 with errno."""
        cdef fastws_session *session = self._epoll.records[fd].session
        cdef ssize_t sent
        if session == NULL:
            return self._outgoing.send(fd, flags)
        sent = self._outgoing.send_by(session, fd, flags)
        self._epoll.update(fd)  # which leaves errno alone
        return sent

    cdef bint _send_file(self, int fd, fastws_file *file, size_t budget) noexcept nogil:
        """See ``fastws_send_file``."""
        cdef fastws_session *session = self._epoll.records[fd].session
        cdef bint goes_on
        if session == NULL:
            return fastws_send_file(fd, file, budget, self._by_sendfile)
        goes_on = fastws_tls_send_file(session, fd, file, budget) > 0
        self._epoll.update(fd)
        return goes_on or fastws_tls_waits(session)

    cdef void _send_on(self, int fd, Watched *watched) noexcept nogil:
        """Go on with the file that is being sent, and leave to Python what else there is to do."""
        cdef size_t left = watched.file.left
        cdef bint goes_on = left and self._send_file(fd, &watched.file, FILE_BYTES)
        watched.file_sent += left - watched.file.left
        self.counts.file_bytes += left - watched.file.left
        if not goes_on:
            self.report(fd, WRITE, NULL, 0)

    # Hits

    cdef void answer(self, Input *input, bint may_lack, Entry *prepared) noexcept nogil:
        """Answer the requests of ``input`` in their order, up to the first that Python must decide, or publish.

        ``prepared`` is for the first of them, if not NULL.
        """
        cdef Input rest = input[0]
        cdef const char *end = rest.data + rest.size
        cdef long length
        cdef int done
        cdef Queued *answer = NULL
        cdef Outcome outcome = MISS
        cdef bint closes = False
        self._outgoing.clear()
        while rest.size and not closes:
            length = fastws_scan_head(
                rest.data, rest.size, self._line_limit, self._head_limit, self._field_limit, &self._head
            )
            outcome = MISS
            if length <= 0:
                break
            answer = &self._outgoing.queue[self._outgoing.count]
            outcome = self._predicate.judge(&self._head, &self.moment, self._table, self.number, prepared, answer)
            if self.moment.secure_len and outcome == HIT and self._epoll.records[rest.fd].session != NULL:
                answer.tail = fastws_secure_tail(&self.moment, answer.tail)
                answer.tail_len += self.moment.secure_len
            if self._looks and outcome != MISS:
                outcome = self._look_at_sender(rest.fd, answer, prepared, outcome)
            prepared = NULL
            if outcome != HIT:
                break
            answer.request, answer.request_len = rest.data, <uint32_t>length
            done = self._put(rest.fd, answer, end)
            if done < 0:
                return
            if done == 0:
                break
            closes = answer.closes
            rest.data, rest.size = rest.data + length, rest.size - length
        if self._outgoing.count and not self._flush(rest.fd, end):
            return
        self._leave(&rest, closes, answer if outcome == LACK and may_lack else NULL)

    cdef Outcome _look_at_sender(self, int fd, Queued *answer, Entry *prepared, Outcome outcome) noexcept nogil:
        """Find out whom the request is from; return what comes of it."""
        if not self._senders.look(&self._head, self._epoll.records[fd].is_trusted, answer):
            return MISS
        if prepared != NULL:
            self.prepared_id_len = answer.id_len
            memcpy(self.prepared_id, answer.named_tail + ID_NAME_LEN, answer.id_len)
        return outcome

    cdef int _put(self, int fd, Queued *answer, const char *end) noexcept nogil:
        """Gather the answer at ``queue[count]``, or send it if its body is in a file; ``end`` as with ``_flush``.

        1: done; 0: its file is another by now, and Python must decide; -1: an event says what is left.
        """
        cdef int file
        if answer.body_len and answer.entry.body_file >= 0:
            file = self._table.open_body(answer.entry)
            if file < 0:
                return 0
            return 1 if self._answer_from(file, fd, answer, end) else -1
        self._outgoing.add()
        return -1 if self._outgoing.count == QUEUE_MAX and not self._flush(fd, end) else 1

    cdef void _leave(self, Input *rest, bint closes, Queued *lacking) noexcept nogil:
        """Say what is to be done about the ``rest`` of an input; ``lacking`` is what its first request asks for
        where that may be published, otherwise NULL."""
        cdef Lack *lack
        if closes:
            if not self._epoll.linger(rest.fd, self.moment.now):
                self.report(rest.fd, DONE, rest.data, rest.size)
        elif not rest.size:
            if not self._epoll.records[rest.fd].is_watched and self._epoll.watch_recorded(rest.fd):
                self._drop(rest.fd)
        elif lacking != NULL and self.lack_count < READY_MAX:
            lack = &self.lacks[self.lack_count]
            self.lack_count += 1
            lack.input = rest[0]
            lack.path, lack.path_len, lack.codings = lacking.path, lacking.path_len, lacking.codings
            lack.line, lack.line_len = lacking.line, lacking.line_len
            lack.client_len = lacking.client_len if self._looks else 0
            memcpy(lack.client, lacking.client, lack.client_len)
        else:
            self.report(rest.fd, READ, rest.data, rest.size)

    cdef bint _flush(self, int fd, const char *end) noexcept nogil:
        """Send what is gathered. False: not all was taken, and an event says what is left; ``end`` is where
        the connection's input ends."""
        return self._settle(fd, self._send(fd, 0), end)

    cdef bint _settle(self, int fd, ssize_t sent, const char *end) noexcept nogil:
        """Record the gathered answers of which ``sent`` bytes were sent; see ``_flush``."""
        cdef size_t total
        cdef int i, last = -1
        cdef Queued *answer
        cdef Report *made
        if sent < 0 and errno != EAGAIN and errno != EINTR:
            for i in range(self._outgoing.count):
                self._record(fd, &self._outgoing.queue[i], 0)
            if not self._drop(fd):
                self.report(fd, RESET, NULL, 0)
            return False
        sent = max(sent, 0)
        # An answer of which a session keeps something is not over: Python sees to it that it is sent.
        if not self._epoll.records[fd].is_plain and self._waits(fd):
            last = self._outgoing.count - 1
        for i in range(self._outgoing.count):
            answer = &self._outgoing.queue[i]
            total = answer.head_len + answer.tail_len + answer.body_len
            if <size_t>sent < total or i == last:
                if sent == 0:
                    self.report(fd, READ, answer.request, end - answer.request)
                else:
                    made = self.report(fd, PARTIAL, answer.request + answer.request_len, 0)
                    made.data_len = end - made.data
                    copy_answer(&made.partial, answer)
                    made.sent = sent
                return False
            sent -= total
            self._record(fd, answer, answer.body_len)
        self._outgoing.clear()
        return True

    cdef bint _answer_from(self, int file, int fd, Queued *answer, const char *end) noexcept nogil:
        """Send an answer whose body is in ``file``, after what is gathered; then close it, or pass it on with the
        event that says what is left. False: there is such an event."""
        cdef fastws_file body
        cdef ssize_t sent
        cdef size_t total = answer.head_len + answer.tail_len
        cdef Report *made
        if self._outgoing.count and not self._flush(fd, end):
            close(file)
            return False
        copy_answer(&self._outgoing.queue[0], answer)
        self._outgoing.add()
        sent = self._send(fd, MSG_MORE)
        body.fd, body.offset, body.left = file, answer.body_offset, answer.body_len
        if sent == <ssize_t>total:
            self._send_file(fd, &body, ANSWER_BYTES)
            self.counts.file_bytes += answer.body_len - body.left
            if not body.left and not self._waits(fd):
                close(file)
                self._record(fd, answer, answer.body_len)
                self._outgoing.clear()
                return True
        if sent <= 0:
            close(file)
            return self._settle(fd, sent, end)
        made = self.report(fd, PARTIAL, answer.request + answer.request_len, 0)
        made.data_len = end - made.data
        copy_answer(&made.partial, answer)
        made.sent, made.file = sent + answer.body_len - body.left, file
        return False

    cdef void _record(self, int fd, Queued *answer, size_t body_sent) noexcept nogil:
        """Count an answer that is over, and write its access line."""
        cdef fastws_access_line line
        cdef Watched *watched = &self._epoll.records[fd]
        self.counts.hits += 1
        self.counts.not_modified += answer.status == 304
        self.counts.missing += answer.status == 404
        self.counts.body_bytes += body_sent
        line.peer.data, line.peer.size = watched.peer, watched.peer_len
        line.request_id.size = 0
        if self._looks:
            self._senders.tell(answer, &line)
        line.user.data, line.user.size = b"", 0
        line.time.data, line.time.size = self.moment.log_time, self.moment.log_time_len
        line.request.data, line.request.size = answer.line, answer.line_len
        line.status, line.size = answer.status, body_sent
        line.referer.data, line.referer.size = answer.referer, answer.referer_len
        line.agent.data, line.agent.size = answer.agent, answer.agent_len
        line.host.data, line.host.size = answer.host, answer.host_len
        if self._log.is_timed:  # its line is worth a look at the clock
            fastws_look_at_clock(&self.moment)
            line.duration_us = <unsigned long long>(max(self.moment.now - self.begun, 0) * 1e6)
        if self._log.is_json:
            line.tls_version.data = line.tls_cipher.data = b""
            if watched.session != NULL:
                line.tls_version.data = fastws_tls_version(watched.session)
                line.tls_cipher.data = fastws_tls_cipher(watched.session)
            line.tls_version.size, line.tls_cipher.size = strlen(line.tls_version.data), strlen(line.tls_cipher.data)
        self._log.put(&line)
