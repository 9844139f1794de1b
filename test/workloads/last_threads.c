/* Gives up root, and then all further threads by RLIMIT_NPROC, once its agent is there. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "workload.h"

static volatile int going = 1;

static void *nothing(void *argument) { return argument; }

FRAME static void burns_alone(void) {
  while (going)
    for (volatile int i = 0; i < 100000; i++) {}
}

static void *burn(void *argument) {
  burns_alone();
  return argument;
}

FRAME static void *keeps_a_block(void) { return keep(malloc(30001)); }

int main(void) {
  pthread_t burner, refused;
  const struct rlimit one = {1, 1};
  CHECK(pthread_create(&burner, NULL, burn, NULL) == 0);
  void *block = keeps_a_block();
  if (!ready()) return 1;
  /* it stays dumpable, so that it may read its own threads */
  CHECK(setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) == 0 &&
        prctl(PR_SET_DUMPABLE, 1) == 0);
  CHECK(setrlimit(RLIMIT_NPROC, &one) == 0);
  CHECK(pthread_create(&refused, NULL, nothing, NULL) == EAGAIN);
  if (ready()) {
    unshare(
        CLONE_NEWUSER); /* refused, since there are two threads; the agent's must not be a third */
    say("threads %d\n", threads_of_kernel());
    wait_for_line();
  }
  going = 0;
  CHECK(pthread_join(burner, NULL) == 0);
  free(block);
  return 0;
}
