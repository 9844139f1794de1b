#include "thread_manners.h"

#include <linux/ioprio.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "shim/base/raw_syscall.h"

static long ask(long number, long a, long b, long c) { return raw_syscall4(number, a, b, c, 0); }

/* linux/sched/types.h, which newer libcs' sched.h does not go with; its first version. */
struct scheduling {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

static void schedule_ordinarily(void) {
  long policy = ask(SYS_sched_getscheduler, 0, 0, 0);
  long priority = ask(SYS_getpriority, PRIO_PROCESS, 0, 0); /* 20 less the nice value */
  if (policy < 0 || priority < 0) return;
  policy &= ~(long)SCHED_RESET_ON_FORK;
  bool real_time = policy == SCHED_FIFO || policy == SCHED_RR || policy == SCHED_DEADLINE;
  int32_t nice = (int32_t)(20 - priority);
  if (!real_time && nice >= 0) return;
  struct scheduling wanted = {.size = sizeof wanted,
                              .policy = real_time ? SCHED_NORMAL : (uint32_t)policy,
                              .nice = nice > 0 ? nice : 0};
  ask(SYS_sched_setattr, 0, (long)&wanted, 0);
}

/* Not simply all processors: what the first process has leaves out those that the system was booted
 * to keep free (isolcpus=). The kernel leaves out what the cpuset does not allow. */
static void run_on_the_systems_processors(void) {
  enum { FIRST_PROCESS = 1, PROCESSORS_MAX = 8192 };
  unsigned long own[PROCESSORS_MAX / 64], wanted[PROCESSORS_MAX / 64];
  long size = ask(SYS_sched_getaffinity, 0, sizeof own, (long)own);
  if (size <= 0) return;
  bool is_first = ask(SYS_getpid, 0, 0, 0) == FIRST_PROCESS;
  if (!is_first && ask(SYS_sched_getaffinity, FIRST_PROCESS, sizeof wanted, (long)wanted) == size) {
    if (memcmp(own, wanted, (size_t)size) == 0) return;
    if (ask(SYS_sched_setaffinity, 0, size, (long)wanted) == 0) return;
  }
  memset(wanted, ~0, (size_t)size);
  ask(SYS_sched_setaffinity, 0, size, (long)wanted);
}

static void wait_as_others_do(void) {
  enum { TIMER_SLACK_NS = 50000, ASKED_PER_THREAD = IOPRIO_WHO_PROCESS, LEVELS = 8 };
  if (ask(SYS_prctl, PR_GET_TIMERSLACK, 0, 0) != TIMER_SLACK_NS)
    ask(SYS_prctl, PR_SET_TIMERSLACK, TIMER_SLACK_NS, 0);
  long io = ask(SYS_ioprio_get, ASKED_PER_THREAD, 0, 0);
  if (io < 0) return;
  long class = IOPRIO_PRIO_CLASS(io), level = io & (LEVELS - 1);
  if (class == IOPRIO_CLASS_RT || (class == IOPRIO_CLASS_BE && level < IOPRIO_BE_NORM))
    ask(SYS_ioprio_set, ASKED_PER_THREAD, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0));
}

/* No traps, to the nearest, as the ABI has it when a process starts. */
static void compute_as_others_do(void) {
#if defined(__x86_64__)
  const uint32_t control = 0x1f80;
  __asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(control));
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, xzr");
#else
#error "compute_as_others_do is not written for this architecture yet"
#endif
}

void thread_manners_take(bool may_schedule) {
  compute_as_others_do();
  if (!may_schedule) return;
  schedule_ordinarily(); /* first: until then it may be a real-time thread */
  run_on_the_systems_processors();
  wait_as_others_do();
}
