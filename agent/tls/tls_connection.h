/* One client of remote admin: the handshake, then bytes copied both ways between TLS and one end of
 * a socket pair, whose other end is the HTTP server's (connection_inbox.h). Nothing but TLS itself
 * is sent before a client certificate has been verified. The server's end closes: what it had
 * written is sent, then TLS's own end. The client's orderly end (close_notify) becomes a
 * half-close, as that of a plain connection would be; any other end closes the pair. Context: the
 * TLS thread (tls_library.h).
 */
#ifndef AGENT_TLS_CONNECTION_H
#define AGENT_TLS_CONNECTION_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct ssl_ctx_st;
struct tls_connection;

/* Takes the descriptor (non-blocking) over. NULL: no memory, and the descriptor is still the
 * caller's. */
struct tls_connection *tls_connection_new(struct ssl_ctx_st *context, int descriptor,
                                          int64_t now_ns);
/* Closes whatever is open. */
void tls_connection_free(struct tls_connection *connection);

/* Its client has shown a certificate that holds. */
bool tls_connection_is_authenticated(const struct tls_connection *connection);

/* What it waits for: poll(2)'s entries for the client and for the pair, and its deadline
 * (INT64_MAX: none). `crowded`: others want the place. */
void tls_connection_wait(const struct tls_connection *connection, bool crowded,
                         struct pollfd *client, struct pollfd *server, int64_t *deadline_ns);
/* Goes on as far as it can. False: it has ended, and is to be freed. */
bool tls_connection_run(struct tls_connection *connection, short client_events, int64_t now_ns);

#endif
