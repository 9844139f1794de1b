/* All that the shim keeps per thread: initial-exec TLS, zero at thread start, a few words (test: PT_TLS <= 128 bytes).
 * Written and read by its own thread only (its signal handlers included). */
#ifndef SHIM_THREAD_STATE_H
#define SHIM_THREAD_STATE_H

#include <stdint.h>

struct thread_state {
  uint64_t bytes_until_sample; /* the allocation that uses these up is sampled; 0: the thread has not started, or rate is 1 */
  uint64_t random;             /* state of the generator; 0: the thread has not started */
  uintptr_t stack_low, stack_high; /* range of this thread's stack known to be mapped; 0, 0: not yet looked at */
};

extern _Thread_local struct thread_state thread_state __attribute__((tls_model("initial-exec")));

#endif
