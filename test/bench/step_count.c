/* Counts the instructions that a program's first thread runs in user mode between its first two
 * breakpoint traps, one step at a time: exact, whatever else the machine does, and without a
 * hardware counter. x86-64. step_count COMMAND...; STEP_PRELOAD becomes its LD_PRELOAD. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

/* The next stop by SIGTRAP; other signals are passed on. False: the program has ended. */
static bool next_trap(enum __ptrace_request how) {
  int status;
  long signal = 0;
  do {
    if (ptrace(how, child, NULL, signal) != 0 || waitpid(child, &status, 0) != child ||
        !WIFSTOPPED(status))
      return false;
    signal = WSTOPSIG(status);
  } while (signal != SIGTRAP);
  return true;
}

/* x86-64: SI_KERNEL is int3's alone; a step is TRAP_TRACE, one over a system call TRAP_BRKPT. */
static bool at_breakpoint(void) {
  siginfo_t info;
  return ptrace(PTRACE_GETSIGINFO, child, NULL, &info) == 0 && info.si_code == SI_KERNEL;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  child = fork();
  if (child == 0) {
    const char *preload = getenv("STEP_PRELOAD");
    if (preload) setenv("LD_PRELOAD", preload, 1);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execv(argv[1], argv + 1);
    _exit(127);
  }
  int status;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 1; /* at the exec */
  do {
    if (!next_trap(PTRACE_CONT)) return 1;
  } while (!at_breakpoint());
  long steps = 0;
  do {
    if (!next_trap(PTRACE_SINGLESTEP)) return 1;
    steps++;
  } while (!at_breakpoint());
  printf("%ld\n", steps);
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return 0;
}
