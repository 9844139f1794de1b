/* Something for every profile: a thread that computes and allocates, two that fight for a mutex,
 * one that sleeps, one that was born blocked, and a child by fork. Ends when its stdin does; 0:
 * nothing was seen to fail. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

static atomic_bool ends;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static FRAME void *compute(void *argument) {
  (void)argument;
  void *volatile kept[64] = {NULL};
  for (unsigned i = 0; !atomic_load(&ends); i++) {
    free(kept[i % 64]);
    kept[i % 64] = malloc(64 + i % 4096);
    if (!kept[i % 64]) _exit(1);
    memset(kept[i % 64], 1, 64);
    for (volatile int n = 0; n < 2000; n++) {}
  }
  for (int i = 0; i < 64; i++) free(kept[i]);
  return NULL;
}

static FRAME void *fight(void *argument) {
  (void)argument;
  while (!atomic_load(&ends)) {
    struct timespec pause = {.tv_nsec = 1000 * 1000};
    pthread_mutex_lock(&mutex);
    nanosleep(&pause, NULL);
    pthread_mutex_unlock(&mutex);
  }
  return NULL;
}

static FRAME void *doze(void *argument) {
  (void)argument;
  while (!atomic_load(&ends)) usleep(10 * 1000);
  return NULL;
}

static pid_t fork_sleeper(const int *until) {
  pid_t child = fork();
  if (child != 0) return child;
  char c;
  close(until[1]);
  while (read(until[0], &c, 1) == 1) {}
  _exit(7);
}

int main(void) {
  pthread_t threads[5];
  void *(*const starts[5])(void *) = {compute, fight, fight, doze, compute};
  int until[2], status;
  if (pipe(until) != 0) return 2;
  for (int i = 0; i < 5; i++) {
    sigset_t all, before;
    sigfillset(&all);
    if (i == 3) pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&threads[i], NULL, starts[i], NULL) != 0) return 3;
    if (i == 3) pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  pid_t child = ready() ? fork_sleeper(until) : -1; /* after the line, when the agent listens */
  say("child %d\n", (int)child);
  while (ready()) {}
  atomic_store(&ends, true);
  for (int i = 0; i < 5; i++)
    if (pthread_join(threads[i], NULL) != 0) return 4;
  close(until[1]);
  if (child < 0) return 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0
                                                                                              : 5;
}
