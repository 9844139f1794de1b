/* A member's copy of the listening socket of a unix address, for when it is the holder: who takes
 * over may see another root directory or mount namespace than who bound the path, and the file
 * stays the same. Context: the admin thread; locks: none. */
#ifndef AGENT_SPARE_LISTENER_H
#define AGENT_SPARE_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/http/listen_address.h"

/* Whether a holder may give it to that user, who would hear those who mean this process: root, and
 * the user that this program was started by. */
bool spare_listener_may_go_to(uid_t user);

/* Keeps what came with the holder's welcome, in place of what was kept, if it is such a socket;
 * else closes it. -1: nothing came. */
void spare_listener_keep(int descriptor, const struct listen_address *address);
/* The caller's from here on; -1: there is none, or somebody has removed its file, so that nobody
 * could come in by it. */
int spare_listener_take(const struct listen_address *address);
void spare_listener_forget(void);
/* Now and then: this process may have changed its user, to one who may not have it. */
void spare_listener_look(void);

#endif
