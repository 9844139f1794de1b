/* rt_sigaction(2) as the kernel has it: what libc's sigaction leaves out (signals of its own, the
 * code that a handler returns to). Context: any; locks: none. */
#ifndef SHIM_KERNEL_ACTION_H
#define SHIM_KERNEL_ACTION_H

#include <stdint.h>

#include "shim/base/raw_syscall.h"

#if defined(__x86_64__)

enum { SA_RESTORER_FLAG = 0x04000000 };

/* arch/x86/include/uapi/asm/signal.h */
struct kernel_action {
  uintptr_t handler;
  uint64_t flags;
  uintptr_t restorer;
  uint64_t mask;
};

#else
#error "struct kernel_action is not written for this architecture yet"
#endif

/* As sigaction(2), either may be NULL. 0, or -errno. */
static inline long kernel_action_exchange(int number, const struct kernel_action *action,
                                          struct kernel_action *before) {
  return raw_syscall4(SYS_rt_sigaction, number, (long)action, (long)before, sizeof action->mask);
}

#endif
