/* raw_exit END BIRTH: a thread ends past the thread library (END: call, by syscall(2); instruction,
 * by a system call of its own), and another gets its number (BIRTH: pthread; clone, past the
 * library as well), which then burns a second of CPU time and stays. It blocks all signals. Lines:
 * `ready` while the first lives, `reused TID` (or `not permitted`, where the kernel does not let us
 * choose a number), `burnt NANOSECONDS`. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "workload.h"

static _Atomic int first_tid, leave, tries_left, reused, burnt;
static const char *end, *birth;

static void end_past_the_library(void) {
  if (strcmp(end, "call") == 0) syscall(SYS_exit, 0);
  __asm__ volatile("syscall" : : "a"(SYS_exit), "D"(0) : "rcx", "r11", "memory");
}

static void *first(void *unused) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, NULL);
  first_tid = gettid();
  while (!leave) usleep(1000);
  end_past_the_library();
  return unused;
}

static long cpu_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1000000000L + now.tv_nsec;
}

FRAME static void burns(void) {
  while (cpu_now() < 1000000000)
    for (volatile int i = 0; i < 1000000; i++) continue;
  burnt = 1;
}

static int second(void *unused) {
  (void)unused;
  if (gettid() != first_tid) return 0; /* somebody else has got that number */
  reused = 1;
  burns();
  for (;;) pause();
  return 0;
}
static void *second_posix(void *unused) { return (void *)(intptr_t)second(unused); }

FRAME static void creates_first(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, first, NULL) == 0);
}

FRAME static int creates_second(void) {
  char number[16];
  int file = open("/proc/sys/kernel/ns_last_pid", O_WRONLY),
      length = snprintf(number, sizeof number, "%d", first_tid - 1);
  if (file < 0 || write(file, number, (size_t)length) != length) return 0;
  close(file);
  pthread_t thread;
  enum {
    STACK = 1 << 20,
    SHARED = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
  };
  if (strcmp(birth, "pthread") == 0) {
    CHECK(pthread_create(&thread, NULL, second_posix, NULL) == 0);
    return pthread_detach(thread) == 0;
  }
  char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return clone(second, stack + STACK, SHARED, NULL) > 0;
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  end = argv[1], birth = argv[2];
  creates_first();
  while (!first_tid) usleep(1000);
  ready();
  leave = 1;
  while (syscall(SYS_tgkill, getpid(), first_tid, 0) == 0) continue;
  for (int tries = 0; tries < 200 && !reused; tries++) {
    if (!creates_second()) break;
    for (int naps = 0; naps < 20 && !reused; naps++) usleep(500);
  }
  if (reused) say("reused %d\n", first_tid);
  else say("not permitted\n");
  while (reused && !burnt) usleep(1000);
  say("burnt 1000000000\n");
  ready();
  return 0;
}
