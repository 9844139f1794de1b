#include "current_stacks.h"

#include "shim/stacks/stack_capture.h"
#include "agent/runtime/agent_thread.h"

void current_stacks_release(struct current_stacks *stacks) {
  blocked_stack_reader_release(stacks->reader);
  mappings_release(stacks->code);
  *stacks = (struct current_stacks){0};
}

bool current_stacks_renew(struct current_stacks *stacks) {
  enum { MAPPINGS_NANOSECONDS = 1000000000 };
  int64_t now = agent_monotonic_nanoseconds();
  if (stacks->reader && now < stacks->until) return true;
  current_stacks_release(stacks);
  stacks->code = mappings_collect();
  uintptr_t own_start, own_end;
  stack_capture_own_code(&own_start, &own_end);
  if (stacks->code) stacks->reader = blocked_stack_reader_new(stacks->code, own_start, own_end);
  stacks->until = now + MAPPINGS_NANOSECONDS;
  return stacks->reader != NULL;
}
