/* Access lines, written once for the parser and the loop; _parser_py.py writes the same bytes. */
#ifndef FASTWS_LINE_H
#define FASTWS_LINE_H

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#if !defined(FASTWS_SCALAR) && (defined(__SSE2__) || defined(_M_X64))
#define FASTWS_LINE_SSE2 1
#include <emmintrin.h>
#endif

/* The longest form of one byte of text, \u00XX, and the room that everything else in a line takes. */
#define FASTWS_LINE_ESCAPED 6
#define FASTWS_LINE_FIXED 512

/* The longest texts of a combined line, escaped. GoAccess takes what is longer than 4095 bytes for two lines.
 * A user's name has a place in the password file, and needs no bound. */
#define FASTWS_LINE_REQUEST 2000
#define FASTWS_LINE_REFERER 900
#define FASTWS_LINE_AGENT 900

typedef struct {
    const char *data;
    size_t size;
} fastws_text;

/* What one line says; what is missing is empty. */
typedef struct {
    fastws_text peer, user, time, request, referer, agent, host;
    fastws_text tls_version, tls_cipher; /* short; like host, in JSON alone */
    fastws_text request_id, trace_parent, trace_state; /* the last two only with an id, in JSON alone */
    unsigned long long size;        /* body bytes really sent */
    unsigned long long duration_us; /* microseconds; in formats that tell it */
    int status;
} fastws_access_line;

static inline char *fastws_put(char *out, const char *data, size_t size) {
    memcpy(out, data, size);
    return out + size;
}

#define FASTWS_PUT(out, literal) fastws_put(out, literal, sizeof(literal) - 1)

/* Text that a client chose: a quote, a backslash and whatever is not printable ASCII is escaped, so that no
 * request can forge a line or a member. */
static inline char *fastws_put_escaped(char *out, fastws_text text, int json) {
    static const char hex[] = "0123456789ABCDEF";
    const char *in = text.data, *end = text.data + text.size;
    while (in < end) {
#if FASTWS_LINE_SSE2
        if (end - in >= 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)in);
            __m128i bad = _mm_cmplt_epi8(x, _mm_set1_epi8(0x20)); /* and, being negative, 0x80 and above */
            bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f)));
            bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('"')));
            bad = _mm_or_si128(bad, _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
            if (_mm_movemask_epi8(bad) == 0) {
                _mm_storeu_si128((__m128i *)out, x);
                out += 16;
                in += 16;
                continue;
            }
        }
#endif
        unsigned char c = (unsigned char)*in++;
        if (c >= 0x20 && c <= 0x7e && c != '"' && c != '\\') {
            *out++ = (char)c;
        } else if (json && (c == '"' || c == '\\')) {
            *out++ = '\\';
            *out++ = (char)c;
        } else {
            *out++ = '\\';
            out = json ? FASTWS_PUT(out, "u00") : FASTWS_PUT(out, "x");
            *out++ = hex[c >> 4];
            *out++ = hex[c & 15];
        }
    }
    return out;
}

static inline char *fastws_put_number(char *out, unsigned long long value) {
    char digits[20];
    int count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count) *out++ = digits[--count];
    return out;
}

/* At most limit bytes; an escape, whose backslash is the only one, is not cut in two. */
static inline char *fastws_put_or_dash(char *out, fastws_text text, size_t limit) {
    char *end;
    if (!text.size) return FASTWS_PUT(out, "-");
    end = fastws_put_escaped(out, text, 0);
    if ((size_t)(end - out) <= limit) return end;
    for (end = out + limit - 3; end < out + limit; end++) {
        if (*end == '\\') break;
    }
    return end;
}

/* The NCSA combined format. out needs room for FASTWS_LINE_ESCAPED times all texts and FASTWS_LINE_FIXED.
 * Returns the end of the line. */
static inline char *fastws_put_combined(char *out, const fastws_access_line *line) {
    out = fastws_put(out, line->peer.data, line->peer.size);
    out = FASTWS_PUT(out, " - ");
    out = fastws_put_or_dash(out, line->user, (size_t)-1);
    out = FASTWS_PUT(out, " [");
    out = fastws_put(out, line->time.data, line->time.size);
    out = FASTWS_PUT(out, "] \"");
    out = fastws_put_or_dash(out, line->request, FASTWS_LINE_REQUEST);
    out = FASTWS_PUT(out, "\" ");
    out = fastws_put_number(out, (unsigned long long)line->status);
    out = FASTWS_PUT(out, " ");
    out = fastws_put_number(out, line->size);
    out = FASTWS_PUT(out, " \"");
    out = fastws_put_or_dash(out, line->referer, FASTWS_LINE_REFERER);
    out = FASTWS_PUT(out, "\" \"");
    out = fastws_put_or_dash(out, line->agent, FASTWS_LINE_AGENT);
    return FASTWS_PUT(out, "\"\n");
}

/* Seconds to the microsecond. */
static inline char *fastws_put_duration(char *out, unsigned long long duration_us) {
    unsigned long long fraction = duration_us % 1000000;
    out = fastws_put_number(out, duration_us / 1000000);
    *out++ = '.';
    for (unsigned digit = 100000; digit; digit /= 10) *out++ = (char)('0' + fraction / digit % 10);
    return out;
}

/* The combined format with the duration behind it. Returns the end of the line. */
static inline char *fastws_put_combined_time(char *out, const fastws_access_line *line) {
    out = fastws_put_combined(out, line) - 1; /* where its line feed is */
    *out++ = ' ';
    out = fastws_put_duration(out, line->duration_us);
    return FASTWS_PUT(out, "\n");
}

/* One JSON object; what is missing is an empty string. */
static inline char *fastws_put_json(char *out, const fastws_access_line *line) {
    out = FASTWS_PUT(out, "{\"time\":\"");
    out = fastws_put(out, line->time.data, line->time.size);
    out = FASTWS_PUT(out, "\",\"peer\":\"");
    out = fastws_put(out, line->peer.data, line->peer.size);
    out = FASTWS_PUT(out, "\",\"user\":\"");
    out = fastws_put_escaped(out, line->user, 1);
    out = FASTWS_PUT(out, "\",\"host\":\"");
    out = fastws_put_escaped(out, line->host, 1);
    out = FASTWS_PUT(out, "\",\"request\":\"");
    out = fastws_put_escaped(out, line->request, 1);
    out = FASTWS_PUT(out, "\",\"status\":");
    out = fastws_put_number(out, (unsigned long long)line->status);
    out = FASTWS_PUT(out, ",\"bytes\":");
    out = fastws_put_number(out, line->size);
    out = FASTWS_PUT(out, ",\"duration\":");
    out = fastws_put_duration(out, line->duration_us);
    out = FASTWS_PUT(out, ",\"referer\":\"");
    out = fastws_put_escaped(out, line->referer, 1);
    out = FASTWS_PUT(out, "\",\"agent\":\"");
    out = fastws_put_escaped(out, line->agent, 1);
    out = FASTWS_PUT(out, "\",\"tls_version\":\"");
    out = fastws_put(out, line->tls_version.data, line->tls_version.size);
    out = FASTWS_PUT(out, "\",\"tls_cipher\":\"");
    out = fastws_put(out, line->tls_cipher.data, line->tls_cipher.size);
    return FASTWS_PUT(out, "\"}\n");
}

/* Adds the request's id to a line that ends at out, in JSON with what traces it; returns the new end. */
static inline char *fastws_put_id(char *out, const fastws_access_line *line, int json) {
    if (!json) {
        out = FASTWS_PUT(out - 1, " \"");
        out = fastws_put_escaped(out, line->request_id, 0);
        return FASTWS_PUT(out, "\"\n");
    }
    out = FASTWS_PUT(out - 2, ",\"request_id\":\"");
    out = fastws_put_escaped(out, line->request_id, 1);
    out = FASTWS_PUT(out, "\",\"traceparent\":\"");
    out = fastws_put_escaped(out, line->trace_parent, 1);
    out = FASTWS_PUT(out, "\",\"tracestate\":\"");
    out = fastws_put_escaped(out, line->trace_state, 1);
    return FASTWS_PUT(out, "\"}\n");
}

#endif
