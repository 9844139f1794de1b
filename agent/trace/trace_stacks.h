/* Names for the stacks that were gathered, by the profiles' means (profile_builder.h), so that they
 * read as a profile's do. Context: agent threads; locks: the symbolizer's. */
#ifndef AGENT_TRACE_STACKS_H
#define AGENT_TRACE_STACKS_H

#include <stdbool.h>

#include "agent/profiles/profile.h"
#include "trace_gather.h"

struct trace_stacks {
  struct profile *profile; /* which has the names */
  struct trace_stack *items;
  struct trace_frame *frames;
};

/* False: no memory, or nobody waits for them any more. Release it all the same. */
bool trace_stacks_name(const struct trace_gather *gather, struct trace_stacks *out);
void trace_stacks_release(struct trace_stacks *stacks);

#endif
