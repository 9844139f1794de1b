/* Connections that were accepted elsewhere and wait for this process's HTTP server: let in by the
 * gate (connection_gate.h), handed over by the process that holds the port (process_tree.h), or the
 * plain end of a TLS connection (tls_front.h).
 * Context: agent threads; locks: its own.
 */
#ifndef AGENT_CONNECTION_INBOX_H
#define AGENT_CONNECTION_INBOX_H

#include <stdbool.h>
#include <stddef.h>

enum { INBOX_CAPACITY = 40, INBOX_PREFIX_MAX = 64 };

struct inbox_connection {
  int descriptor; /* non-blocking, close-on-exec; the inbox's until it is taken */
  bool authenticated; /* by a client certificate: its owner is not asked for, and its Host header
                         may be anything */
  bool is_guest; /* let in for another process's sake, which will be given it */
  unsigned char prefix_size;
  char prefix[INBOX_PREFIX_MAX]; /* of the request, what was read already */
};

/* False: full, or no descriptor for the event. The descriptor is then still the caller's. */
bool connection_inbox_put(const struct inbox_connection *connection);
/* Half full: the rest is for those who are not guests. */
bool connection_inbox_is_crowded(void);
bool connection_inbox_waits(void); /* somebody is in it */
bool connection_inbox_take(struct inbox_connection *out);

/* An eventfd that is readable while connections wait; -1: none can be made. */
int connection_inbox_event(void);
/* Closes what is in it, and the event. */
void connection_inbox_close(void);

#endif
