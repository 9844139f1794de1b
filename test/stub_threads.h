/* Threads, their dump and CPU sampling without a kernel: in place of shim/ and of the agent's
 * readers of /proc, for unit tests. */
#ifndef TEST_STUB_THREADS_H
#define TEST_STUB_THREADS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/threads/thread_dump.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/cpu/sample_buffer.h"
#include "shim/threads/threadcreate_table.h"

enum { STUB_MAX_THREADS = 8 };

struct stub_threads {
  uint32_t count; /* threads 100, 101, ...; their records are 1, 2, ... */
  uint64_t cpu[STUB_MAX_THREADS],
      cpu_step; /* each look at a thread finds it to have used so much more */
  bool blocks_signal[STUB_MAX_THREADS], no_timer_left[STUB_MAX_THREADS],
      sandboxed[STUB_MAX_THREADS];
  bool arm_themselves; /* cpu_sampling_let_threads_arm_themselves */
  bool armed[STUB_MAX_THREADS]; /* by cpu_sampling_arm, since the sampler last stopped */
  unsigned armings; /* calls that armed */
  uint64_t period; /* cpu_sampling_set_period */
  unsigned periods_set;
  bool handler_installed;
  bool counters_open; /* cpu_counters_saw, not closed since */
  const char *refusal; /* of cpu_sampling_prepare */
  uint64_t created, ended; /* threadcreate_totals */
  uint32_t created_stack_count;
  struct threadcreate_view created_stacks[STUB_MAX_THREADS];
  unsigned dumps_taken, dumps_open;
  bool dump_fails;
};

extern struct stub_threads stub_threads;

/* What the handler on a host thread does; false: the buffer is full. */
bool stub_threads_sample(int32_t tid, const char *name, uint32_t ticks, const uint64_t *frames,
                         uint32_t frame_count);

#endif
