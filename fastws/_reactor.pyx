# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The compiled reactor: epoll, and the answers that Python has published, replayed without the GIL.

Twin of ``_reactor_py.py``; the contract of both is ``backend.Reactor``. This is the side that Python sees, with the
GIL: what the loop reports becomes events, and what it lacks is published. The loop itself is ``hot/turn.pyx``.
``docs/design.md`` explains turns, freshness and ownership.
"""

import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.errno cimport EAGAIN, errno
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc
from posix.unistd cimport close, write

from ._tls cimport Context
from .hot.epoll_set cimport (
    IDLE, INPUT, OUTPUT, PLAIN, ROLE_CONNECTION, ROLE_LISTENER, ROLE_WAKE, TLS, EpollSet, Watched,
)
from .hot.hit_predicate cimport HitPredicate
from .hot.log_buffer cimport LogBuffer
from .hot.outgoing cimport ID_NAME_LEN, Queued, head_of
from .hot.table cimport Entry, Table, lay_out
from .hot.turn cimport (
    ARRIVE, BODY_BYTES, Counts, DONE, DURATION_BUCKETS, PARTIAL, READ, REASON, RECEIVE_BYTES, Input, Lack, Report, Turn,
)
from .native.accept cimport FASTWS_PEER_BYTES, fastws_accept
from .native.heap cimport fastws_share_one_heap
from .native.send_file cimport fastws_file
from .native.tls_session cimport (
    FASTWS_TLS_FAILURES, fastws_session, fastws_tls_cipher, fastws_tls_counts, fastws_tls_send, fastws_tls_send_file,
    fastws_tls_shut, fastws_tls_unacknowledged, fastws_tls_version, fastws_tls_worker, iovec,
)

from . import seam
from .seam import (
    DURATION_BOUNDS_S, Accepted, FileFailedError, Filled, PartialSend, ReplayCounters, TLSCounters,
)
from .transported import Transported

cdef extern from "sys/eventfd.h" nogil:
    enum:
        EFD_CLOEXEC, EFD_NONBLOCK
    int eventfd(unsigned int initial, int flags)

cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL
    ssize_t send(int fd, const void *data, size_t size, int flags)

cdef object PUBLISHED = Filled.PUBLISHED
cdef object UNDECIDED = Filled.UNDECIDED

cdef double FILL_S = 0.01      # a turn that has published for longer leaves to Python what a connection lacks next


cdef class Reactor:
    """See ``backend.Reactor``."""

    side = "compiled"
    replays = True

    cdef EpollSet _epoll
    cdef Table _table
    cdef HitPredicate _predicate
    cdef LogBuffer _log
    cdef Turn _turn
    cdef int _wake
    cdef object _fill
    cdef Entry _prepared       # made for one request
    cdef object _transported
    cdef set _held_back        # of _transported
    cdef set _due              # of those, what is read in this turn

    def __cinit__(self):
        self._wake = -1
        self._epoll, self._table, self._predicate, self._log = EpollSet(), Table(), HitPredicate(), LogBuffer()
        self._turn = Turn(
            self._epoll, self._table, self._predicate, self._log, DURATION_BOUNDS_S, seam.LINGER_S, seam.LINGER_BYTES
        )
        self._transported = Transported()
        self._held_back, self._due = self._transported.held_back, set()
        self._wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self._wake < 0:
            raise OSError(errno, "eventfd failed")
        self._epoll.contexts = []
        _check(self._epoll.watch(self._wake, NULL, ROLE_WAKE, PLAIN, self._turn.moment.now))

    def __dealloc__(self):
        if self._wake >= 0:
            close(self._wake)

    @staticmethod
    def share_one_heap():
        """See ``backend.ReactorFactory.share_one_heap``."""
        fastws_share_one_heap()

    def close(self):
        """See ``backend.Reactor.close``."""
        self._epoll.close()
        self._transported.clear()
        if self._wake >= 0:
            close(self._wake)
        self._wake = -1

    def configure(self, settings, fill):
        """See ``backend.Reactor.configure``."""
        self._fill = fill
        self._table.clear(settings.cache_bytes)
        self._log.configure(settings.log_format)
        self._predicate.configure(settings.methods, settings.versions, settings.default_codings)
        self._turn.configure(settings)
        self._epoll.name_again()

    # Connections

    def add_listener(self, int fd, owner, int manner=PLAIN):
        """See ``backend.Reactor.add_listener``."""
        if fd < 0:
            raise ValueError(f"Invalid file descriptor: {fd}")  # what a closed socket has
        _check(self._epoll.watch(fd, <PyObject *>owner, ROLE_LISTENER, manner, self._turn.moment.now))

    def remove_listener(self, int fd):
        """See ``backend.Reactor.remove_listener``."""
        self._epoll.find(fd, ROLE_LISTENER)
        self._epoll.unwatch(fd)

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
        cdef bint is_secured = isinstance(transport, Secured)
        cdef int manner
        if self._epoll.keeps(fd):
            _check(self._epoll.own(fd, <PyObject *>owner))
        else:
            manner = TLS if is_secured else PLAIN
            _check(self._epoll.record(fd, <PyObject *>owner, ROLE_CONNECTION, manner, self._turn.moment.now))
            self._epoll.name(fd, text, size)
            _check(self._epoll.watch_recorded(fd))
        if transport is not None and not is_secured:
            self._transported.add(fd, transport)
            self._epoll.records[fd].has_transport = True
            self._epoll.records[fd].is_plain = False

    def secure(self, context):
        """See ``backend.Reactor.secure``."""
        cdef bint is_own = isinstance(context, Context)
        if is_own and self._epoll.tls == NULL:
            self._epoll.tls = <fastws_tls_worker *>calloc(1, sizeof(fastws_tls_worker))
            if self._epoll.tls == NULL:
                raise MemoryError
        if self._epoll.tls != NULL:
            self._epoll.tls.context = &(<Context>context).made if is_own else NULL
        used = [each for each in self._epoll.contexts if (<Context>each).made.session_count]
        self._epoll.contexts = [*used, context] if is_own else used
        return is_own

    def secured(self, int fd, str peer):
        """See ``backend.Reactor.secured``."""
        return Secured(self, fd)

    def tls_counters(self):
        """See ``backend.Reactor.tls_counters``."""
        cdef int i
        cdef fastws_tls_counts *counts
        if self._epoll.tls == NULL:
            return TLSCounters()
        counts = &self._epoll.tls.counts
        failures = tuple([counts.failures[i] for i in range(FASTWS_TLS_FAILURES)])
        return TLSCounters(counts.version_1_2, counts.version_1_3, counts.resumed, failures)

    def remove(self, int fd):
        """See ``backend.Reactor.remove``."""
        if self._epoll.find(fd, ROLE_CONNECTION).has_transport:
            self._transported.remove(fd)
        self._epoll.unwatch(fd)

    def keep(self, int fd, str peer, int manner=PLAIN):
        """See ``backend.Reactor.keep``."""
        cdef Py_ssize_t size
        cdef const char *text = PyUnicode_AsUTF8AndSize(peer, &size)
        return self._epoll.can_keep(manner) and self._epoll.keep(fd, text, size, manner, self._turn.moment.now, True)

    @property
    def kept(self):
        """See ``backend.Reactor.kept``."""
        return self._epoll.kept_count

    def take_kept(self):
        """See ``backend.Reactor.take_kept``."""
        return [Accepted(*each) for each in self._epoll.list_kept()]

    def set_interest(self, int fd, int interest):
        """See ``backend.Reactor.set_interest``."""
        _check(self._epoll.set_interest(self._epoll.find(fd, ROLE_CONNECTION), fd, interest))

    def transfer(self, int fd, int file, long long offset, size_t length):
        """See ``backend.Reactor.transfer``."""
        cdef Watched *watched = self._epoll.find(fd, ROLE_CONNECTION)
        _check(self._epoll.set_interest(watched, fd, OUTPUT))
        watched.file.fd, watched.file.offset = file, offset
        watched.file.left = 0 if watched.has_transport else length
        watched.file_sent = 0

    def transferred(self, int fd):
        """See ``backend.Reactor.transferred``."""
        return self._epoll.find(fd, ROLE_CONNECTION).file_sent

    def end_transfer(self, int fd):
        """See ``backend.Reactor.end_transfer``."""
        cdef Watched *watched = self._epoll.find(fd, ROLE_CONNECTION)
        cdef size_t sent = watched.file_sent
        watched.file.left = watched.file_sent = 0
        return sent

    def last_activity(self, int fd):
        """See ``backend.Reactor.last_activity``."""
        return self._epoll.find(fd, ROLE_CONNECTION).active

    def wake(self):
        """See ``backend.Reactor.wake``."""
        cdef uint64_t one = 1
        if self._wake >= 0:
            write(self._wake, &one, sizeof(one))

    # Turns

    def wait(self, double deadline, int room=0):
        """See ``backend.Reactor.wait``."""
        cdef list events = []
        cdef bint has_filled
        while True:
            if self._held_back:
                self._list_due()
            self._table.bury()
            with nogil:
                self._turn.run(0 if self._due else deadline, room)
            self._take_reports(events)
            has_filled = self._turn.lack_count > 0
            if has_filled:
                self._answer_lacks(events)
                self._turn.hand_over_old()
                self._take_reports(events)
            while self._due:
                self._read_through(self._due.pop(), events)
            if events or not has_filled or self._turn.is_over(deadline):
                return events

    def replay(self, int fd, bytes data not None, double asked_at=0):
        """See ``backend.Reactor.replay``."""
        cdef Turn turn = self._turn
        cdef Input input
        cdef uint64_t hits = turn.counts.hits
        input.fd, input.data, input.size = fd, PyBytes_AS_STRING(data), len(data)
        if self._epoll.find(fd, ROLE_CONNECTION).has_transport:
            return READ, data
        turn.number += 1  # a look at the files for these bytes, which were read after the last one
        turn.report_count = 0
        with nogil:
            turn.tick()
            turn.begun = asked_at or turn.moment.now
            turn.answer(&input, False, NULL)
            turn.measure(hits)
        if turn.report_count == 0:
            return READ, b""
        turn.report_count = 0
        return turn.reports[0].kind, self._event_data(&turn.reports[0])

    # Connections with a transport

    cdef int _list_due(self) except -1:
        """Find those that wait for bytes which their transports may hold, and which no event announces."""
        for fd in self._held_back:
            if self._epoll.records[<int>fd].interest in (IDLE, INPUT):
                self._due.add(fd)

    cdef int _read_through(self, int fd, list events) except -1:
        cdef Watched *watched = &self._epoll.records[fd]
        cdef object owner = <object>watched.owner
        self._due.discard(fd)
        if watched.waits:
            self._look_at_kept(fd)
            return 0
        came = self._transported.read(fd, RECEIVE_BYTES if watched.interest == IDLE else BODY_BYTES)
        self._look_at_kept(fd)
        if came is not None:
            # The transport is free to have others added or this one removed: records move.
            self._epoll.records[fd].active = self._turn.moment.now
            events.append((owner, came[0], came[1]))

    cdef int _look_at_kept(self, int fd) except -1:
        """Have the transport send what it keeps, and wait for room if it goes on keeping some."""
        cdef bint waits
        if fd in self._transported:  # reading may have removed it
            waits = self._transported.waits(fd)
            self._epoll.records[fd].waits = waits
            self._epoll.update(fd)
        return 0

    # Events

    cdef int _take_reports(self, list events) except -1:
        """Add the events that were reported, which need nothing of the table from then on."""
        cdef Report *report
        cdef int i
        try:
            for i in range(self._turn.report_count):
                report = &self._turn.reports[i]
                if report.kind == READ and self._epoll.records[report.fd].has_transport:
                    self._read_through(report.fd, events)
                else:
                    events.append(self._event(report))
        except BaseException:
            for i in range(self._turn.report_count):  # the files that nobody will hear of
                if self._turn.reports[i].file >= 0:
                    close(self._turn.reports[i].file)
            raise
        self._turn.report_count = 0

    cdef tuple _event(self, Report *report):
        cdef PyObject *owner = self._epoll.records[report.fd].owner
        if owner != NULL:
            return <object>owner, report.kind, self._event_data(report)
        came = None if report.kind == ARRIVE else (report.kind, self._event_data(report))
        return Accepted(report.fd, self._epoll.peer_of(report.fd), self._epoll.records[report.fd].manner), ARRIVE, came

    cdef object _event_data(self, Report *report):
        if report.kind == READ or report.kind == DONE:
            return PyBytes_FromStringAndSize(report.data, report.data_len)
        return self._partial(report) if report.kind == PARTIAL else None

    cdef str _name_of(self, Queued *answer):
        """Return the request's name, "" if requests have none."""
        if not self._epoll.senders.is_on:
            return ""
        return answer.named_tail[ID_NAME_LEN : ID_NAME_LEN + answer.id_len].decode("ascii")

    cdef object _partial(self, Report *report):
        cdef Queued *answer = &report.partial
        cdef bytes head = head_of(answer)
        cdef size_t offset = max(<ssize_t>0, <ssize_t>report.sent - len(head))
        return PartialSend(
            request=answer.request[: answer.request_len],
            status=answer.status,
            head=head[report.sent :],
            body=<object>answer.entry.body_object if answer.body_len else b"",
            file=report.file,
            length=answer.body_len,
            offset=offset,
            begin=answer.body_offset,
            close=bool(answer.closes),
            rest=report.data[: report.data_len],
            request_id=self._name_of(answer),
        )

    # Replaying

    def has(self, str path, int codings, tuple depends, content):
        """See ``backend.Reactor.has``."""
        return self._table.has(path.encode("latin-1"), codings, depends, content)

    def publish(self, published):
        """See ``backend.Reactor.publish``."""
        self._table.publish(published)

    def learn_codings(self, str accept_encoding, int codings):
        """See ``backend.Reactor.learn_codings``."""
        self._predicate.learn_codings(accept_encoding.encode("latin-1"), codings)

    def drain(self):
        """See ``backend.Reactor.drain``."""
        self._predicate.is_draining = True

    def counters(self):
        """See ``backend.Reactor.counters``."""
        cdef int i
        cdef Counts *counts = &self._turn.counts
        return ReplayCounters(
            hits=counts.hits,
            not_modified=counts.not_modified,
            body_bytes=counts.body_bytes,
            duration_s=counts.seconds,
            file_bytes=counts.file_bytes,
            filled=counts.filled,
            missing=counts.missing,
            durations=tuple([counts.durations[i] for i in range(DURATION_BUCKETS)]),
            **self._table.counters(),
        )

    cdef void _answer_lacks(self, list events) except *:
        """Have published or prepared what is lacking, and answer; the rest is Python's to decide."""
        cdef Turn turn = self._turn
        cdef Lack *lack
        cdef Entry *entry
        cdef Entry *prepared
        cdef uint64_t hits
        cdef double begun = turn.moment.now
        cdef bint is_hit
        cdef int i = 0
        while i < turn.lack_count:  # what follows in the same input may be lacking too
            lack, hits, prepared = &turn.lacks[i], turn.counts.hits, NULL
            i += 1
            entry = self._table.look_up(lack.path, lack.path_len, lack.codings)
            is_hit = entry != NULL and self._table.is_fresh(entry, turn.number)  # by now: it was lacking to another
            answer = PUBLISHED if is_hit else self._fill_in(lack)
            if answer is UNDECIDED:
                turn.report(lack.input.fd, READ, lack.input.data, lack.input.size)
            else:
                if answer is not PUBLISHED:
                    prepared, peer = &self._prepared, self._client_of(lack)
                    lay_out(prepared, answer.status, answer.head, answer.body)
                with nogil:
                    turn.tick()  # files may have taken their time
                    turn.begun = begun
                    turn.answer(&lack.input, turn.moment.now - begun < FILL_S, prepared)
                    turn.counts.filled += not is_hit and turn.counts.hits > hits
                    turn.measure(hits)
                if prepared != NULL and (turn.counts.hits > hits or self._is_partial()):
                    line = lack.line[: lack.line_len].decode("latin-1")
                    name = turn.prepared_id[: turn.prepared_id_len].decode("ascii") if turn.prepared_id_len else ""
                    events.append((peer, REASON, (answer.status, answer.detail, line, name)))
            if turn.report_count:
                self._take_reports(events)

    cdef str _client_of(self, Lack *lack):
        if lack.client_len:
            return lack.client[: lack.client_len].decode("ascii")
        return self._epoll.peer_of(lack.input.fd)

    cdef bint _is_partial(self) noexcept:
        """Tell whether the last answer was begun and is to be finished by Python."""
        return self._turn.report_count > 0 and self._turn.reports[0].kind == PARTIAL

    cdef object _fill_in(self, Lack *lack):
        """Return what ``fill`` returned. What is published is fresh for the request: its files were looked at after
        the request came."""
        cdef Entry *entry
        answer = self._fill(self, lack.path[: lack.path_len].decode("latin-1"), lack.codings)
        if answer is PUBLISHED:
            entry = self._table.look_up(lack.path, lack.path_len, lack.codings)
            if entry == NULL:
                return UNDECIDED
            entry.checked_turn = self._turn.number
        return answer

    # What Python sends

    @staticmethod
    def send_small(int fd, bytes data not None):
        """See ``backend.Reactor.send_small``."""
        cdef ssize_t sent = send(fd, PyBytes_AS_STRING(data), len(data), MSG_DONTWAIT | MSG_NOSIGNAL)
        _check(errno if sent < 0 else 0)
        return sent

    # The access log

    def log(self, bytes line):
        """See ``backend.Reactor.log``."""
        self._log.append(line)

    @property
    def log_is_full(self):
        """See ``backend.Reactor.log_is_full``."""
        return self._log.is_full()

    def take_log(self):
        """See ``backend.Reactor.take_log``."""
        return self._log.take()


cdef enum:
    SEND_PIECES = 64           # that Python sends by TLS in one call


@cython.final
cdef class Secured:
    """See ``seam.Transport``: a connection whose bytes come and go by TLS in its reactor, which also reads it."""

    cdef Reactor _reactor
    cdef int _fd

    def __cinit__(self, Reactor reactor not None, int fd):
        self._reactor, self._fd = reactor, fd

    cdef fastws_session *_session(self) except NULL:
        cdef Watched *watched = self._reactor._epoll.find(self._fd, ROLE_CONNECTION)
        if watched.session == NULL:
            raise KeyError(self._fd)
        return watched.session

    def receive(self, Py_ssize_t most):
        """See ``seam.Transport.receive``: the reactor has taken all that came."""
        raise BlockingIOError(EAGAIN, "the reactor reads")

    holds_back = False

    def send(self, pieces, bint more):
        """See ``seam.Transport.send``."""
        cdef fastws_session *session = self._session()
        cdef Py_buffer views[SEND_PIECES]
        cdef iovec vector[SEND_PIECES]
        cdef int i, error, count = 0, flags = MSG_MORE if more else 0
        cdef Py_ssize_t size = 0
        cdef ssize_t sent = -1
        try:
            for piece in pieces[:SEND_PIECES]:
                PyObject_GetBuffer(piece, &views[count], PyBUF_SIMPLE)
                vector[count].iov_base, vector[count].iov_len = views[count].buf, views[count].len
                size += views[count].len
                count += 1
            if size <= seam.SMALL_BYTES:  # as ``send_small``
                sent = fastws_tls_send(session, self._fd, vector, count, flags)
                error = errno
            else:
                with nogil:
                    sent = fastws_tls_send(session, self._fd, vector, count, flags)
                    error = errno
        finally:
            for i in range(count):
                PyBuffer_Release(&views[i])
        self._reactor._epoll.update(self._fd)
        _check(error if sent < 0 else 0)
        return sent

    def send_file(self, int file, long long offset, size_t count):
        """See ``seam.Transport.send_file``."""
        cdef fastws_session *session = self._session()
        cdef fastws_file body
        cdef int state, error
        body.fd, body.offset, body.left = file, offset, count
        with nogil:
            state = fastws_tls_send_file(session, self._fd, &body, count)
            error = errno
        self._reactor._epoll.update(self._fd)
        if body.left < count or not state:
            return count - body.left  # the next call says it, if the connection is broken
        if state == -1:
            _check(error)
        if state == -2:
            raise FileFailedError(os.strerror(error))
        raise BlockingIOError(EAGAIN, os.strerror(EAGAIN))

    def unacknowledged(self):
        """See ``seam.Transport.unacknowledged``."""
        return fastws_tls_unacknowledged(self._session(), self._fd)

    def shut(self):
        """See ``seam.Transport.shut``."""
        if fastws_tls_shut(self._session(), self._fd) < 0:
            _check(errno)
        self._reactor._epoll.update(self._fd)

    def close(self):
        """See ``seam.Transport.close``: what is to be said before is said when the reactor forgets the connection."""
        if self._fd >= 0:
            close(self._fd)
        self._fd = -1

    def secured(self):
        """See ``seam.Transport.secured``."""
        cdef fastws_session *session = self._session()
        return fastws_tls_version(session).decode("ascii"), fastws_tls_cipher(session).decode("ascii")


cdef int _check(int error) except -1:
    """Raise the ``OSError`` of ``error``, if it is one."""
    if error:
        raise OSError(error, os.strerror(error))
    return 0
