/* Clients behind proxies: which addresses are trusted, and the client that plain fields of a request name.
 *
 * Twin of a part of http/forwarded.py: addresses without ornament, perhaps with a port. Whatever else the fields
 * say is left to Python. Nothing is read beyond the given sizes. */
#ifndef FASTWS_FORWARDED_H
#define FASTWS_FORWARDED_H

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define FASTWS_CLIENT_BYTES 48 /* the longest IPv6 address has 45 characters */
#define FASTWS_CHAIN_MAX 16    /* elements of one Forwarded; who sends more is answered by Python */

typedef struct {
    unsigned char base[16]; /* IPv4 addresses as IPv6 ones: RFC 4291 section 2.5.5.2 */
    int bits;               /* how many of them, from the first on, an address must share */
} fastws_network;

typedef struct {
    size_t count;
    int has_unix; /* the peers of Unix-domain sockets are trusted too */
    fastws_network *networks;
} fastws_proxies;

typedef struct {
    const char *data;
    size_t size;
} fastws_part;

/* Reads an IPv4 address as inet_pton(3) does, in a tenth of the time; 0 if the text is none. */
static inline int fastws_read_ipv4(const char *text, size_t size, unsigned char address[4]) {
    const char *end = text + size;
    for (int i = 0; i < 4; i++) {
        const char *first = text;
        unsigned number = 0;
        while (text < end && *text >= '0' && *text <= '9' && text - first < 3)
            number = 10 * number + (unsigned)(*text++ - '0');
        if (text == first || number > 255 || (*first == '0' && text - first > 1)) return 0;
        address[i] = (unsigned char)number;
        if (i < 3 && (text == end || *text++ != '.')) return 0;
    }
    return text == end;
}

static inline size_t fastws_spell_ipv4(const unsigned char address[4], char out[FASTWS_CLIENT_BYTES]) {
    char *p = out;
    for (int i = 0; i < 4; i++) {
        unsigned number = address[i];
        if (number >= 100) *p++ = (char)('0' + number / 100);
        if (number >= 10) *p++ = (char)('0' + number / 10 % 10);
        *p++ = (char)('0' + number % 10);
        *p++ = i < 3 ? '.' : 0;
    }
    return (size_t)(p - out - 1);
}

/* Reads an IP address; 0 if the text is none. */
static inline int fastws_read_address(const char *text, size_t size, unsigned char address[16]) {
    char copy[FASTWS_CLIENT_BYTES];
    if (size == 0 || size >= sizeof copy) return 0;
    memset(address, 0, 10);
    memset(address + 10, 0xff, 2);
    if (!memchr(text, ':', size)) return fastws_read_ipv4(text, size, address + 12);
    memcpy(copy, text, size);
    copy[size] = 0;
    return !memchr(copy, 0, size) && inet_pton(AF_INET6, copy, address) == 1;
}

static inline int fastws_is_port(const char *text, size_t size) {
    if (size == 0 || size > 5) return 0;
    for (size_t i = 0; i < size; i++)
        if (text[i] < '0' || text[i] > '9') return 0;
    return 1;
}

static inline fastws_part fastws_trimmed(const char *data, size_t size) {
    while (size && (*data == ' ' || *data == '\t')) data++, size--;
    while (size && (data[size - 1] == ' ' || data[size - 1] == '\t')) size--;
    return (fastws_part){data, size};
}

/* Reads the address of a node, with or without a port; 0 for whatever Python must read. */
static inline int fastws_read_node(fastws_part node, unsigned char address[16]) {
    const char *colon, *end = node.data + node.size;
    if (node.size && node.data[0] == '[') {
        const char *bracket = memchr(node.data, ']', node.size);
        if (!bracket || !memchr(node.data, ':', (size_t)(bracket - node.data))) return 0;
        if (bracket + 1 < end && (bracket[1] != ':' || !fastws_is_port(bracket + 2, (size_t)(end - bracket - 2))))
            return 0;
        return fastws_read_address(node.data + 1, (size_t)(bracket - node.data - 1), address);
    }
    colon = memchr(node.data, ':', node.size);
    if (colon && !memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        if (!fastws_is_port(colon + 1, (size_t)(end - colon - 1))) return 0;
        return fastws_read_address(node.data, (size_t)(colon - node.data), address);
    }
    return fastws_read_address(node.data, node.size, address);
}

static inline int fastws_is_proxy(const fastws_proxies *proxies, const unsigned char address[16]) {
    for (size_t i = 0; i < proxies->count; i++) {
        const fastws_network *network = &proxies->networks[i];
        int whole = network->bits / 8, rest = network->bits % 8;
        if (memcmp(network->base, address, (size_t)whole) != 0) continue;
        if (!rest || ((network->base[whole] ^ address[whole]) & (0xff << (8 - rest) & 0xff)) == 0) return 1;
    }
    return 0;
}

/* Tells whether what the peer of a connection says is believed; the text is as in access lines. */
static inline int fastws_is_trusted(const fastws_proxies *proxies, const char *peer, size_t size) {
    unsigned char address[16];
    if (size == 5 && memcmp(peer, "unix:", 5) == 0) return proxies->has_unix;
    return proxies->count && fastws_read_address(peer, size, address) && fastws_is_proxy(proxies, address);
}

/* Writes an address as text, IPv4 within IPv6 as IPv4; returns its length. */
static inline size_t fastws_spell_address(const unsigned char address[16], char out[FASTWS_CLIENT_BYTES]) {
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (memcmp(address, mapped, sizeof mapped) == 0) return fastws_spell_ipv4(address + 12, out);
    inet_ntop(AF_INET6, address, out, FASTWS_CLIENT_BYTES);
    return strlen(out);
}

/* The client in the value of X-Forwarded-For: the last one that is no trusted proxy, or the first one. Returns the
 * length of its address in out, 0 where Python must decide. */
static inline size_t fastws_client_of_list(const fastws_proxies *proxies, const char *list, size_t size,
                                           char out[FASTWS_CLIENT_BYTES]) {
    unsigned char address[16];
    int has_one = 0;
    for (;;) {
        size_t start = size;
        while (start && list[start - 1] != ',') start--;
        fastws_part part = fastws_trimmed(list + start, size - start);
        if (part.size) {
            if (!fastws_read_node(part, address)) return 0;
            has_one = 1;
            if (!fastws_is_proxy(proxies, address)) break;
        }
        if (!start) break;
        size = start - 1;
    }
    return has_one ? fastws_spell_address(address, out) : 0;
}

static inline int fastws_is_token(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

enum { FASTWS_FOR = 1, FASTWS_BY = 2, FASTWS_HOST = 4, FASTWS_PROTO = 8 };

/* Which parameter of Forwarded has that name, in any case; 0 for others, which Python knows to be there once. */
static inline int fastws_parameter(const char *name, size_t size) {
    static const char *names[] = {"for", "by", "host", "proto"};
    for (int i = 0; i < 4; i++) {
        size_t same = 0;
        while (same < size && (name[same] | 0x20) == names[i][same]) same++;
        if (same == size && !names[i][same]) return 1 << i;
    }
    return 0;
}

/* Steps over one name=value; returns which parameter it is and its value, 0 for what Python must read. */
static inline int fastws_take_parameter(const char **cursor, const char *end, fastws_part *value) {
    const char *p = *cursor, *name = p;
    int known;
    while (p < end && fastws_is_token(*p)) p++;
    known = fastws_parameter(name, (size_t)(p - name));
    if (!known || p == end || *p != '=') return 0;
    value->data = ++p;
    if (p < end && *p == '"') {
        value->data = ++p;
        while (p < end && *p != '"' && *p != '\\' && *p != '\t') p++;
        if (p == end || *p != '"') return 0;
        value->size = (size_t)(p++ - value->data);
    } else {
        while (p < end && fastws_is_token(*p)) p++;
        value->size = (size_t)(p - value->data);
        if (!value->size) return 0;
    }
    *cursor = p;
    return known;
}

/* Steps over one element and the comma behind it; returns 1 and what its for= names, 0 for what Python must read. */
static inline int fastws_take_element(const char **cursor, const char *end, fastws_part *node) {
    fastws_part value;
    int seen = 0, known;
    for (;;) {
        known = fastws_take_parameter(cursor, end, &value);
        if (!known || seen & known) return 0;
        seen |= known;
        if (known == FASTWS_FOR) *node = fastws_trimmed(value.data, value.size);
        if (*cursor == end || **cursor != ';') break;
        ++*cursor;
    }
    if (!(seen & FASTWS_FOR)) return 0;
    if (*cursor == end) return 1;
    if (*(*cursor)++ != ',') return 0;
    while (*cursor < end && (**cursor == ' ' || **cursor == '\t')) ++*cursor;
    return *cursor < end;
}

/* The client in the value of Forwarded, which must be without white space but after commas, and without backslashes.
 * See fastws_client_of_list. */
static inline size_t fastws_client_of_elements(const fastws_proxies *proxies, const char *text, size_t size,
                                               char out[FASTWS_CLIENT_BYTES]) {
    const char *p = text, *end = text + size;
    fastws_part chain[FASTWS_CHAIN_MAX];
    unsigned char address[16];
    int count = 0;
    do {
        if (count == FASTWS_CHAIN_MAX || !fastws_take_element(&p, end, &chain[count++])) return 0;
    } while (p < end);
    while (count) {
        if (!fastws_read_node(chain[--count], address)) return 0;
        if (!fastws_is_proxy(proxies, address)) break;
    }
    return fastws_spell_address(address, out);
}

#endif
