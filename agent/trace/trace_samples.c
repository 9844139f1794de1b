#include "trace_samples.h"

#include <stdatomic.h>

#include "agent/cpu/cpu_profile.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_thread.h"
#include "shim/base/stack_depth.h"

enum { READ_NANOSECONDS = 50000000 };

static struct agent_lock lock; /* taken before the profile's, and before the recordings' */
/* Numbers to show, and a moment: relaxed. taken, untimed: by the sink, which the profile's lock
 * keeps to one thread at a time; the rest by who holds the lock above, or by one thread alone. */
static _Atomic uint64_t taken, untimed;
static const char *_Atomic off_reason;
static traced_sink *_Atomic gather;
static _Atomic int64_t next_read; /* of the recordings' own thread */

static void take(const struct stack_sample *sample) {
  const struct trace_taken_stack stack = {sample->frame_count, sample->epoch, sample->frames};
  const struct trace_event event = {.at = sample->at,
                                    .tid = sample->tid,
                                    .cpu = -1,
                                    .kind = TRACE_SAMPLE,
                                    .value = sample->nanoseconds};
  bool is_one = sample->frame_count > 0 && sample->frame_count <= stack_depth() + 1;
  if (!is_one || sample->at == 0) {
    atomic_fetch_add_explicit(&untimed, 1, memory_order_relaxed);
    return;
  }
  atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
  atomic_load_explicit(&gather, memory_order_relaxed)(NULL, &event, &stack);
}

void trace_samples_adjust(struct trace_sampling (*wanted)(void), traced_sink *sink) {
  agent_lock_take(&lock);
  struct trace_sampling now = wanted();
  atomic_store_explicit(&gather, sink, memory_order_relaxed);
  const char *reason = cpu_profile_watch(now.hz, now.may_signal, take);
  if (now.hz) atomic_store_explicit(&off_reason, reason, memory_order_relaxed);
  agent_lock_release(&lock);
}

void trace_samples_read(void) { cpu_profile_watch_read(); }

void trace_samples_read_if_due(void) {
  int64_t now = agent_monotonic_nanoseconds();
  if (now < atomic_load_explicit(&next_read, memory_order_relaxed)) return;
  atomic_store_explicit(&next_read, now + READ_NANOSECONDS, memory_order_relaxed);
  cpu_profile_watch_read();
}

struct trace_samples_status trace_samples_status(void) {
  return (struct trace_samples_status){
      .taken = atomic_load_explicit(&taken, memory_order_relaxed),
      .untimed = atomic_load_explicit(&untimed, memory_order_relaxed),
      .off_reason = atomic_load_explicit(&off_reason, memory_order_relaxed)};
}
