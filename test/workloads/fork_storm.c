/* fork_storm COUNT: forks COUNT times while other threads allocate, lock, contend and create
 * threads without pause, from several threads and in all ways; each child does the same for a
 * moment. Prints what must be so. With `stay` as second argument: after that, so many children are
 * made in the storm that each stays, works and waits; the test looks at them. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

enum { ALLOCATORS = 2, LOCKERS = 2, FORKERS = 2 };

static _Atomic int stop;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, forker_mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t semaphore;
static long locked;

static void *allocate(void *argument) {
  unsigned seed = (unsigned)(intptr_t)argument + 1;
  void *kept[64] = {0};
  while (!stop) {
    seed = seed * 1103515245u + 12345u;
    free(kept[seed >> 26]);
    kept[seed >> 26] = keep(malloc((seed >> 8) % 5000));
  }
  for (int i = 0; i < 64; i++) free(kept[i]);
  return NULL;
}

static void *lock(void *argument) {
  while (!stop) {
    pthread_mutex_lock(&mutex);
    locked++;
    pthread_mutex_unlock(&mutex);
    sem_wait(&semaphore);
    sem_post(&semaphore);
  }
  return argument;
}

static void *nothing(void *argument) { return free(keep(malloc(100))), argument; }

static void *create(void *argument) {
  pthread_t thread;
  while (!stop)
    CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
  return argument;
}

static void *count_up(void *counter) {
  for (int i = 0; i < 100; i++) {
    pthread_mutex_lock(&forker_mutex);
    ++*(int *)counter;
    pthread_mutex_unlock(&forker_mutex);
  }
  return counter;
}

FRAME static void works_in_child(void) {
  for (int i = 1; i < 200; i++) free(keep(calloc(1, (size_t)i * 37)));
  keep(malloc(12345));
}

/* A child that its parent could not afford to start an agent in starts it when it allocates. */
static void allocates_on(void) {
  for (int i = 0; i < 100; i++) free(keep(malloc(20000)));
}

/* Threads, locks and allocations of the child's own; 0: all is well. */
static int live_in_child(int many_threads) {
  pthread_t threads[2];
  int counter = 0;
  works_in_child();
  pthread_mutex_init(&forker_mutex, NULL);
  for (int i = 0; i < (many_threads ? 2 : 0); i++)
    if (pthread_create(&threads[i], NULL, count_up, &counter) != 0) return 1;
  for (int i = 0; i < (many_threads ? 2 : 0); i++) pthread_join(threads[i], NULL);
  return counter == (many_threads ? 200 : 0) ? 0 : 2;
}

static int forks_each;
static void *fork_again(void *number) {
  intptr_t good = 0;
  for (int i = 0; i < forks_each; i++) {
    int status;
    pid_t pid = i % 7 == 6 ? _Fork() : fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      if (i % 7 == 6) _exit(7);
      int fault = live_in_child(i % 3 == 0);
      if (i % 5 == 0) exit(7 + fault); /* with exit handlers and destructors */
      _exit(7 + fault);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 7) good++;
    else say("child of thread %d ended with %x\n", (int)(intptr_t)number, status);
  }
  return (void *)good;
}

static void stay(int count) {
  int gate[2];
  pid_t *children = calloc((size_t)count, sizeof *children);
  CHECK(pipe(gate) == 0);
  for (int i = 0; i < count; i++) {
    if ((children[i] = fork()) == 0) {
      close(gate[1]);
      int fault = live_in_child(1);
      struct pollfd end = {.fd = gate[0], .events = POLLIN};
      while (poll(&end, 1, 10) == 0) allocates_on();
      works_in_child();
      _exit(fault);
    }
    CHECK(children[i] > 0);
  }
  ready();
  close(gate[1]);
  int good = 0;
  for (int i = 0; i < count; i++) {
    int status;
    CHECK(waitpid(children[i], &status, 0) == children[i]);
    good += status == 0;
  }
  say("%d of %d that stayed well\n", good, count);
}

int main(int argc, char **argv) {
  pthread_t threads[ALLOCATORS + LOCKERS + 1], forkers[FORKERS];
  int count = argc > 1 ? atoi(argv[1]) : 200;
  alarm(300);
  sem_init(&semaphore, 0, 1);
  forks_each = count / FORKERS;
  ready();
  for (intptr_t i = 0; i < ALLOCATORS; i++)
    CHECK(pthread_create(&threads[i], NULL, allocate, (void *)i) == 0);
  for (intptr_t i = 0; i < LOCKERS; i++)
    CHECK(pthread_create(&threads[ALLOCATORS + i], NULL, lock, NULL) == 0);
  CHECK(pthread_create(&threads[ALLOCATORS + LOCKERS], NULL, create, NULL) == 0);
  for (intptr_t i = 0; i < FORKERS; i++)
    CHECK(pthread_create(&forkers[i], NULL, fork_again, (void *)i) == 0);
  long good = 0;
  for (int i = 0; i < FORKERS; i++) {
    void *result;
    pthread_join(forkers[i], &result);
    good += (long)(intptr_t)result;
  }
  say("%ld of %d children well\n", good, forks_each * FORKERS);
  if (argc > 2) stay(atoi(argv[2]));
  stop = 1;
  for (int i = 0; i < ALLOCATORS + LOCKERS + 1; i++) pthread_join(threads[i], NULL);
  ready();
  return 0;
}
