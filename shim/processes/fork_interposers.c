/* fork and what is made of it. In the child the agent's threads are gone; it is started anew when
 * the last atfork handler has run. (vfork, posix_spawn, system and popen share memory with their
 * parent until they exec: left alone.) */
#include <errno.h>
#include <unistd.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/at_fork.h"
#include "shim/base/config.h"
#include "shim/base/confinement.h"
#include "shim/cpu/cpu_sampling.h"
#include "shim/stacks/handler_stack.h"
#include "shim/allocation/heap_sampling.h"
#include "shim/allocation/mmap_sampling.h"
#include "shim/base/trace_ring.h"
#include "shim/next/interposed.h"
#include "shim/base/raw_syscall.h"
#include "shim/cpu/sampling_signal.h"
#include "shim/next/startup.h"
#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"
#include "shim/base/watched_descriptors.h"
#include "shim/stacks/unwind_rule.h"

struct fork_call {
  uint64_t mask;
  int64_t now_ns;
  int32_t pid, tid;
  bool masked, may_start, starts_at_once;
  struct sampler_sequence childs;
};

static int32_t own_tid(void) { return (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0); }

/* A pending tick would make the kernel start the call again and again. */
AT_FORK static struct fork_call fork_begins(bool may_start) {
  bool silent = confinement_forbids_calls();
  struct fork_call call = {
      .pid = cpu_sampling_process(),
      .tid = silent ? 0 : own_tid(),
      .may_start = may_start && !silent && config.children != CHILDREN_NONE,
  };
  call.starts_at_once = call.may_start && agent_may_start_in_child(&call.now_ns);
  call.childs = heap_sampling_split(call.pid);
  call.masked = sampling_signal() != 0 && !silent;
  sampling_signal_take_back(); /* the child would inherit it */
  if (call.masked) call.mask = sampling_signal_block();
  thread_state.forks++;
  return call;
}

static void stop_sampling(void) {
  const char *reason = "PPROFAGENT_CHILDREN=none, and this is a forked child";
  heap_sampling_stop(reason);
  mmap_sampling_stop(reason);
  atomic_store_explicit(&config.blockprofile_rate, 0, memory_order_relaxed);
  atomic_store_explicit(&config.mutexprofile_fraction, 0, memory_order_relaxed);
}

/* No errno: that would cost a child two pages. */
AT_FORK static void fork_ends(const struct fork_call *call, bool is_child) {
  thread_state.forks--;
  /* An atfork handler may have forked: in that child the call that the handler runs in returns as
   * in a parent. */
  int32_t pid = cpu_sampling_process();
  if (is_child || (pid && pid != call->pid)) {
    heap_sampling_begin_sequence(&call->childs, pid);
    cpu_sampling_forget();
    trace_ring_forget();
    unwind_rule_forget_borrower();
    sampling_signal_forget_choice_under_way();
    handler_stacks_forget();
    watched_descriptors_forget();
    if (call->masked && !confinement_forbids_calls()) sampling_signal_adopt();
    if (thread_state.forks == 0) { /* else there are handlers still to run */
      if (!confinement_forbids_calls()) thread_registry_keep_only(call->tid, own_tid());
      if (config.children == CHILDREN_NONE) stop_sampling();
      if (call->may_start && !confinement_forbids_calls())
        agent_start_in_child(call->starts_at_once, call->now_ns);
    }
  }
  if (call->masked) sampling_signal_restore(call->mask);
}

#define DEFINE_FORK(name, may_start)                                  \
  AT_FORK EXPORTED pid_t name(void) {                                 \
    if (!startup_ensure() || !real.name) return STARTUP_NEXT(name)(); \
    struct fork_call call = fork_begins(may_start);                   \
    pid_t child = real.name();                                        \
    fork_ends(&call, child == 0);                                     \
    return child;                                                     \
  }

DEFINE_FORK(fork, true)
DEFINE_FORK(__fork, true)
DEFINE_FORK(_Fork,
            false) /* for signal handlers: libc itself is not ready for threads in such a child */

EXPORTED int daemon(int keep_directory, int keep_descriptors) {
  if (!startup_ensure() || !real.daemon)
    return STARTUP_NEXT(daemon)(keep_directory, keep_descriptors);
  struct fork_call call = fork_begins(true);
  int result = real.daemon(keep_directory, keep_descriptors);
  fork_ends(&call, false); /* whose pid tells */
  return result;
}

EXPORTED pid_t forkpty(int *master, char *name, const struct termios *terminal,
                       const struct winsize *size) {
  if (!startup_ensure() || !real.forkpty)
    return STARTUP_NEXT(forkpty)(master, name, terminal, size);
  struct fork_call call = fork_begins(true);
  pid_t child = real.forkpty(master, name, terminal, size);
  fork_ends(&call, child == 0);
  return child;
}
