/* One half of what side.h declares: SIDE names it; FASTWS_SCALAR makes it the portable one. */
#include "side.h"

static long scan(const char *data, size_t size, const limits_t *limits, fastws_head *head) {
    return fastws_scan_head(data, size, limits->line_bytes, limits->head_bytes, limits->field_count, head);
}

static char *write_line(char *out, int kind, const fastws_access_line *line) {
    char *(*const writers[])(char *, const fastws_access_line *) = {
        fastws_put_combined, fastws_put_json, fastws_put_combined_time};
    return writers[kind](out, line);
}

const side_t SIDE = {scan, write_line};
