# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The access log's buffer: lines of replayed answers, written without the GIL, between those that Python writes.

One reactor's own. Whoever cannot have memory for a line loses the line, not the answer.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from ..native.access_line cimport (
    FASTWS_LINE_ESCAPED, FASTWS_LINE_FIXED, fastws_access_line, fastws_put_combined, fastws_put_combined_time,
    fastws_put_id, fastws_put_json,
)

cdef enum:
    FULL_BYTES = 65536         # the buffer is handed over at this size; nginx: buffer=64k
    KEPT_BYTES = 2097152       # a larger one has grown by one unusual turn, and is not kept

# What Python may ask: enums leave no trace in a module.
BOUNDS = {"FULL_BYTES": FULL_BYTES}


cdef class LogBuffer:
    """See ``backend.Reactor.log``; ``log_buffer.pxd`` lists what the reactor calls."""

    def __dealloc__(self):
        free(self._data)

    cdef void configure(self, str log_format):
        """Take ``off``, ``combined``, ``combined_time`` or ``json``."""
        self._is_off, self.is_json = log_format == "off", log_format == "json"
        self.is_timed = log_format in ("combined_time", "json")

    cdef bint is_full(self) noexcept nogil:
        return self._used >= FULL_BYTES

    cdef void put(self, fastws_access_line *line) noexcept nogil:
        """Write the line of one answer; its peer, user and time are short."""
        cdef char *out
        cdef size_t texts
        if self._is_off:
            return
        texts = line.request.size + line.referer.size + line.agent.size + line.host.size
        if line.request_id.size:
            texts += line.request_id.size + line.trace_parent.size + line.trace_state.size
        if not self._reserve(FASTWS_LINE_FIXED + FASTWS_LINE_ESCAPED * texts):
            return
        out = self._data + self._used
        if not self.is_timed:
            out = fastws_put_combined(out, line)
        else:
            out = fastws_put_json(out, line) if self.is_json else fastws_put_combined_time(out, line)
        if line.request_id.size:
            out = fastws_put_id(out, line, self.is_json)
        self._used = out - self._data

    cdef void append(self, bytes line):
        """Take a line that Python has written."""
        if not self._is_off and self._reserve(len(line)):
            memcpy(self._data + self._used, <const char *>line, len(line))
            self._used += len(line)

    cdef bytes take(self):
        """Return all lines, and begin anew."""
        lines = PyBytes_FromStringAndSize(self._data, self._used)
        self._used = 0
        if self._room > KEPT_BYTES:
            free(self._data)
            self._data, self._room = NULL, 0
        return lines

    cdef bint _reserve(self, size_t size) noexcept nogil:
        cdef size_t room
        cdef char *grown
        if self._room - self._used < size:
            room = 2 * self._room + size + FULL_BYTES
            grown = <char *>realloc(self._data, room)
            if grown == NULL:
                return False
            self._data, self._room = grown, room
        return True
