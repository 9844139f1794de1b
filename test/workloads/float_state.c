/* The program's floating point: "flags" shows which exceptions its allocations, locks, threads and
 * forks have raised (none), "traps" ends by SIGFPE at the first, "rounding" shows the mode. */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <sys/wait.h>

#include "workload.h"

enum { ROUNDS = 20000, WAITS = 50 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t begin;

static void *hold(void *argument) {
  for (int i = 0; i < WAITS; i++) {
    pthread_mutex_lock(&mutex);
    pthread_barrier_wait(&begin);
    usleep(500);
    pthread_mutex_unlock(&mutex);
    pthread_barrier_wait(&begin);
  }
  return argument;
}

static void wait_for_locks(void) {
  pthread_t holder;
  pthread_barrier_init(&begin, NULL, 2);
  CHECK(pthread_create(&holder, NULL, hold, NULL) == 0);
  for (int i = 0; i < WAITS; i++) {
    pthread_barrier_wait(&begin);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    pthread_barrier_wait(&begin);
  }
  CHECK(pthread_join(holder, NULL) == 0);
}

static void fork_and_wait(void) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < ROUNDS; i++) free(keep(malloc(100)));
    _exit(0);
  }
  CHECK(waitpid(child, &status, 0) == child);
  say("child's status %d\n", status);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  if (!strcmp(arguments[1], "rounding")) fesetround(FE_UPWARD);
  feclearexcept(FE_ALL_EXCEPT);
  if (!strcmp(arguments[1], "traps")) feenableexcept(FE_ALL_EXCEPT);
  for (int i = 0; i < ROUNDS; i++) free(keep(malloc(100)));
  wait_for_locks();
  fork_and_wait();
  say("flags %x, %s\n", fetestexcept(FE_ALL_EXCEPT),
      fegetround() == FE_UPWARD ? "upward" : "to the nearest");
  return 0;
}
