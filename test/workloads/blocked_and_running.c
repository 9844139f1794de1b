/* Threads that run: `spins`, `masked` (blocks every signal), and `moves`, which blocks for a moment
 * again and again. Prints `thread NAME TID`. With the argument `alone` the first thread ends by
 * pthread_exit; with `changed` the process gives up being root. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "workload.h"

static volatile unsigned counter;
static sem_t announced;

static FRAME void spin(void) {
  for (;;) counter++;
}
static FRAME void move(void) {
  for (;;) {
    struct timespec time = {.tv_nsec = 100000};
    nanosleep(&time, NULL);
    for (int i = 0; i < 20000; i++) counter++;
  }
}
static FRAME void announce(const char *name) {
  prctl(PR_SET_NAME, name);
  say("thread %s %d\n", name, (int)syscall(SYS_gettid));
  sem_post(&announced);
}
static FRAME void *start_spins(void *nothing) {
  announce("spins");
  spin();
  return nothing;
}
static FRAME void *start_masked(void *nothing) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  announce("masked");
  spin();
  return nothing;
}
static FRAME void *start_moves(void *nothing) {
  announce("moves");
  move();
  return nothing;
}
static FRAME void *start_reads(void *nothing) {
  announce("reads");
  ready();
  _exit(0);
  return nothing;
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "changed") == 0) {
    ready(); /* the agent's log is open by then */
    CHECK(setuid(65534) == 0);
  }
  pthread_t threads[4];
  CHECK(pthread_create(&threads[0], NULL, start_spins, NULL) == 0);
  CHECK(pthread_create(&threads[1], NULL, start_masked, NULL) == 0);
  CHECK(pthread_create(&threads[2], NULL, start_moves, NULL) == 0);
  for (int i = 0; i < 3; i++) sem_wait(&announced); /* the lines are out before `ready` */
  CHECK(pthread_create(&threads[3], NULL, start_reads, NULL) == 0);
  if (argc > 1 && strcmp(argv[1], "alone") == 0) pthread_exit(NULL);
  pthread_join(threads[3], NULL);
}
