/* The texts of the current second: the ends of response heads, and the time of access lines.
 * record/clock.py writes the same for what Python answers. */
#ifndef FASTWS_MOMENT_H
#define FASTWS_MOMENT_H

#include <stdio.h>
#include <time.h>

#ifdef CLOCK_REALTIME_COARSE
#define FASTWS_REALTIME CLOCK_REALTIME_COARSE
#else
#define FASTWS_REALTIME CLOCK_REALTIME
#endif

enum { FASTWS_TAIL_PERSISTENT, FASTWS_TAIL_KEEP_ALIVE, FASTWS_TAIL_CLOSE, FASTWS_TAILS, FASTWS_SECURE_LINE = 64, FASTWS_KEEP_ALIVE_LINE = 40 };

typedef struct {
    double now;              /* monotonic seconds */
    time_t second;           /* since the epoch; the texts are this second's */
    unsigned tail_len[FASTWS_TAILS];
    unsigned log_time_len;
    char tail[FASTWS_TAILS][144];
    char keep_alive_line[FASTWS_KEEP_ALIVE_LINE]; /* of answers after which the connection stays open; or empty */
    unsigned secure_len;                   /* of a field line that only answers over TLS have; 0: there is none */
    char secure_line[FASTWS_SECURE_LINE];
    char secure_tail[FASTWS_TAILS][208];   /* with it, if there is one */
    char log_time[64];
} fastws_moment;

static inline void fastws_spell_moment(fastws_moment *moment, int json) {
    /* Not strftime: its names follow the locale. */
    static const char *days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static const char *connection[] = {"", "Connection: keep-alive\r\n", "Connection: close\r\n"};
    struct tm t;
    char sign;
    long zone;
    gmtime_r(&moment->second, &t);
    for (int i = 0; i < FASTWS_TAILS; i++) {
        moment->tail_len[i] = (unsigned)snprintf(
            moment->tail[i], sizeof moment->tail[i], "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n%s%s\r\n",
            days[t.tm_wday], t.tm_mday, months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec,
            /* The field is of this connection alone, which is said of it: RFC 9110 section 7.6.1. */
            connection[i == FASTWS_TAIL_PERSISTENT && *moment->keep_alive_line ? FASTWS_TAIL_KEEP_ALIVE : i],
            i == FASTWS_TAIL_CLOSE ? "" : moment->keep_alive_line);
        if (moment->secure_len)
            snprintf(moment->secure_tail[i], sizeof moment->secure_tail[i], "%s%s", moment->secure_line, moment->tail[i]);
    }
    localtime_r(&moment->second, &t);
    sign = t.tm_gmtoff < 0 ? '-' : '+';
    zone = t.tm_gmtoff < 0 ? -t.tm_gmtoff : t.tm_gmtoff;
    moment->log_time_len = (unsigned)(json
        ? snprintf(moment->log_time, sizeof moment->log_time, "%04d-%02d-%02dT%02d:%02d:%02d%c%02ld:%02ld",
                   t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, sign, zone / 3600,
                   zone % 3600 / 60)
        : snprintf(moment->log_time, sizeof moment->log_time, "%02d/%s/%04d:%02d:%02d:%02d %c%02ld%02ld",
                   t.tm_mday, months[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec, sign, zone / 3600,
                   zone % 3600 / 60));
}

/* The tail for TLS in place of one of the others; it is longer by secure_len. */
static inline const char *fastws_secure_tail(fastws_moment *moment, const char *tail) {
    return moment->secure_tail[(size_t)(tail - moment->tail[0]) / sizeof moment->tail[0]];
}

static inline void fastws_look_at_clock(fastws_moment *moment) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    moment->now = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Looks at both clocks; spells only when a second has passed (a second of -1 forces it). */
static inline void fastws_tick(fastws_moment *moment, int json) {
    struct timespec now;
    fastws_look_at_clock(moment);
    /* Coarse is a fifth of the cost, and behind by less than a tick of the kernel's. */
    clock_gettime(FASTWS_REALTIME, &now);
    if (now.tv_sec != moment->second) {
        moment->second = now.tv_sec;
        fastws_spell_moment(moment, json);
    }
}

#endif
