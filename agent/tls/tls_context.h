/* What PPROFAGENT_TLS_CERT, _KEY and _CLIENT_CA name, read once and made into OpenSSL's context for
 * the server's side: TLS 1.2 or later, a client certificate required, no sessions, tickets,
 * renegotiation or compression. The files may be gone, or out of reach, afterwards. Context: the
 * TLS thread (tls_library.h), unless it says otherwise. */
#ifndef AGENT_TLS_CONTEXT_H
#define AGENT_TLS_CONTEXT_H

#include <stddef.h>

struct ssl_ctx_st;

/* Keeps what the files say, for when they cannot be read later. Context: constructor; no forked
 * child has it. */
void tls_context_at_start(void);

/* NULL: reason is one sentence that names the variable and the file. Give back with SSL_CTX_free.
 */
struct ssl_ctx_st *tls_context_read(char *reason, size_t reason_size);

#endif
