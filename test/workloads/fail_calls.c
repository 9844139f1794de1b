/* fail_calls attach TID RULE ...            of that thread and what it creates, until SIGTERM
 * fail_calls start LIBRARY RULE ... -- PROGRAM ...     of the program, those made in that library
 *
 * Makes system calls fail. RULE is NUMBER:ERROR:FIRST:LAST:PERCENT, the call's number and which of
 * its occurrences fail, counted from 1 over all threads. As in the kernel, a close that fails has
 * closed, and a futex wakes whoever waits. After a SIGUSR1 it says how many calls were made, at the
 * end of each call: NUMBER made failed. (strace attaches to all of a process's threads, or follows
 * none.) */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "workload.h"

enum { CALLS = 512, THREADS = 1 << 22 };

struct rule {
  int error;
  unsigned long first, last;
  int percent;
};

static struct rule rules[CALLS];
static unsigned long made[CALLS], failed[CALLS], made_in_all;
static int pending[THREADS]; /* by tid: the error that its call will return */
static bool traced[THREADS];
static unsigned traced_count;
static bool ending;
static const char *library; /* NULL: calls from anywhere */
static pid_t program;

static void set_number(pid_t tid, long number) {
#if defined(__x86_64__)
  ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, orig_rax), number);
#else
  int value = (int)number;
  struct iovec piece = {&value, sizeof value};
  ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &piece);
#endif
}

static void set_result(pid_t tid, long result) {
#if defined(__x86_64__)
  ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, rax), result);
#else
  struct user_regs_struct registers;
  struct iovec piece = {&registers, sizeof registers};
  ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &piece);
  registers.regs[0] = (unsigned long)result;
  ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &piece);
#endif
}

static bool in_library(unsigned long address) {
  char path[64], line[512];
  bool found = false;
  snprintf(path, sizeof path, "/proc/%d/maps", (int)program);
  FILE *maps = fopen(path, "r");
  while (maps && !found && fgets(line, sizeof line, maps)) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx", &start, &end) != 2) continue;
    found = address >= start && address < end && strstr(line, library);
  }
  if (maps) fclose(maps);
  return found;
}

static void at_entry(pid_t tid, const struct __ptrace_syscall_info *info) {
  unsigned long number = info->entry.nr;
  if (number >= CALLS || ending || (library && !in_library(info->instruction_pointer))) return;
  const struct rule *rule = &rules[number];
  unsigned long nth = ++made[number];
  made_in_all++;
  bool wakes = number == SYS_futex && (info->entry.args[1] & FUTEX_CMD_MASK) != FUTEX_WAIT;
  if (!rule->error || nth < rule->first || nth > rule->last || wakes) return;
  if (rand() % 100 >= rule->percent) return;
  failed[number]++;
  pending[tid] = rule->error;
  if (number != SYS_close) set_number(tid, -1);
}

static void handle(pid_t tid, int status) {
  int signal = WSTOPSIG(status), event = status >> 16, passed = 0;
  struct __ptrace_syscall_info info;
  if (!WIFSTOPPED(status)) {
    traced_count -= traced[tid];
    traced[tid] = false;
    return;
  }
  traced_count += !traced[tid];
  traced[tid] = true;
  if (signal == (SIGTRAP | 0x80)) {
    ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) at_entry(tid, &info);
    else if (pending[tid]) set_result(tid, -pending[tid]), pending[tid] = 0;
  } else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
    ptrace(PTRACE_LISTEN, tid, 0, 0); /* the program is stopped */
    return;
  } else if (event == 0) {
    passed = signal;
  }
  if (ending && !pending[tid]) {
    ptrace(PTRACE_DETACH, tid, 0, passed);
    traced[tid] = false;
    traced_count--;
  } else {
    ptrace(PTRACE_SYSCALL, tid, 0, passed);
  }
}

static void begin_to_end(void) {
  ending = true;
  for (pid_t tid = 1; tid < THREADS; tid++)
    if (traced[tid]) ptrace(PTRACE_INTERRUPT, tid, 0, 0);
}

static int start(char **argv) {
  program = fork();
  if (program == 0) {
    raise(SIGSTOP);
    execv(argv[0], argv);
    _exit(122);
  }
  int status;
  waitpid(program, &status, WUNTRACED);
  return program;
}

int main(int argc, char **argv) {
  const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
  int at = 3;
  for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
    struct rule rule;
    int number;
    if (sscanf(argv[at], "%d:%d:%lu:%lu:%d", &number, &rule.error, &rule.first, &rule.last,
               &rule.percent) != 5)
      return 120;
    rules[number] = rule;
  }
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGCHLD);
  sigaddset(&wanted, SIGTERM);
  sigaddset(&wanted, SIGUSR1);
  bool starts = strcmp(argv[1], "start") == 0;
  if (starts) library = argv[2];
  pid_t first = starts ? start(argv + at + 1) : atoi(argv[2]);
  sigprocmask(SIG_BLOCK, &wanted, NULL); /* not for the program */
  const char *seed = getenv("SEED");
  srand(seed ? (unsigned)atoi(seed) : 1);
  if (ptrace(PTRACE_SEIZE, first, 0, options) != 0) return 121;
  if (starts) kill(program, SIGCONT);
  ptrace(PTRACE_INTERRUPT, first, 0, 0);
  traced[first] = true;
  traced_count = 1;
  if (!starts) say("attached\n");
  int status, exit_status = 0;
  while (traced_count) {
    pid_t tid;
    while (traced_count && (tid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
      handle(tid, status);
      if (tid == program && !WIFSTOPPED(status)) exit_status = status;
    }
    int told = traced_count ? sigwaitinfo(&wanted, NULL) : 0;
    if (told == SIGTERM) begin_to_end();
    if (told == SIGUSR1) say("%lu\n", made_in_all);
  }
  if (starts) dup2(2, 1); /* the program's is the program's */
  for (int i = 0; i < CALLS; i++)
    if (made[i]) say("%d %lu %lu\n", i, made[i], failed[i]);
  if (WIFSIGNALED(exit_status)) return 128 + WTERMSIG(exit_status);
  return WEXITSTATUS(exit_status);
}
