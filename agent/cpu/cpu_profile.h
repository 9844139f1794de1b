/* CPU profiles: clients share one sampler, each has a window of its own. Context: HTTP workers;
 * locks: its own. */
#ifndef AGENT_CPU_PROFILE_H
#define AGENT_CPU_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/http/http_server.h"
#include "agent/profiles/profile.h"
#include "shim/cpu/sample_buffer.h"

enum {
  CPU_PROFILE_MAX_CLIENTS = 4,
  CPU_PROFILE_MAX_SECONDS = 3600,
  CPU_PROFILE_DEFAULT_SECONDS = 30
};

enum cpu_profile_result {
  CPU_PROFILE_DONE,
  CPU_PROFILE_CANCELED, /* the client went away */
  CPU_PROFILE_TOO_MANY, /* CPU_PROFILE_MAX_CLIENTS are running */
  CPU_PROFILE_REFUSED, /* *reason says why there can be none */
  CPU_PROFILE_NO_MEMORY
};

/* Samples for `seconds`, at hz or faster when another client asks for more, and returns the profile
 * in *out. */
enum cpu_profile_result cpu_profile_collect(struct http_response *response, int64_t seconds,
                                            uint32_t hz, struct profile **out, const char **reason);

/* For traces: each sample as it comes, from the same sampler, at hz or faster; hz 0: none any more.
 * may_signal: where the kernel gives no rings a signal may be sent to the program's threads at each
 * tick. One watcher. NULL, or why there are none. The sink runs under the lock, in any of the
 * agent's threads: it must not call this file. */
typedef void cpu_watch_sink(const struct stack_sample *sample);
const char *cpu_profile_watch(uint32_t hz, bool may_signal, cpu_watch_sink *sink);
/* What is sampled by now goes to the sink before it returns; to be called each 50 ms. */
void cpu_profile_watch_read(void);

/* For the index page: why the last CPU profile was refused; NULL when it was not, or when nobody
 * has asked (nothing is tried then). */
const char *cpu_profile_off_reason(void);
/* Where samples came from the last time: "perf" (ring_sampling.h) or "timer" (cpu_sampling.h),
 * NULL: nobody has asked; and why it was not perf, where that was wanted. */
const char *cpu_profile_source(void);
const char *cpu_profile_perf_off_reason(void);
uint32_t cpu_profile_running(void);
uint64_t cpu_profile_buffer_bytes(void); /* 0 while none is running */

#endif
