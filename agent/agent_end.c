/* The end of the process, where profiles are to be written then (PPROFAGENT_DUMP_ON=exit). By
 * exit(), by return from main and by quick_exit(): after all of the program's handlers and
 * destructors, because libc runs first what was registered last; before it writes out what stdio
 * has buffered. By _exit() and the like: their wrappers (exit_interposers.c). Who waits there has
 * all signals blocked, so that none of them ends the process with another code meanwhile. */
#include <stddef.h>
#include <stdint.h>

#include "agent.h"
#include "agent/dump/dumps.h"
#include "shim/base/config.h"
#include "shim/base/raw_syscall.h"

/* libc's, by which nothing of this library's needs to be unregistered (it is never unloaded). */
extern int __cxa_atexit(void (*function)(void *), void *argument, void *object);
extern int __cxa_at_quick_exit(void (*function)(void *), void *object);

static void host_exits(void *unused) {
  (void)unused;
  agent_process_ends();
}

void agent_end_prepare(void) {
  if (config.records_cpu && agent_is_wanted()) agent_hurry();
  if (!config.dumps_at_exit || !agent_is_wanted()) return;
  __cxa_atexit(host_exits, NULL, NULL);
  __cxa_at_quick_exit(host_exits, NULL);
}

void agent_process_ends(void) {
  enum { SET_MASK = 2 }; /* SIG_SETMASK */
  const uint64_t all = ~UINT64_C(0);
  uint64_t before;
  if (!config.dumps_at_exit || !agent_has_threads()) return;
  if (raw_syscall4(SYS_rt_sigprocmask, SET_MASK, (long)&all, (long)&before, sizeof all) != 0)
    return;
  dumps_before_end(agent_hurry);
  raw_syscall4(SYS_rt_sigprocmask, SET_MASK, (long)&before, 0, sizeof before);
}
