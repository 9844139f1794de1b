/* Busy threads' ticks from perf counters instead of posix timers: precise to microseconds instead
 * of a scheduler tick (shim/cpu/cpu_sampling.h). Only where the kernel lets this process count
 * kernel time too (root, CAP_PERFMON, perf_event_paranoid <= 1), and where a signal that comes late
 * does no harm. The descriptors are in the agent's private table. Context: agent threads; locks:
 * none, the caller's (cpu_profile.c).
 */
#ifndef AGENT_CPU_COUNTERS_H
#define AGENT_CPU_COUNTERS_H

#include <stdint.h>

/* After each sample of a timer's: gives the thread a counter once it has shown to be busy. period:
 * nanoseconds. */
void cpu_counters_saw(uint32_t record, int32_t tid, uint64_t period);

/* Closes those of threads that have ended. */
void cpu_counters_sweep(void);

/* Closes all: before another period, and at the end. */
void cpu_counters_close(void);

/* How many are open, for the health page; and why there are none: NULL while they can be had. */
uint32_t cpu_counters_open_count(void);
const char *cpu_counters_off_reason(void);

#endif
