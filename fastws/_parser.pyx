# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The compiled parser: bytes → ``Request``, and the bytes of response heads and access lines.

Twin of ``_parser_py.py``; the contract of both is ``backend.Parser``. The scanning itself is ``native/scan.h``; here
its offsets become Python objects. What the scanner does not accept is explained by ``grammar.py``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_SetItem, PyDict_Size
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.long cimport PyLong_AsLong
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_Check, PyUnicode_DecodeLatin1
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy
from libc.time cimport CLOCKS_PER_SEC, clock, clock_t

from .native.access_line cimport (
    FASTWS_LINE_ESCAPED,
    FASTWS_LINE_FIXED,
    fastws_access_line,
    fastws_put_combined,
    fastws_put_combined_time,
    fastws_put_id,
    fastws_put_json,
    fastws_text,
)
from .native.named_tuple cimport fastws_alloc_tuple
from .native.scan cimport (
    FASTWS_INCOMPLETE,
    FASTWS_MAX_FIELDS,
    fastws_field,
    fastws_head,
    fastws_scan_head,
)

from .h1.given import check_given as _diagnose
from .h1.grammar import refusal, refuse_incomplete
from .http.messages import Given, Request
from .http.vocabulary import REASON_PHRASES

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)
    int PyUnicode_KIND(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_1BYTE_KIND

side = "compiled"

cdef dict _STATUS_LINES = {
    status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in REASON_PHRASES.items()
}
cdef object _HTTP_1_1 = "HTTP/1.1"
cdef object _HTTP_1_0 = "HTTP/1.0"
cdef object _GET = "GET"

# Lower-case names already made, by hash: the same dozen names come with every request, in the same spelling.
# Bounded, first come first kept: a client that sends ever new names gets ever new strings and fills nothing.
cdef enum:
    NAME_SLOTS = 512
    NAME_MAX = 32

cdef struct KnownName:
    PyObject *lower            # owned for ever; NULL: free
    uint32_t length
    char spelling[NAME_MAX]    # as it was sent when it was first seen

cdef KnownName[NAME_SLOTS] _known_names


def parse_request(bytes data not None, Py_ssize_t start, Py_ssize_t scanned, limits):
    """See ``backend.Parser.parse_request``."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data) - start
    cdef const char *bytes_ = PyBytes_AS_STRING(data) + start
    cdef long length
    cdef fastws_head head
    if start < 0 or size < 0:
        raise IndexError("start lies outside data")
    if scanned > start and data.find(b"\r\n\r\n", max(start, scanned - 3)) < 0:
        length = FASTWS_INCOMPLETE
    else:
        length = fastws_scan_head(
            bytes_,
            size,
            PyLong_AsLong(<object>PyTuple_GET_ITEM(limits, 0)),
            PyLong_AsLong(<object>PyTuple_GET_ITEM(limits, 1)),
            max(0, min(PyLong_AsLong(<object>PyTuple_GET_ITEM(limits, 2)), FASTWS_MAX_FIELDS)),
            &head,
        )
    if length > 0:
        return _make_request(&head, length)
    # The scanner stops at the first offence; whether a whole head is there decides who explains.
    end = data.find(b"\r\n\r\n", max(start, scanned - 3))
    if end < 0:
        refuse_incomplete(data, start, scanned, limits)
        return None
    raise refusal(data[start : end + 4], limits, data[end + 4 : end + 16])


cdef object _make_request(fastws_head *head, long length):
    cdef tuple request = fastws_alloc_tuple(Request, 5)
    cdef object method, target, version, size
    cdef dict fields = {}
    cdef uint32_t i
    cdef fastws_field *field
    if head.method_len == 3 and head.method[0] == c"G" and head.method[1] == c"E" and head.method[2] == c"T":
        method = _GET
    else:
        method = PyUnicode_DecodeLatin1(head.method, head.method_len, NULL)
    target = _ascii(head.target, head.target_len)
    if head.version[5] == c"1" and head.version[7] == c"1":
        version = _HTTP_1_1
    elif head.version[5] == c"1" and head.version[7] == c"0":
        version = _HTTP_1_0
    else:
        version = PyUnicode_DecodeLatin1(head.version, 8, NULL)
    for i in range(head.field_count):
        field = &head.fields[i]
        PyDict_SetItem(fields, _name(field), _value(field))
    if PyDict_Size(fields) != head.field_count:
        fields = _join_repeated(head)
    size = length
    # SET_ITEM takes a reference over without counting it.
    Py_INCREF(method)
    PyTuple_SET_ITEM(request, 0, method)
    Py_INCREF(target)
    PyTuple_SET_ITEM(request, 1, target)
    Py_INCREF(version)
    PyTuple_SET_ITEM(request, 2, version)
    Py_INCREF(fields)
    PyTuple_SET_ITEM(request, 3, fields)
    Py_INCREF(size)
    PyTuple_SET_ITEM(request, 4, size)
    return request


cdef dict _join_repeated(fastws_head *head):
    cdef dict fields = {}
    cdef uint32_t i
    for i in range(head.field_count):
        name = _name(&head.fields[i])
        value = _value(&head.fields[i])
        separator = "; " if name == "cookie" else ", "
        fields[name] = f"{fields[name]}{separator}{value}" if name in fields else value
    return fields


cdef inline object _ascii(const char *text, Py_ssize_t size):
    cdef object made = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(made), text, size)
    return made


cdef inline object _value(fastws_field *field):
    # DecodeLatin1 shares the one-character and empty strings, and looks for the widest character.
    if field.high or field.value_len < 2:
        return PyUnicode_DecodeLatin1(field.value, field.value_len, NULL)
    return _ascii(field.value, field.value_len)


cdef inline object _name(fastws_field *field):
    cdef KnownName *known = &_known_names[field.name_hash % NAME_SLOTS]
    if known.length == field.name_len and memcmp(known.spelling, field.name, field.name_len) == 0:
        return <object>known.lower
    lower = field.name[:field.name_len].decode("ascii").lower()
    if known.lower == NULL and field.name_len <= NAME_MAX:
        Py_INCREF(lower)
        known.lower = <PyObject *>lower
        known.length = field.name_len
        memcpy(known.spelling, field.name, field.name_len)
    return lower


def build_head(int status, tuple fields):
    """See ``backend.Parser.build_head``."""
    cdef bytes line = _STATUS_LINES[status]
    cdef Py_ssize_t i, count = PyTuple_GET_SIZE(fields)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(line)
    for i in range(count):
        size += _size_of_field(<object>PyTuple_GET_ITEM(fields, i))
    cdef bytes head = PyBytes_FromStringAndSize(NULL, size)
    cdef char *start = PyBytes_AS_STRING(head)
    cdef char *out = _copy(start, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
    for i in range(count):
        out = _copy_field(out, PyTuple_GET_ITEM(fields, i))
    if _count_controls(<unsigned char *>start, size) != 2 * (1 + count):  # there is one CRLF a line
        raise ValueError("a response field has a control character or one beyond ISO 8859-1")
    return head


cdef Py_ssize_t _size_of_field(object pair) except -1:
    """Return how many bytes the line of a (name, value) takes."""
    cdef PyObject *name
    cdef PyObject *value
    if not PyTuple_Check(pair) or PyTuple_GET_SIZE(pair) != 2:
        raise TypeError("a response field is a name and a value")
    name, value = PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1)
    if not PyUnicode_Check(<object>name) or not PyUnicode_Check(<object>value):
        raise TypeError("a response field is made of text")
    if PyUnicode_KIND(<object>name) != PyUnicode_1BYTE_KIND or PyUnicode_KIND(<object>value) != PyUnicode_1BYTE_KIND:
        raise ValueError("a response field has a control character or one beyond ISO 8859-1")
    return PyUnicode_GET_LENGTH(<object>name) + PyUnicode_GET_LENGTH(<object>value) + 4


cdef char *_copy_field(char *out, PyObject *pair) noexcept:
    cdef PyObject *name = PyTuple_GET_ITEM(<object>pair, 0)
    cdef PyObject *value = PyTuple_GET_ITEM(<object>pair, 1)
    out = _copy(out, PyUnicode_DATA(<object>name), PyUnicode_GET_LENGTH(<object>name))
    out[0], out[1] = c":", c" "
    out = _copy(out + 2, PyUnicode_DATA(<object>value), PyUnicode_GET_LENGTH(<object>value))
    out[0], out[1] = c"\r", c"\n"
    return out + 2


cdef inline char *_copy(char *out, const void *source, size_t size) noexcept:
    memcpy(out, source, size)
    return out + size


cdef Py_ssize_t _count_controls(const unsigned char *text, Py_ssize_t size) noexcept:
    """Return how many control characters other than tabs there are."""
    cdef Py_ssize_t i = 0, end, count = 0
    cdef unsigned char found
    while i < size:
        end = min(i + 128, size)  # so that a byte can count them, and the loop be vectorized
        found = 0
        while i < end:
            found += ((text[i] < 0x20) & (text[i] != 9)) | (text[i] == 0x7F)
            i += 1
        count += found
    return count


# Heads that applications give

cdef char[256] _in_token       # 1: may stand in a field's name
cdef char[256] _in_value       # 1: may stand in a field's value, and in a reason phrase
cdef int _i
for _i in range(256):
    _in_token[_i] = chr(_i) in "!#$%&'*+-.^_`|~" or (_i < 128 and chr(_i).isalnum())
    _in_value[_i] = _i == 9 or 0x20 <= _i <= 0x7E or _i >= 0x80

cdef struct Line:
    const unsigned char *name
    const unsigned char *value
    Py_ssize_t name_len, value_len

cdef enum:
    GIVEN_MAX = 64             # fields, together with those that are added; more are left to the pure side

cdef enum Meaning:
    UNTAKEN = -1
    ORDINARY, DATE, CONTENT_LENGTH


def check_given(status, fields, tuple added not None):
    """See ``backend.Parser.check_given``."""
    cdef Line lines[GIVEN_MAX]
    cdef Py_ssize_t count, own
    cdef long long length = -1
    cdef bint is_dated = False
    cdef bytes start = _status_line(status)
    if start is None or not isinstance(fields, list) or len(<list>fields) + len(added) > GIVEN_MAX:
        return _diagnose(status, fields, added)
    count = _take_given(<list>fields, lines, &length, &is_dated)
    if count < 0:
        return _diagnose(status, fields, added)
    own = count
    for pair in added:
        if not _as_line(pair, &lines[count]):
            return _diagnose(status, fields, added)
        count += not _is_among(&lines[count], lines, own)
    cdef const char *line = PyBytes_AS_STRING(start)
    cdef int code = 100 * (line[9] - c"0") + 10 * (line[10] - c"0") + line[11] - c"0"
    return Given(code, _write_lines(start, lines, count), None if length < 0 else length, is_dated)


cdef bytes _status_line(status):
    """Return the status line as it is sent, None where it is for the pure side to say what is wrong."""
    cdef const unsigned char *text
    cdef Py_ssize_t i, size
    if type(status) is not str or PyUnicode_KIND(status) != PyUnicode_1BYTE_KIND:
        return None
    text, size = <const unsigned char *>PyUnicode_DATA(status), PyUnicode_GET_LENGTH(status)
    if size < 5 or not c"2" <= text[0] <= c"5" or not c"0" <= text[1] <= c"9" or not c"0" <= text[2] <= c"9":
        return None
    if text[3] != c" ":
        return None
    for i in range(4, size):
        if not _in_value[text[i]]:
            return None
    return b"HTTP/1.1 " + (<const char *>text)[:size] + b"\r\n"


cdef Py_ssize_t _take_given(list fields, Line *lines, long long *length, bint *is_dated) except -2:
    """Take the fields but for Content-Length; return how many there are, -1 where the pure side is to say why not."""
    cdef Py_ssize_t i, count = 0
    cdef Line *line
    for pair in fields:
        line = &lines[count]
        if not _as_line(pair, line) or line.name_len == 0:
            return -1
        for i in range(line.name_len):
            if not _in_token[line.name[i]]:
                return -1
        for i in range(line.value_len):
            if not _in_value[line.value[i]]:
                return -1
        meaning = _meaning_of(line)
        if meaning == UNTAKEN:
            return -1
        if meaning == CONTENT_LENGTH:
            if length[0] >= 0:
                return -1
            length[0] = _length_of(line)
            if length[0] < 0:
                return -1
            continue
        _strip(line)
        is_dated[0] |= meaning == DATE
        count += 1
    return count


cdef long long _length_of(Line *line) noexcept:
    """Return the number that is the value of a field, -1 if it is none or too long."""
    cdef Py_ssize_t i
    cdef long long length = 0
    if not 0 < line.value_len <= 18:
        return -1
    for i in range(line.value_len):
        if not c"0" <= line.value[i] <= c"9":
            return -1
        length = 10 * length + (line.value[i] - c"0")
    return length


cdef void _strip(Line *line) noexcept:
    """Leave out the white space around a value."""
    while line.value_len and line.value[0] in (c" ", c"\t"):
        line.value += 1
        line.value_len -= 1
    while line.value_len and line.value[line.value_len - 1] in (c" ", c"\t"):
        line.value_len -= 1


cdef bint _as_line(pair, Line *line) except -1:
    """Point to the text of a (name, value); False if it is anything else."""
    cdef PyObject *name
    cdef PyObject *value
    if type(pair) is not tuple or PyTuple_GET_SIZE(pair) != 2:
        return False
    name, value = PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1)
    if type(<object>name) is not str or type(<object>value) is not str:
        return False
    if PyUnicode_KIND(<object>name) != PyUnicode_1BYTE_KIND or PyUnicode_KIND(<object>value) != PyUnicode_1BYTE_KIND:
        return False
    line.name, line.name_len = <const unsigned char *>PyUnicode_DATA(<object>name), PyUnicode_GET_LENGTH(<object>name)
    line.value, line.value_len = <const unsigned char *>PyUnicode_DATA(<object>value), PyUnicode_GET_LENGTH(<object>value)
    return True


cdef Meaning _meaning_of(Line *line) noexcept:
    """Return what the server has to know of a field; whatever may belong to the connection is not taken."""
    if line.name_len == 4:
        return DATE if _is_like(line, "date", 4) else ORDINARY
    if line.name_len == 14:
        return CONTENT_LENGTH if _is_like(line, "content-length", 14) else ORDINARY
    if _is_like(line, "te", 2) or _is_like(line, "connection", 10) or _is_like(line, "upgrade", 7):
        return UNTAKEN
    if _is_like(line, "keep-alive", 10) or _is_like(line, "trailer", 7) or _is_like(line, "transfer-encoding", 17):
        return UNTAKEN
    if _is_like(line, "proxy-authenticate", 18) or _is_like(line, "proxy-authorization", 19):
        return UNTAKEN
    if _is_like(line, "proxy-connection", 16):
        return UNTAKEN
    return ORDINARY


cdef inline bint _is_like(Line *line, const char *lower, Py_ssize_t size) noexcept:
    """Compare with a name in lower case; for ASCII alone, which all names are."""
    cdef Py_ssize_t i
    if line.name_len != size:
        return False
    for i in range(size):
        if _lower(line.name[i]) != lower[i]:
            return False
    return True


cdef inline char _lower(unsigned char character) noexcept:
    return character + 32 if c"A" <= character <= c"Z" else character


cdef bint _is_among(Line *line, Line *lines, Py_ssize_t count) noexcept:
    """Tell whether one of ``lines`` has the name of ``line``."""
    cdef Py_ssize_t i, k
    for i in range(count):
        if lines[i].name_len == line.name_len:
            for k in range(line.name_len):
                if _lower(lines[i].name[k]) != _lower(line.name[k]):
                    break
            else:
                return True
    return False


cdef bytes _write_lines(bytes start, Line *lines, Py_ssize_t count):
    cdef Py_ssize_t i, size = PyBytes_GET_SIZE(start)
    for i in range(count):
        size += lines[i].name_len + lines[i].value_len + 4
    cdef bytes written = PyBytes_FromStringAndSize(NULL, size)
    cdef char *out = _copy(PyBytes_AS_STRING(written), PyBytes_AS_STRING(start), PyBytes_GET_SIZE(start))
    for i in range(count):
        out = _copy(out, lines[i].name, lines[i].name_len)
        out[0], out[1] = c":", c" "
        out = _copy(out + 2, lines[i].value, lines[i].value_len)
        out[0], out[1] = c"\r", c"\n"
        out += 2
    return written


def format_access_line(str log_format, line):
    """See ``backend.Parser.format_access_line``."""
    cdef fastws_access_line parts
    cdef str peer, user, time, request_line, referer, agent, host, tls_version, tls_cipher, request_id, parent, state
    cdef bint is_json = log_format == "json"
    cdef Py_ssize_t texts
    cdef bytes written
    cdef char *start
    cdef char *end
    if not isinstance(line, tuple):
        raise TypeError("an access line is made of a seam.AccessLine")
    (
        peer, user, time, request_line, parts.status, parts.size, referer, agent, host, parts.duration_us,
        tls_version, tls_cipher, request_id, parent, state,
    ) = <tuple>line
    parts.peer, parts.user, parts.time, parts.request = _text(peer), _text(user), _text(time), _text(request_line)
    parts.referer, parts.agent = _text(referer), _text(agent)
    parts.host = _text(host if is_json else "")
    parts.tls_version, parts.tls_cipher = _text(tls_version), _text(tls_cipher)
    parts.request_id, parts.trace_parent, parts.trace_state = _text(request_id), _text(parent), _text(state)
    texts = len(tls_version) + len(tls_cipher) + len(host) + len(peer) + len(user) + len(time) + len(request_line)
    texts += len(referer) + len(agent) + len(request_id) + len(parent) + len(state)
    written = PyBytes_FromStringAndSize(NULL, FASTWS_LINE_ESCAPED * texts + FASTWS_LINE_FIXED)
    start = PyBytes_AS_STRING(written)
    if is_json:
        end = fastws_put_json(start, &parts)
    else:
        end = fastws_put_combined_time(start, &parts) if log_format == "combined_time" else fastws_put_combined(start, &parts)
    if request_id:
        end = fastws_put_id(end, &parts, is_json)
    return written[: end - start]


cdef fastws_text _text(str text) except *:
    cdef fastws_text made
    if PyUnicode_KIND(text) != PyUnicode_1BYTE_KIND:
        raise ValueError("an access line is made of ISO 8859-1 text")
    made.data = <const char *>PyUnicode_DATA(text)
    made.size = PyUnicode_GET_LENGTH(text)
    return made


def scan_benchmark(bytes data not None, int repeats):
    """Return the processor seconds that ``repeats`` scans of ``data`` take, without making an object."""
    cdef const char *bytes_ = PyBytes_AS_STRING(data)
    cdef size_t size = PyBytes_GET_SIZE(data)
    cdef fastws_head head
    cdef long total = 0
    cdef int i
    cdef clock_t before
    with nogil:
        before = clock()
        for i in range(repeats):
            total += fastws_scan_head(bytes_, size, 8192, 16384, 100, &head)
        before = clock() - before
    if total != <long>size * repeats:
        raise ValueError("the data is not one acceptable request head")
    return <double>before / CLOCKS_PER_SEC
