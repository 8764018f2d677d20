/* What the fuzz targets call of the scanner and the access line writer, once with vector instructions and once
 * without: the two halves are the same file, compiled twice. */
#ifndef FUZZ_SIDE_H
#define FUZZ_SIDE_H

#include "access_line.h"
#include "scan.h"

typedef struct {
    uint32_t line_bytes;
    size_t head_bytes;
    uint32_t field_count;
} limits_t;

typedef struct {
    long (*scan)(const char *data, size_t size, const limits_t *limits, fastws_head *head);
    char *(*write)(char *out, int kind, const fastws_access_line *line);
} side_t;

extern const side_t vector_side, scalar_side;

#endif
