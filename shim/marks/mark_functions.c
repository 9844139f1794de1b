/* The program's own marks, for traces: include/pprof_trace.h says what they are. While nobody
 * records, each costs a look at a word. Context: any host thread, signal handlers. */
#include <errno.h>

#include "shim/base/confinement.h"
#include "shim/base/thread_state.h"
#include "shim/base/trace_ring.h"
#include "shim/next/interposed.h"
#include "shim/stacks/captured_stack.h"
#include "shim/stacks/handler_stack.h"

struct marking_stack {
  const struct unwind_registers *caller;
  uint32_t id; /* stack_table.h; 0: it could not be kept */
};

static void keep_stack(void *argument) {
  struct marking_stack *marking = argument;
  CAPTURED_STACK(stack);
  stack_capture(marking->caller, stack);
  marking->id = captured_stack_intern(stack);
}

static void write_mark(enum trace_ring_kind kind, const char *name,
                       const struct unwind_registers *caller) {
  if (thread_state.agent || confinement_forbids_calls()) return;
  int saved_errno = errno;
  struct trace_ring_event event;
  struct marking_stack marking = {caller, 0};
  event.kind = (uint8_t)kind;
  event.begin = event.object = 0;
  event.wakes = 0;
  event.was_released = false;
  event.at = trace_ring_now();
  if (kind != TRACE_RING_MARK_END) {
    trace_ring_take_name(&event, name);
    handler_stack_call(keep_stack, &marking);
  }
  event.stack = marking.id;
  trace_ring_write(&event);
  errno = saved_errno;
}

/* Reached by tail calls, so that their own return address is the program's. */
#define DEFINE_MARK(function, kind, parameters, name)                 \
  static __attribute__((noinline)) void write_##function parameters { \
    struct unwind_registers caller = CALLER_REGISTERS();              \
    write_mark(kind, name, &caller);                                  \
  }                                                                   \
  EXPORTED void function parameters

DEFINE_MARK(pprof_trace_mark, TRACE_RING_MARK, (const char *name), name) {
  if (UNLIKELY(trace_ring_is_armed())) write_pprof_trace_mark(name);
}

DEFINE_MARK(pprof_trace_begin, TRACE_RING_MARK_BEGIN, (const char *name), name) {
  if (UNLIKELY(trace_ring_is_armed())) write_pprof_trace_begin(name);
}

DEFINE_MARK(pprof_trace_end, TRACE_RING_MARK_END, (void), NULL) {
  if (UNLIKELY(trace_ring_is_armed())) write_pprof_trace_end();
}
