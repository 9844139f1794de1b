/* Clients of remote admin that have connected and not yet begun to shake hands. A place here is a
 * descriptor and no more; nothing has been spent on them. When all places are taken one more makes
 * somebody lose his, of the source that has most: one that has sent nothing, the oldest. So neither
 * silence nor a crowd of one source's keeps another one out.
 * Context: the TLS thread. */
#ifndef AGENT_TLS_LOBBY_H
#define AGENT_TLS_LOBBY_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

enum { TLS_LOBBY_MAX = 64 };

/* Who it is: on loopback a user of this machine, else an address, of IPv6 its network's. */
struct tls_source {
  uint32_t words[4];
};
bool tls_source_equal(const struct tls_source *a, const struct tls_source *b);

/* Takes the descriptor over. */
void tls_lobby_put(int descriptor, int64_t now_ns);

/* Fills in poll(2)'s entries, and brings *deadline_ns forward; how many there are. */
unsigned tls_lobby_wait(struct pollfd waits[TLS_LOBBY_MAX], int64_t *deadline_ns);
/* What has become of them. */
void tls_lobby_hear(const struct pollfd *waits, unsigned count, int64_t now_ns);

/* Somebody has sent something. */
bool tls_lobby_is_ready(void);
/* The next who has: of the source that has fewest here, who came first. -1: nobody. */
int tls_lobby_take(struct tls_source *source);
void tls_lobby_clear(void);

#endif
