/* Hosts that block signals, wait for all of them, or forbid system calls, while CPU profiles run:
 * cpu_masks MODE. As cpu_hazards.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>

#include "workload.h"

static volatile unsigned sink;
static FRAME void burn(double milliseconds) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  double end = (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6 + milliseconds;
  do {
    unsigned x = sink;
    for (int i = 0; i < 20000; i++) x = x * 1664525u + 1013904223u;
    sink = x;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  } while ((double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6 < end);
}

static pthread_t start(void *(*entry)(void *), void *argument) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, entry, argument) == 0);
  return thread;
}

static sigset_t all;
static void block_all(void) { CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0); }
static void block_none(void) {
  sigset_t none;
  sigemptyset(&none);
  CHECK(pthread_sigmask(SIG_SETMASK, &none, NULL) == 0);
}
static int seen[65];
static void note_pending(void) {
  sigset_t pending;
  CHECK(sigpending(&pending) == 0);
  for (int number = 1; number <= 64; number++) seen[number] += sigismember(&pending, number) == 1;
}
static void print_seen(const char *what) {
  for (int number = 1; number <= 64; number++)
    if (seen[number]) say("%s: signal %d, %d times\n", what, number, seen[number]);
  memset(seen, 0, sizeof seen);
}

static void *blocked_from_birth(void *unused) {
  burn(400);
  note_pending();
  return unused;
}
/* Critical sections of programs that block everything round them, and look at what came
 * meanwhile. */
static void *now_and_then(void *unused) {
  struct timespec no_time = {0, 0};
  for (int i = 0; i < 60; i++) {
    burn(3);
    block_all();
    burn(6);
    note_pending();
    siginfo_t info;
    int number = sigtimedwait(&all, &info, &no_time);
    if (number > 0) seen[number]++;
    block_none();
  }
  return unused;
}
static void masked(void) {
  ready();
  block_all();
  pthread_t thread = start(blocked_from_birth, NULL);
  pthread_join(thread, NULL);
  block_none();
  print_seen("pending on a thread born with all signals blocked");
  pthread_join(start(now_and_then, NULL), NULL);
  print_seen("pending inside critical sections");
  say("masks done\n");
}

static int counted[65];
/* The thread has run for a while with nothing blocked, so a tick may be under way, when it blocks
 * everything and waits. */
static atomic_bool blocks_all; /* sent before, a signal would end the process */
static void *wait_for_all(void *how) {
  burn(50);
  block_all();
  blocks_all = true;
  burn(20);
  int descriptor = signalfd(-1, &all, SFD_CLOEXEC);
  CHECK(descriptor >= 0);
  say("waiting\n");
  for (int number = 0; number != SIGRTMAX; counted[number]++) {
    struct signalfd_siginfo info;
    siginfo_t waited;
    switch ((intptr_t)how) {
      case 0: CHECK(sigwait(&all, &number) == 0); break;
      case 1: CHECK((number = sigwaitinfo(&all, &waited)) > 0); break;
      default:
        CHECK(poll(&(struct pollfd){.fd = descriptor, .events = POLLIN}, 1, -1) == 1 &&
              read(descriptor, &info, sizeof info) == sizeof info);
        number = (int)info.ssi_signo;
    }
    burn(1);
  }
  return NULL;
}
static void wait_for_signals(void) {
  ready();
  for (intptr_t how = 0; how < 3; how++) {
    blocks_all = false;
    pthread_t thread = start(wait_for_all, (void *)how);
    do burn(200);
    while (!blocks_all);
    for (int i = 0; i < 50; i++) {
      pthread_kill(thread, SIGRTMIN + 1); /* queued: each arrives */
      burn(1);
    }
    pthread_kill(thread, SIGRTMAX); /* of several the lowest is taken first */
    pthread_join(thread, NULL);
    for (int number = 1; number <= 64; number++)
      if (counted[number]) say("way %d: signal %d, %d times\n", (int)how, number, counted[number]);
    memset(counted, 0, sizeof counted);
  }
}

/* ---- system calls that are forbidden ---- */

static void forbid(long call) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0);
}
static void *burn_a_little(void *unused) {
  burn(50);
  return unused;
}
static void burn_in_new_threads(void) {
  for (int i = 0; i < 4; i++) pthread_join(start(burn_a_little, NULL), NULL);
  burn(200);
}
/* A sandbox of this thread and those that it starts: whoever calls timer_create there ends the
 * process. */
static void deadly_timers(void) {
  ready();
  forbid(SYS_timer_create);
  burn_in_new_threads();
  say("sandbox respected\n");
}
static void deadly_prctl(void) {
  ready();
  forbid(SYS_prctl);
  burn_in_new_threads();
  say("sandbox respected\n");
}
/* Nothing but read, write, exit and sigreturn. */
static volatile int survived;
static void *strict(void *tid) {
  *(volatile int *)tid = gettid();
  burn(100);
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
  for (int round = 0; round < 200; round++) {
    unsigned x = sink;
    for (int i = 0; i < 2000000; i++) x = x * 1664525u + 1013904223u;
    sink = x;
  }
  survived = 1;
  syscall(SYS_exit, 0);
  return NULL;
}
static void seccomp_strict(void) {
  ready();
  volatile int tid = 0;
  pthread_detach(start(strict, (void *)&tid));
  while (tid == 0) burn(1);
  while (syscall(SYS_tgkill, getpid(), tid, 0) == 0) burn(1);
  say("strict thread %s\n", survived ? "survived" : "was killed");
}
static void plain_burn(void) {
  ready();
  burn_in_new_threads();
  say("burnt\n");
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  sigfillset(&all);
  int known = 0;
#define MODE(name) \
  if (strcmp(argv[1], #name) == 0) known = 1, name()
  MODE(masked);
  MODE(wait_for_signals);
  MODE(deadly_timers);
  MODE(deadly_prctl);
  MODE(seccomp_strict);
  MODE(plain_burn);
  CHECK(known);
  ready();
  return 0;
}
