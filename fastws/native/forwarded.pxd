# Declarations of forwarded.h: clients behind trusted proxies.

cdef extern from "forwarded.h" nogil:
    enum:
        FASTWS_CLIENT_BYTES

    ctypedef struct fastws_network:
        unsigned char base[16]
        int bits

    ctypedef struct fastws_proxies:
        size_t count
        int has_unix
        fastws_network *networks

    int fastws_read_address(const char *text, size_t size, unsigned char *address)
    int fastws_is_proxy(const fastws_proxies *proxies, const unsigned char *address)
    int fastws_is_trusted(const fastws_proxies *proxies, const char *peer, size_t size)
    size_t fastws_spell_address(const unsigned char *address, char *out)

    ctypedef struct fastws_part:
        const char *data
        size_t size

    int fastws_read_node(fastws_part node, unsigned char *address)

    # Each returns the length of the client's address in out, 0 where Python must decide.
    size_t fastws_client_of_list(const fastws_proxies *proxies, const char *list, size_t size, char *out)
    size_t fastws_client_of_elements(const fastws_proxies *proxies, const char *text, size_t size, char *out)
