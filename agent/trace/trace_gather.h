/* What one client's recording has found so far, as it came: the same text and the same stack are
 * kept once. trace_timeline.h makes a log of it.
 * Context: agent threads; locks: the owner's; agent memory. */
#ifndef AGENT_TRACE_GATHER_H
#define AGENT_TRACE_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/runtime/index_table.h"
#include "trace_log.h"

/* A stack as blocked_stack.h and stack_table.h give it. */
struct trace_taken_stack {
  uint32_t frame_count, epoch; /* 0 frames: none */
  const uint64_t *frames;
};

struct trace_growing { /* an array that doubles */
  void *items;
  uint32_t count, capacity;
};

/* As the program's threads told them (trace_ring.h); stacks: indexes + 1. */
struct trace_wait {
  int64_t begin, end;
  uint64_t object;
  int32_t tid;
  uint32_t stack;
  bool was_released; /* by a release that was told as well */
};

struct trace_release {
  int64_t at;
  uint64_t object;
  int32_t tid;
  uint32_t stack;
  uint8_t wakes; /* enum release_wakes */
};

struct trace_gather {
  struct trace_growing events; /* struct trace_event, each thread's in order of time */
  struct trace_growing waits, releases; /* struct trace_wait, trace_release */
  struct trace_growing texts; /* char * */
  struct trace_growing stacks; /* struct trace_taken_stack */
  struct index_table text_index, stack_index;
  size_t bytes, bytes_max;
  uint64_t left_out; /* events that there was no room for, or no memory */
  int64_t full_at; /* 0, or when the first of them happened */
};

void trace_gather_start(struct trace_gather *gather, size_t bytes_max);
/* Copies all; event->stack is not looked at. */
void trace_gather_event(struct trace_gather *gather, const struct trace_event *event,
                        const struct trace_taken_stack *stack);
void trace_gather_wait(struct trace_gather *gather, const struct trace_wait *wait,
                       const struct trace_taken_stack *stack);
void trace_gather_lock_release(struct trace_gather *gather, const struct trace_release *release,
                               const struct trace_taken_stack *stack);
/* All of another one's, into one that is empty. False: no memory. */
bool trace_gather_copy(struct trace_gather *gather, const struct trace_gather *from);
void trace_gather_free(struct trace_gather *gather);

/* A zeroed item at the end; NULL: no memory. */
void *trace_growing_add(struct trace_growing *array, size_t item_size);

#endif
