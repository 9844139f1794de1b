/* The block profile (who waited) and the mutex profile (who made others wait), from
 * contention_table.h. Values: contentions, delay in nanoseconds; each rounded once. Context: agent
 * threads; locks: none. */
#ifndef AGENT_CONTENTION_PROFILE_H
#define AGENT_CONTENTION_PROFILE_H

#include "shim/locks/contention_table.h"
#include "profile.h"

/* NULL: out of memory. */
struct profile *contention_profile_build(enum contention_kind kind);

#endif
