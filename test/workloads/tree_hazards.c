/* tree_hazards unshare: unshare(CLONE_NEWUSER) by its number, then by its name; prints what they return.
 * tree_hazards vfork: a forked child whose agent is to start later (more than may start at once have been forked) has a vfork child that allocates.
 * tree_hazards fork_first: forks at once and is stopped until its child, which prints both pids, lets it go on. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "workload.h"

static void pause_ms(long ms) {
  struct timespec time = {0, ms * 1000000};
  while (nanosleep(&time, &time) != 0) continue;
}

static void unshare_twice(void) {
  pid_t pid = fork(); /* each once in a process of its own */
  long result = pid == 0 ? syscall(SYS_unshare, CLONE_NEWUSER) : unshare(CLONE_NEWUSER);
  if (pid == 0) _exit(result == 0 ? 40 : 41);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  say("by name %ld, by number %d\n", result, WEXITSTATUS(status));
}

static void vfork_while_due(void) {
  for (int i = 0; i < 100; i++) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    waitpid(pid, NULL, 0);
  }
  pid_t pid = fork();
  if (pid > 0) {
    waitpid(pid, NULL, 0);
    return;
  }
  pause_ms(200); /* the start is due from now on */
  pid_t inner = vfork();
  if (inner == 0) {
    for (int i = 0; i < 100; i++) free(keep(malloc(1000)));
    _exit(0);
  }
  waitpid(inner, NULL, 0);
  for (int i = 0; i < 100; i++) free(keep(malloc(1000)));
  say("%d\n", getpid());
  ready();
  _exit(0);
}

static void fork_first(long ms) {
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    pause_ms(ms);
    kill(parent, SIGCONT);
    say("%d %d\n", parent, getpid());
    ready();
    _exit(0);
  }
  raise(SIGSTOP);
  waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  alarm(120);
  if (!strcmp(argv[1], "unshare")) unshare_twice();
  else if (!strcmp(argv[1], "vfork")) vfork_while_due();
  else if (!strcmp(argv[1], "fork_first")) fork_first(atol(argv[2]));
  else CHECK(!"mode");
  return 0;
}
