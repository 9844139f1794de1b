/* A thread with everything that its children inherit and agent threads must not: real-time policy,
 * one processor, a negative nice value, short timer slack, real-time I/O, traps. It
 * forks, so that the child's agent is made by such a thread. */
#define _GNU_SOURCE
#include <fenv.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "workload.h"

static int become_unordinary(void) {
  cpu_set_t last;
  CPU_ZERO(&last);
  CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &last);
  struct sched_param parameters = {.sched_priority = 10};
  feenableexcept(FE_ALL_EXCEPT);
  return setpriority(PRIO_PROCESS, 0, -7) || sched_setaffinity(0, sizeof last, &last) ||
         prctl(PR_SET_TIMERSLACK, 1) ||
         syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 1)) ||
         sched_setscheduler(0, SCHED_RR, &parameters);
}

int main(void) {
  for (int i = 0; i < 1000; i++) free(keep(malloc(1000)));
  ready();
  if (become_unordinary()) {
    say("refused\n");
    return ready();
  }
  pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  say("child %d\n", child);
  ready();
  kill(child, SIGKILL);
  return waitpid(child, NULL, 0) == child ? 0 : 1;
}
