/* late_start: forks until a child has no agent at once; that one allocates in a signal handler, in
 * a callback of libc's, deeper than a stack is read, and at last as programs do. Prints after each
 * how many threads it has. */
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

enum { FORKS_MAX = 5000, BLOCK = 100000, BLOCKS = 1000 };

FRAME static void allocates(void) {
  for (int i = 0; i < BLOCKS; i++) free(keep(malloc(BLOCK)));
}

static void handler(int number) {
  (void)number;
  allocates();
}

static int compare(const void *a, const void *b) {
  allocates();
  return *(const int *)a - *(const int *)b;
}

FRAME static void deep(int depth) {
  if (depth) deep(depth - 1);
  else allocates();
  __asm__ volatile("" : : : "memory"); /* no tail call */
}

static void lives(void) {
  struct timespec nap = {0, 200000000}; /* due after a tenth of a second */
  nanosleep(&nap, NULL);
  signal(SIGUSR1, handler);
  raise(SIGUSR1);
  say("in a handler: %d\n", threads_of_kernel());
  int numbers[] = {3, 1, 2};
  qsort(numbers, 3, sizeof *numbers, compare);
  say("in a callback: %d\n", threads_of_kernel());
  deep(200);
  say("deep: %d\n", threads_of_kernel());
  allocates();
  say("else: %d\n", threads_of_kernel());
  ready();
}

int main(void) {
  ready();
  for (int i = 0, last = 0; i < FORKS_MAX && !last; i++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      if (threads_of_kernel() > 1) _exit(0);
      lives();
      _exit(1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    last = WEXITSTATUS(status);
  }
  return 0;
}
