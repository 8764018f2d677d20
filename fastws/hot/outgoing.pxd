# Answers from the response table on their way to one connection, for the reactor.

from libc.stdint cimport uint32_t

from ..native.forwarded cimport FASTWS_CLIENT_BYTES
from ..native.tls_session cimport fastws_session, iovec
from .table cimport Entry

cdef enum:
    QUEUE_MAX = 64             # answers in one sendmsg
    PIECES_MAX = 7             # of one answer
    JOIN_BYTES = 4096          # answers up to this size are copied together
    PART_LINES_BYTES = 160     # for numbers of 20 digits
    ID_BYTES = 128             # of a request id
    ID_NAME_LEN = 14           # X-Request-ID, colon and space
    NAMED_TAIL_BYTES = 352     # with that field line

# One answer gathered for the next sendmsg, or what should be published for it.
cdef struct Queued:
    Entry *entry
    const char *path           # of the target
    uint32_t path_len
    int codings                # the number of the accepted-codings set
    const char *request        # the request head
    const char *referer
    const char *agent
    const char *host
    const char *line           # the request line
    uint32_t request_len, referer_len, agent_len, host_len, line_len
    int status
    bint closes
    const char *head           # of the response; not used with 206, whose head is made from the entry's
    const char *tail           # Date, Connection and the empty line
    uint32_t head_len, tail_len
    size_t body_offset         # the first byte that is sent
    size_t body_len            # 0 for HEAD and 304
    uint32_t length_line_len, range_line_len
    uint32_t client_len        # 0: the client is the peer of the connection
    uint32_t id_len            # of the request's name, in named_tail behind the field's name; 0: it has none
    uint32_t trace_parent_len, trace_state_len
    const char *trace_parent
    const char *trace_state
    char part_lines[PART_LINES_BYTES]  # with 206: Content-Length and Content-Range
    char client[FASTWS_CLIENT_BYTES]
    char named_tail[NAMED_TAIL_BYTES]  # the field line, and the tail behind it

cdef void choose_part(Queued *answer, size_t first, size_t length) noexcept nogil
cdef void copy_answer(Queued *copy, Queued *answer) noexcept nogil
cdef bytes head_of(Queued *answer)


cdef class Outgoing:
    cdef Queued queue[QUEUE_MAX]
    cdef int count
    cdef iovec _pieces[PIECES_MAX * QUEUE_MAX]
    cdef int _piece_count
    cdef size_t _bytes
    cdef char _joined[JOIN_BYTES]

    cdef void clear(self) noexcept nogil
    cdef void add(self) noexcept nogil
    cdef ssize_t send(self, int fd, int flags) noexcept nogil
    cdef ssize_t send_by(self, fastws_session *session, int fd, int flags) noexcept nogil
