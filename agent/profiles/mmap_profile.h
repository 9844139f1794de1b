/* The mmap profile: who made the anonymous mappings of 64 KB and more, from mmap_table.h, and how
 * much of them is in memory.
 *
 * Values: alloc_objects, alloc_space (calls ever), inuse_objects, inuse_space (ranges of addresses
 * that are mapped still), resident_space (what of these is in memory); each sampled call counts
 * for sampling_scale(size, rate). Context: agent threads; locks: none.
 */
#ifndef AGENT_MMAP_PROFILE_H
#define AGENT_MMAP_PROFILE_H

#include "profile.h"

/* NULL when out of memory. */
struct profile *mmap_profile_build(void);

#endif
