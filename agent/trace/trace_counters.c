#include "trace_counters.h"

#include "agent/cpu/cpu_coverage.h"
#include "agent/profiles/heap_profile.h"
#include "agent/runtime/agent_thread.h"
#include "go_trace_v2.h"
#include "shim/allocation/heap_status.h"

enum {
  LOOK_NANOSECONDS = 250000000, /* between two looks, and... */
  LOOK_SHARE = 50, /* ... as many times what one costs */
  RATE_NANOSECONDS = 20000000 /* over less, a rate says little */
};

struct sums {
  int64_t at; /* 0: there was no look yet */
  uint64_t allocated, cpu_nanoseconds;
};

static struct sums last;
static int64_t next_look;

void trace_counters_start(void) { last.at = next_look = 0; }

static void tell(traced_sink *sink, const char *name, int64_t at, uint64_t value) {
  struct trace_event event = {
      .at = at, .cpu = -1, .kind = TRACE_COUNTER, .text = name, .value = value};
  sink(NULL, &event, NULL);
}

static uint64_t rate_of(uint64_t before, uint64_t now, int64_t nanoseconds, uint64_t unit) {
  if (now <= before) return 0; /* an estimate may also fall */
  return (uint64_t)((double)(now - before) * (double)unit / (double)nanoseconds);
}

static void tell_rates(traced_sink *sink, const struct sums *now, bool has_heap) {
  enum { SECOND = 1000000000, PERCENT = 100 };
  int64_t passed = now->at - last.at;
  if (last.at == 0 || passed < RATE_NANOSECONDS) return;
  if (has_heap)
    tell(sink, "allocation rate", last.at, rate_of(last.allocated, now->allocated, passed, SECOND));
  tell(sink, "CPU", last.at, rate_of(last.cpu_nanoseconds, now->cpu_nanoseconds, passed, PERCENT));
}

void trace_counters_look(uint32_t threads, traced_sink *sink) {
  int64_t before = agent_own_cpu_nanoseconds();
  struct heap_totals heap = {0};
  bool has_heap = !heap_off_reason();
  if (has_heap) heap_totals_read(&heap);
  struct sums now = {.at = agent_monotonic_nanoseconds(),
                     .allocated = (uint64_t)heap.alloc_bytes,
                     .cpu_nanoseconds = cpu_coverage_host_nanoseconds()};
  tell_rates(sink, &now, has_heap);
  if (has_heap) tell(sink, GO_TRACE_HEAP_COUNTER, now.at, (uint64_t)heap.inuse_bytes);
  tell(sink, "threads", now.at, threads);
  if (last.at == 0 || now.at - last.at >= RATE_NANOSECONDS) last = now;
  int64_t pause = (agent_own_cpu_nanoseconds() - before) * LOOK_SHARE;
  next_look = now.at + (pause > LOOK_NANOSECONDS ? pause : LOOK_NANOSECONDS);
}

void trace_counters_look_if_due(uint32_t threads, bool hurried, traced_sink *sink) {
  enum { PATIENCE = 4 };
  int64_t now = agent_monotonic_nanoseconds();
  if (hurried ? now >= next_look : now - last.at >= (next_look - last.at) * PATIENCE)
    trace_counters_look(threads, sink);
}
