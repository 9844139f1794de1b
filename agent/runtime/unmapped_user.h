/* Users that have no number in this user namespace: the kernel shows all of them, and their files,
 * as one (kernel.overflowuid, 65534 by default), which may be a user of this namespace as well.
 * Context: any thread that may open files; locks: none. */
#ifndef AGENT_UNMAPPED_USER_H
#define AGENT_UNMAPPED_USER_H

#include <sys/types.h>

/* Of that number nobody can say whose it is. (uid_t)-1: every user has a number of its own here. */
uid_t unmapped_user(void);

#endif
