/* poll(2) for loops: one that fails at once, each time, would make them spin. It does where the
 * program allows itself fewer open files than are waited for (EINVAL), or there is no memory.
 * Context: agent threads; locks: none. */
#ifndef AGENT_PACED_POLL_H
#define AGENT_PACED_POLL_H

#include <poll.h>

/* As poll(2). A failure but EINTR takes a moment. */
int paced_poll(struct pollfd *waits, nfds_t count, int timeout_ms);

/* That moment, for a loop around another call. */
void paced_poll_pause(void);

#endif
