#include "cpu_counters.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/cpu/cpu_sampling.h"
#include "shim/cpu/sampling_signal.h"
#include "shim/threads/thread_registry.h"
#include "agent/runtime/descriptor_table.h"
#include "agent/runtime/sandbox.h"

enum {
  COUNTERS_MAX = 256, /* threads that are busy at the same time: a few times the number of cores */
  BUSY_SAMPLES = 3 /* of a thread's timer, before it gets a counter */
};

static struct counter {
  int descriptor;
  uint32_t record;
  uint64_t life;
} counters[COUNTERS_MAX];
static _Atomic uint32_t count;
static const char *_Atomic off_reason;

static bool life_is(const struct counter *counter) {
  return atomic_load(&thread_registry_at(counter->record)->life) == counter->life;
}

static void close_one(uint32_t i) {
  cpu_sampling_counter_closed(counters[i].descriptor);
  close(counters[i].descriptor);
  uint32_t last = atomic_load_explicit(&count, memory_order_relaxed) - 1;
  counters[i] = counters[last];
  atomic_store_explicit(&count, last, memory_order_relaxed);
}

void cpu_counters_close(void) {
  while (atomic_load_explicit(&count, memory_order_relaxed)) close_one(0);
}

void cpu_counters_sweep(void) {
  for (uint32_t i = atomic_load_explicit(&count, memory_order_relaxed); i > 0; i--)
    if (!life_is(&counters[i - 1])) close_one(i - 1);
}

static int open_counter(int32_t tid, uint64_t period) {
  struct perf_event_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_TASK_CLOCK;
  attributes.sample_period = period;
  attributes.wakeup_events = 1;
  attributes.disabled = 1;
  return (int)syscall(SYS_perf_event_open, &attributes, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static bool signal_thread(int descriptor, int32_t tid) {
  struct f_owner_ex owner = {F_OWNER_TID, tid};
  return fcntl(descriptor, F_SETOWN_EX, &owner) == 0 &&
         fcntl(descriptor, F_SETSIG, sampling_signal()) == 0 &&
         fcntl(descriptor, F_SETFL, O_ASYNC) == 0;
}

/* perf_event_open is on many lists of what a service may not do, some of which kill. */
static const char *cannot_be_had(void) {
  if (sandbox_has_filter()) return "the process is under a seccomp filter";
  if (!sampling_signal_is_harmless()) return "SIGURG is in use by the program";
  if (!descriptor_table_is_private()) return "the agent has no descriptor table of its own";
  return NULL;
}

static bool has_counter(uint32_t record, uint64_t life) {
  for (uint32_t i = atomic_load_explicit(&count, memory_order_relaxed); i > 0; i--)
    if (counters[i - 1].record == record && counters[i - 1].life == life) return true;
  return false;
}

void cpu_counters_saw(uint32_t record, int32_t tid, uint64_t period) {
  struct thread_record *thread = thread_registry_at(record);
  uint32_t used = atomic_load_explicit(&count, memory_order_relaxed);
  if (atomic_load(&off_reason) || used == COUNTERS_MAX || !thread ||
      atomic_load_explicit(&thread->ticks, memory_order_relaxed) < BUSY_SAMPLES ||
      atomic_load_explicit(&thread->timer, memory_order_relaxed) <= 0)
    return;
  if (has_counter(record, atomic_load_explicit(&thread->life, memory_order_relaxed))) return;
  const char *reason = cannot_be_had();
  struct thread_view view;
  if (reason || !thread_registry_read(record, &view) || view.tid != tid) {
    if (reason) atomic_store(&off_reason, reason);
    return;
  }
  int descriptor = open_counter(tid, period);
  if (descriptor < 0) {
    if (errno != ESRCH && errno != EMFILE && errno != ENFILE && errno != ENOMEM)
      atomic_store(&off_reason,
                   "the kernel does not let this process use perf_event_open for kernel time "
                   "(perf_event_paranoid, a sandbox)");
    return;
  }
  counters[used] = (struct counter){descriptor, record, view.life};
  if (signal_thread(descriptor, tid) && cpu_sampling_counter_opened(record, tid, descriptor)) {
    atomic_store_explicit(&count, used + 1, memory_order_relaxed);
    ioctl(descriptor, PERF_EVENT_IOC_ENABLE, 0);
  } else {
    close(descriptor);
  }
}

uint32_t cpu_counters_open_count(void) {
  return atomic_load_explicit(&count, memory_order_relaxed);
}
const char *cpu_counters_off_reason(void) { return atomic_load(&off_reason); }
