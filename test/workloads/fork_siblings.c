/* fork_siblings CHILDREN BLOCKS SIZE: children of one parent that all do the same: each allocates
 * so many blocks, and so does a thread of its own. Prints `child PID` for each, then `ready`; they
 * end when their parent does. */
#include <pthread.h>

#include "workload.h"

static long blocks, size;

FRAME static void child_allocates(void) {
  for (long i = 0; i < blocks; i++) keep(malloc((size_t)size));
}

FRAME static void *childs_thread_allocates(void *unused) {
  for (long i = 0; i < blocks; i++) keep(malloc((size_t)size));
  return unused;
}

int main(int argc, char **argv) {
  int reports[2], alive[2];
  CHECK(argc == 4 && pipe(reports) == 0 && pipe(alive) == 0);
  int children = atoi(argv[1]);
  blocks = atol(argv[2]);
  size = atol(argv[3]);
  for (int i = 0; i < 1000; i++) free(keep(malloc(10000))); /* a sequence is under way */
  for (int i = 0; i < children; i++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child) continue;
    pthread_t thread;
    close(alive[1]);
    child_allocates();
    CHECK(pthread_create(&thread, NULL, childs_thread_allocates, NULL) == 0 &&
          pthread_join(thread, NULL) == 0);
    pid_t pid = getpid();
    CHECK(write(reports[1], &pid, sizeof pid) == sizeof pid);
    char c;
    while (read(alive[0], &c, 1) > 0) continue;
    _exit(0);
  }
  for (int i = 0; i < children; i++) {
    pid_t pid;
    CHECK(read(reports[0], &pid, sizeof pid) == sizeof pid);
    say("child %d\n", (int)pid);
  }
  ready();
  return 0;
}
