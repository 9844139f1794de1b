/* The heap and allocs profiles, from the buckets of heap_table.h.
 *
 * Each bucket's counts of sampled allocations are multiplied by sampling_scale(size, rate) of that
 * bucket, in double, and rounded once at the end. Values: alloc_objects, alloc_space,
 * inuse_objects, inuse_space. Context: agent threads; locks: none.
 */
#ifndef AGENT_HEAP_PROFILE_H
#define AGENT_HEAP_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "memstats.h"
#include "profile.h"

struct heap_snapshot;

/* All buckets as they are now; NULL when out of memory. */
struct heap_snapshot *heap_snapshot_take(void);
void heap_snapshot_release(struct heap_snapshot *snapshot); /* NULL is fine */

enum heap_profile_form {
  HEAP_PROFILE_SCALED, /* estimates of all allocations: the proto form */
  HEAP_PROFILE_AS_SAMPLED /* counts of sampled allocations with period = rate, for the text form:
                             its readers scale. When buckets carry different rates no single period
                             is right, so the values are scaled and period is 1. */
};

/* name: "heap", "allocs", or "peak", whose inuse_* are of the highest moment. before: NULL, or an
 * earlier snapshot to subtract (negative values are kept). NULL when out of memory. */
struct profile *heap_profile_build(const char *name, const struct heap_snapshot *before,
                                   const struct heap_snapshot *now, enum heap_profile_form form);

/* Estimates of everything allocated so far, for the index page. */
void heap_totals_read(struct heap_totals *out);

#endif
