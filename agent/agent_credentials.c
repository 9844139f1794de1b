#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "shim/base/raw_syscall.h"
#include "agent.h"
#include "agent/runtime/agent_thread_call.h"
#include "agent/runtime/allowed_calls.h"
#include "agent/runtime/credentials.h"

/* Whoever changes the first word from 0 to 1 has the rest. */
static _Atomic uint32_t following;
static struct credentials the_programs, followed; /* followed: what the agent threads have */
static _Atomic bool followed_is_known;
static _Atomic bool refused; /* by the kernel, to one of them */

/* On each agent thread. */
static void follow(void) {
  if (!credentials_take(&the_programs)) atomic_store_explicit(&refused, true, memory_order_relaxed);
}

static bool follow_all(void) {
  if (!credentials_read(&the_programs)) return false;
  bool known = atomic_exchange_explicit(&followed_is_known, true, memory_order_relaxed);
  if (known && credentials_equal(&the_programs, &followed)) return true;
  atomic_store_explicit(&refused, false, memory_order_relaxed);
  bool all = agent_thread_call(follow);
  credentials_note_change();
  followed = the_programs;
  return all && !atomic_load_explicit(&refused, memory_order_relaxed);
}

void agent_credentials_forget(void) {
  atomic_store_explicit(&followed_is_known, false, memory_order_relaxed);
}

/* New ones have their creator's. */
static void replace_threads(void) {
  if (!agent_pause()) agent_leave_for_good();
  agent_resume();
}

void agent_follow_credentials(void) {
  if (!agent_has_threads()) return;
  if (!allowed_calls_of_credentials()) return replace_threads();
  const uint64_t every = UINT64_MAX; /* a handler that changes them too would wait for ever */
  uint64_t mask;
  raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&every, (long)&mask, sizeof every);
  while (atomic_exchange_explicit(&following, 1, memory_order_acquire)) raw_nap();
  bool all = follow_all();
  atomic_store_explicit(&following, 0, memory_order_release);
  raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&mask, 0, sizeof mask);
  if (!all) replace_threads();
}
