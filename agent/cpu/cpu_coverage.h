/* What a CPU profile lacks: the CPU time that the host used in a window is compared with what was
 * sampled, and every known loss is told in the profile's comments. Context: agent threads; locks:
 * the caller's.
 */
#ifndef AGENT_CPU_COVERAGE_H
#define AGENT_CPU_COVERAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu_sample_table.h"
#include "agent/profiles/profile.h"

struct cpu_coverage {
  uint64_t host_nanoseconds; /* CPU time of the host's threads: at the start, then
                                (cpu_coverage_end) in the window */
  uint64_t dropped; /* samples that found the buffer full */
  uint32_t signal_blocked,
      without_timer; /* threads that could not be armed; the most at one time */
};

/* CPU time that the host's threads have used since the process began. */
uint64_t cpu_coverage_host_nanoseconds(void);
void cpu_coverage_start(struct cpu_coverage *coverage);
void cpu_coverage_threads(struct cpu_coverage *coverage, uint32_t signal_blocked,
                          uint32_t without_timer);
void cpu_coverage_end(struct cpu_coverage *coverage);

/* Adds the comments. False: out of memory. */
bool cpu_coverage_describe(const struct cpu_coverage *coverage,
                           const struct cpu_sample_table *samples, uint64_t period,
                           struct profile *profile);

#endif
