/* Between the sampler (cpu_profile.c) and those who have it sample (cpu_recording.c). Context:
 * agent threads; locks: the sampler's. */
#ifndef AGENT_CPU_CLIENT_H
#define AGENT_CPU_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu_coverage.h"
#include "cpu_profile.h"
#include "cpu_sample_table.h"

enum {
  CPU_RECORDINGS_MAX = 2,
  CPU_LOOK_NANOSECONDS = 50000000 /* between two looks */
};

struct client {
  uint32_t hz;
  bool records; /* not for one who has asked and waits */
  uint64_t period; /* the shortest of its window */
  int64_t start_wall, start, end; /* CLOCK_REALTIME, CLOCK_MONOTONIC */
  struct cpu_coverage coverage;
  struct cpu_sample_table samples;
};

/* hz and records are set, all else is zero. *reason: as for cpu_profile_collect. */
enum cpu_profile_result cpu_client_join(struct client *client, const char **reason);
void cpu_client_leave(struct client *client);
/* Takes what was sampled and looks for new threads; to be called every CPU_LOOK_NANOSECONDS. False:
 * somebody else does that; ask again in a second. */
bool cpu_client_look(void);

#endif
