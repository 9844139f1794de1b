/* What the loss counters of shim/base/counters.h say about one profile, chosen by the beginnings of
 * their names. Context: agent threads; locks: none. */
#ifndef AGENT_PROFILE_LOSSES_H
#define AGENT_PROFILE_LOSSES_H

#include <stdbool.h>

#include "profile.h"

/* prefixes: ended by NULL. Both: counters that are 0 say nothing; false: out of memory. */

/* Losses that make figures of the profile too small become comments of it ("3 sampled allocations
 * dropped: ..."). */
bool profile_losses_comment(struct profile *profile, const char *const *prefixes);

/* Losses that a reader of the text should know of become lines of its trailer ("# heap_lost_... = 3
 * (sampled ...)"), behind those it has. */
bool profile_losses_trail(struct profile *profile, const char *const *prefixes);

#endif
