# Declarations of access_line.h: access lines, for the parser and the log buffer.

cdef extern from "access_line.h" nogil:
    enum:
        FASTWS_LINE_ESCAPED    # room for one byte of text
        FASTWS_LINE_FIXED      # room for everything else in a line

    ctypedef struct fastws_text:
        const char *data
        size_t size

    ctypedef struct fastws_access_line:
        fastws_text peer
        fastws_text user
        fastws_text time
        fastws_text request
        fastws_text referer
        fastws_text agent
        fastws_text host
        fastws_text tls_version
        fastws_text tls_cipher
        fastws_text request_id
        fastws_text trace_parent
        fastws_text trace_state
        unsigned long long size
        unsigned long long duration_us
        int status

    # Each returns the end of the line that it wrote at out.
    char *fastws_put_combined(char *out, const fastws_access_line *line)
    char *fastws_put_combined_time(char *out, const fastws_access_line *line)
    char *fastws_put_json(char *out, const fastws_access_line *line)

    # Writes to the end of a line, which is at out, and returns its new end.
    char *fastws_put_id(char *out, const fastws_access_line *line, int json)
