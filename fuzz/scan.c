/* Fuzz target: the request head scanner and the access line writer, on buffers that end at a guard page.
 *
 * Any input is scanned with and without vector instructions and under two sets of limits; both must find the
 * same, and what they find must be what a head is. Then its parts are written as access lines into buffers of
 * exactly the promised room. Built by libFuzzer (coverage-guided) or with loop.c (blind, any compiler).
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "side.h"

#define REQUIRE(condition)                                                              \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);   \
            abort();                                                                    \
        }                                                                               \
    } while (0)

enum { PAGE = 1 << 16 /* the largest page size in use, so that it is a multiple of each */ };

static const limits_t usual = {8192, 16384, 100}, small = {60, 180, 5};

/* The end of a buffer of room bytes, rounded up to pages, before a page that may not be touched. */
static char *guarded(size_t room) {
    size_t whole = (room + PAGE - 1) / PAGE * PAGE;
    char *area = mmap(NULL, whole + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(area != MAP_FAILED);
    REQUIRE(mprotect(area + whole, PAGE, PROT_NONE) == 0);
    return area + whole;
}

static void check_head(const char *data, size_t size, long length, const limits_t *limits, const fastws_head *head) {
    const char *end = data + length, *last = head->version + 8;
    REQUIRE((size_t)length <= size && (size_t)length <= limits->head_bytes && length >= 14);
    REQUIRE(memcmp(end - 4, "\r\n\r\n", 4) == 0);
    REQUIRE(head->line_len <= limits->line_bytes && head->field_count <= limits->field_count);
    REQUIRE(head->method >= data && head->method_len && head->method[head->method_len] == ' ');
    REQUIRE(head->target == head->method + head->method_len + 1 && head->target_len);
    REQUIRE(head->version == head->target + head->target_len + 1);
    REQUIRE(last == head->method + head->line_len && memcmp(last, "\r\n", 2) == 0);
    for (uint32_t i = 0; i < head->field_count; i++) {
        const fastws_field *field = &head->fields[i];
        REQUIRE(field->name == last + 2 && field->name_len && field->name[field->name_len] == ':');
        REQUIRE(field->value > field->name + field->name_len);
        last = memchr(field->name, '\r', (size_t)(end - field->name));
        REQUIRE(last && field->value + field->value_len <= last);
        REQUIRE(!memchr(field->value, '\0', field->value_len) && !memchr(field->value, '\n', field->value_len));
        uint32_t high = 0;
        for (uint32_t k = 0; k < field->value_len; k++) high |= field->value[k] & 0x80;
        REQUIRE(!high || field->high);
    }
    REQUIRE(last + 4 == end);
}

static void compare_heads(const fastws_head *a, const fastws_head *b) {
    REQUIRE(a->method == b->method && a->method_len == b->method_len && a->target == b->target);
    REQUIRE(a->target_len == b->target_len && a->version == b->version && a->line_len == b->line_len);
    REQUIRE(a->field_count == b->field_count);
    for (uint32_t i = 0; i < a->field_count; i++) {
        const fastws_field *x = &a->fields[i], *y = &b->fields[i];
        REQUIRE(x->name == y->name && x->name_len == y->name_len && x->name_hash == y->name_hash);
        REQUIRE(x->value == y->value && x->value_len == y->value_len && !x->high == !y->high);
    }
}

static void check_line(fastws_text request, fastws_text referer, fastws_text agent, int kind) {
    static char *ends[2];
    static size_t room;
    const fastws_access_line line = {
        .peer = {"2001:0db8:0000:0000:0000:ffff:192.168.100.200", 45}, .time = {"2025-12-31T23:59:59+0000", 24},
        .user = request.size > 9 ? referer : (fastws_text){"", 0},
        .request = request, .referer = referer, .agent = agent, .host = referer,
        .tls_version = {"TLSv1.3", 7}, .tls_cipher = {"TLS_CHACHA20_POLY1305_SHA256", 28}, .duration_us = ~0ull, .status = 200, .size = ~0ull};
    size_t texts = request.size + referer.size + agent.size + line.user.size + line.host.size;
    size_t need = FASTWS_LINE_FIXED + FASTWS_LINE_ESCAPED * texts;
    char *starts[2], *stops[2];
    if (need > room) {
        room = 2 * need;
        for (int i = 0; i < 2; i++) ends[i] = guarded(room); /* the few smaller ones stay mapped */
    }
    for (int i = 0; i < 2; i++) {
        starts[i] = ends[i] - need;
        stops[i] = (i ? &scalar_side : &vector_side)->write(starts[i], kind, &line);
        REQUIRE(stops[i] > starts[i] && stops[i] <= ends[i] && stops[i][-1] == '\n');
    }
    REQUIRE(stops[0] - starts[0] == stops[1] - starts[1]);
    REQUIRE(memcmp(starts[0], starts[1], (size_t)(stops[0] - starts[0])) == 0);
    for (char *p = starts[0]; p < stops[0] - 1; p++) REQUIRE(*p >= 0x20 && *p <= 0x7e);
}

static fastws_text part(const char *data, size_t size, size_t from, size_t to) {
    fastws_text text = {data + size * from / 16, size * to / 16 - size * from / 16};
    return text;
}

/* Returns what the usual limits made of it. */
long fuzz_scan(const uint8_t *input, size_t size) {
    static char *end;
    static fastws_head heads[2];
    long found[2] = {0, 0};
    if (!end) end = guarded(1 << 20);
    if (size > 1 << 20) return 0;
    char *data = end - size;
    if (size) memcpy(data, input, size);
    for (int i = 0; i < 2; i++) {
        const limits_t *limits = i ? &small : &usual;
        found[i] = vector_side.scan(data, size, limits, &heads[0]);
        REQUIRE(scalar_side.scan(data, size, limits, &heads[1]) == found[i]);
        if (found[i] > 0) {
            check_head(data, size, found[i], limits, &heads[0]);
            compare_heads(&heads[0], &heads[1]);
            /* No shorter piece of a head is one, nor wrong: cut somewhere, and before the last byte. */
            size_t cut = (size_t)found[i] * (heads[0].line_len % 13) / 13;
            if (cut != 1) REQUIRE(vector_side.scan(data, cut, limits, &heads[1]) == FASTWS_INCOMPLETE);
            REQUIRE(vector_side.scan(data, (size_t)found[i] - 1, limits, &heads[1]) == FASTWS_INCOMPLETE);
        }
    }
    /* The small limits refuse more, never less. */
    REQUIRE(found[1] == found[0] || found[1] == FASTWS_REFUSED);
    for (int kind = 0; kind < 3; kind++)
        check_line(part(data, size, 0, 6), part(data, size, 6, 11), part(data, size, 11, 16), kind);
    return found[0];
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size) {
    fuzz_scan(input, size);
    return 0;
}
