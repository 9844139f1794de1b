/* The end of the process, where profiles are to be written then (PPROFAGENT_DUMP_ON=exit). By
 * exit(), by return from main and by quick_exit(): after all of the program's handlers and
 * destructors, because libc runs first what was registered last; before it writes out what stdio
 * has buffered. But where other threads of the program's are there: before them, as those threads
 * may use what is destroyed, for as long as this one waits. By _exit() and the like: their wrappers
 * (exit_interposers.c). By a signal that tells it to: dump_signals.c. Who waits has all signals
 * blocked, so that none of them ends the process with another code meanwhile. */
#include <stddef.h>
#include <stdint.h>

#include "agent.h"
#include "agent/dump/dumps.h"
#include "shim/base/config.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/thread_state.h"
#include "shim/cpu/dump_signals.h"
#include "shim/threads/thread_registry.h"

/* libc's, by which nothing of this library's needs to be unregistered (it is never unloaded). */
extern int __cxa_atexit(void (*function)(void *), void *argument, void *object);
extern int __cxa_at_quick_exit(void (*function)(void *), void *object);
/* Of the thread that calls it, when it exits, or the process does by it. object: any address of the
 * library. */
extern int __cxa_thread_atexit_impl(void (*function)(void *), void *argument, void *object)
    __attribute__((weak));

/* No other thread of the program's is there. */
static bool is_alone(void) {
  int32_t own = (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
  int32_t first = (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0);
  bool first_has_left = agent_main_thread_has_left();
  struct thread_view view;
  if (own != first && !first_has_left) return false;
  for (uint32_t number = thread_registry_count(); number > 0; number--)
    if (thread_registry_read(number, &view) && view.tid != own &&
        !(view.tid == first && first_has_left))
      return false;
  return true;
}

static bool may_write(void) { return config.dumps_at_exit && agent_has_threads(); }

void agent_process_exits(void) {
  if (may_write() && !is_alone()) agent_process_ends();
}

/* Or the first thread calls exit; or, which does not end the process, pthread_exit. */
static void main_returns(void *unused) {
  (void)unused;
  if (!agent_main_thread_has_left()) agent_process_exits();
}

/* With other threads, and not known by then that the process exits: nothing is written. */
static void host_has_exited(void *unused) {
  (void)unused;
  if (may_write() && is_alone()) agent_process_ends();
}

static void host_exits_quickly(void *unused) {
  (void)unused;
  agent_process_ends();
}

static void await_return_of_main(void) {
  struct agent_section saved = thread_enter_agent(); /* what libc allocates for it is not counted */
  if (__cxa_thread_atexit_impl) __cxa_thread_atexit_impl(main_returns, NULL, &config);
  thread_leave_agent(saved);
}

void agent_end_prepare(void) {
  if (config.records_cpu && agent_is_wanted()) agent_hurry();
  if (!agent_is_wanted()) return;
  dump_signals_start(config.dump_signals);
  if (!config.dumps_at_exit) return;
  __cxa_atexit(host_has_exited, NULL, NULL);
  __cxa_at_quick_exit(host_exits_quickly, NULL);
  await_return_of_main();
}

bool agent_writes_dump(void) {
  bool may = agent_has_threads();
  if (may) dumps_now(agent_hurry);
  return may;
}

void agent_process_ends(void) {
  enum { SET_MASK = 2 }; /* SIG_SETMASK */
  const uint64_t all = ~UINT64_C(0);
  uint64_t before;
  if (!may_write()) return;
  if (raw_syscall4(SYS_rt_sigprocmask, SET_MASK, (long)&all, (long)&before, sizeof all) != 0)
    return;
  dumps_before_end(agent_hurry);
  raw_syscall4(SYS_rt_sigprocmask, SET_MASK, (long)&before, 0, sizeof before);
}
