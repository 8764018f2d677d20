# Declarations of moment.h: the clocks, and the texts of the current second.

cdef extern from "moment.h" nogil:
    enum:
        FASTWS_TAIL_PERSISTENT     # nothing said of Connection: HTTP/1.1, kept
        FASTWS_TAIL_KEEP_ALIVE
        FASTWS_TAIL_CLOSE
        FASTWS_SECURE_LINE         # bytes
        FASTWS_KEEP_ALIVE_LINE     # bytes

    ctypedef struct fastws_moment:
        double now                 # monotonic seconds
        long second                # since the epoch; -1 makes the next tick spell the texts
        unsigned tail_len[3]
        unsigned log_time_len
        char tail[3][144]          # Date, Connection, and the empty line
        char log_time[64]
        unsigned secure_len        # of a field line for TLS alone; 0: there is none
        char secure_line[64]
        char keep_alive_line[40]   # of answers after which the connection stays open; or empty

    const char *fastws_secure_tail(fastws_moment *moment, const char *tail)  # longer by secure_len
    void fastws_look_at_clock(fastws_moment *moment)  # the monotonic one alone
    void fastws_tick(fastws_moment *moment, int json)
