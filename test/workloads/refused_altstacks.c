/* Alternate stacks that the kernel refuses, or that are none, are not in use: the agent's handler
 * goes on to run on alternate stacks. Prints whether the kernel has SA_ONSTACK for SIGURG. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>

#include "workload.h"

static unsigned long flags_in_kernel(void) {
  struct {
    void *handler;
    unsigned long flags;
    void *restorer;
    unsigned long mask;
  } action = {0};
  long result;
  register long size __asm__("r10") = sizeof action.mask;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(SYS_rt_sigaction), "D"(SIGURG), "S"(0), "d"(&action), "r"(size)
                   : "rcx", "r11", "memory");
  return result == 0 && action.handler ? action.flags : 0;
}

int main(void) {
  static char memory[64];
  stack_t small = {.ss_sp = memory, .ss_size = sizeof memory}, none = {.ss_flags = SS_DISABLE}, now;
  if (sigaltstack(&small, NULL) == 0 || sigaltstack(&none, NULL) != 0) return 1;
  if (sigaltstack(NULL, &now) != 0) return 2;
  while (ready()) say("%s\n", flags_in_kernel() & SA_ONSTACK ? "on stack" : "not");
  return 0;
}
