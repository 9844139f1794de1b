/* The live sampled allocations one by one (live_table.h), counted by bucket, and by age and thread
 * where that is asked for.
 *
 * Ages are powers of two of seconds: 0 (less than one), 1, 2, 4, ... Context: agent threads;
 * locks: none.
 */
#ifndef AGENT_LIVE_GROUPS_H
#define AGENT_LIVE_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

struct live_selection {
  /* Of the monotonic clock, ns; born_until is not included. */
  int64_t born_from, born_until;
  int64_t aged_at; /* the moment that ages are of */
  bool by_age, by_thread;
};

struct live_group {
  uint32_t bucket, count;
  int32_t age_seconds; /* at least; below 0: not told apart */
  int32_t tid; /* 0: not told apart, or not known */
};

struct live_groups {
  uint32_t count, capacity;
  struct live_group *items; /* by bucket, upwards */
  uint64_t without_labels; /* blocks that are not told apart: there were too many groups */
};

/* NULL: out of memory. */
struct live_groups *live_groups_take(const struct live_selection *selection);
void live_groups_release(struct live_groups *groups); /* NULL is fine */

/* The name of the thread that has this number now; "": none has. */
enum { LIVE_THREAD_NAME_MAX = 64 };
void live_thread_name(int32_t tid, char name[LIVE_THREAD_NAME_MAX]);

#endif
