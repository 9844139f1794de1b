/* What changed between two profiles of the same kind that were built on their own, each with its
 * mappings and names. Context: agent threads; locks: none (one owner). */
#ifndef AGENT_PROFILE_DELTA_H
#define AGENT_PROFILE_DELTA_H

#include <stdbool.h>

#include "profile.h"

/* Takes `before` away from `now`: samples with the same stack and labels are one, negative values
 * are kept, samples whose values are all 0 are dropped; the duration becomes the time between the
 * two. `before` (NULL: false) belongs to `now` from here on. False: out of memory; `now` can then
 * only be released. */
bool profile_subtract(struct profile *now, struct profile *before);

#endif
