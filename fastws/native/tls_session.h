/* TLS on one connection: it turns bytes into bytes.
 *
 * recv and send stay ours, and so do the buffers, which are the worker's: OpenSSL never sees a descriptor. _tls_py.py
 * and transport/tls.py do the same by the standard library.
 *
 * A session keeps what the socket has not taken: at most one chunk, for as long as it waits nothing more is read or
 * enciphered. The records that come are given to OpenSSL one by one, so that what says nothing can be counted. */
#ifndef FASTWS_TLS_SESSION_H
#define FASTWS_TLS_SESSION_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libssl.h"
#include "send_file.h"

enum {
    FASTWS_TLS_RECORD = 16384,                   /* plain bytes of a full record: RFC 8446 section 5.1 */
    FASTWS_TLS_HEADER = 5,                       /* bytes before those that are enciphered */
    FASTWS_TLS_IN = FASTWS_TLS_RECORD + 1024,    /* what is received at once: a full record */
    FASTWS_TLS_ROOM = FASTWS_TLS_IN + FASTWS_TLS_RECORD, /* the most plain bytes of it, with those of a record before */
    FASTWS_TLS_CHUNK = 4 * FASTWS_TLS_RECORD,    /* plain bytes that are enciphered before the socket is tried */
    FASTWS_TLS_OUT = FASTWS_TLS_CHUNK + 32768,   /* that, enciphered, or a handshake with a long chain */
    FASTWS_TLS_HANDSHAKE_RECORDS = 256,          /* a client that needs more is none */
    FASTWS_TLS_IDLE_RECORDS = 64                 /* records without a byte of data, of all that one connection sends */
};

/* Why a handshake failed, or a connection after it; seam.TLS_FAILURES has the same order. */
enum {
    FASTWS_TLS_VERSION,
    FASTWS_TLS_CIPHER,
    FASTWS_TLS_CLIENT_CERTIFICATE,
    FASTWS_TLS_REFUSED_BY_CLIENT,
    FASTWS_TLS_PLAIN_HTTP,
    FASTWS_TLS_TIMEOUT,
    FASTWS_TLS_CLOSED,
    FASTWS_TLS_RECORDS,
    FASTWS_TLS_OTHER,
    FASTWS_TLS_FAILURES
};

/* What one name leads to. */
typedef struct {
    const char *name; /* in lower case; may begin with "*." */
    SSL_CTX *context;
} fastws_tls_name;

/* What the handshakes that begin now are made with. One worker's own: nothing of it is locked. */
typedef struct {
    const fastws_libssl *api;
    SSL_CTX **contexts; /* the first is for clients that name nobody */
    size_t context_count;
    fastws_tls_name *names; /* sorted */
    size_t name_count;
    size_t session_count; /* those that have begun with it, and are not over */
} fastws_tls_context;

/* What a worker has counted. */
typedef struct {
    uint64_t version_1_2, version_1_3, resumed;
    uint64_t failures[FASTWS_TLS_FAILURES];
} fastws_tls_counts;

/* What all sessions of one worker share. */
typedef struct {
    fastws_tls_context *context; /* of new sessions; NULL: none may begin */
    fastws_tls_counts counts;
    const char *in; /* what OpenSSL may read now */
    size_t in_left;
    size_t out_len;
    char received[FASTWS_TLS_IN];
    char out[FASTWS_TLS_OUT];     /* what OpenSSL has written */
    char joined[FASTWS_TLS_CHUNK]; /* small pieces on their way into one record, and what is read of a file */
} fastws_tls_worker;

typedef struct {
    SSL *ssl;
    fastws_tls_worker *worker;
    fastws_tls_context *context;
    char *pending; /* what the socket has not taken; NULL: nothing */
    size_t pending_at, pending_len;
    unsigned records;            /* of the handshake; after it, those without data */
    unsigned short record_left;  /* of the record that has begun, once its header is complete */
    unsigned char header[FASTWS_TLS_HEADER];
    unsigned char header_len;
    unsigned char is_open;       /* the handshake is over */
    unsigned char has_ended;     /* the client sends no more: close_notify */
    unsigned char is_clear;      /* the client speaks plain HTTP */
    unsigned char has_failed;    /* the client has broken a rule, or something is lost, which is yet to be reported */
    unsigned char is_over;       /* what comes is thrown away */
    unsigned char is_counted;    /* among the failures */
    unsigned char is_held;       /* what is kept leaves with the first answer: tickets */
} fastws_session;

static inline const fastws_libssl *fastws_tls_api(const fastws_session *s) {
    return s->context->api;
}

/* Whether something is kept that the socket has not taken. */
static inline int fastws_tls_waits(const fastws_session *s) {
    return s->pending_len != 0 && !s->is_held;
}

static inline void fastws_tls_count_failure(fastws_session *s, int reason) {
    if (!s->is_counted) s->worker->counts.failures[reason]++;
    s->is_counted = 1;
}

/* The texts of the access log; "" before the end of the handshake. */
static inline const char *fastws_tls_version(const fastws_session *s) {
    return s->is_open ? fastws_tls_api(s)->SSL_get_version(s->ssl) : "";
}

static inline const char *fastws_tls_cipher(const fastws_session *s) {
    const fastws_libssl *api = fastws_tls_api(s);
    return s->is_open ? api->SSL_CIPHER_get_name(api->SSL_get_current_cipher(s->ssl)) : "";
}

/* Begins the server's side of a connection. Returns NULL without memory, or where no context is set. */
static inline fastws_session *fastws_tls_start(fastws_tls_worker *worker) {
    fastws_tls_context *context = worker->context;
    const fastws_libssl *api;
    fastws_session *s;
    BIO *bio = NULL;
    if (!context || !(s = calloc(1, sizeof(*s)))) return NULL;
    api = context->api;
    s->worker = worker;
    s->context = context;
    s->ssl = api->SSL_new(context->contexts[0]);
    if (s->ssl) bio = api->BIO_new(api->method);
    if (!bio) {
        api->SSL_free(s->ssl); /* which takes NULL */
        api->ERR_clear_error();
        free(s);
        return NULL;
    }
    api->BIO_set_data(bio, s);
    api->SSL_set_bio(s->ssl, bio, bio);
    api->SSL_set_accept_state(s->ssl);
    context->session_count++;
    return s;
}

/* Sending */

/* Sends what is kept. Returns 1 if nothing is left, 0 if the socket has no room, -1 with errno if it is broken. */
static inline int fastws_tls_flush(fastws_session *s, int fd) {
    if (s->is_held) return 1;
    while (s->pending_len) {
        ssize_t sent = send(fd, s->pending + s->pending_at, s->pending_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return errno == EAGAIN ? 0 : -1;
        s->pending_at += (size_t)sent;
        s->pending_len -= (size_t)sent;
    }
    free(s->pending);
    s->pending = NULL;
    return 1;
}

/* Has OpenSSL write from here on, behind what is held. */
static inline void fastws_tls_begin_output(fastws_session *s) {
    fastws_tls_worker *worker = s->worker;
    worker->out_len = 0;
    if (!s->is_held) return;
    memcpy(worker->out, s->pending, s->pending_len);
    worker->out_len = s->pending_len;
    free(s->pending);
    s->pending = NULL;
    s->pending_len = s->is_held = 0;
}

/* Keeps what OpenSSL has written so that it leaves with the answer: a send less for each handshake. Returns whether
 * there was memory for that. */
static inline int fastws_tls_hold(fastws_session *s) {
    fastws_tls_worker *worker = s->worker;
    s->pending = malloc(worker->out_len);
    if (!s->pending) return 0;
    memcpy(s->pending, worker->out, worker->out_len);
    s->pending_len = worker->out_len;
    s->pending_at = worker->out_len = 0;
    s->is_held = 1;
    return 1;
}

/* Sends what OpenSSL has written, and keeps what the socket does not take; nothing may be kept already. Returns as
 * fastws_tls_flush. */
static inline int fastws_tls_push(fastws_session *s, int fd, int flags) {
    fastws_tls_worker *worker = s->worker;
    size_t size = worker->out_len;
    ssize_t sent;
    worker->out_len = 0;
    if (!size) return 1;
    do sent = send(fd, worker->out, size, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN) {
        s->has_failed = 1; /* what is lost leaves a gap behind which nothing can be read */
        return -1;
    }
    if (sent < 0) sent = 0;
    if ((size_t)sent == size) return 1;
    s->pending_len = size - (size_t)sent;
    s->pending_at = 0;
    s->pending = malloc(s->pending_len);
    if (!s->pending) {
        s->pending_len = 0;
        s->has_failed = 1;
        errno = ENOMEM;
        return -1;
    }
    memcpy(s->pending, worker->out + sent, s->pending_len);
    return 0;
}

/* Enciphers size bytes, at most FASTWS_TLS_CHUNK, for which there is room. Returns 0, or -1 with errno. */
static inline int fastws_tls_encipher(fastws_session *s, const char *data, size_t size) {
    const fastws_libssl *api = fastws_tls_api(s);
    if (api->SSL_write(s->ssl, data, (int)size) == (int)size) return 0;
    api->ERR_clear_error();
    errno = EPROTO;
    return -1;
}

/* Whether data may be sent: 1; otherwise -1 with errno, EAGAIN as long as something is kept. */
static inline int fastws_tls_may_send(fastws_session *s, int fd) {
    int state = fastws_tls_flush(s, fd);
    if (state == 0) errno = EAGAIN;
    if (state <= 0) return -1;
    if (s->is_open && !s->is_over && !s->has_failed) return 1;
    errno = EPIPE; /* in the handshake there are no keys yet; after the end nothing may come */
    return -1;
}

/* Pieces on their way into records. */
typedef struct {
    const struct iovec *piece;
    int count; /* of those from piece on */
    size_t at; /* of the first of them, so much is taken */
} fastws_tls_pieces;

/* Finds the next chunk: full records of a large piece as they lie, up to most bytes, or small pieces joined up to a
 * record, so that a head and what it announces share one. Returns its size, 0 at the end. */
static inline size_t fastws_tls_next_chunk(fastws_tls_pieces *p, size_t most, char *joined, const char **chunk) {
    size_t size = 0;
    *chunk = joined;
    while (p->count) {
        const char *data = (const char *)p->piece->iov_base + p->at;
        size_t left = p->piece->iov_len - p->at, taken = left;
        if (!size && left >= FASTWS_TLS_RECORD) {
            taken = (left < most ? left : most) / FASTWS_TLS_RECORD * FASTWS_TLS_RECORD;
            p->at += taken;
            *chunk = data;
            return taken;
        }
        if (taken > FASTWS_TLS_RECORD - size) taken = FASTWS_TLS_RECORD - size;
        memcpy(joined + size, data, taken);
        size += taken;
        p->at += taken;
        if (p->at < p->piece->iov_len) return size;
        p->piece++;
        p->count--;
        p->at = 0;
    }
    return size;
}

/* As sendmsg, without blocking: returns how many plain bytes are taken, of which a part may be kept. */
static inline ssize_t fastws_tls_send(fastws_session *s, int fd, const struct iovec *pieces, int count, int flags) {
    fastws_tls_worker *worker = s->worker;
    fastws_tls_pieces left = {pieces, count, 0};
    const char *chunk;
    size_t size, taken = 0, gone = 0, most = FASTWS_TLS_CHUNK;
    int state = 1;
    if (s->is_clear) {
        struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
    }
    if (fastws_tls_may_send(s, fd) < 0) return -1;
    fastws_tls_begin_output(s);
    while (state == 1 && (size = fastws_tls_next_chunk(&left, most, worker->joined, &chunk))) {
        if (fastws_tls_encipher(s, chunk, size) < 0) return -1;
        taken += size;
        most -= size;
        if (most >= FASTWS_TLS_RECORD) continue;
        state = fastws_tls_push(s, fd, flags);
        if (state >= 0) gone = taken;
        most = FASTWS_TLS_CHUNK;
    }
    if (state == 1) state = fastws_tls_push(s, fd, flags);
    if (state >= 0) return (ssize_t)taken;
    return gone ? (ssize_t)gone : -1; /* the next call says that the connection is broken */
}

/* As fastws_send_file: 1 if it is to be called again when the socket has room, 0 if that was all or the file has
 * ended; -1 with errno if the connection is broken, -2 if the file cannot be read. After 0 some may still be kept. */
static inline int fastws_tls_send_file(fastws_session *s, int fd, fastws_file *file, size_t budget) {
    fastws_tls_worker *worker = s->worker;
    int state = 1;
    if (s->is_clear) return fastws_send_file(fd, file, budget, 0);
    if (fastws_tls_may_send(s, fd) < 0) return errno == EAGAIN ? 1 : -1;
    fastws_tls_begin_output(s);
    while (file->left && state == 1) {
        size_t count = file->left < FASTWS_TLS_CHUNK ? file->left : FASTWS_TLS_CHUNK;
        ssize_t got;
        if (count > budget) count = budget;
        if (!count) return 1;
        got = pread(file->fd, worker->joined, count, file->offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -2;
        if (got == 0) return 0;
        if (fastws_tls_encipher(s, worker->joined, (size_t)got) < 0) return -1;
        state = fastws_tls_push(s, fd, 0);
        if (state < 0) return -1;
        file->offset += got;
        file->left -= (size_t)got;
        budget -= (size_t)got;
    }
    return file->left != 0;
}

/* How many bytes the client has not acknowledged, as far as the system tells. */
static inline size_t fastws_tls_unacknowledged(const fastws_session *s, int fd) {
    int queued = 0;
    if (ioctl(fd, TIOCOUTQ, &queued) < 0) queued = 0; /* tcp(7): SIOCOUTQ */
    return (size_t)queued + s->pending_len;
}

/* Receiving */

/* Returns how many of the size bytes at in belong to the record that has begun, or begins there. */
static inline size_t fastws_tls_record_part(fastws_session *s, const char *in, size_t size) {
    size_t part = 0, body;
    if (s->header_len < FASTWS_TLS_HEADER) {
        while (s->header_len < FASTWS_TLS_HEADER && part < size) s->header[s->header_len++] = (unsigned char)in[part++];
        if (s->header_len < FASTWS_TLS_HEADER) return part;
        s->record_left = (unsigned short)(s->header[3] << 8 | s->header[4]);
    }
    body = size - part < s->record_left ? size - part : s->record_left;
    s->record_left = (unsigned short)(s->record_left - body);
    return part + body;
}

/* Whether the record that has begun is complete; then the next one begins. */
static inline int fastws_tls_end_record(fastws_session *s) {
    if (s->header_len < FASTWS_TLS_HEADER || s->record_left) return 0;
    s->header_len = 0;
    return 1;
}

/* Names what the handshake failed for. */
static inline int fastws_tls_reason(const fastws_libssl *api) {
    int reason = (int)(api->ERR_peek_last_error() & 0xfff);
    switch (reason) {
    case FWS_SSL_R_UNSUPPORTED_PROTOCOL: return FASTWS_TLS_VERSION;
    case FWS_SSL_R_NO_SHARED_CIPHER: return FASTWS_TLS_CIPHER;
    case FWS_SSL_R_CERTIFICATE_VERIFY_FAILED:
    case FWS_SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return FASTWS_TLS_CLIENT_CERTIFICATE;
    default:
        if (reason >= FWS_SSL_AD_REASON_OFFSET && reason <= FWS_SSL_AD_REASON_OFFSET + FWS_SSL_AD_LAST)
            return FASTWS_TLS_REFUSED_BY_CLIENT;
        return FASTWS_TLS_OTHER;
    }
}

/* Goes on with the handshake. Returns 0, or -1 if it has failed. */
static inline int fastws_tls_shake_hands(fastws_session *s) {
    const fastws_libssl *api = fastws_tls_api(s);
    fastws_tls_counts *counts = &s->worker->counts;
    int result = api->SSL_do_handshake(s->ssl);
    if (result == 1) {
        s->is_open = 1;
        s->records = 0;
        counts->version_1_3 += api->SSL_version(s->ssl) == FWS_TLS1_3_VERSION;
        counts->version_1_2 += api->SSL_version(s->ssl) == FWS_TLS1_2_VERSION;
        counts->resumed += api->SSL_session_reused(s->ssl) != 0;
        return 0;
    }
    if (api->SSL_get_error(s->ssl, result) == FWS_SSL_ERROR_WANT_READ && s->records <= FASTWS_TLS_HANDSHAKE_RECORDS)
        return 0;
    fastws_tls_count_failure(s, fastws_tls_reason(api));
    return -1;
}

/* Deciphers what OpenSSL may read now to data, which has room for all of it. Returns how many bytes that are, or -1 if
 * no more can come: has_ended tells whether the client said so. */
static inline ssize_t fastws_tls_decipher(fastws_session *s, char *data, size_t room) {
    const fastws_libssl *api = fastws_tls_api(s);
    size_t got = 0;
    int result, error;
    do {
        result = api->SSL_read(s->ssl, data + got, (int)(room - got));
        if (result > 0) got += (size_t)result;
    } while (result > 0 && s->worker->in_left);
    if (result > 0) return (ssize_t)got;
    error = api->SSL_get_error(s->ssl, result);
    if (error == FWS_SSL_ERROR_WANT_READ) return (ssize_t)got;
    s->has_ended = error == FWS_SSL_ERROR_ZERO_RETURN;
    if (!s->has_ended) fastws_tls_count_failure(s, FASTWS_TLS_RECORDS);
    return -1;
}

/* Takes received bytes record by record. Returns how many plain bytes there are; has_failed is set where the client
 * has broken a rule. */
static inline size_t fastws_tls_take(fastws_session *s, const char *in, size_t size, char *data, size_t room) {
    fastws_tls_worker *worker = s->worker;
    size_t got = 0;
    while (size && !s->has_ended && !s->has_failed) {
        size_t part = fastws_tls_record_part(s, in, size);
        ssize_t more;
        worker->in = in;
        worker->in_left = part;
        more = s->is_open ? fastws_tls_decipher(s, data + got, room - got) : fastws_tls_shake_hands(s);
        if (more < 0) {
            s->has_failed = !s->has_ended;
            break;
        }
        got += (size_t)more;
        if (fastws_tls_end_record(s) && !more && ++s->records > FASTWS_TLS_IDLE_RECORDS && s->is_open) {
            fastws_tls_count_failure(s, FASTWS_TLS_RECORDS);
            s->has_failed = 1;
        }
        in += part;
        size -= part;
    }
    worker->in_left = 0;
    return got;
}

/* Whether the first byte of a connection begins a method of HTTP, and not a record. */
static inline int fastws_is_plain_http(const fastws_session *s, char first) {
    return !s->is_open && !s->header_len && !s->records && first >= 'A' && first <= 'Z';
}

/* What is received once nothing of a session is to be deciphered; -2: go on. */
static inline ssize_t fastws_tls_receive_no_more(fastws_session *s, int fd, char *data) {
    if (s->is_over || s->is_clear) return recv(fd, data, FASTWS_TLS_IN, MSG_DONTWAIT);
    if (s->has_failed) {
        s->is_over = 1;
        errno = EPROTO;
        return -1;
    }
    if (s->has_ended) return 0;
    if (!fastws_tls_waits(s)) return -2;
    errno = EAGAIN;
    return -1;
}

/* Receives records, or what is none: returns as recv. */
static inline ssize_t fastws_tls_receive_records(fastws_session *s, int fd) {
    char *received = s->worker->received;
    ssize_t size = recv(fd, received, FASTWS_TLS_IN, MSG_DONTWAIT);
    int is_lost = size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
    if (is_lost && !s->is_open) fastws_tls_count_failure(s, FASTWS_TLS_CLOSED);
    if (size <= 0 || !fastws_is_plain_http(s, received[0])) return size;
    fastws_tls_count_failure(s, FASTWS_TLS_PLAIN_HTTP);
    s->is_clear = 1;
    errno = EPROTONOSUPPORT;
    return -1;
}

/* As recv, without blocking: plain bytes to data, which has FASTWS_TLS_ROOM; 0 at the end of the stream; -1 with errno.
 * EPROTO: the client has broken a rule, and knows; EPROTONOSUPPORT: it speaks plain HTTP, and so do we from now on. */
static inline ssize_t fastws_tls_receive(fastws_session *s, int fd, char *data) {
    fastws_tls_worker *worker = s->worker;
    const fastws_libssl *api = fastws_tls_api(s);
    ssize_t size = fastws_tls_receive_no_more(s, fd, data);
    size_t got;
    int was_open;
    if (size != -2) return size;
    size = fastws_tls_receive_records(s, fd);
    if (size <= 0) return size;
    if (api->ERR_peek_error()) api->ERR_clear_error(); /* of other users of OpenSSL in this thread */
    was_open = s->is_open;
    fastws_tls_begin_output(s);
    got = fastws_tls_take(s, worker->received, (size_t)size, data, FASTWS_TLS_ROOM);
    if (s->has_failed) api->ERR_clear_error();
    /* A request that came with the end of the handshake is about to be answered. */
    if (was_open || !s->is_open || !got || s->has_failed || s->has_ended || !worker->out_len || !fastws_tls_hold(s)) {
        if (fastws_tls_push(s, fd, 0) < 0) return -1;
    }
    if (got) {
        /* What follows the data is noticed at the next turn, for the socket stays readable from now on. */
        if (s->has_failed || s->has_ended) shutdown(fd, SHUT_RD);
        return (ssize_t)got;
    }
    if (!s->has_failed) errno = EAGAIN;
    return s->has_failed || s->has_ended ? fastws_tls_receive_no_more(s, fd, data) : -1;
}

/* The end */

/* Says that no more comes, as far as the socket takes that. */
static inline void fastws_tls_say_goodbye(fastws_session *s, int fd) {
    const fastws_libssl *api = fastws_tls_api(s);
    if (!s->is_open || s->is_over || s->has_failed || fastws_tls_waits(s)) return;
    fastws_tls_begin_output(s);
    if (api->SSL_shutdown(s->ssl) < 0) api->ERR_clear_error();
    (void)fastws_tls_push(s, fd, 0);
}

/* Ends the sending direction; what still comes is thrown away. Returns 0, or -1 with errno. */
static inline int fastws_tls_shut(fastws_session *s, int fd) {
    fastws_tls_say_goodbye(s, fd);
    s->is_over = 1;
    return shutdown(fd, SHUT_WR);
}

/* Frees a session without a word, as in a forked process: the connection is another's. */
static inline void fastws_tls_free(fastws_session *s) {
    const fastws_libssl *api = fastws_tls_api(s);
    api->SSL_free(s->ssl);
    api->ERR_clear_error();
    s->context->session_count--;
    free(s->pending);
    free(s);
}

/* Ends a session, whose descriptor is about to be closed. */
static inline void fastws_tls_end(fastws_session *s, int fd) {
    if (!s->is_open && !s->is_clear) fastws_tls_count_failure(s, FASTWS_TLS_TIMEOUT);
    fastws_tls_say_goodbye(s, fd);
    fastws_tls_free(s);
}

#endif
