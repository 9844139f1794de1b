/* Threads made by the clone system call alone: no pthread_create saw them, and they have no
 * thread-local storage of their own. One is there from the start, another comes when a line is
 * read. */
#define _GNU_SOURCE
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "workload.h"

static FRAME void burn_cloned(void) {
  for (;;) __asm__ volatile("");
}

static FRAME void burn_cloned_later(void) {
  for (;;) __asm__ volatile("nop");
}

static int run(void *function) {
  ((void (*)(void))function)();
  return 0;
}

static void start(void (*function)(void)) {
  enum { STACK = 256 * 1024 };
  char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(stack != MAP_FAILED);
  int tid = clone(run, stack + STACK,
                  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
                  (void *)function);
  CHECK(tid > 0);
  say("tid %d\n", tid);
}

int main(void) {
  start(burn_cloned);
  ready();
  start(burn_cloned_later);
  wait_for_line();
  _exit(0);
}
