# Declarations of libssl.h: OpenSSL by name, for _tls.pyx.

cdef extern from "libssl.h" nogil:
    ctypedef struct SSL_CTX:
        pass
    enum:
        FWS_TLS1_2_VERSION, FWS_TLS1_3_VERSION

    ctypedef struct fastws_libssl:
        void SSL_CTX_free(SSL_CTX *context)
        unsigned long ERR_peek_last_error()
        void ERR_clear_error()
        void ERR_error_string_n(unsigned long error, char *text, size_t size)
        const char *OpenSSL_version(int what)
