/* A CPU profile of a window that nobody waits for: from its start to its stop. Context: agent
 * threads, one at a time; locks: the sampler's (cpu_profile.h). */
#ifndef AGENT_CPU_RECORDING_H
#define AGENT_CPU_RECORDING_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/profiles/profile.h"

struct cpu_recording;

/* NULL: *reason says why there can be none. Two at once at most. */
struct cpu_recording *cpu_recording_start(uint32_t hz, const char **reason);
void cpu_recording_stop(struct cpu_recording *recording);
/* After the stop, any number of times. NULL when out of memory. */
struct profile *cpu_recording_build(const struct cpu_recording *recording);
void cpu_recording_release(struct cpu_recording *recording); /* after the stop; NULL is fine */

/* While one runs: takes what was sampled. Nanoseconds to the next time. */
int64_t cpu_recording_look(void);

#endif
