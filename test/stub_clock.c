#include "stub_clock.h"

#include <time.h>

#include "agent/runtime/agent_thread.h"

int64_t stub_clock_ahead;

int64_t agent_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec + stub_clock_ahead;
}
