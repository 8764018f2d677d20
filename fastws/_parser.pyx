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

from .h1.grammar import refusal, refuse_incomplete
from .http.messages import Request
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


def format_access_line(str log_format, line):
    """See ``backend.Parser.format_access_line``."""
    cdef fastws_access_line parts
    cdef str peer, user, time, request_line, referer, agent, host, tls_version, tls_cipher
    cdef bint is_json = log_format == "json"
    cdef Py_ssize_t texts
    cdef bytes written
    cdef char *start
    cdef char *end
    if not isinstance(line, tuple):
        raise TypeError("an access line is made of a seam.AccessLine")
    (
        peer, user, time, request_line, parts.status, parts.size, referer, agent, host, parts.duration_us,
        tls_version, tls_cipher,
    ) = <tuple>line
    parts.peer, parts.user, parts.time, parts.request = _text(peer), _text(user), _text(time), _text(request_line)
    parts.referer, parts.agent = _text(referer), _text(agent)
    parts.host = _text(host if is_json else "")
    parts.tls_version, parts.tls_cipher = _text(tls_version), _text(tls_cipher)
    texts = len(tls_version) + len(tls_cipher) + len(host) + len(peer) + len(user) + len(time) + len(request_line) + len(referer) + len(agent)
    written = PyBytes_FromStringAndSize(NULL, FASTWS_LINE_ESCAPED * texts + FASTWS_LINE_FIXED)
    start = PyBytes_AS_STRING(written)
    if is_json:
        end = fastws_put_json(start, &parts)
    else:
        end = fastws_put_combined_time(start, &parts) if log_format == "combined_time" else fastws_put_combined(start, &parts)
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
