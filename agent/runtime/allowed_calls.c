#include "allowed_calls.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "shim/base/raw_syscall.h"
#include "agent_inherited.h"

struct tried_call {
  char name[20]; /* in place: the loader has nothing to relocate at each exec */
  uint16_t number;
  uint8_t use;
  long a, b, c;
};
#define CALL(name, use, ...) \
  { #name, SYS_##name, use, __VA_ARGS__ }

/* Each fails, or does nothing, where it is allowed. Not those that every start makes. */
static const struct tried_call calls[] = {
    /* First: what kills the child leaves no core. */
    CALL(prctl, CALLS_SERVING, PR_SET_DUMPABLE, 0, 0),
    CALL(getpid, CALLS_SERVING, 0, 0, 0),
    CALL(gettid, CALLS_SERVING, 0, 0, 0),
    CALL(geteuid, CALLS_SERVING, 0, 0, 0),
    CALL(getresuid, CALLS_SERVING, 0, 0, 0),
    CALL(tgkill, CALLS_SERVING, -1, -1, 0),
    CALL(rt_sigprocmask, CALLS_SERVING, -1, 0, 0),
    CALL(signalfd4, CALLS_SERVING, -1, 0, 0),
    CALL(eventfd2, CALLS_SERVING, 0, -1, 0),
    CALL(epoll_create1, CALLS_SERVING, -1, 0, 0),
    CALL(epoll_ctl, CALLS_SERVING, -1, 0, 0),
#ifdef SYS_epoll_wait /* not on newer architectures */
    CALL(epoll_wait, CALLS_SERVING, -1, 0, 0),
    CALL(poll, CALLS_SERVING, 0, 0, 0),
    CALL(readlink, CALLS_SERVING, 0, 0, 0),
#else
    CALL(epoll_pwait, CALLS_SERVING, -1, 0, 0),
    CALL(ppoll, CALLS_SERVING, 0, -1, 0),
    CALL(readlinkat, CALLS_SERVING, -1, 0, 0),
#endif
    CALL(clock_nanosleep, CALLS_SERVING, -1, 0, 0),
    CALL(nanosleep, CALLS_SERVING, 0, 0, 0),
    CALL(socket, CALLS_SERVING, AF_UNIX, SOCK_SEQPACKET, 0),
    CALL(socket, CALLS_SERVING, AF_INET, SOCK_STREAM, 0),
    CALL(bind, CALLS_SERVING, -1, 0, 0),
    CALL(listen, CALLS_SERVING, -1, 0, 0),
    CALL(accept4, CALLS_SERVING, -1, 0, 0),
    CALL(connect, CALLS_SERVING, -1, 0, 0),
    CALL(shutdown, CALLS_SERVING, -1, 0, 0),
    CALL(setsockopt, CALLS_SERVING, -1, 0, 0),
    CALL(getsockopt, CALLS_SERVING, -1, 0, 0),
    CALL(getsockname, CALLS_SERVING, -1, 0, 0),
    CALL(getpeername, CALLS_SERVING, -1, 0, 0),
    CALL(sendto, CALLS_SERVING, -1, 0, 0),
    CALL(recvfrom, CALLS_SERVING, -1, 0, 0),
    CALL(sendmsg, CALLS_SERVING, -1, 0, 0),
    CALL(recvmsg, CALLS_SERVING, -1, 0, 0),
    CALL(fcntl, CALLS_SERVING, -1, 0, 0),
    CALL(ioctl, CALLS_SERVING, -1, 0, 0),
    CALL(getdents64, CALLS_SERVING, -1, 0, 0),
    CALL(uname, CALLS_SERVING, 0, 0, 0),
    CALL(madvise, CALLS_SERVING, 0, 0, 0),
    CALL(timer_create, CALLS_SAMPLING, -1, 0, 0),
    CALL(timer_settime, CALLS_SAMPLING, -1, 0, 0),
    CALL(timer_delete, CALLS_SAMPLING, -1, 0, 0),
    CALL(clock_getres, CALLS_SAMPLING, CLOCK_MONOTONIC, 0, 0),
    CALL(rt_sigaction, CALLS_SAMPLING, 0, 0, 0),
    CALL(rt_sigpending, CALLS_SAMPLING, 0, 0, 0),
    CALL(process_vm_readv, CALLS_READING, 0, 0, 0),
    CALL(get_robust_list, CALLS_STACKS, -1, 0, 0),
    CALL(close_range, CALLS_ISOLATING, 2, 1, 0),
    CALL(unshare, CALLS_UNSHARING, 0, 0, 0),
    CALL(getresgid, CALLS_CREDENTIALS, 0, 0, 0),
    CALL(getgroups, CALLS_CREDENTIALS, -1, 0, 0),
    CALL(setresuid, CALLS_CREDENTIALS, -1, -1, -1),
    CALL(setresgid, CALLS_CREDENTIALS, -1, -1, -1),
    CALL(setgroups, CALLS_CREDENTIALS, -1, 0, 0),
    CALL(setfsuid, CALLS_CREDENTIALS, -1, 0, 0),
    CALL(setfsgid, CALLS_CREDENTIALS, -1, 0, 0),
    CALL(capget, CALLS_CREDENTIALS, 0, 0, 0),
    CALL(capset, CALLS_CREDENTIALS, 0, 0, 0),
    CALL(rt_sigaction, CALLS_CREDENTIALS, 0, 0, 0),
    CALL(sched_getscheduler, CALLS_SCHEDULING, -1, 0, 0),
    CALL(getpriority, CALLS_SCHEDULING, 0, -1, 0),
    CALL(sched_setattr, CALLS_SCHEDULING, -1, 0, 0),
    CALL(sched_getaffinity, CALLS_SCHEDULING, -1, 0, 0),
    CALL(sched_setaffinity, CALLS_SCHEDULING, -1, 0, 0),
    CALL(ioprio_get, CALLS_SCHEDULING, -1, 0, 0),
    CALL(ioprio_set, CALLS_SCHEDULING, -1, 0, 0),
    CALL(readlinkat, CALLS_PATHS, -1, 0, 0),
    CALL(unlinkat, CALLS_PATHS, -1, 0, 0),
    CALL(socket, CALLS_LOCALHOST, AF_INET6, SOCK_STREAM, 0),
    CALL(fsync, CALLS_DUMPING, -1, 0, 0),
    CALL(renameat, CALLS_DUMPING, -1, 0, -1),
    CALL(unlinkat, CALLS_DUMPING, -1, 0, 0),
};
enum { CALLS = sizeof calls / sizeof *calls };

/* What the child tells, in memory that it shares with this thread alone. */
struct progress {
  _Atomic uint32_t begun; /* calls, the one that it is in included */
  _Atomic bool done;
};

/* Written by the admin thread before there is another agent thread. "": nothing is lacking. */
static char lacking[CALL_USES][120] AGENT_INHERITED;
static bool has_begun AGENT_INHERITED;
static _Atomic bool has_looked AGENT_INHERITED; /* what is lacking is complete: for host threads */

/* In the child: nothing of libc's. */
static __attribute__((noreturn)) void make_calls(struct progress *progress) {
  for (uint32_t i = atomic_load(&progress->begun); i < CALLS; i++) {
    atomic_store(&progress->begun, i + 1);
    raw_syscall4(calls[i].number, calls[i].a, calls[i].b, calls[i].c, 0);
  }
  atomic_store(&progress->done, true);
  for (;;) raw_syscall4(SYS_exit_group, 0, 0, 0, 0);
}

/* Neither this thread's stack nor its thread-local storage goes along to a child (bare_thread.c).
 */
static char child_stack[4096] __attribute__((aligned(16)));

static long make_child(struct progress *progress) {
#if defined(__x86_64__)
  long result;
  register struct progress *argument __asm__("r12") = progress;
  register void (*function)(struct progress *) __asm__("r13") = make_calls;
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  __asm__ volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq %%r12, %%rdi\n\t"
      "callq *%%r13\n"
      "1:"
      : "=a"(result)
      : "0"((long)SYS_clone), "D"(0L), "S"(child_stack + sizeof child_stack), "d"(0L), "r"(r10),
        "r"(r8), "r"(argument), "r"(function)
      : "rcx", "r11", "memory");
  return result;
#else
#error "make_child is not written for this architecture yet"
#endif
}

/* A supervisor of the filter's may hold a call for as long as it likes. */
static void await_end(long child) {
  enum { NAPS_MAX = 10000 }; /* half a second and more */
  for (int naps = 0; naps < NAPS_MAX; naps++) {
    if (raw_syscall4(SYS_wait4, child, 0, WNOHANG | __WALL, 0) != 0) return;
    raw_nap();
  }
  enum { KILL = 9 };
  raw_syscall4(SYS_kill, child, KILL, 0, 0);
  raw_syscall4(SYS_wait4, child, 0, __WALL, 0);
}

/* Its end raises no signal, and no wait of the program's finds it. False: there can be none. */
static bool run_child(struct progress *progress) {
  long child = make_child(progress);
  if (child > 0) await_end(child);
  return child > 0;
}

static void keep_lacking(enum call_use use, const char *what) {
  if (!*lacking[use])
    snprintf(lacking[use], sizeof lacking[use],
             "the program was started under a seccomp filter that ends it for %s", what);
}

static bool is_filtered(void) { return raw_syscall6(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0, 0) > 0; }

void allowed_calls_look(void) {
  if (has_begun) return;
  has_begun = true;
  if (!is_filtered()) return atomic_store(&has_looked, true);
  struct progress *progress =
      mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  bool done = false, looks = progress != MAP_FAILED;
  for (uint32_t begun = 0, before = 0; looks && !done; before = begun) {
    looks = run_child(progress);
    done = atomic_load(&progress->done);
    begun = atomic_load(&progress->begun);
    if (begun > before && !done) keep_lacking(calls[begun - 1].use, calls[begun - 1].name);
    looks = looks && (done || begun > before);
  }
  if (!looks) keep_lacking(CALLS_SERVING, "calls that cannot be found out");
  if (!looks) keep_lacking(CALLS_CREDENTIALS, "calls that cannot be found out");
  if (!looks) keep_lacking(CALLS_PATHS, "calls that cannot be found out");
  atomic_store(&has_looked, true);
  if (progress != MAP_FAILED) munmap(progress, sizeof *progress);
}

bool allowed_calls_of_credentials(void) {
  return atomic_load(&has_looked) ? !*lacking[CALLS_CREDENTIALS] : !is_filtered();
}

bool allowed_calls_of_serving(void) { return atomic_load(&has_looked) && !*lacking[CALLS_SERVING]; }

bool allowed_calls_of_paths(void) {
  return atomic_load(&has_looked) ? !*lacking[CALLS_PATHS] : !is_filtered();
}

const char *allowed_calls_lack(enum call_use use) { return *lacking[use] ? lacking[use] : NULL; }
