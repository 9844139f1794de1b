/* Stacks whose live memory keeps growing, told by the ages of the sampled blocks that are there.
 *
 * The window, from its start to now, has four quarters. A stack is listed when
 * - 8 sampled blocks or more that were allocated in the second and third quarter are still there,
 * - of the last three quarters none brought less than half of what the second or the third brought
 *   (bytes that are still there), as far as the sampling's error (1.96 sigma) can tell.
 * So memory that was allocated at the start is no leak, nor what is freed again within a quarter of
 * the window. A cache that still fills, or keeps its entries for more than a third of the window,
 * looks like one; ask later.
 *
 * Its growth is what the second and third quarter brought: S, the sum of w = size * scale
 * (sampling_scale.h) of n independent samples, in half the window. With 95 % confidence it is at
 * least S - 1.645 sqrt(sum of w^2). Context: agent threads; locks: none.
 */
#ifndef AGENT_LEAK_PROFILE_H
#define AGENT_LEAK_PROFILE_H

#include "profile.h"

/* Values: growth_objects, growth_space (an hour), inuse_objects, inuse_space (now, of the stack).
 * Labels: at_least (bytes an hour), oldest (seconds). window: in seconds; 0, or more than that:
 * since the first sampled allocation. NULL: out of memory. */
struct profile *leak_profile_build(double window);

#endif
