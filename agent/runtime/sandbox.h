/* seccomp filters: one that a service starts under (a container's, systemd's) is made for programs
 * at large; one that the program puts on itself later may kill it for any system call that it does
 * not expect. Under such a one the agent asks nothing of that thread. Context: agent threads;
 * locks: none. */
#ifndef AGENT_SANDBOX_H
#define AGENT_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

/* How many filters there are at the start, or were at the parent's, for comparison. */
void sandbox_remember(void);

/* The thread (0: this one) is under more filters than at the start, or in strict mode. From then on
 * the process counts as confined (confinement.h). */
bool sandbox_is_tighter(int32_t tid);

/* Whether the program has confined itself, by a call that was seen or not: then the agent leaves.
 * Looks at the first thread. */
bool sandbox_look(void);

/* This thread is under any filter at all. */
bool sandbox_has_filter(void);

#endif
