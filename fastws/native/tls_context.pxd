# Declarations of tls_context.h: what handshakes are made with, for _tls.pyx.

from .libssl cimport SSL_CTX, fastws_libssl
from .tls_session cimport fastws_tls_context


cdef extern from "tls_context.h":
    const fastws_libssl fastws_the_libssl

    ctypedef struct fastws_tls_rules:
        long minimum, maximum
        const char *ciphers
        const char *ciphersuites
        const char *groups
        const char *more_groups
        const char *client_ca

    # NULL, or what is the matter
    const char *fastws_find_libssl(const char *path)
    SSL_CTX *fastws_tls_make(const fastws_libssl *api, const fastws_tls_rules *rules)
    bint fastws_tls_add_pair(const fastws_libssl *api, SSL_CTX *made, const char *certificate, const char *key)
    bint fastws_tls_set_first(fastws_tls_context *context, const void *ticket_key, size_t size)
    void fastws_tls_clear(fastws_tls_context *context)
