/* start_cost LD_PRELOAD: what it takes to start a program that ends at once, this one, with that
 * preload: the fewest page faults, of many starts, and the system calls of all its threads. */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "workload.h"

enum { STARTS = 30, CALL_STOP = SIGTRAP | 0x80 };

static void become(char *program, char *preload) {
  if (*preload) setenv("LD_PRELOAD", preload, 1);
  execl(program, program, (char *)NULL);
  _exit(96);
}

static long faults(char *program, char *preload) {
  long fewest = 1 << 30;
  for (int i = 0; i < STARTS; i++) {
    struct rusage usage;
    int status;
    pid_t pid = vfork();
    if (pid == 0) become(program, preload);
    CHECK(wait4(pid, &status, 0, &usage) == pid && status == 0);
    if (usage.ru_minflt < fewest) fewest = usage.ru_minflt;
  }
  return fewest;
}

/* Each makes two stops, but for those that do not return. */
static int calls(char *program, char *preload) {
  pid_t pid = fork(), stopped;
  if (pid == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    become(program, preload);
  }
  int status, stops = 0;
  CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
  const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
  CHECK(ptrace(PTRACE_SETOPTIONS, pid, NULL, options) == 0);
  CHECK(ptrace(PTRACE_SYSCALL, pid, NULL, NULL) == 0);
  while ((stopped = waitpid(-1, &status, __WALL)) > 0) {
    if (!WIFSTOPPED(status)) continue;
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8)) stops = 0; /* what came before is ours */
    stops += WSTOPSIG(status) == CALL_STOP;
    ptrace(PTRACE_SYSCALL, stopped, NULL, NULL);
  }
  return stops / 2;
}

int main(int argc, char **argv) {
  if (argc < 2) return 0;
  unsetenv("LD_PRELOAD");
  say("faults %ld\ncalls %d\n", faults(argv[0], argv[1]), calls(argv[0], argv[1]));
  return 0;
}
