# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Whom requests are from: the client that a trusted proxy names, and the name of each request, for access lines.

Twin of a part of ``http/forwarded.py``: what is not spelled plainly is left to Python. One reactor's own.
"""

import os

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from ..native.access_line cimport fastws_access_line
from ..native.forwarded cimport (
    FASTWS_CLIENT_BYTES, fastws_is_proxy,
    fastws_client_of_elements, fastws_client_of_list, fastws_is_trusted, fastws_network, fastws_part,
    fastws_read_address, fastws_read_node, fastws_spell_address,
)
from ..native.scan cimport FASTWS_MAX_FIELDS, fastws_field, fastws_head, fastws_scan_head
from .decisive_fields cimport size_of, value_of
from .outgoing cimport ID_BYTES, ID_NAME_LEN, Queued

# The fields that are looked at, each with its place. None of them changes a published answer: they are for access
# lines, and for what Python decides.
SENDER_FIELDS = {
    "forwarded": FORWARDED,
    "x-forwarded-for": FORWARDED_FOR,
    "x-forwarded-proto": FORWARDED_PROTO,
    "x-real-ip": REAL_IP,
    "x-request-id": REQUEST_ID,
    "traceparent": TRACE_PARENT,
    "tracestate": TRACE_STATE,
}

cdef const char *_id_name = b"X-Request-ID: "
cdef const char *_digits = b"0123456789abcdef"


@cython.final
cdef class Senders:
    """``senders.pxd`` lists what the loop calls."""

    def __cinit__(self):
        self._state = int.from_bytes(os.urandom(8), "little")

    def __dealloc__(self):
        free(self.proxies.networks)

    cdef int configure(self, tuple proxies, str client_header, str request_id) except -1:
        """Take the addresses that are believed, the field that names clients, and what is done with request ids."""
        cdef fastws_network *made = NULL
        cdef bytes text
        cdef size_t count = 0
        networks = [each for each in proxies if each != "unix"]
        if networks:
            made = <fastws_network *>calloc(len(networks), sizeof(fastws_network))
            if made == NULL:
                raise MemoryError
        for each in networks:
            address, _, length = each.partition("/")
            text = address.encode("ascii")
            fastws_read_address(text, len(text), made[count].base)
            made[count].bits = int(length or 128) if ":" in address else 96 + int(length or 32)
            count += 1
        free(self.proxies.networks)
        self.proxies.networks, self.proxies.count, self.proxies.has_unix = made, count, "unix" in proxies
        self._is_any = client_header == "any"
        self._takes_forwarded = client_header in ("any", "Forwarded")
        self._takes_list = client_header in ("any", "X-Forwarded-For")
        self._takes_real_ip = client_header in ("any", "X-Real-IP")
        self._names_requests, self._answers_ids = request_id != "off", request_id == "answer"
        self.is_on = bool(proxies) or self._names_requests
        return 0

    cdef bint trusts(self, const char *peer, size_t size) noexcept nogil:
        """Tell whether the fields of a connection from ``peer`` are believed."""
        return fastws_is_trusted(&self.proxies, peer, size)

    cdef bint look(self, fastws_head *head, bint is_trusted, Queued *answer) noexcept nogil:
        """Write whom the request is from to ``answer``; False if Python must read it."""
        cdef fastws_field *seen[PASSED_COUNT]
        answer.client_len = answer.id_len = 0
        if not is_trusted and not self._names_requests:
            return True
        if not _find(head, seen):
            return False
        if is_trusted and not self._name_client(seen, answer):
            return False
        if self._names_requests:
            self._name_request(seen[REQUEST_ID] if is_trusted else NULL, answer)
            answer.trace_parent, answer.trace_parent_len = value_of(seen[TRACE_PARENT]), size_of(seen[TRACE_PARENT])
            answer.trace_state, answer.trace_state_len = value_of(seen[TRACE_STATE]), size_of(seen[TRACE_STATE])
        return True

    cdef void tell(self, Queued *answer, fastws_access_line *line) noexcept nogil:
        """Write what ``look`` has found to the access line."""
        if answer.client_len:
            line.peer.data, line.peer.size = answer.client, answer.client_len
        if answer.id_len:
            line.request_id.data, line.request_id.size = answer.named_tail + ID_NAME_LEN, answer.id_len
            line.trace_parent.data, line.trace_parent.size = answer.trace_parent, answer.trace_parent_len
            line.trace_state.data, line.trace_state.size = answer.trace_state, answer.trace_state_len

    cdef bint _name_client(self, fastws_field **seen, Queued *answer) noexcept nogil:
        """See ``http.forwarded.sender_of``."""
        cdef fastws_field *forwarded = seen[FORWARDED] if self._takes_forwarded else NULL
        cdef fastws_field *listed = seen[FORWARDED_FOR] if self._takes_list else NULL
        cdef fastws_field *real = seen[REAL_IP] if self._takes_real_ip else NULL
        cdef fastws_part part
        cdef unsigned char address[16]
        if forwarded == NULL and listed == NULL and real == NULL:
            return True
        if forwarded != NULL and (listed != NULL or (self._is_any and seen[FORWARDED_PROTO] != NULL)):
            return False  # they may contradict each other
        if forwarded != NULL:
            answer.client_len = <uint32_t>fastws_client_of_elements(
                &self.proxies, forwarded.value, forwarded.value_len, answer.client
            )
        elif listed != NULL:
            answer.client_len = <uint32_t>fastws_client_of_list(
                &self.proxies, listed.value, listed.value_len, answer.client
            )
        else:
            part.data, part.size = real.value, real.value_len
            if fastws_read_node(part, address):
                answer.client_len = <uint32_t>fastws_spell_address(address, answer.client)
            return answer.client_len > 0
        return answer.client_len > 0 and (real == NULL or self._agrees(real, answer))

    cdef bint _agrees(self, fastws_field *real, Queued *answer) noexcept nogil:
        """Tell whether X-Real-IP, beside a chain, surely names the same client, or a proxy in the chain."""
        cdef fastws_part part
        cdef unsigned char address[16]
        cdef char name[FASTWS_CLIENT_BYTES]
        cdef size_t size
        part.data, part.size = real.value, real.value_len
        if not fastws_read_node(part, address):
            return False
        if fastws_is_proxy(&self.proxies, address):
            return True
        size = fastws_spell_address(address, name)
        return size == answer.client_len and memcmp(name, answer.client, size) == 0

    cdef void _name_request(self, fastws_field *field, Queued *answer) noexcept nogil:
        """Take the name that a proxy has given to the request, or give it one."""
        cdef char *name = answer.named_tail + ID_NAME_LEN
        cdef uint64_t bits
        cdef int i, half
        if field != NULL and 0 < field.value_len <= ID_BYTES and _is_visible(field):
            memcpy(name, field.value, field.value_len)
            answer.id_len = field.value_len
        else:
            for half in range(2):
                bits = self._next()
                for i in range(16):
                    name[16 * half + i] = _digits[(bits >> (60 - 4 * i)) & 15]
            answer.id_len = 32
        if self._answers_ids:
            memcpy(answer.named_tail, _id_name, ID_NAME_LEN)
            memcpy(name + answer.id_len, b"\r\n", 2)
            memcpy(name + answer.id_len + 2, answer.tail, answer.tail_len)
            answer.tail, answer.tail_len = answer.named_tail, ID_NAME_LEN + answer.id_len + 2 + answer.tail_len

    cdef uint64_t _next(self) noexcept nogil:
        """Return 64 bits that have not been before: splitmix64, which begins at random."""
        cdef uint64_t bits
        self._state += 0x9E3779B97F4A7C15ULL
        bits = self._state
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9ULL
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBULL
        return bits ^ (bits >> 31)


def name_client(bytes data not None, tuple proxies, str client_header):
    """Return the client that a whole request head from a trusted proxy names, as the loop does.

    "" where it names none, None where Python must read it. For tests.
    """
    cdef Senders senders = Senders()
    cdef fastws_head head
    cdef Queued answer
    senders.configure(proxies, client_header, "off")
    if fastws_scan_head(data, len(data), 1 << 20, 1 << 20, FASTWS_MAX_FIELDS, &head) <= 0:
        raise ValueError("the data is not one acceptable request head")
    if not senders.look(&head, True, &answer):
        return None
    return answer.client[: answer.client_len].decode("ascii")


cdef bint _find(fastws_head *head, fastws_field **seen) noexcept nogil:
    """Find the fields, each at its place; False if one of them is repeated."""
    cdef fastws_field *field
    cdef uint32_t i
    cdef int place
    memset(seen, 0, PASSED_COUNT * sizeof(seen[0]))
    for i in range(head.field_count):
        field = &head.fields[i]
        place = _place_of(field)
        if place >= 0:
            if seen[place] != NULL:
                return False
            seen[place] = field
    return True


cdef int _place_of(fastws_field *field) noexcept nogil:
    """Return the place of a field, -1 if it has none."""
    if field.name_len == 9:
        if _is(field, b"forwarded"):
            return FORWARDED
        return REAL_IP if _is(field, b"x-real-ip") else -1
    if field.name_len == 10:
        return TRACE_STATE if _is(field, b"tracestate") else -1
    if field.name_len == 11:
        return TRACE_PARENT if _is(field, b"traceparent") else -1
    if field.name_len == 12:
        return REQUEST_ID if _is(field, b"x-request-id") else -1
    if field.name_len == 15:
        return FORWARDED_FOR if _is(field, b"x-forwarded-for") else -1
    if field.name_len == 17:
        return FORWARDED_PROTO if _is(field, b"x-forwarded-proto") else -1
    return -1


cdef bint _is(fastws_field *field, const char *lower) noexcept nogil:
    """Compare a name with letters and hyphens of the same length, without regard to case."""
    cdef uint32_t i
    for i in range(field.name_len):
        if (field.name[i] | 0x20) != lower[i]:
            return False
    return True


cdef bint _is_visible(fastws_field *field) noexcept nogil:
    """Tell whether a value consists of visible ASCII characters that no log escapes."""
    cdef uint32_t i
    for i in range(field.value_len):
        if not 0x21 <= <unsigned char>field.value[i] <= 0x7E or field.value[i] == c'"' or field.value[i] == 92:
            return False
    return True
