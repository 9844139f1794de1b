/* tree_hazards unshare: unshare(CLONE_NEWUSER) by its number, then by its name; prints what they
 *   return.
 * tree_hazards unshare_late: `ready`, then by its name only.
 * tree_hazards vfork: a forked child whose agent is to start later (more than may start at once
 *   have been forked) has a vfork child that allocates.
 * tree_hazards fork_first MS: forks before its agent listens, and is stopped for so long; the child
 *   prints both pids.
 * tree_hazards fork_on_signal: its first fork, and another one whenever SIGUSR1 comes; prints the
 *   pids, and `ready` in between.
 * tree_hazards interrupt_key LIBRARY: runs that with the library preloaded, and sends the signal
 *   while the first fork asks the kernel for the key's random bytes; says when the handler runs. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/stat.h>
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

static void unshare_late(void) {
  ready();
  int result = unshare(CLONE_NEWUSER);
  say("by name %d\n", result);
}

static void vfork_while_due(void) {
  volatile int threads_of_inner = 0;
  for (int tries = 0;; tries++) {
    pid_t pid = fork();
    if (pid == 0 && threads_of_kernel() == 1) break;
    if (pid == 0) _exit(40); /* its agent was started at once */
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    if (WEXITSTATUS(status) != 40) _exit(WEXITSTATUS(status));
    CHECK(tries < 1000);
  }
  pause_ms(200); /* the start is due from now on */
  pid_t inner = vfork();
  if (inner == 0) {
    for (int i = 0; i < 100; i++) free(keep(malloc(1000)));
    threads_of_inner = threads_of_kernel();
    _exit(0);
  }
  waitpid(inner, NULL, 0);
  int before = threads_of_kernel();
  for (int i = 0; i < 100; i++) free(keep(malloc(1000)));
  say("%d: threads %d in the child of vfork, %d after it, %d after an allocation\n", getpid(),
      threads_of_inner, before, threads_of_kernel());
  ready();
  _exit(0);
}

static void fork_first(long ms) {
  pause_ms(20); /* the agent's thread sleeps by now, and what is stopped below is that sleep */
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    pause_ms(ms);
    kill(parent, SIGCONT);
    say("%d %d\n", parent, getpid());
    ready();
    _exit(0);
  }
  pause_ms(20); /* its agent's thread sleeps by now, and what it sleeps for passes meanwhile */
  raise(SIGSTOP);
  waitpid(pid, NULL, 0);
}

/* ---- a signal in the midst of the first fork ---- */

static volatile pid_t born_in_handler;

static void stay(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  alarm(60); /* fork has left the parent's alarm behind */
  for (;;) pause();
}

static void fork_in_handler(int number) {
  (void)number;
  born_in_handler = fork();
  if (born_in_handler == 0) stay();
}

static void fork_on_signal(void) {
  signal(SIGUSR1, fork_in_handler);
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGUSR1, SIG_DFL);
    stay();
  }
  while (!born_in_handler) pause_ms(1);
  say("%d %d %d\n", getpid(), pid, born_in_handler);
  ready();
  kill(pid, SIGKILL);
  kill(born_in_handler, SIGKILL);
  while (waitpid(-1, NULL, 0) > 0) continue;
}

/* The next stop of the traced thread; the information about the system call that it is in, if it is
 * that. */
static int next_stop(pid_t pid, int signal, struct __ptrace_syscall_info *call) {
  int status;
  CHECK(ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)signal) == 0 &&
        waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
  call->op = PTRACE_SYSCALL_INFO_NONE;
  if (WSTOPSIG(status) == (SIGTRAP | 0x80))
    CHECK(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof *call, call) > 0);
  return WSTOPSIG(status);
}

static void interrupt_key(const char *program, const char *library) {
  enum { KEY_SIZE = 16 };
  struct __ptrace_syscall_info call;
  int status, stop = 0, calls_since = 0;
  pid_t pid = fork();
  if (pid == 0) {
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(96);
    raise(SIGSTOP);
    setenv("LD_PRELOAD", library, 1);
    execl(program, program, "fork_on_signal", (char *)NULL);
    _exit(95);
  }
  CHECK(waitpid(pid, &status, 0) == pid);
  if (!WIFSTOPPED(status)) {
    say("no ptrace\n");
    return;
  }
  CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL,
               (void *)(intptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)) == 0);
  do {
    int signal = stop == SIGSTOP || stop == SIGTRAP || stop == (SIGTRAP | 0x80) ? 0 : stop;
    stop = next_stop(pid, signal, &call);
  } while (call.op != PTRACE_SYSCALL_INFO_ENTRY || call.entry.nr != SYS_getrandom ||
           call.entry.args[1] != KEY_SIZE || call.entry.args[2] != GRND_NONBLOCK);
  CHECK(syscall(SYS_tgkill, pid, pid, SIGUSR1) == 0);
  while ((stop = next_stop(pid, 0, &call)) != SIGUSR1)
    calls_since += call.op == PTRACE_SYSCALL_INFO_ENTRY;
  say("the handler runs %s\n", calls_since ? "afterwards" : "while the key is made");
  CHECK(ptrace(PTRACE_DETACH, pid, NULL, (void *)(intptr_t)SIGUSR1) == 0);
  CHECK(waitpid(pid, &status, 0) == pid);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 94);
}

int main(int argc, char **argv) {
  CHECK(argc > 1);
  alarm(120);
  if (!strcmp(argv[1], "unshare")) unshare_twice();
  else if (!strcmp(argv[1], "unshare_late")) unshare_late();
  else if (!strcmp(argv[1], "vfork")) vfork_while_due();
  else if (!strcmp(argv[1], "fork_first")) fork_first(atol(argv[2]));
  else if (!strcmp(argv[1], "fork_on_signal")) fork_on_signal();
  else if (!strcmp(argv[1], "interrupt_key")) interrupt_key(argv[0], argv[2]);
  else CHECK(!"mode");
  return 0;
}
