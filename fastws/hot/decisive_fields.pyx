# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Which request fields may change a replayed answer: the part of the hit predicate that reads them."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memcmp, memcpy, memset

from ..native.scan cimport fastws_field, fastws_head

# The request fields that may change a published answer, with the place where their one value is kept, or -1:
# whoever sends it is answered by Python. No other field can change one: what depends on Authorization or
# Accept is never published. A test holds this table against what the site looks at.
DECISIVE_FIELDS = {
    "host": SEEN_HOST,
    "connection": SEEN_CONNECTION,
    "accept-encoding": SEEN_ENCODING,
    "referer": SEEN_REFERER,  # these two for the access line
    "user-agent": SEEN_AGENT,
    "if-none-match": SEEN_NONE_MATCH,
    "if-modified-since": SEEN_MODIFIED_SINCE,
    "range": SEEN_RANGE,
    "if-range": SEEN_IF_RANGE,
    "if-match": -1,
    "if-unmodified-since": -1,
    "expect": -1,
    "content-length": -1,
    "transfer-encoding": -1,
}

cdef enum:
    LONGEST_NAME = 19

cdef struct DecisiveField:
    DecisiveField *next        # of the same length
    int place
    char name[LONGEST_NAME + 1]

cdef DecisiveField *_decisive[LONGEST_NAME + 1]


cdef int _index_decisive_fields() except -1:
    """Sort the table's names by length, for ever."""
    cdef DecisiveField *known
    cdef bytes text
    for name, place in DECISIVE_FIELDS.items():
        text = name.encode()
        known = <DecisiveField *>malloc(sizeof(DecisiveField))
        if known == NULL:
            raise MemoryError
        known.place = place
        memcpy(known.name, <const char *>text, len(text) + 1)
        known.next, _decisive[len(text)] = _decisive[len(text)], known
    return 0


_index_decisive_fields()


cdef bint find_decisive_fields(fastws_head *head, fastws_field **seen) noexcept nogil:
    """Find the fields that may change the answer, each at its ``SEEN_…``; False if one of them needs Python."""
    cdef fastws_field *field
    cdef DecisiveField *known
    cdef uint32_t i
    memset(seen, 0, SEEN_COUNT * sizeof(seen[0]))
    for i in range(head.field_count):
        field = &head.fields[i]
        if field.name_len > LONGEST_NAME:
            continue
        known = _decisive[field.name_len]
        while known != NULL:
            if _matches(field.name, known.name, field.name_len):
                # Repeated, it is a list or an error.
                if known.place < 0 or seen[known.place] != NULL:
                    return False
                seen[known.place] = field
                break
            known = known.next
    return True


cdef inline bint _matches(const char *text, const char *lower, size_t size) noexcept nogil:
    """Compare token characters without regard to case; ``lower`` has letters and hyphens only."""
    cdef size_t i
    for i in range(size):
        if (text[i] | 0x20) != lower[i]:
            return False
    return True


cdef const char *value_of(fastws_field *field) noexcept nogil:
    if field == NULL:
        return b""
    return field.value


cdef uint32_t size_of(fastws_field *field) noexcept nogil:
    return 0 if field == NULL else field.value_len


cdef bint value_equals(fastws_field *field, const char *text, uint32_t size) noexcept nogil:
    return field.value_len == size and memcmp(field.value, text, size) == 0


cdef int compare_tag(fastws_field *field, const char *etag, uint32_t size) noexcept nogil:
    """Compare the one entity tag that the value is with a strong one, weakly (RFC 9110 section 8.8.3.2).

    1: the same; 0: another; -1 for whatever ``conditional.py`` must read: a list, ``*``, anything malformed.
    """
    cdef const char *tag = field.value
    cdef uint32_t i, length = field.value_len
    if length > 2 and memcmp(tag, b"W/", 2) == 0:
        tag, length = tag + 2, length - 2
    if length == size and memcmp(tag, etag, size) == 0:
        return 1
    if length < 2 or tag[0] != c'"' or tag[length - 1] != c'"':
        return -1
    for i in range(1, length - 1):
        if tag[i] == c'"' or <unsigned char>tag[i] <= 0x20:
            return -1
    return 0


cdef bint value_matches(fastws_field *field, const char *lower, uint32_t size) noexcept nogil:
    """Compare without regard to case; ``lower`` has letters and hyphens only."""
    cdef uint32_t i
    if field.value_len != size:
        return False
    for i in range(size):
        # A hyphen with the bit 0x20 cleared is a control character, which no value has.
        if (field.value[i] | 0x20) != lower[i]:
            return False
    return True


cdef bint is_plain_host(fastws_field *host) noexcept nogil:
    """Tell whether the value is surely one that ``authority.check_host`` accepts."""
    cdef uint32_t i = 0, digits = 0
    cdef char c
    while i < host.value_len:
        c = host.value[i]
        if not (c"a" <= (c | 0x20) <= c"z" or c"0" <= c <= c"9" or c == c"." or c == c"-"):
            break
        i += 1
    if i < host.value_len and host.value[i] == c":":
        i += 1
        while i < host.value_len and c"0" <= host.value[i] <= c"9" and digits < 5:
            i += 1
            digits += 1
    return i == host.value_len


cdef enum:
    MAX_DIGITS = 18            # of a position; whoever writes more is answered by Python


cdef bint read_range(fastws_field *field, uint64_t size, uint64_t *first, uint64_t *length) noexcept nogil:
    """Read the one range that the value selects of ``size`` bytes; False for whatever ``ranges.py`` must decide.

    Twin of a part of it: a single range, spelled without ornament, that is satisfiable.
    """
    cdef const char *text = field.value
    cdef const char *end = text + field.value_len
    cdef const char *begin
    cdef uint64_t last = size - 1
    cdef bint has_first
    if field.value_len < 8 or memcmp(text, b"bytes=", 6) != 0:
        return False
    begin = text = text + 6
    first[0] = _number(&text, end)
    has_first = text > begin
    if text - begin > MAX_DIGITS or text == end or text[0] != c"-":
        return False
    begin = text = text + 1
    if text < end:
        last = _number(&text, end)
    if text < end or text - begin > MAX_DIGITS:
        return False
    if not has_first:  # the last bytes: as many as the number after the hyphen says, which was there by the length
        length[0] = min(last, size)
        first[0] = size - length[0]
        return length[0] > 0
    if first[0] >= size or last < first[0]:
        return False
    length[0] = min(last, size - 1) - first[0] + 1
    return True


cdef inline uint64_t _number(const char **text, const char *end) noexcept nogil:
    """Read digits, and move ``text`` behind them; without meaning beyond ``MAX_DIGITS``."""
    cdef uint64_t number = 0
    while text[0] < end and c"0" <= text[0][0] <= c"9":
        number = 10 * number + (text[0][0] - c"0")
        text[0] += 1
    return number
