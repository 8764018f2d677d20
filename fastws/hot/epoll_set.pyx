# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The epoll set: the descriptors that one reactor watches, a record of each, and the connections that it keeps.

A connection is kept from its being accepted until it needs Python: most of those that end after one answer never
do. Kept ones stand in a list by age, and in another one after their last answer. One reactor's own.
"""

cimport cython
from cpython.object cimport PyObject
from libc.errno cimport EBADF, ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset
from posix.unistd cimport close, getpid

from ..native.accept cimport FASTWS_PEER_BYTES
from .senders cimport Senders
from ..native.tls_session cimport (
    fastws_tls_end, fastws_tls_free, fastws_tls_shut, fastws_tls_start, fastws_tls_waits,
)

cdef extern from "sys/epoll.h" nogil:
    enum:
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD
        EPOLLIN, EPOLLOUT, EPOLLEXCLUSIVE
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)

cdef extern from "sys/socket.h" nogil:
    enum:
        SHUT_WR
    int shutdown(int fd, int how)


@cython.no_gc_clear  # what sessions were made with is needed until they have ended
cdef class EpollSet:
    """``epoll_set.pxd`` lists what the reactor calls; what returns an int returns 0, or the error."""

    def __cinit__(self):
        self.senders = Senders()
        self.fresh.oldest = self.fresh.newest = self.parting.oldest = self.parting.newest = -1
        self.lingering.oldest = self.lingering.newest = -1
        self._pid = getpid()
        self.fd = epoll_create1(EPOLL_CLOEXEC)
        if self.fd < 0:
            raise OSError(errno, "epoll_create1 failed")

    def __dealloc__(self):
        self.close()
        free(self.records)
        free(self.tls)

    cdef void close(self) noexcept:
        """Close the set, and the connections that nobody else owns; in a forked process, say nothing to anyone."""
        cdef int fd
        cdef bint is_forked = getpid() != self._pid
        for fd in range(self._room):
            if is_forked and self.records[fd].session != NULL:
                fastws_tls_free(self.records[fd].session)
                self.records[fd].session = NULL
            if self.keeps(fd) and not is_forked:
                self.drop(fd)
            self.end_session(fd)
        if self.fd >= 0:
            close(self.fd)
        self.fd = -1

    cdef int watch(self, int fd, PyObject *owner, int role, int manner, double now) noexcept nogil:
        cdef int error = self.record(fd, owner, role, manner, now)
        return error or self.watch_recorded(fd)

    cdef int record(self, int fd, PyObject *owner, int role, int manner, double now) noexcept nogil:
        """Begin the record of a descriptor that is to be watched."""
        cdef Watched *watched
        if fd < 0:
            return EBADF
        if not self._make_room(fd):
            return ENOMEM
        watched = &self.records[fd]
        watched.owner, watched.role, watched.manner, watched.interest = owner, role, manner, IDLE
        watched.generation += 1
        watched.active = now
        watched.file.left = watched.file_sent = 0
        watched.has_transport = watched.waits = watched.lingers = watched.is_watched = False
        watched.session = NULL
        watched.is_plain = True
        watched.is_trusted = False
        if role == ROLE_CONNECTION and manner == TLS:
            watched.is_plain = False
            watched.session = fastws_tls_start(self.tls)
            if watched.session == NULL:
                watched.role = ROLE_NONE
                return ENOMEM
        return 0

    cdef int watch_recorded(self, int fd) noexcept nogil:
        """Have the events of a descriptor reported, if they are not by now."""
        cdef Watched *watched = &self.records[fd]
        cdef epoll_event event
        cdef int error
        if watched.is_watched:
            return 0
        # One worker is woken for a new connection, not all of them.
        event.events = EPOLLIN | EPOLLEXCLUSIVE if watched.role == ROLE_LISTENER else _wanted(watched)
        event.data.u64 = (<uint64_t>watched.generation << 32) | <uint32_t>fd
        if epoll_ctl(self.fd, EPOLL_CTL_ADD, fd, &event) < 0:
            error = errno
            if watched.owner != NULL or not self.keeps(fd):
                self.end_session(fd)
                watched.role = ROLE_NONE
            return error
        watched.events = event.events
        watched.is_watched = True
        return 0

    cdef bint _make_room(self, int fd) noexcept nogil:
        """Have a record for ``fd``; False if there is no memory for it."""
        cdef int room
        cdef Watched *grown
        if fd >= self._room:
            room = max(64, 2 * self._room, fd + 1)
            grown = <Watched *>realloc(self.records, room * sizeof(Watched))
            if grown == NULL:
                return False
            memset(&grown[self._room], 0, (room - self._room) * sizeof(Watched))
            self.records, self._room = grown, room
        return True

    cdef Watched *find(self, int fd, int role) except NULL:
        """Return the record of ``fd``, which has that role; ``KeyError`` otherwise."""
        if not 0 <= fd < self._room or self.records[fd].role != role:
            raise KeyError(fd)
        return &self.records[fd]

    cdef void unwatch(self, int fd) noexcept nogil:
        """Have no events of ``fd`` reported. To close it would not do, where a forked process has it too."""
        cdef Watched *watched = &self.records[fd]
        if watched.is_watched:
            epoll_ctl(self.fd, EPOLL_CTL_DEL, fd, NULL)
        self.end_session(fd)
        if self.keeps(fd):
            self.let_go(fd)
            self.kept_count -= 1
        watched.role, watched.owner = ROLE_NONE, NULL
        watched.generation += 1  # events on their way have an old one

    cdef int set_interest(self, Watched *watched, int fd, int interest) noexcept nogil:
        """Say what the connection waits for.

        One that wants nothing for a while is left as it is: mostly nothing comes until it wants to read again. What
        does come is no event of it, and from then on epoll is silent.
        """
        watched.interest = interest
        if interest == NOTHING and watched.events == EPOLLIN:
            return 0
        return self.update(fd)

    cdef int update(self, int fd) noexcept nogil:
        """Have epoll report what is wanted of a connection by now."""
        cdef Watched *watched = &self.records[fd]
        cdef epoll_event event
        event.events = _wanted(watched)
        if event.events == watched.events or not watched.is_watched:
            return 0
        event.data.u64 = (<uint64_t>watched.generation << 32) | <uint32_t>fd
        if epoll_ctl(self.fd, EPOLL_CTL_MOD, fd, &event) < 0:
            return errno
        watched.events = event.events
        return 0

    # TLS

    cdef void end_session(self, int fd) noexcept nogil:
        """End the TLS of a connection, if it has any."""
        if self.records[fd].session != NULL:
            fastws_tls_end(self.records[fd].session, fd)
            self.records[fd].session = NULL

    cdef void name(self, int fd, const char *peer, size_t size) noexcept nogil:
        cdef Watched *watched = &self.records[fd]
        watched.peer_len = <uint32_t>min(size, <size_t>FASTWS_PEER_BYTES)
        memcpy(watched.peer, peer, watched.peer_len)
        watched.is_trusted = self.senders.is_on and self.senders.trusts(peer, watched.peer_len)

    cdef void name_again(self) noexcept nogil:
        """Tell anew which connections are those of trusted proxies."""
        cdef int fd
        cdef Watched *watched
        for fd in range(self._room):
            watched = &self.records[fd]
            if watched.role == ROLE_CONNECTION:
                watched.is_trusted = self.senders.is_on and self.senders.trusts(watched.peer, watched.peer_len)

    cdef str peer_of(self, int fd):
        return self.records[fd].peer[: self.records[fd].peer_len].decode("ascii")

    # Connections that are kept

    cdef bint keeps(self, int fd) noexcept nogil:
        return 0 <= fd < self._room and (
            self.records[fd].role == ROLE_CONNECTION and self.records[fd].owner == NULL
        )

    cdef bint can_keep(self, int manner) noexcept nogil:
        """Tell whether connections of that manner can be answered without Python."""
        return manner == PLAIN or (manner == TLS and self.tls != NULL and self.tls.context != NULL)

    cdef bint keep(self, int fd, const char *peer, size_t size, int manner, double now, bint is_watched) noexcept nogil:
        """Keep a new connection that has no owner; False if it cannot be watched.

        It need not be watched as long as it is being looked at: many a connection is accepted, answered and closed
        without ever being waited for.
        """
        if self.record(fd, NULL, ROLE_CONNECTION, manner, now):
            return False
        if is_watched and self.watch_recorded(fd):
            self.end_session(fd)
            self.records[fd].role = ROLE_NONE
            return False
        self.name(fd, peer, size)
        self._join(&self.fresh, fd, now)
        self.kept_count += 1
        return True

    cdef bint linger(self, int fd, double now) noexcept nogil:
        """Tell the client of a kept connection that no more comes; False if it is another's to tell.

        Closing a socket with unread input sends a reset, and so does what arrives after closing it: either could
        destroy the answer before the client has read it (RFC 9112 section 9.6). So it is read until the client ends.
        """
        if not self.keeps(fd):
            return False
        if (shutdown(fd, SHUT_WR) if self.records[fd].session == NULL else fastws_tls_shut(self.records[fd].session, fd)) < 0:
            return self.drop(fd)
        self.let_go(fd)
        self.records[fd].lingers = True
        self._join(self._list_of(&self.records[fd]), fd, now)
        return True

    cdef bint linger_on(self, int fd) noexcept nogil:
        """Watch a connection that lingers and has not been watched so far; False if it cannot be watched."""
        cdef double since = self.records[fd].listed_since
        self.let_go(fd)
        if self.watch_recorded(fd):
            return False
        self._join(&self.lingering, fd, since)
        return True

    cdef ByAge *_list_of(self, Watched *watched) noexcept nogil:
        if not watched.lingers:
            return &self.fresh
        return &self.lingering if watched.is_watched else &self.parting

    cdef void _join(self, ByAge *connections, int fd, double now) noexcept nogil:
        cdef Watched *watched = &self.records[fd]
        watched.listed_since = now
        watched.older, watched.newer = connections.newest, -1
        if connections.newest >= 0:
            self.records[connections.newest].newer = fd
        else:
            connections.oldest = fd
        connections.newest = fd

    cdef int own(self, int fd, PyObject *owner) noexcept nogil:
        """Keep a connection no longer: from now on it is the owner's."""
        self.let_go(fd)
        self.kept_count -= 1
        self.records[fd].owner = owner
        return self.watch_recorded(fd)

    cdef void let_go(self, int fd) noexcept nogil:
        """Take a connection out of the list that it is in."""
        cdef Watched *watched = &self.records[fd]
        cdef ByAge *connections = self._list_of(watched)
        if not watched.listed_since:
            return
        watched.listed_since = 0
        if watched.older >= 0:
            self.records[watched.older].newer = watched.newer
        else:
            connections.oldest = watched.newer
        if watched.newer >= 0:
            self.records[watched.newer].older = watched.older
        else:
            connections.newest = watched.older

    cdef bint drop(self, int fd) noexcept nogil:
        """Close a connection that is kept; False if it is another's to close."""
        if not self.keeps(fd):
            return False
        self.unwatch(fd)
        close(fd)
        return True

    cdef list list_kept(self):
        """Return the (descriptor, peer, manner) of those that wait for a request."""
        cdef list kept = []
        cdef int fd = self.fresh.oldest
        while fd >= 0:
            kept.append((fd, self.peer_of(fd), self.records[fd].manner))
            fd = self.records[fd].newer
        return kept


cdef uint32_t _wanted(Watched *watched) noexcept nogil:
    """Return what epoll is to report; a broken connection it reports in any case."""
    if watched.interest == OUTPUT or watched.waits or (watched.session != NULL and fastws_tls_waits(watched.session)):
        return EPOLLOUT
    return 0 if watched.interest == NOTHING else EPOLLIN
