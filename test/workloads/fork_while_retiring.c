/* fork_while_retiring: an atfork handler waits until the sampling signal has no handler any more,
 * so that it goes away in the middle of a fork. The masks of parent and child are then what they
 * were. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "workload.h"

static int is_caught(int number) {
  char text[4096] = "", path[64];
  /* not /proc/self/status: for that the agent leaves, and the handler with it */
  snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)getpid());
  FILE *file = fopen(path, "r");
  size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
  if (file) fclose(file);
  const char *caught = size ? strstr(text, "SigCgt:") : NULL;
  return caught && strtoull(caught + 7, NULL, 16) >> (number - 1) & 1;
}

static void wait_for_end(void) {
  while (is_caught(SIGURG)) usleep(10000);
}

static int blocks(int number) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  return sigismember(&mask, number);
}

int main(void) {
  if (!ready()) return 1; /* somebody takes a profile, and leaves */
  int was_caught = is_caught(SIGURG), status = 0;
  pthread_atfork(wait_for_end, NULL, NULL);
  pid_t child = fork();
  if (child == 0) _exit(blocks(SIGURG) ? 4 : 5);
  waitpid(child, &status, 0);
  say("caught before %d, blocked by parent %d, child %d\n", was_caught, blocks(SIGURG),
      WEXITSTATUS(status) == 4);
  return 0;
}
