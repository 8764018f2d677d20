/* One half of what side.h declares: SIDE names it; FASTWS_SCALAR makes it the portable one. */
#include "side.h"

static long scan(const char *data, size_t size, const limits_t *limits, fastws_head *head) {
    return fastws_scan_head(data, size, limits->line_bytes, limits->head_bytes, limits->field_count, head);
}

static char *write_line(char *out, int json, fastws_text peer, fastws_text user, fastws_text time,
                        fastws_text request, int status, unsigned long long size, fastws_text referer,
                        fastws_text agent) {
    return (json ? fastws_put_json : fastws_put_combined)(out, peer, user, time, request, status, size, referer,
                                                          agent);
}

const side_t SIDE = {scan, write_line};
