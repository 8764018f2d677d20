# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Answers on their way to one connection: the pieces of each in their order, and all of them in one send.

A piece is what an entry of the response table holds, or the text of this second. Only the head of a part (206) is made
for the request: it is that of the whole with another status, another Content-Length, and a Content-Range.
"""

from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from ..native.tls_session cimport fastws_session, fastws_tls_send, iovec

cdef extern from "sys/socket.h" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    enum:
        MSG_DONTWAIT, MSG_NOSIGNAL
    ssize_t send(int fd, const void *buffer, size_t size, int flags)
    ssize_t sendmsg(int fd, const msghdr *message, int flags)

cdef const char *_part_status = b"HTTP/1.1 206 Partial Content\r\n"

cdef enum:
    WHOLE_STATUS_LEN = 17      # HTTP/1.1 200 OK, which an entry's head begins with
    PART_STATUS_LEN = 30


cdef void choose_part(Queued *answer, size_t first, size_t length) noexcept nogil:
    """Make the whole answer one with ``length`` bytes from ``first`` on."""
    cdef Entry *entry = answer.entry
    cdef size_t whole = entry.body_len
    answer.status = 206
    answer.body_offset, answer.body_len = first, length
    answer.length_line_len = snprintf(answer.part_lines, PART_LINES_BYTES, b"Content-Length: %zu\r\n", length)
    answer.range_line_len = snprintf(
        answer.part_lines + answer.length_line_len, PART_LINES_BYTES - answer.length_line_len,
        b"Content-Range: bytes %zu-%zu/%zu\r\n", first, first + length - 1, whole,
    )
    answer.head_len = (
        entry.head_len - WHOLE_STATUS_LEN - (entry.after_length - entry.length_line)
        + PART_STATUS_LEN + answer.length_line_len + answer.range_line_len
    )


cdef int _list_head(Queued *answer, iovec *pieces) noexcept nogil:
    """Write the pieces of the head, all before Date, to ``pieces``; return how many there are."""
    cdef Entry *entry = answer.entry
    if answer.status != 206:
        pieces[0].iov_base, pieces[0].iov_len = <void *>answer.head, answer.head_len
        return 1
    pieces[0].iov_base, pieces[0].iov_len = <void *>_part_status, PART_STATUS_LEN
    pieces[1].iov_base = <void *>(entry.head + WHOLE_STATUS_LEN)
    pieces[1].iov_len = entry.length_line - WHOLE_STATUS_LEN
    pieces[2].iov_base, pieces[2].iov_len = answer.part_lines, answer.length_line_len
    pieces[3].iov_base = <void *>(entry.head + entry.after_length)
    pieces[3].iov_len = entry.head_len - entry.after_length
    pieces[4].iov_base, pieces[4].iov_len = answer.part_lines + answer.length_line_len, answer.range_line_len
    return 5


cdef void copy_answer(Queued *copy, Queued *answer) noexcept nogil:
    """Copy an answer, whose tail may lie within it."""
    if copy == answer:
        return
    copy[0] = answer[0]
    if answer.tail == answer.named_tail:
        copy.tail = copy.named_tail


cdef bytes head_of(Queued *answer):
    """Return the whole head, with its empty line."""
    cdef iovec pieces[PIECES_MAX]
    cdef int i
    cdef int count = _list_head(answer, pieces)
    head = [(<const char *>pieces[i].iov_base)[: pieces[i].iov_len] for i in range(count)]
    return b"".join([*head, answer.tail[: answer.tail_len]])


cdef class Outgoing:
    """``outgoing.pxd`` lists what the loop calls. The answer to be added is written to ``queue[count]`` before."""

    cdef void clear(self) noexcept nogil:
        self.count = self._piece_count = 0
        self._bytes = 0

    cdef void add(self) noexcept nogil:
        """Add ``queue[count]``; a body that is read from a file is left to the caller."""
        cdef Queued *answer = &self.queue[self.count]
        cdef iovec *pieces = &self._pieces[self._piece_count]
        cdef int count = _list_head(answer, pieces)
        pieces[count].iov_base, pieces[count].iov_len = <void *>answer.tail, answer.tail_len
        count += 1
        self._bytes += answer.head_len + answer.tail_len
        if answer.body_len and answer.entry.body_file < 0:
            pieces[count].iov_base = <void *>(answer.entry.body + answer.body_offset)
            pieces[count].iov_len = answer.body_len
            count += 1
            self._bytes += answer.body_len
        self._piece_count += count
        self.count += 1

    cdef ssize_t send_by(self, fastws_session *session, int fd, int flags) noexcept nogil:
        """As ``send``, by TLS."""
        return fastws_tls_send(session, fd, self._pieces, self._piece_count, flags)

    cdef ssize_t send(self, int fd, int flags) noexcept nogil:
        """Send all pieces in one call: small ones as one copy, which is cheaper than a vector."""
        cdef msghdr message
        cdef char *out = self._joined
        cdef int i
        if self._bytes <= JOIN_BYTES:
            for i in range(self._piece_count):
                memcpy(out, self._pieces[i].iov_base, self._pieces[i].iov_len)
                out += self._pieces[i].iov_len
            return send(fd, self._joined, self._bytes, MSG_DONTWAIT | MSG_NOSIGNAL | flags)
        memset(&message, 0, sizeof(message))
        message.msg_iov, message.msg_iovlen = self._pieces, self._piece_count
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | flags)
