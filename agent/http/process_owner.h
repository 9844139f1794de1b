/* Whose this process is, by the rule of ptrace(2): the user that is its real, effective and saved
 * one at the same time. A root daemon that takes on a user for a moment (seteuid) is not his: he
 * would see what root's code does. Nor, as for the kernel, is a process that is not dumpable.
 * Asked anew each time. Context: agent threads, whose user is the program's; locks: none. */
#ifndef AGENT_PROCESS_OWNER_H
#define AGENT_PROCESS_OWNER_H

#include <stdbool.h>
#include <sys/types.h>

struct process_users {
  uid_t real, effective, saved;
};
struct process_users process_owner_users(void);

/* The one user that it is. False: it is several. */
bool process_owner_is(uid_t uid);

/* The effective user of the program that exec started, which this process is or descends from by
 * fork. */
uid_t process_owner_first(void);

/* Whether its owner may look into it. Not if it is not dumpable, but for one that is so only
 * because it, or the process that it was forked from, was started as root under the agent and has
 * given that up: a server's workers. */
bool process_owner_may_look(uid_t uid);

#endif
