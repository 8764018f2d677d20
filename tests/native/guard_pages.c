/* Runs the scanner and the access line writer on buffers that end, or begin, right at a page without access.
 *
 * Arguments: files. Each is scanned at every truncation, once with its last byte before a guard page and once
 * with its first byte after one. One line of results for each; a read outside the buffer is a SIGSEGV.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "access_line.h"
#include "scan.h"

enum { ROOM = 1 << 16, PAGE = 1 << 16 /* the largest page size in use, so that it is a multiple of each */ };

static char *guarded(void) {
    char *area = mmap(NULL, ROOM + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(area != MAP_FAILED);
    int status = mprotect(area + PAGE, ROOM, PROT_READ | PROT_WRITE);
    assert(status == 0);
    return area + PAGE;
}

static unsigned long add(unsigned long sum, unsigned long value) {
    return (sum ^ value) * 1099511628211ul; /* FNV-1a */
}

/* All that a scan found, as one number; offsets, not addresses. */
static unsigned long summary(const char *data, const fastws_head *head) {
    unsigned long sum = 14695981039346656037ul;
    sum = add(sum, (unsigned long)(head->method - data));
    sum = add(sum, head->method_len);
    sum = add(sum, (unsigned long)(head->target - data));
    sum = add(sum, head->target_len);
    sum = add(sum, (unsigned long)(head->version - data));
    sum = add(sum, head->line_len);
    sum = add(sum, head->field_count);
    for (uint32_t i = 0; i < head->field_count; i++) {
        const fastws_field *field = &head->fields[i];
        sum = add(sum, (unsigned long)(field->name - data));
        sum = add(sum, field->name_len);
        sum = add(sum, (unsigned long)(field->value - data));
        sum = add(sum, field->value_len);
        sum = add(sum, field->name_hash);
        sum = add(sum, field->high != 0);
    }
    return sum;
}

static void scan(const char *data, size_t size) {
    static fastws_head head;
    long length = fastws_scan_head(data, size, 8192, 16384, 100, &head);
    assert(length == FASTWS_INCOMPLETE || length == FASTWS_REFUSED || (length > 0 && (size_t)length <= size));
    printf(" %ld", length);
    if (length > 0) printf(":%lx", summary(data, &head));
}

static void escape(char *out, const char *data, size_t size, int json) {
    fastws_text text = {data, size};
    char *end = fastws_put_escaped(out, text, json);
    unsigned long sum = 14695981039346656037ul;
    assert((size_t)(end - out) <= FASTWS_LINE_ESCAPED * size);
    for (char *p = out; p < end; p++) sum = add(sum, (unsigned char)*p);
    printf(" %lx", sum);
}

int main(int count, char **names) {
    char *area = guarded();
    char *source = malloc(ROOM);
    char *out = malloc(FASTWS_LINE_ESCAPED * ROOM + FASTWS_LINE_FIXED);
    assert(source && out);
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        assert(file);
        size_t size = fread(source, 1, ROOM, file);
        fclose(file);
        assert(size < ROOM);
        for (size_t truncated = 0; truncated <= size; truncated++) {
            char *at_end = area + ROOM - truncated;
            printf("%d %zu", i, truncated);
            memcpy(area, source, truncated);
            scan(area, truncated);
            memcpy(at_end, source, truncated);
            scan(at_end, truncated);
            if (truncated <= 512) {
                escape(out, at_end, truncated, 0);
                escape(out, at_end, truncated, 1);
            }
            printf("\n");
        }
    }
    return 0;
}
