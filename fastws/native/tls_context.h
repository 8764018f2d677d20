/* What TLS handshakes are made with: certificates, which of them a name gets, and OpenSSL's way to our buffers.
 *
 * Only _tls.pyx includes it, which owns the one library that it finds. */
#ifndef FASTWS_TLS_CONTEXT_H
#define FASTWS_TLS_CONTEXT_H

#include <stdlib.h>
#include <string.h>

#include "tls_session.h"

static fastws_libssl fastws_the_libssl;

/* A BIO over what a session may read, and what it writes: see BIO_meth_new(3). Its data is the session. */

static int fastws_bio_read(BIO *bio, char *data, int size) {
    const fastws_libssl *api = &fastws_the_libssl;
    fastws_tls_worker *worker = ((fastws_session *)api->BIO_get_data(bio))->worker;
    api->BIO_clear_flags(bio, FWS_BIO_FLAGS_RWS | FWS_BIO_FLAGS_SHOULD_RETRY);
    if (!worker->in_left) {
        api->BIO_set_flags(bio, FWS_BIO_FLAGS_READ | FWS_BIO_FLAGS_SHOULD_RETRY);
        return -1;
    }
    if ((size_t)size > worker->in_left) size = (int)worker->in_left;
    memcpy(data, worker->in, (size_t)size);
    worker->in += size;
    worker->in_left -= (size_t)size;
    return size;
}

static int fastws_bio_write(BIO *bio, const char *data, int size) {
    const fastws_libssl *api = &fastws_the_libssl;
    fastws_tls_worker *worker = ((fastws_session *)api->BIO_get_data(bio))->worker;
    api->BIO_clear_flags(bio, FWS_BIO_FLAGS_RWS | FWS_BIO_FLAGS_SHOULD_RETRY);
    /* There is room for all that one call of ours makes OpenSSL write. What goes beyond it ends the connection. */
    if ((size_t)size > FASTWS_TLS_OUT - worker->out_len) return -1;
    memcpy(worker->out + worker->out_len, data, (size_t)size);
    worker->out_len += (size_t)size;
    return size;
}

static long fastws_bio_ctrl(BIO *bio, int what, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return what == FWS_BIO_CTRL_FLUSH;
}

static int fastws_bio_create(BIO *bio) {
    fastws_the_libssl.BIO_set_init(bio, 1);
    return 1;
}

static inline BIO_METHOD *fastws_make_bio_method(const fastws_libssl *api) {
    BIO_METHOD *method = api->BIO_meth_new(api->BIO_get_new_index() | FWS_BIO_TYPE_SOURCE_SINK, "fastws");
    if (!method) return NULL;
    api->BIO_meth_set_read(method, fastws_bio_read);
    api->BIO_meth_set_write(method, fastws_bio_write);
    api->BIO_meth_set_ctrl(method, fastws_bio_ctrl);
    api->BIO_meth_set_create(method, fastws_bio_create);
    return method;
}

/* Finds the library, once in a process, with the GIL held. Returns NULL, or what is the matter. */
static inline const char *fastws_find_libssl(const char *path) {
    const char *problem;
    if (fastws_the_libssl.method) return NULL;
    problem = fastws_load_libssl(&fastws_the_libssl, path);
    if (problem) return problem;
    fastws_the_libssl.method = fastws_make_bio_method(&fastws_the_libssl);
    return fastws_the_libssl.method ? NULL : "there is no memory for it";
}

/* Callbacks of a handshake */

/* As tls/settings.py chooses: the name itself, then its first label as a wildcard, then the first context. */
static inline SSL_CTX *fastws_tls_choose(const fastws_tls_context *context, const char *name) {
    size_t low = 0, high = context->name_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, context->names[middle].name);
        if (!order) return context->names[middle].context;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static int fastws_tls_on_name(SSL *ssl, int *alert, void *data) {
    const fastws_tls_context *context = data;
    const char *asked = context->api->SSL_get_servername(ssl, FWS_TLSEXT_NAMETYPE_host_name);
    char name[256]; /* a DNS name has at most 253 characters */
    size_t size, i;
    char *dot;
    SSL_CTX *chosen;
    (void)alert;
    if (!asked || (size = strlen(asked)) >= sizeof(name)) return FWS_SSL_TLSEXT_ERR_NOACK;
    for (i = 0; i <= size; i++) name[i] = asked[i] >= 'A' && asked[i] <= 'Z' ? (char)(asked[i] | 0x20) : asked[i];
    while (size && name[size - 1] == '.') name[--size] = 0;
    chosen = fastws_tls_choose(context, name);
    dot = strchr(name, '.');
    if (!chosen && dot && dot > name) {
        dot[-1] = '*';
        chosen = fastws_tls_choose(context, dot - 1);
    }
    if (chosen && chosen != context->contexts[0]) context->api->SSL_set_SSL_CTX(ssl, chosen);
    return FWS_SSL_TLSEXT_ERR_OK;
}

/* RFC 7301: http/1.1 if that is among what the client offers. Otherwise nothing is said, as nginx does. */
static int fastws_tls_on_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *size, const unsigned char *offered,
                              unsigned int offered_size, void *data) {
    static const unsigned char http[] = "\x08http/1.1";
    unsigned int at = 0;
    (void)ssl, (void)data;
    while (at < offered_size && offered[at] < offered_size - at) {
        if (offered[at] == http[0] && !memcmp(offered + at, http, sizeof(http) - 1)) {
            *chosen = offered + at + 1;
            *size = offered[at];
            return FWS_SSL_TLSEXT_ERR_OK;
        }
        at += offered[at] + 1U;
    }
    return FWS_SSL_TLSEXT_ERR_NOACK;
}

/* A key with a password is refused: OpenSSL would ask for it at the terminal. */
static int fastws_tls_on_password(char *password, int room, int writes, void *data) {
    (void)password, (void)room, (void)writes, (void)data;
    return -1;
}

/* Contexts */

/* What a context of OpenSSL is made from besides its certificates. */
typedef struct {
    long minimum, maximum; /* versions */
    const char *ciphers;      /* of TLS 1.2 */
    const char *ciphersuites; /* of TLS 1.3 */
    const char *groups;
    const char *more_groups; /* the same with those that older libraries do not know */
    const char *client_ca;   /* a file; NULL: clients need no certificate */
} fastws_tls_rules;

static inline int fastws_tls_set_groups(const fastws_libssl *api, SSL_CTX *made, const fastws_tls_rules *rules) {
    if (api->SSL_CTX_ctrl(made, FWS_SSL_CTRL_SET_GROUPS_LIST, 0, (void *)rules->more_groups) == 1) return 1;
    api->ERR_clear_error();
    return api->SSL_CTX_ctrl(made, FWS_SSL_CTRL_SET_GROUPS_LIST, 0, (void *)rules->groups) == 1;
}

static inline int fastws_tls_ask_clients(const fastws_libssl *api, SSL_CTX *made, const char *file) {
    FASTWS_NAMES *names;
    if (api->SSL_CTX_load_verify_locations(made, file, NULL) != 1) return 0;
    names = api->SSL_load_client_CA_file(file);
    if (!names) return 0;
    api->SSL_CTX_set_client_CA_list(made, names);
    api->SSL_CTX_set_verify(made, FWS_SSL_VERIFY_PEER | FWS_SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 1;
}

/* Returns a context of OpenSSL without certificates; NULL with OpenSSL's error. */
static inline SSL_CTX *fastws_tls_make(const fastws_libssl *api, const fastws_tls_rules *rules) {
    static const unsigned char id[] = "fastws";
    SSL_CTX *made = api->SSL_CTX_new(api->TLS_server_method());
    if (!made) return NULL;
    api->SSL_CTX_set_options(made, FWS_SSL_OP_NO_COMPRESSION | FWS_SSL_OP_NO_RENEGOTIATION);
    api->SSL_CTX_ctrl(made, FWS_SSL_CTRL_MODE, FWS_SSL_MODE_RELEASE_BUFFERS, NULL);
    /* Tickets need no memory of ours, and a cache would need a lock. */
    api->SSL_CTX_ctrl(made, FWS_SSL_CTRL_SET_SESS_CACHE_MODE, FWS_SSL_SESS_CACHE_OFF, NULL);
    api->SSL_CTX_set_default_passwd_cb(made, fastws_tls_on_password);
    api->SSL_CTX_set_alpn_select_cb(made, fastws_tls_on_alpn, NULL);
    if (api->SSL_CTX_ctrl(made, FWS_SSL_CTRL_SET_MIN_PROTO_VERSION, rules->minimum, NULL) == 1
        && api->SSL_CTX_ctrl(made, FWS_SSL_CTRL_SET_MAX_PROTO_VERSION, rules->maximum, NULL) == 1
        && api->SSL_CTX_set_cipher_list(made, rules->ciphers) == 1
        && api->SSL_CTX_set_ciphersuites(made, rules->ciphersuites) == 1
        && api->SSL_CTX_set_session_id_context(made, id, sizeof(id) - 1) == 1 && fastws_tls_set_groups(api, made, rules)
        && (!rules->client_ca || fastws_tls_ask_clients(api, made, rules->client_ca)))
        return made;
    api->SSL_CTX_free(made);
    return NULL;
}

/* Adds a certificate with its chain, and its key. Returns whether both could be read and belong together. */
static inline int fastws_tls_add_pair(const fastws_libssl *api, SSL_CTX *made, const char *certificate, const char *key) {
    return api->SSL_CTX_use_certificate_chain_file(made, certificate) == 1
        && api->SSL_CTX_use_PrivateKey_file(made, key, FWS_SSL_FILETYPE_PEM) == 1
        && api->SSL_CTX_check_private_key(made) == 1;
}

/* Has the first context choose by the client's name, and use this key for tickets. Returns whether the key was taken. */
static inline int fastws_tls_set_first(fastws_tls_context *context, const void *ticket_key, size_t size) {
    const fastws_libssl *api = context->api;
    SSL_CTX *first = context->contexts[0];
    void (*on_name)(void);
    int (*typed)(SSL *, int *, void *) = fastws_tls_on_name;
    memcpy(&on_name, &typed, sizeof(on_name));
    api->SSL_CTX_callback_ctrl(first, FWS_SSL_CTRL_SET_TLSEXT_SERVERNAME_CB, on_name);
    api->SSL_CTX_ctrl(first, FWS_SSL_CTRL_SET_TLSEXT_SERVERNAME_ARG, 0, context);
    return api->SSL_CTX_ctrl(first, FWS_SSL_CTRL_SET_TLSEXT_TICKET_KEYS, (long)size, (void *)ticket_key) == 1;
}

/* Lets go of what is in it; sessions that go on hold on to their own. */
static inline void fastws_tls_clear(fastws_tls_context *context) {
    size_t i;
    for (i = 0; i < context->context_count; i++) context->api->SSL_CTX_free(context->contexts[i]);
    for (i = 0; i < context->name_count; i++) free((char *)context->names[i].name);
    free(context->contexts);
    free(context->names);
    memset(context, 0, sizeof(*context));
}

#endif
