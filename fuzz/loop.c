/* A blind fuzzer for scan.c where there is no libFuzzer: COUNT mutants, made from SEED, of the FILES.
 *
 * Usage: loop COUNT SEED FILE... Prints how many inputs were accepted, open and refused.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

long fuzz_scan(const uint8_t *input, size_t size);

enum { FILES_MAX = 2048, SIZE_MAX_ = 1 << 16, GROWTH = 1 << 12 };

typedef struct {
    uint8_t *data;
    size_t size;
} blob_t;

static const char *const words[] = {
    "\r\n", "\r\n\r\n", "\n", "\r", " ", "\t", ":", ": ", "\x7f", "\x80", "\xff", "\x1f", "\x0b", "HTTP/1.1", "HTTP/1.0",
    "GET ", "GET / HTTP/1.1\r\n", "Host: a\r\n", "X: y\r\n", "X : y\r\n", " folded\r\n", "\"", "\\",
    "0123456789abcdef", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static uint64_t state;

static uint32_t below(size_t limit) { /* xorshift64*, Vigna 2016 */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 2685821657736338717ull >> 33) % limit);
}

static size_t splice(uint8_t *data, size_t size, size_t at, size_t remove, const uint8_t *with, size_t count) {
    if (remove > size - at) remove = size - at;
    if (size - remove + count > SIZE_MAX_ + GROWTH) return size;
    memmove(data + at + count, data + at + remove, size - at - remove);
    memcpy(data + at, with, count);
    return size - remove + count;
}

static size_t mutate(uint8_t *data, size_t size, const blob_t *other) {
    static uint8_t copy[64];
    size_t at = below(size + 1), count;
    const char *word = words[below(sizeof words / sizeof *words)];
    uint8_t byte = (uint8_t)below(256);
    switch (below(7)) {
    case 0: /* flip a bit */
        if (at < size) data[at] ^= (uint8_t)(1 << below(8));
        return size;
    case 1:
        return splice(data, size, at, 1, &byte, 1);
    case 2:
        return splice(data, size, at, 0, (const uint8_t *)word, strlen(word));
    case 3:
        return splice(data, size, at, strlen(word), (const uint8_t *)word, strlen(word));
    case 4:
        return splice(data, size, at, 1 + below(16), &byte, 0);
    case 5: /* repeat */
        count = 1 + below(sizeof copy);
        if (count > size - at) count = size - at;
        memcpy(copy, data + at, count);
        return splice(data, size, at, 0, copy, count);
    default: /* go on as another file does */
        count = below(other->size + 1);
        return splice(data, size, at, size, other->data + count, other->size - count);
    }
}

int main(int argc, char **argv) {
    static blob_t blobs[FILES_MAX];
    static uint8_t data[SIZE_MAX_ + GROWTH];
    unsigned long counts[3] = {0, 0, 0}, total;
    int files = argc - 3;
    if (files < 1 || files > FILES_MAX) return 2;
    total = strtoul(argv[1], NULL, 10);
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    for (int i = 0; i < files; i++) {
        FILE *file = fopen(argv[i + 3], "rb");
        if (!file) return 2;
        blobs[i].data = malloc(SIZE_MAX_);
        blobs[i].size = blobs[i].data ? fread(blobs[i].data, 1, SIZE_MAX_, file) : 0;
        fclose(file);
    }
    for (unsigned long i = 0; i < total; i++) {
        const blob_t *from = &blobs[below((size_t)files)];
        size_t size = from->size;
        if (size > 2000 && below(8)) { /* the long ones are few and slow */
            i--;
            continue;
        }
        memcpy(data, from->data, size);
        for (uint32_t left = 1 + below(4); left; left--) size = mutate(data, size, &blobs[below((size_t)files)]);
        long found = fuzz_scan(data, size);
        counts[found > 0 ? 0 : found == -2 ? 1 : 2]++;
    }
    printf("accepted %lu open %lu refused %lu\n", counts[0], counts[1], counts[2]);
    return 0;
}
