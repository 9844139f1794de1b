/* Remote admin (PPROFAGENT_TLS_ADDR): mutual TLS in front of the HTTP server. One thread accepts,
 * shakes hands, and copies bytes between each TLS connection and one end of a socket pair, whose
 * other end it puts into connection_inbox.h as an authenticated connection. So the server, and the
 * processes that share the port, know nothing of TLS.
 *
 * OpenSSL's libssl is loaded only here, into a link-map namespace of its own (dlmopen), with the
 * agent's memory, so that the program's own OpenSSL, malloc and pthread keys are not touched.
 * TLS 1.2 or later; a client certificate is required and verified. Context: the admin thread of the
 * process that holds the port.
 */
#ifndef AGENT_TLS_FRONT_H
#define AGENT_TLS_FRONT_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/runtime/shared_text.h"

/* False: reason says why not; it stays as tls_front_off_reason(). Nothing to do (true) when
 * PPROFAGENT_TLS_ADDR is unset. */
bool tls_front_start(char *reason, size_t reason_size);
void tls_front_stop(void); /* joins its thread */

/* For the index page and health: "0.0.0.0:6443" while it listens, else ""; NULL while it is on or
 * not asked for, else one sentence. */
const char *tls_front_address(void);
const char *tls_front_off_reason(char out[SHARED_TEXT_MAX]);

#endif
