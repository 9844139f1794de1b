#include "cpu_coverage.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shim/cpu/cpu_sampling.h"
#include "agent/runtime/agent_thread.h"

enum {
  TOLD_PERCENT = 5 /* of the CPU time missing, and more than chance explains */
};

uint64_t cpu_coverage_host_nanoseconds(void) {
  uint64_t agent = agent_thread_cpu_nanoseconds(); /* first: what it uses meanwhile must not count
                                                      as the host's */
  struct timespec now = {0};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  uint64_t all = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
  return all > agent ? all - agent : 0;
}

void cpu_coverage_start(struct cpu_coverage *coverage) {
  *coverage = (struct cpu_coverage){.host_nanoseconds = cpu_coverage_host_nanoseconds()};
}

void cpu_coverage_threads(struct cpu_coverage *coverage, uint32_t signal_blocked,
                          uint32_t without_timer) {
  if (signal_blocked > coverage->signal_blocked) coverage->signal_blocked = signal_blocked;
  if (without_timer > coverage->without_timer) coverage->without_timer = without_timer;
}

void cpu_coverage_end(struct cpu_coverage *coverage) {
  uint64_t now = cpu_coverage_host_nanoseconds(), start = coverage->host_nanoseconds;
  coverage->host_nanoseconds = now > start ? now - start : 0;
}

/* Sampled time is a sum of n periods whose number has a standard error of at most sqrt(n): so in
 * time sqrt(period * time). */
static bool lacks_much(double all, double missing, double period) {
  return missing * 100 > all * TOLD_PERCENT && missing * missing > 9 * period * (all + 4 * period);
}

bool cpu_coverage_describe(const struct cpu_coverage *coverage,
                           const struct cpu_sample_table *samples, uint64_t period,
                           struct profile *profile) {
  const char *signal_name = sigabbrev_np(cpu_sampling_signal());
  bool ok = true;
  if (coverage->signal_blocked)
    ok = profile_add_comment(profile,
                             "threads left out, for all or part of the time: %" PRIu32
                             ", which block the signal that sampling uses (%s%s)",
                             coverage->signal_blocked, signal_name ? "SIG" : "",
                             signal_name ? signal_name : "a real-time signal");
  if (ok && coverage->without_timer)
    ok = profile_add_comment(profile,
                             "threads left out, for all or part of the time: %" PRIu32
                             ", for which the kernel had no timer "
                             "or ring (RLIMIT_SIGPENDING, RLIMIT_NOFILE, a sandbox)",
                             coverage->without_timer);
  if (ok && coverage->dropped)
    ok = profile_add_comment(profile, "samples dropped: %" PRIu64 ", the buffer was full",
                             coverage->dropped);
  if (ok && samples->lost)
    ok = profile_add_comment(
        profile, "samples dropped: %" PRIu64 ", there was no memory for more distinct stacks",
        samples->lost);
  uint64_t all = coverage->host_nanoseconds, sampled = samples->nanoseconds;
  if (ok && sampled < all && lacks_much((double)all, (double)(all - sampled), (double)period)) {
    uint64_t milliseconds = all / 1000000, missing = (all - sampled) / 1000000;
    ok = profile_add_comment(profile,
                             "CPU time not sampled: %" PRIu64 ".%03" PRIu64
                             " s of the program's %" PRIu64 ".%03" PRIu64 " s (%" PRIu64 " %%)%s",
                             missing / 1000, missing % 1000, milliseconds / 1000,
                             milliseconds % 1000, missing * 100 / milliseconds,
                             profile->comment_count ? ", for the reasons above" : "");
  }
  return ok;
}
