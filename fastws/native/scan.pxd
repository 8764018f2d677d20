# Declarations of scan.h: the request head scanner that the parser and the reactor share.

from libc.stdint cimport uint32_t


cdef extern from "scan.h" nogil:
    enum:
        FASTWS_MAX_FIELDS
        FASTWS_INCOMPLETE      # scan_head: more bytes are needed
        FASTWS_REFUSED         # scan_head: not an acceptable head; grammar.py says why

    ctypedef struct fastws_field:
        const char *name       # as it was sent
        const char *value      # without surrounding white space
        uint32_t name_len
        uint32_t value_len
        uint32_t name_hash     # FNV-1a of the name in lower case
        uint32_t high          # non-zero: the value has a byte of 0x80 or above

    ctypedef struct fastws_head:
        const char *method
        const char *target
        const char *version    # eight bytes: HTTP/x.y
        uint32_t method_len
        uint32_t target_len
        uint32_t line_len      # of the request line without its CRLF
        uint32_t field_count
        fastws_field fields[1] # FASTWS_MAX_FIELDS of them

    # length of the head, FASTWS_INCOMPLETE or FASTWS_REFUSED
    long fastws_scan_head(const char *data, size_t length, uint32_t line_limit, size_t head_limit,
                          uint32_t field_limit, fastws_head *head)
