/* Random values of Forwarded and X-Forwarded-For against forwarded.h, each in a buffer of exactly its size:
 * forwarded COUNT SEED. Prints how many named a client; fails where a name is none. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "forwarded.h"

static uint64_t state;

static unsigned below(unsigned bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % bound;
}

static const char *parts[] = {
    "for=", "For=", "proto=https", "by=", "host=", ";", ";", ",", ", ", "\"", "\"", "[", "]", ":", ":80", "10.0.0.1",
    "198.51.100.7", "2001:db8::7", "[2001:db8::7]:1", "::ffff:10.0.0.1", "unknown", "_x", " ", "\t", "\\", "255", "0", ".",
    "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "x=", "\xff", "1.2.3.4.5", "01.2.3.4", "1.2.3.256",
};

int main(int argc, char **argv) {
    unsigned char base[16];
    fastws_network networks[] = {{{0}, 104}, {{0}, 0}};
    fastws_proxies proxies = {1, 1, networks};
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000, named[2] = {0, 0};
    state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    if (!fastws_read_address("10.0.0.0", 8, networks[0].base)) return 2;
    for (unsigned long i = 0; i < count; i++) {
        char text[600], out[FASTWS_CLIENT_BYTES], *value;
        size_t size = 0, length;
        for (unsigned n = below(10), is_right = below(2); n; n--) {
            /* Every other value begins as right ones do. */
            const char *part = is_right && size == 0 ? "for=" : parts[below(sizeof parts / sizeof *parts)];
            if (is_right && size == 4) part = parts[15 + below(2)];
            memcpy(text + size, part, strlen(part));
            size += strlen(part);
        }
        if (size && below(4) == 0) text[below((unsigned)size)] = (char)(0x20 + below(0x5f));
        value = malloc(size ? size : 1);
        if (!value) return 2;
        memcpy(value, text, size);
        for (int kind = 0; kind < 2; kind++) {
            length = kind ? fastws_client_of_elements(&proxies, value, size, out)
                          : fastws_client_of_list(&proxies, value, size, out);
            if (!length) continue;
            named[kind]++;
            if (length >= sizeof out || out[length] || !fastws_read_address(out, length, base)) {
                printf("no address: %.*s\n", (int)size, value);
                return 1;
            }
        }
        fastws_is_trusted(&proxies, value, size);
        free(value);
    }
    printf("%lu %lu\n", named[0], named[1]);
    return 0;
}
