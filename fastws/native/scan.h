/* The request head scanner: one pass over the bytes, no allocation, no Python.
 *
 * It accepts exactly the heads that the pattern of _parser_py.py accepts (RFC 9112 sections 2 to 5, strict)
 * and tells nothing of the reason when it does not: grammar.py does that. Offsets point into the caller's
 * buffer; not one byte outside it is read. SSE2 and NEON are in the baseline of x86-64 and AArch64, so they
 * need no detection at run time; elsewhere, and with FASTWS_SCALAR, the portable loops run.
 */
#ifndef FASTWS_SCAN_H
#define FASTWS_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(FASTWS_SCALAR) && (defined(__SSE2__) || defined(_M_X64))
#define FASTWS_SSE2 1
#include <emmintrin.h>
#elif !defined(FASTWS_SCALAR) && defined(__aarch64__)
#define FASTWS_NEON 1
#include <arm_neon.h>
#endif

#define FASTWS_MAX_FIELDS 256

enum { FASTWS_INCOMPLETE = -2, FASTWS_REFUSED = -1 };

typedef struct {
    const char *name;     /* as it was sent */
    const char *value;    /* without surrounding white space */
    uint32_t name_len;
    uint32_t value_len;
    uint32_t name_hash;   /* of the name in lower case */
    uint32_t high;        /* non-zero: the value has a byte of 0x80 or above */
} fastws_field;

typedef struct {
    const char *method;
    const char *target;
    const char *version;  /* eight bytes: HTTP/x.y */
    uint32_t method_len;
    uint32_t target_len;
    uint32_t line_len;    /* of the request line without its CRLF */
    uint32_t field_count;
    fastws_field fields[FASTWS_MAX_FIELDS];
} fastws_head;

/* Lower-case form of each token character, 0 for every other byte (RFC 9110 section 5.6.2). */
static const unsigned char fastws_token[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|', ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7',
    ['8'] = '8', ['9'] = '9',
    ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h',
    ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p',
    ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x',
    ['Y'] = 'y', ['Z'] = 'z',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h',
    ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',
    ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z',
};

/* First byte from p on that no request target has (anything but 0x21 to 0x7e), or end. */
static inline const char *fastws_skip_target(const char *p, const char *end) {
#if FASTWS_SSE2
    const __m128i low = _mm_set1_epi8(0x21), del = _mm_set1_epi8(0x7f);
    for (; end - p >= 16; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        /* Signed comparison: bytes of 0x80 and above are negative, so below 0x21. */
        int stop = _mm_movemask_epi8(_mm_or_si128(_mm_cmplt_epi8(x, low), _mm_cmpeq_epi8(x, del)));
        if (stop) return p + __builtin_ctz((unsigned)stop);
    }
#elif FASTWS_NEON
    for (; end - p >= 16; p += 16) {
        uint8x16_t x = vld1q_u8((const uint8_t *)p);
        uint8x16_t bad = vcgtq_u8(vsubq_u8(x, vdupq_n_u8(0x21)), vdupq_n_u8(0x7e - 0x21));
        if (vmaxvq_u8(bad)) break;
    }
#endif
    while (p < end && (unsigned char)(*p - 0x21) <= 0x7e - 0x21) p++;
    return p;
}

/* First byte from p on that no field value has (a control other than tab, or DEL), or end.
 * Sets *high if a byte of 0x80 or above may stand before it. */
static inline const char *fastws_skip_value(const char *p, const char *end, uint32_t *high) {
#if FASTWS_SSE2
    const __m128i us = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    for (; end - p >= 16; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        __m128i control = _mm_andnot_si128(_mm_cmpeq_epi8(x, tab), _mm_cmpeq_epi8(_mm_min_epu8(x, us), x));
        unsigned stop = (unsigned)_mm_movemask_epi8(_mm_or_si128(control, _mm_cmpeq_epi8(x, del)));
        unsigned above = (unsigned)_mm_movemask_epi8(x);
        if (stop) {
            *high |= above & (stop - 1) & ~stop;
            return p + __builtin_ctz(stop);
        }
        *high |= above;
    }
#elif FASTWS_NEON
    for (; end - p >= 16; p += 16) {
        uint8x16_t x = vld1q_u8((const uint8_t *)p);
        uint8x16_t control = vbicq_u8(vcltq_u8(x, vdupq_n_u8(0x20)), vceqq_u8(x, vdupq_n_u8('\t')));
        if (vmaxvq_u8(vorrq_u8(control, vceqq_u8(x, vdupq_n_u8(0x7f))))) break;
        *high |= vmaxvq_u8(x) & 0x80;
    }
#endif
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if ((c < 0x20 && c != '\t') || c == 0x7f) break;
        *high |= c & 0x80;
    }
    return p;
}

#define FASTWS_NEED(p, end) do { if ((p) >= (end)) return FASTWS_INCOMPLETE; } while (0)

/* CRLF at *p: steps over it. */
static inline int fastws_take_crlf(const char **p, const char *end) {
    FASTWS_NEED(*p, end);
    if (**p != '\r') return FASTWS_REFUSED;
    FASTWS_NEED(*p + 1, end);
    if ((*p)[1] != '\n') return FASTWS_REFUSED;
    *p += 2;
    return 0;
}

static inline int fastws_scan_line(const char **cursor, const char *end, fastws_head *head) {
    const char *p = *cursor;
    head->method = p;
    while (p < end && fastws_token[(unsigned char)*p]) p++;
    FASTWS_NEED(p, end);
    if (*p != ' ' || p == head->method) return FASTWS_REFUSED;
    head->method_len = (uint32_t)(p - head->method);
    head->target = ++p;
    p = fastws_skip_target(p, end);
    FASTWS_NEED(p, end);
    if (*p != ' ' || p == head->target) return FASTWS_REFUSED;
    head->target_len = (uint32_t)(p - head->target);
    head->version = ++p;
    if (end - p < 8) return FASTWS_INCOMPLETE;
    if (memcmp(p, "HTTP/", 5) != 0 || p[5] < '0' || p[5] > '9' || p[6] != '.' || p[7] < '0' || p[7] > '9')
        return FASTWS_REFUSED;
    p += 8;
    head->line_len = (uint32_t)(p - head->method);
    *cursor = p;
    return fastws_take_crlf(cursor, end);
}

static inline int fastws_scan_field(const char **cursor, const char *end, fastws_field *field) {
    const char *p = *cursor, *last;
    uint32_t hash = 2166136261u; /* FNV-1a: names are short, and the memo that it serves is bounded */
    unsigned char lower;
    field->name = p;
    while (p < end && (lower = fastws_token[(unsigned char)*p]) != 0) {
        hash = (hash ^ lower) * 16777619u;
        p++;
    }
    FASTWS_NEED(p, end);
    if (*p != ':' || p == field->name) return FASTWS_REFUSED;
    field->name_len = (uint32_t)(p - field->name);
    field->name_hash = hash;
    field->high = 0;
    p++;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    field->value = p;
    last = p = fastws_skip_value(p, end, &field->high);
    while (last > field->value && (last[-1] == ' ' || last[-1] == '\t')) last--;
    field->value_len = (uint32_t)(last - field->value);
    *cursor = p;
    return fastws_take_crlf(cursor, end);
}

/* Scans the head at data. Returns its length in bytes, FASTWS_INCOMPLETE or FASTWS_REFUSED.
 * field_limit must not exceed FASTWS_MAX_FIELDS. */
static inline long fastws_scan_head(const char *data, size_t len, uint32_t line_limit, size_t head_limit,
                                    uint32_t field_limit, fastws_head *head) {
    const char *p = data, *end = data + len;
    int status;
    if (len >= 2 && p[0] == '\r' && p[1] == '\n') p += 2; /* RFC 9112 section 2.2: one is tolerated */
    status = fastws_scan_line(&p, end, head);
    if (status) return status;
    if (head->line_len > line_limit) return FASTWS_REFUSED;
    head->field_count = 0;
    for (;;) {
        FASTWS_NEED(p, end);
        if (*p == '\r') {
            status = fastws_take_crlf(&p, end);
            if (status) return status;
            return (size_t)(p - data) > head_limit ? FASTWS_REFUSED : (long)(p - data);
        }
        if (head->field_count == field_limit) return FASTWS_REFUSED;
        status = fastws_scan_field(&p, end, &head->fields[head->field_count]);
        if (status) return status;
        head->field_count++;
    }
}

#endif
