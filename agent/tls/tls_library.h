/* OpenSSL's libssl, loaded when remote admin is asked for and never before: into a link-map
 * namespace of its own, so that it has its own libcrypto and C library, and the program's OpenSSL
 * is another one that it does not touch. OpenSSL's memory is the agent's. The declarations are
 * those of OpenSSL's manual (man 3ssl; ssl(7ossl)), versions 1.1.1 and 3: none of its headers is
 * needed.
 *
 * Context: one agent thread, the one that loads it, makes every call until it has called
 * tls_library_leave_thread. The second C library has per-thread state that is set up for no other
 * thread (ctype tables), and pthread keys whose values lie where the first one keeps its own.
 */
#ifndef AGENT_TLS_LIBRARY_H
#define AGENT_TLS_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bio_st;
struct evp_pkey_st;
struct ssl_ctx_st;
struct ssl_method_st;
struct ssl_st;
struct x509_st;
struct x509_store_st;
struct x509_store_ctx_st;
typedef int tls_password_callback(char *password, int size, int writing, void *data);
typedef int tls_verify_callback(int passed, struct x509_store_ctx_st *context);

/* Result, name, parameters. */
#define TLS_LIBRARY_FUNCTIONS(X)                                                         \
  X(int, CRYPTO_set_mem_functions,                                                       \
    (void *(*)(size_t, const char *, int), void *(*)(void *, size_t, const char *, int), \
     void (*)(void *, const char *, int)))                                               \
  X(int, OPENSSL_init_ssl, (uint64_t options, const void *settings))                     \
  X(void, OPENSSL_thread_stop, (void))                                                   \
  X(unsigned long, ERR_peek_last_error, (void))                                          \
  X(void, ERR_clear_error, (void))                                                       \
  X(struct bio_st *, BIO_new_mem_buf, (const void *bytes, int size))                     \
  X(int, BIO_free, (struct bio_st *))                                                    \
  X(struct x509_st *, PEM_read_bio_X509,                                                 \
    (struct bio_st *, struct x509_st **, tls_password_callback *, void *))               \
  X(struct evp_pkey_st *, PEM_read_bio_PrivateKey,                                       \
    (struct bio_st *, struct evp_pkey_st **, tls_password_callback *, void *))           \
  X(void, X509_free, (struct x509_st *))                                                 \
  X(void, EVP_PKEY_free, (struct evp_pkey_st *))                                         \
  X(int, X509_STORE_add_cert, (struct x509_store_st *, struct x509_st *))                \
  X(const char *, X509_verify_cert_error_string, (long error))                           \
  X(const struct ssl_method_st *, TLS_server_method, (void))                             \
  X(struct ssl_ctx_st *, SSL_CTX_new, (const struct ssl_method_st *))                    \
  X(void, SSL_CTX_free, (struct ssl_ctx_st *))                                           \
  X(long, SSL_CTX_ctrl, (struct ssl_ctx_st *, int command, long number, void *pointer))  \
  X(uint64_t, SSL_CTX_set_options, (struct ssl_ctx_st *, uint64_t options))              \
  X(int, SSL_CTX_set_num_tickets, (struct ssl_ctx_st *, size_t count))                   \
  X(void, SSL_CTX_set_verify, (struct ssl_ctx_st *, int mode, tls_verify_callback *))    \
  X(int, SSL_CTX_use_certificate, (struct ssl_ctx_st *, struct x509_st *))               \
  X(int, SSL_CTX_use_PrivateKey, (struct ssl_ctx_st *, struct evp_pkey_st *))            \
  X(int, SSL_CTX_check_private_key, (const struct ssl_ctx_st *))                         \
  X(struct x509_store_st *, SSL_CTX_get_cert_store, (const struct ssl_ctx_st *))         \
  X(int, SSL_CTX_add_client_CA, (struct ssl_ctx_st *, struct x509_st *))                 \
  X(struct ssl_st *, SSL_new, (struct ssl_ctx_st *))                                     \
  X(void, SSL_free, (struct ssl_st *))                                                   \
  X(int, SSL_set_fd, (struct ssl_st *, int descriptor))                                  \
  X(int, SSL_accept, (struct ssl_st *))                                                  \
  X(int, SSL_read, (struct ssl_st *, void *bytes, int size))                             \
  X(int, SSL_write, (struct ssl_st *, const void *bytes, int size))                      \
  X(int, SSL_shutdown, (struct ssl_st *))                                                \
  X(int, SSL_get_error, (const struct ssl_st *, int result))                             \
  X(long, SSL_get_verify_result, (const struct ssl_st *))

struct tls_library {
#define TLS_LIBRARY_POINTER(result, name, parameters) result(*name) parameters;
  TLS_LIBRARY_FUNCTIONS(TLS_LIBRARY_POINTER)
#undef TLS_LIBRARY_POINTER
  struct x509_st *(*get_peer_certificate)(
      const struct ssl_st *); /* SSL_get1_peer_certificate, or as 1.1.1 calls it */
};

/* What OpenSSL's headers define. */
enum {
  TLS1_2_VERSION = 0x0303,
  SSL_CTRL_EXTRA_CHAIN_CERT = 14,
  SSL_CTRL_MODE = 33,
  SSL_CTRL_SET_SESS_CACHE_MODE = 44,
  SSL_CTRL_SET_MIN_PROTO_VERSION = 123,
  SSL_SESS_CACHE_OFF = 0,
  SSL_MODE_ENABLE_PARTIAL_WRITE = 1,
  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2,
  SSL_MODE_RELEASE_BUFFERS = 0x10,
  SSL_VERIFY_PEER = 1,
  SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2,
  SSL_OP_NO_TICKET = 1 << 14,
  SSL_OP_NO_COMPRESSION = 1 << 17,
  SSL_OP_NO_RENEGOTIATION = 1 << 30,
  SSL_ERROR_WANT_READ = 2,
  SSL_ERROR_WANT_WRITE = 3,
  SSL_ERROR_ZERO_RETURN = 6,
  X509_V_OK = 0
};

extern struct tls_library tls_library;

/* Loads it, or takes up what an earlier thread of this process has loaded. False: the reason is one
 * sentence. */
bool tls_library_enter_thread(char *reason, size_t reason_size);

/* The last call before the thread ends; everything that it made must have been freed. */
void tls_library_leave_thread(void);

/* Returns when nothing is being loaded, or after a tenth of a second: a child that is forked
 * meanwhile would find the loader's locks taken. Context: a host thread that is about to fork;
 * locks: none. */
void tls_library_await_loading(void);

#endif
