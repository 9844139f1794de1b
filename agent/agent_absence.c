/* The agent's threads leave while a program that has none of its own counts its threads. */
#include <stdatomic.h>
#include <sys/single_threaded.h>

#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/thread_state.h"
#include "shim/base/watched_descriptors.h"
#include "admin_server.h"
#include "agent.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/allowance.h"

#define MILLISECONDS INT64_C(1000000)
/* A look costs half a millisecond: of a program that looks all day, half a hundredth of its time at
 * most. Those that need to be alone look when they start, or when they fork. */
enum { LOOKS_AT_ONCE = 64, EVERY_MILLISECONDS = 100, LATE_MILLISECONDS = 100 };

/* Of the program's threads, signal handlers included. */
static _Atomic uint32_t calls; /* under way */
static _Atomic uint32_t while_open; /* 1: until agent_come_back */
static _Atomic int64_t looks_whole_ns;

bool agent_is_looked_for(void) { return atomic_load(&calls) || atomic_load(&while_open); }

/* Those that the kernel knows: one that ends has told so before. */
static unsigned own_threads(void) {
  int32_t self = confinement_forbids_calls() ? 0 : (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0);
  return self && agent_is_process(self) ? agent_thread_count() : 0;
}

static bool all_but_caller_are_own(uint64_t threads) {
  unsigned own = threads > 1 ? own_threads() : 0;
  return own && threads == own + 1u;
}

/* Programs end themselves for what this tells, so it is not left to the number alone, which was
 * told when the agent may have had another one. */
bool agent_leave_for_call(uint64_t threads) {
  bool alone =
      __libc_single_threaded ? threads > 1 && own_threads() : all_but_caller_are_own(threads);
  if (!alone) return false;
  atomic_fetch_add(&calls, 1);
  agent_pause();
  return true;
}

void agent_come_back_after_call(void) {
  agent_resume();
  atomic_fetch_sub(&calls, 1);
}

static bool may_leave(int64_t now) {
  return !admin_server_has_client() &&
         allowance_take(&looks_whole_ns, now, EVERY_MILLISECONDS * MILLISECONDS, LOOKS_AT_ONCE);
}

bool agent_leave_while_open(uint64_t threads) {
  int32_t self = (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0);
  if (threads == 1) return agent_is_process(self) && atomic_load(&while_open);
  if (!all_but_caller_are_own(threads)) return false;
  int64_t now = agent_monotonic_nanoseconds();
  if (!may_leave(now) || atomic_exchange(&while_open, 1)) return false;
  bool have_left = agent_pause();
  thread_state.start_due_ns = now + LATE_MILLISECONDS * MILLISECONDS;
  thread_state.start_pid = -self; /* not a child's */
  if (!have_left) agent_come_back();
  return have_left;
}

void agent_come_back(void) {
  watched_descriptors_forget();
  thread_state.start_due_ns = 0;
  if (atomic_exchange(&while_open, 0)) agent_resume();
}
