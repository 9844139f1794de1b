#include "agent_thread_call.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim/stacks/host_handlers.h"
#include "shim/stacks/kernel_action.h"
#include "shim/base/raw_syscall.h"
#include "agent_inherited.h"
#include "agent_thread.h"

/* libc's handler, or none. A child that is forked meanwhile has ours for good, which passes on to
 * this. */
static struct kernel_action libcs AGENT_INHERITED;

enum { ASKED, DONE };
static struct {
  _Atomic int32_t tid; /* 0: the end of the list. Written by the caller before the signal is sent */
  _Atomic uint32_t state; /* by the thread: DONE */
} called[AGENT_THREAD_MAX + 1];
static _Atomic uint32_t calls; /* made: for the caller to wait for */
static void (*to_call)(void); /* written before the signals are sent */

static void pass_on(int number, siginfo_t *info, void *context) {
  if (libcs.handler == (uintptr_t)SIG_DFL || libcs.handler == (uintptr_t)SIG_IGN) return;
  ((void (*)(int, siginfo_t *, void *))libcs.handler)(number, info, context);
}

static void on_signal(int number, siginfo_t *info, void *context) {
  int32_t self = (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++) {
    int32_t tid = atomic_load_explicit(&called[i].tid, memory_order_acquire);
    if (tid == 0) break;
    if (tid != self) continue;
    to_call();
    atomic_store_explicit(&called[i].state, DONE, memory_order_release);
    atomic_fetch_add_explicit(&calls, 1, memory_order_release);
    raw_futex_wake(&calls, 1);
    return;
  }
  pass_on(number, info, context); /* a thread of the host's, which libc has sent it */
}

static long set_action(const struct kernel_action *action, struct kernel_action *before) {
  return kernel_action_exchange(AGENT_THREAD_CALL_SIGNAL, action, before);
}

/* Sends to those that are new; whether all have called. */
static bool ask_all(void) {
  int32_t tids[AGENT_THREAD_MAX];
  bool all = !agent_thread_starting(); /* first: what starts now is asked next time */
  size_t count = agent_thread_ids(tids, AGENT_THREAD_MAX);
  for (size_t i = 0; i < count && i < AGENT_THREAD_MAX; i++) {
    if (agent_thread_is_libcs(tids[i])) continue; /* libc tells it by the same signal */
    size_t at = 0;
    while (at < AGENT_THREAD_MAX && called[at].tid && called[at].tid != tids[i]) at++;
    if (at == AGENT_THREAD_MAX) return false;
    if (called[at].tid == 0) {
      called[at].state = ASKED;
      atomic_store_explicit(&called[at].tid, tids[i], memory_order_release);
      raw_syscall4(SYS_tgkill, raw_syscall4(SYS_getpid, 0, 0, 0, 0), tids[i],
                   AGENT_THREAD_CALL_SIGNAL, 0);
    }
    all &= atomic_load_explicit(&called[at].state, memory_order_acquire) == DONE;
  }
  return all;
}

/* Not by the clock: a machine, or this process, may have stopped meanwhile. */
static bool call_all(void) {
  enum { WAITS_MAX = 1000 };
  const struct timespec one = {.tv_nsec = 1000000};
  for (int waits = 0; waits < WAITS_MAX; waits++) {
    uint32_t seen = atomic_load_explicit(&calls, memory_order_acquire);
    if (ask_all()) return true;
    raw_futex_wait(&calls, seen, &one);
  }
  return false;
}

bool agent_thread_call(void (*function)(void)) {
  const struct kernel_action ours = {(uintptr_t)on_signal,
                                     SA_SIGINFO | SA_RESTART | SA_RESTORER_FLAG,
                                     (uintptr_t)__restore_rt, UINT64_MAX};
  struct kernel_action before;
  memset(called, 0, sizeof called);
  to_call = function;
  if (set_action(NULL, &before) != 0) return false;
  if (before.handler != (uintptr_t)on_signal) libcs = before; /* before a signal can come */
  if (set_action(&ours, NULL) != 0) return false;
  bool all = call_all();
  /* Else one is pending somewhere, and by its default it ends the process. */
  if (all) set_action(&libcs, NULL);
  return all;
}
