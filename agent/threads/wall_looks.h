/* All threads of the host, running or not, looked at again and again: how often each was where.
 * One that waits is read from outside as the dump does (blocked_stack.h); one that has used no CPU
 * time since the last look costs one reading of its clock and no walk; one that runs is asked
 * (running_threads.h). Context: agent threads; locks: the dump's during a look (one owner of the
 * looks).
 */
#ifndef AGENT_WALL_LOOKS_H
#define AGENT_WALL_LOOKS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/profiles/profile_builder.h"

struct wall_looks;

struct wall_options {
  bool off; /* running threads are left out */
  bool no_idle; /* and those that were found waiting at one place, at all instants */
};

struct wall_looks *wall_looks_new(struct wall_options options); /* NULL: out of memory */
void wall_looks_release(struct wall_looks *looks); /* NULL is fine */

/* One instant. Waits for answers of running threads for that long at most. False: no memory. */
bool wall_looks_take(struct wall_looks *looks, int64_t patience);

struct wall_totals {
  uint64_t instants, unmoved, walks; /* unmoved: their clocks alone were read */
  uint64_t running;
  uint64_t unread; /* running ones that did not answer in time */
  uint64_t lost; /* findings for which there was no memory */
};
struct wall_totals wall_looks_totals(const struct wall_looks *looks);

/* Adds all that was found; interval: nanoseconds that each finding stands for. False: no memory. */
bool wall_looks_build(struct wall_looks *looks, struct profile_builder *builder, double interval);

#endif
