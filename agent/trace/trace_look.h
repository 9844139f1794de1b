/* A thread looked at from outside, as the thread dump does: whether it waits, for what and where.
 * Nothing happens in the thread. Context: agent threads; locks: the dump's, during a look. */
#ifndef AGENT_TRACE_LOOK_H
#define AGENT_TRACE_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/threads/current_stacks.h"
#include "agent/threads/wait_reason.h"
#include "shim/base/stack_depth.h"
#include "trace_log.h"

enum { TRACE_LOOK_TEXT_MAX = WAIT_TEXT_MAX + 32 };

struct trace_look {
  bool is_blocked, has_ended; /* neither: it runs, or waits for a CPU */
  enum trace_reason reason;
  char text[TRACE_LOOK_TEXT_MAX];
  uint32_t frame_count, epoch; /* 0: not known */
  uint64_t frames[STACK_MOST_FRAMES + 1];
};

/* Only whether it is blocked. */
bool trace_look_is_blocked(int32_t tid);
/* All of it; what belongs together: the thread has not run meanwhile. */
void trace_look_at(struct current_stacks *stacks, int32_t tid, struct trace_look *out);

#endif
