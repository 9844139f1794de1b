/* All that the shim keeps per thread: initial-exec TLS, zero at thread start, a few words (test:
 * PT_TLS <= 128 bytes). Written and read by its own thread only (its signal handlers included). */
#ifndef SHIM_THREAD_STATE_H
#define SHIM_THREAD_STATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct thread_state {
  /* the allocation that needs more is sampled, or ends a step; 0 too when the thread has not
   * started, and where the rate is 1 */
  uint64_t bytes_until_sample;
  uint64_t random; /* state of the generator; 0: not yet needed */
  uint32_t bytes_beyond; /* the next sample point is so much further: only a step ends there */
  uint8_t rate; /* number (heap_rate.h) of the rate at which it was drawn */
  bool is_cut; /* it is further than that: to be drawn anew there */
  /* this thread works for the agent: with bytes_until_sample 0 its allocations take the slow path,
   * see startup.h */
  bool agent;
  uint8_t forks; /* calls of fork that this thread is in: atfork handlers may fork */
  uintptr_t guard_sp; /* not 0: the allocator is being called or a sample recorded, by a frame there
                         (heap_sampling.h) */
  uintptr_t stack_low,
      stack_high; /* range of this thread's stack known to be mapped; 0, 0: not yet looked at */
  uintptr_t stack_floor; /* this thread's stack reaches down to there at least; 0: not known
                            (stack_capture.h) */
  uintptr_t
      stack_end; /* what lies below there is no part of this thread's stack: it cannot be read;
                    0: not met yet. A program's own stacks (-fsplit-stack) may lie there */
  uint64_t lock_random; /* state of the generator that chooses waits; 0: not yet seeded */
  struct lock_waiter *waiting; /* the innermost wait of this thread that is in the table of waiters
                                  (lock_waiters.h), or NULL */
  uint64_t waiting_life; /* of that place */
  uintptr_t alternate_low, alternate_size; /* this thread's alternate signal stack; 0, 0: none */
  /* this thread's (thread_registry.h), if it was created by pthread_create or thrd_create */
  uint32_t record;
  /* the process of which this is the first thread, if its agent is to be started late
   * (agent_hooks.h); negative: that of which the agent has left, and is to come back */
  int32_t start_pid;
  int64_t start_due_ns; /* not before then (monotonic clock); 0: it is not */
};

extern _Thread_local struct thread_state thread_state __attribute__((tls_model("initial-exec")));

/* The thread is about to end by syscall(SYS_exit). Context: that thread. */
void thread_ends_by_system_call(void);

/* From here until left again, what libc allocates on this thread comes from the startup arena and
 * is not profiled. Agent threads enter for good; a host thread around the creation of an agent
 * thread. */
struct agent_section {
  uint64_t bytes_until_sample;
  bool agent;
};
static inline struct agent_section thread_enter_agent(void) {
  struct agent_section saved = {thread_state.bytes_until_sample, thread_state.agent};
  thread_state.bytes_until_sample = 0;
  thread_state.agent = true;
  return saved;
}
static inline void thread_leave_agent(struct agent_section saved) {
  thread_state.agent = saved.agent;
  thread_state.bytes_until_sample = saved.bytes_until_sample;
}

#endif
