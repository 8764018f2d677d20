# Declarations of tls_session.h: TLS on one connection, for the reactor.

from libc.stdint cimport uint64_t

from .libssl cimport SSL_CTX, fastws_libssl
from .send_file cimport fastws_file


cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "tls_session.h" nogil:
    enum:
        FASTWS_TLS_ROOM        # plain bytes that a receive may give
        FASTWS_TLS_FAILURES    # how many reasons there are

    ctypedef struct fastws_tls_name:
        const char *name
        SSL_CTX *context

    ctypedef struct fastws_tls_context:
        const fastws_libssl *api
        SSL_CTX **contexts
        size_t context_count
        fastws_tls_name *names
        size_t name_count
        size_t session_count

    ctypedef struct fastws_tls_counts:
        uint64_t version_1_2, version_1_3, resumed
        uint64_t *failures

    ctypedef struct fastws_tls_worker:
        fastws_tls_context *context
        fastws_tls_counts counts

    ctypedef struct fastws_session:
        bint is_open, is_clear

    fastws_session *fastws_tls_start(fastws_tls_worker *worker)
    bint fastws_tls_waits(const fastws_session *session)
    # 1 nothing is kept any more, 0 the socket has no room, -1 with errno
    int fastws_tls_flush(fastws_session *session, int fd)
    # as recv and sendmsg, of plain bytes; EPROTO: a rule is broken; EPROTONOSUPPORT: the client speaks plain HTTP
    ssize_t fastws_tls_receive(fastws_session *session, int fd, char *data)
    ssize_t fastws_tls_send(fastws_session *session, int fd, const iovec *pieces, int count, int flags)
    # 1 to be called again, 0 that was all, or the end of the file; with errno: -1 broken, -2 the file cannot be read
    int fastws_tls_send_file(fastws_session *session, int fd, fastws_file *file, size_t budget)
    size_t fastws_tls_unacknowledged(const fastws_session *session, int fd)
    int fastws_tls_shut(fastws_session *session, int fd)
    void fastws_tls_free(fastws_session *session)
    void fastws_tls_end(fastws_session *session, int fd)
    const char *fastws_tls_version(const fastws_session *session)
    const char *fastws_tls_cipher(const fastws_session *session)
