#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shim/base/at_fork.h"
#include "shim/base/confinement.h"
#include "shim/stacks/handler_stack.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/thread_state.h"
#include "agent.h"
#include "agent/runtime/agent_inherited.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/allowance.h"
#include "agent/tree/process_tree.h"
#include "agent/tree/tree_keys.h"
#include "agent/tls/tls_library.h"

#define MILLISECONDS INT64_C(1000000)
enum { AT_ONCE = 64, EVERY_MILLISECONDS = 50, LATE_MILLISECONDS = 100 };

static _Atomic int64_t allowance_whole_ns AGENT_INHERITED;

bool agent_may_start_in_child(int64_t *now_ns) {
  if (!agent_is_wanted()) return false;
  *now_ns = agent_monotonic_nanoseconds();
  if (!allowance_take(&allowance_whole_ns, *now_ns, EVERY_MILLISECONDS * MILLISECONDS, AT_ONCE))
    return false;
  tree_keys_make();
  tls_library_await_loading();
  return true;
}

/* The linker puts all variables of the agent and of what is linked in between these
 * (shim/layout.ld). */
extern char agent_state_begin[], agent_state_end[], agent_start_state_begin[],
    agent_start_state_end[];

/* What has not been touched yet, most of it, takes a page each when it is written: the kernel is
 * asked for fresh ones instead. It refuses where the program has locked its memory. */
static void clear(char *begin, char *end) {
  enum { PAGE = 4096 };
  char *first = (char *)(((uintptr_t)begin + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
  char *last = (char *)((uintptr_t)end & ~(uintptr_t)(PAGE - 1));
  if (first >= last || raw_syscall4(SYS_madvise, (long)first, last - first, MADV_DONTNEED, 0) != 0)
    first = last = end;
  memset(begin, 0, (size_t)(first - begin));
  memset(last, 0, (size_t)(end - last));
}

static void start_anew(void *unused) {
  (void)unused;
  int error = errno;
  sigset_t all, before;
  memset(&all, ~0, sizeof all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool parent_was_in = process_tree_role() != TREE_OUTSIDE;
  clear(agent_state_begin, agent_state_end);
  clear(agent_start_state_begin, agent_start_state_end);
  if (!parent_was_in) process_tree_let_parent_go_first();
  agent_start_anew();
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = error;
}

AT_FORK void agent_start_in_child(bool at_once, int64_t now) {
  if (!agent_is_wanted()) return;
  thread_state.start_due_ns = at_once ? 0 : now + LATE_MILLISECONDS * MILLISECONDS;
  thread_state.start_pid = (int32_t)raw_syscall4(SYS_getpid, 0, 0, 0, 0);
  if (at_once) start_anew(NULL);
}

/* A handler that creates a thread may have interrupted anything. */
static bool on_alternate_stack(void) {
  return (uintptr_t)__builtin_frame_address(0) - thread_state.alternate_low <
         thread_state.alternate_size;
}

void agent_start_late(void) {
  if (confinement_forbids_calls()) return;
  bool has_left = thread_state.start_pid < 0; /* agent_absence.c: it need not be started anew */
  int32_t pid = has_left ? -thread_state.start_pid : thread_state.start_pid;
  if (pid != getpid()) return; /* a child of vfork shares our memory */
  if (on_alternate_stack() || agent_monotonic_nanoseconds() < thread_state.start_due_ns) return;
  if (has_left) {
    agent_come_back();
    return;
  }
  int64_t due = thread_state.start_due_ns;
  thread_state.start_due_ns = 0;
  if (!handler_stack_call(start_anew, NULL)) thread_state.start_due_ns = due; /* at a later call */
}
