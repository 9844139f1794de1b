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

#include "live_groups.h"
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

/* What becomes of the live blocks that were told apart (live_groups.h). */
enum heap_live_use {
  HEAP_LIVE_ONLY, /* alloc_* and inuse_* are of these blocks alone */
  HEAP_LIVE_AND_FREED, /* alloc_* are of what was freed since, too */
  HEAP_LIVE_LEFT_OUT /* alloc_* are of what was allocated and is not among them, inuse_* 0 */
};

struct heap_selection {
  /* NULL, or an earlier snapshot to subtract (negative values are kept) */
  const struct heap_snapshot *before;
  /* NULL: all of `now`. Taken before `now`, but where it is left out: behind it */
  const struct live_groups *live;
  enum heap_live_use use;
  bool labels; /* the live blocks have those of their groups: age, tid, thread_name */
};

/* name: "heap", "allocs", or "peak", whose inuse_* are of the highest moment. NULL when out of
 * memory. */
struct profile *heap_profile_build(const char *name, const struct heap_snapshot *now,
                                   const struct heap_selection *selection,
                                   enum heap_profile_form form);
/* The clock of the snapshot's moment (agent_monotonic_nanoseconds). */
int64_t heap_snapshot_moment(const struct heap_snapshot *snapshot);

/* Estimates of everything allocated so far, for the index page. */
void heap_totals_read(struct heap_totals *out);

#endif
