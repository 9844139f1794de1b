#include "trace_flight.h"

#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "shim/base/config.h"
#include "trace_recorder.h"

struct part {
  struct trace_listener listener;
  int64_t since;
  uint64_t lost_before;
};

/* Under the recorder's lock. */
static struct part *older, *newer; /* NULL: not there */
static const char *off_reason;

/* Of each of both; what a recording of one client's may take is twice as much. */
static size_t bytes_max(void) { return config.trace_buffer * 2; }

static struct part *add_part(void) {
  struct part *part = agent_calloc(1, sizeof *part);
  if (!part) return NULL;
  part->listener.is_patient = true;
  trace_gather_start(&part->listener.gather, bytes_max());
  if (!trace_recorder_add(&part->listener)) {
    trace_gather_free(&part->listener.gather);
    agent_free(part);
    return NULL;
  }
  part->since = agent_monotonic_nanoseconds();
  part->lost_before = trace_recorder_lost();
  return part;
}

static void remove_part(struct part *part) {
  if (!part) return;
  trace_recorder_remove(&part->listener);
  trace_gather_free(&part->listener.gather);
  agent_free(part);
}

static bool is_over(const struct part *part) {
  return agent_monotonic_nanoseconds() - part->since >=
         (int64_t)config.flight_seconds * INT64_C(1000000000);
}

static void take_turns(void) {
  if (newer && (is_over(newer) || older->listener.gather.full_at)) {
    remove_part(older);
    older = newer;
    newer = NULL;
  }
  /* Without memory it is tried again at the next reading. */
  if (!newer && (is_over(older) || older->listener.gather.bytes > bytes_max() / 2))
    newer = add_part();
}

void trace_flight_begin(void) {
  if (!config.flight_seconds) return;
  trace_recorder_lock();
  older = add_part();
  off_reason = older ? NULL : "there is no memory or no thread for it";
  if (older) trace_recorder_call_each_time(take_turns);
  trace_recorder_unlock();
}

void trace_flight_end(void) {
  if (!config.flight_seconds) return;
  trace_recorder_lock();
  trace_recorder_call_each_time(NULL);
  remove_part(newer);
  remove_part(older);
  newer = older = NULL;
  trace_recorder_unlock();
}

bool trace_flight_copy(struct trace_gather *into, struct trace_flight_window *window) {
  if (!older) return false;
  *window = (struct trace_flight_window){older->since, older->lost_before};
  return trace_gather_copy(into, &older->listener.gather);
}

struct trace_flight_status trace_flight_status(void) {
  struct trace_flight_status status = {.runs = older != NULL, .off_reason = off_reason};
  if (!older) return status;
  status.kept_seconds = (double)(agent_monotonic_nanoseconds() - older->since) / 1e9;
  status.bytes = older->listener.gather.bytes + (newer ? newer->listener.gather.bytes : 0);
  return status;
}
