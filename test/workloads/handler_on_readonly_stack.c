/* A handler that writes nothing to the stack, on an alternate stack that another thread makes
 * read-only now and then (LTP's signal06 does so). */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "workload.h"

enum { SIGNALS = 30000 };

static char stack[40960] __attribute__((aligned(4096)));
static atomic_bool end;

static void handler(int number) { (void)number; }

static void *flip(void *argument) {
  while (!end) {
    mprotect(stack, sizeof stack, PROT_READ);
    mprotect(stack, sizeof stack, PROT_READ | PROT_WRITE);
  }
  return argument;
}

int main(void) {
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction action = {.sa_handler = handler}; /* the kernel's own write may come too late */
  pthread_t thread;
  CHECK(sigaction(SIGSEGV, &action, NULL) == 0 && sigaltstack(&alternate, NULL) == 0);
  action.sa_flags = SA_ONSTACK;
  CHECK(sigaction(SIGHUP, &action, NULL) == 0 && pthread_create(&thread, NULL, flip, NULL) == 0);
  for (int i = 0; i < SIGNALS; i++) syscall(SYS_tkill, getpid(), SIGHUP);
  end = 1;
  CHECK(pthread_join(thread, NULL) == 0);
  puts("done");
  return 0;
}
