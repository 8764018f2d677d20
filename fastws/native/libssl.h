/* The OpenSSL that Python's own ssl module has loaded, by name at run time: no headers, nothing linked or bundled.
 *
 * The prototypes are declared by hand from the documented interface, OpenSSL 1.1.1 to 3.x, where every type is opaque.
 * tests/native/test_libssl.py compares them and the numbers with the headers of OpenSSL where these are installed. */
#ifndef FASTWS_LIBSSL_H
#define FASTWS_LIBSSL_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A program that checks this file includes OpenSSL's headers first. */
#ifndef FASTWS_LIBSSL_HAS_HEADERS
typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct ssl_method_st SSL_METHOD;
typedef struct ssl_cipher_st SSL_CIPHER;
typedef struct x509_store_ctx_st X509_STORE_CTX;
typedef struct bio_st BIO;
typedef struct bio_method_st BIO_METHOD;
typedef struct stack_st FASTWS_NAMES;
#endif

/* OpenSSL's numbers, under its names with FWS_ before them. */
enum {
    FWS_SSL_ERROR_SSL = 1,
    FWS_SSL_ERROR_WANT_READ = 2,
    FWS_SSL_ERROR_SYSCALL = 5,
    FWS_SSL_ERROR_ZERO_RETURN = 6,
    FWS_SSL_FILETYPE_PEM = 1,
    FWS_SSL_VERIFY_PEER = 1,
    FWS_SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2,
    FWS_SSL_MODE_RELEASE_BUFFERS = 16,
    FWS_SSL_SESS_CACHE_OFF = 0,
    FWS_SSL_CTRL_MODE = 33,
    FWS_SSL_CTRL_SET_SESS_CACHE_MODE = 44,
    FWS_SSL_CTRL_SET_TLSEXT_SERVERNAME_CB = 53,
    FWS_SSL_CTRL_SET_TLSEXT_SERVERNAME_ARG = 54,
    FWS_SSL_CTRL_SET_TLSEXT_TICKET_KEYS = 59,
    FWS_SSL_CTRL_SET_GROUPS_LIST = 92,
    FWS_SSL_CTRL_SET_MIN_PROTO_VERSION = 123,
    FWS_SSL_CTRL_SET_MAX_PROTO_VERSION = 124,
    FWS_TLSEXT_NAMETYPE_host_name = 0,
    FWS_SSL_TLSEXT_ERR_OK = 0,
    FWS_SSL_TLSEXT_ERR_NOACK = 3,
    FWS_BIO_CTRL_FLUSH = 11,
    FWS_BIO_FLAGS_READ = 1,
    FWS_BIO_FLAGS_WRITE = 2,
    FWS_BIO_FLAGS_RWS = 7,
    FWS_BIO_FLAGS_SHOULD_RETRY = 8,
    FWS_BIO_TYPE_SOURCE_SINK = 0x400,
    FWS_TLS1_2_VERSION = 0x303,
    FWS_TLS1_3_VERSION = 0x304,
    /* Reasons of errors, some of those for which a handshake fails. */
    FWS_SSL_R_CERTIFICATE_VERIFY_FAILED = 134,
    FWS_SSL_R_NO_SHARED_CIPHER = 193,
    FWS_SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE = 199,
    FWS_SSL_R_UNSUPPORTED_PROTOCOL = 258,
    FWS_SSL_AD_REASON_OFFSET = 1000, /* and the alert that the client has sent */
    FWS_SSL_AD_LAST = 255
};

#define FWS_SSL_OP_NO_COMPRESSION (UINT64_C(1) << 17)
#define FWS_SSL_OP_NO_RENEGOTIATION (UINT64_C(1) << 30)

/* Every function that is used: result, name, parameters. */
#define FASTWS_LIBSSL_CONTEXT(X)                                                                            \
    X(const SSL_METHOD *, TLS_server_method, (void))                                                        \
    X(SSL_CTX *, SSL_CTX_new, (const SSL_METHOD *))                                                         \
    X(void, SSL_CTX_free, (SSL_CTX *))                                                                      \
    X(long, SSL_CTX_ctrl, (SSL_CTX *, int, long, void *))                                                   \
    X(long, SSL_CTX_callback_ctrl, (SSL_CTX *, int, void (*)(void)))                                        \
    X(uint64_t, SSL_CTX_set_options, (SSL_CTX *, uint64_t))                                                 \
    X(int, SSL_CTX_set_cipher_list, (SSL_CTX *, const char *))                                              \
    X(int, SSL_CTX_set_ciphersuites, (SSL_CTX *, const char *))                                             \
    X(int, SSL_CTX_use_certificate_chain_file, (SSL_CTX *, const char *))                                   \
    X(int, SSL_CTX_use_PrivateKey_file, (SSL_CTX *, const char *, int))                                     \
    X(int, SSL_CTX_check_private_key, (const SSL_CTX *))                                                    \
    X(void, SSL_CTX_set_default_passwd_cb, (SSL_CTX *, int (*)(char *, int, int, void *)))                  \
    X(int, SSL_CTX_load_verify_locations, (SSL_CTX *, const char *, const char *))                          \
    X(void, SSL_CTX_set_verify, (SSL_CTX *, int, int (*)(int, X509_STORE_CTX *)))                           \
    X(FASTWS_NAMES *, SSL_load_client_CA_file, (const char *))                                              \
    X(void, SSL_CTX_set_client_CA_list, (SSL_CTX *, FASTWS_NAMES *))                                        \
    X(int, SSL_CTX_set_session_id_context, (SSL_CTX *, const unsigned char *, unsigned int))                \
    X(void, SSL_CTX_set_alpn_select_cb,                                                                     \
      (SSL_CTX *, int (*)(SSL *, const unsigned char **, unsigned char *, const unsigned char *, unsigned int, void *), \
       void *))

#define FASTWS_LIBSSL_SESSION(X)                                                                            \
    X(SSL *, SSL_new, (SSL_CTX *))                                                                          \
    X(void, SSL_free, (SSL *))                                                                              \
    X(void, SSL_set_bio, (SSL *, BIO *, BIO *))                                                             \
    X(void, SSL_set_accept_state, (SSL *))                                                                  \
    X(int, SSL_do_handshake, (SSL *))                                                                       \
    X(int, SSL_read, (SSL *, void *, int))                                                                  \
    X(int, SSL_write, (SSL *, const void *, int))                                                           \
    X(int, SSL_shutdown, (SSL *))                                                                           \
    X(int, SSL_get_error, (const SSL *, int))                                                               \
    X(int, SSL_version, (const SSL *))                                                                      \
    X(const char *, SSL_get_version, (const SSL *))                                                         \
    X(int, SSL_session_reused, (const SSL *))                                                               \
    X(const SSL_CIPHER *, SSL_get_current_cipher, (const SSL *))                                            \
    X(const char *, SSL_CIPHER_get_name, (const SSL_CIPHER *))                                              \
    X(const char *, SSL_get_servername, (const SSL *, const int))                                           \
    X(SSL_CTX *, SSL_set_SSL_CTX, (SSL *, SSL_CTX *))

#define FASTWS_LIBSSL_OTHERS(X)                                                                             \
    X(BIO_METHOD *, BIO_meth_new, (int, const char *))                                                      \
    X(void, BIO_meth_free, (BIO_METHOD *))                                                                  \
    X(int, BIO_get_new_index, (void))                                                                       \
    X(int, BIO_meth_set_read, (BIO_METHOD *, int (*)(BIO *, char *, int)))                                  \
    X(int, BIO_meth_set_write, (BIO_METHOD *, int (*)(BIO *, const char *, int)))                           \
    X(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *)))                           \
    X(int, BIO_meth_set_create, (BIO_METHOD *, int (*)(BIO *)))                                             \
    X(BIO *, BIO_new, (const BIO_METHOD *))                                                                 \
    X(void, BIO_set_data, (BIO *, void *))                                                                  \
    X(void *, BIO_get_data, (BIO *))                                                                        \
    X(void, BIO_set_init, (BIO *, int))                                                                     \
    X(void, BIO_set_flags, (BIO *, int))                                                                    \
    X(void, BIO_clear_flags, (BIO *, int))                                                                  \
    X(unsigned long, ERR_peek_error, (void))                                                                \
    X(unsigned long, ERR_peek_last_error, (void))                                                           \
    X(void, ERR_clear_error, (void))                                                                        \
    X(void, ERR_error_string_n, (unsigned long, char *, size_t))                                            \
    X(unsigned long, OpenSSL_version_num, (void))                                                           \
    X(const char *, OpenSSL_version, (int))

#define FASTWS_LIBSSL(X) FASTWS_LIBSSL_CONTEXT(X) FASTWS_LIBSSL_SESSION(X) FASTWS_LIBSSL_OTHERS(X)

/* One library, found. Who uses it is given a pointer: no file of ours has a copy of its own. */
typedef struct {
#define FASTWS_MEMBER(result, name, parameters) result(*name) parameters;
    FASTWS_LIBSSL(FASTWS_MEMBER)
#undef FASTWS_MEMBER
    BIO_METHOD *method; /* of tls_session.h; made once */
} fastws_libssl;

#define FASTWS_LIBSSL_OLDEST 0x10101000UL /* 1.1.1: the first with TLS 1.3 */

/* Whether the library is OpenSSL itself: others have its names, and differ in what they do. LibreSSL says that it is
 * OpenSSL 2.0; BoringSSL and AWS-LC say that they are compatible with 1.1.1. */
static inline int fastws_is_openssl(const fastws_libssl *api) {
    const char *text = api->OpenSSL_version(0);
    return !strncmp(text, "OpenSSL ", 8) && !strstr(text, "AWS-LC") && !strstr(text, "BoringSSL") && !strstr(text, "compatible");
}

/* Finds every function in what the file at path has loaded, or, with NULL, in the program itself. Returns NULL, or what
 * is the matter. */
static inline const char *fastws_load_libssl(fastws_libssl *api, const char *path) {
    void *handle = path ? dlopen(path, RTLD_LAZY | RTLD_NOLOAD) : dlopen(NULL, RTLD_LAZY);
    unsigned long number;
    if (!handle) return "Python's ssl module is not loaded";
/* POSIX has dlsym return functions as pointers to data; C wants the copy. */
#define FASTWS_FIND(result, name, parameters)              \
    {                                                      \
        void *found = dlsym(handle, #name);                \
        if (!found) return "it lacks " #name;              \
        memcpy(&api->name, &found, sizeof(found));         \
    }
    FASTWS_LIBSSL(FASTWS_FIND)
#undef FASTWS_FIND
    if (!fastws_is_openssl(api)) return "it is not OpenSSL";
    number = api->OpenSSL_version_num();
    if (number < FASTWS_LIBSSL_OLDEST || (number >> 28) == 2) return "it is older than OpenSSL 1.1.1";
    return NULL;
}

#endif
