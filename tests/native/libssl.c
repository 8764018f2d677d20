/* OpenSSL's own headers against libssl.h: the numbers are the same, and each function can be called as it is declared. */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#define FASTWS_LIBSSL_HAS_HEADERS
typedef STACK_OF(X509_NAME) FASTWS_NAMES;
#include "libssl.h"

#define SAME(name) _Static_assert((long)FWS_##name == (long)(name), #name);

SAME(SSL_ERROR_SSL)
SAME(SSL_ERROR_WANT_READ)
SAME(SSL_ERROR_SYSCALL)
SAME(SSL_ERROR_ZERO_RETURN)
SAME(SSL_FILETYPE_PEM)
SAME(SSL_VERIFY_PEER)
SAME(SSL_VERIFY_FAIL_IF_NO_PEER_CERT)
SAME(SSL_MODE_RELEASE_BUFFERS)
SAME(SSL_SESS_CACHE_OFF)
SAME(SSL_CTRL_MODE)
SAME(SSL_CTRL_SET_SESS_CACHE_MODE)
SAME(SSL_CTRL_SET_TLSEXT_SERVERNAME_CB)
SAME(SSL_CTRL_SET_TLSEXT_SERVERNAME_ARG)
SAME(SSL_CTRL_SET_TLSEXT_TICKET_KEYS)
SAME(SSL_CTRL_SET_GROUPS_LIST)
SAME(SSL_CTRL_SET_MIN_PROTO_VERSION)
SAME(SSL_CTRL_SET_MAX_PROTO_VERSION)
SAME(TLSEXT_NAMETYPE_host_name)
SAME(SSL_TLSEXT_ERR_OK)
SAME(SSL_TLSEXT_ERR_NOACK)
SAME(BIO_CTRL_FLUSH)
SAME(BIO_FLAGS_READ)
SAME(BIO_FLAGS_WRITE)
SAME(BIO_FLAGS_RWS)
SAME(BIO_FLAGS_SHOULD_RETRY)
SAME(BIO_TYPE_SOURCE_SINK)
SAME(TLS1_2_VERSION)
SAME(TLS1_3_VERSION)
SAME(SSL_R_CERTIFICATE_VERIFY_FAILED)
SAME(SSL_R_NO_SHARED_CIPHER)
SAME(SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
SAME(SSL_R_UNSUPPORTED_PROTOCOL)
SAME(SSL_AD_REASON_OFFSET)
SAME(SSL_OP_NO_COMPRESSION)
SAME(SSL_OP_NO_RENEGOTIATION)


/* A pointer of the declared type is set to the function itself: the compiler compares them. */
void compare(void);
void compare(void) {
#define CHECK(result, name, parameters)       \
    {                                         \
        result(*declared) parameters = &name; \
        (void)declared;                       \
    }
    FASTWS_LIBSSL_SESSION(CHECK)
    FASTWS_LIBSSL_OTHERS(CHECK)
    FASTWS_LIBSSL_CONTEXT(CHECK)
}
