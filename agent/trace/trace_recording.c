#include "trace_recording.h"

#include "shim/base/config.h"
#include "shim/base/trace_ring.h"
#include "agent/runtime/agent_memory.h"
#include "agent/runtime/agent_thread.h"
#include "agent/runtime/process_info.h"
#include "agent/symbols/announced_code.h"
#include "trace_flight.h"
#include "trace_recorder.h"
#include "trace_stacks.h"
#include "trace_timeline.h"
#include "trace_waits.h"

enum { GATHER_TIMES = 4 /* so many times PPROFAGENT_TRACE_BUFFER may be gathered */ };

struct trace_recording {
  struct trace_listener listener;
  int64_t start, end;
  uint64_t lost; /* at the start; then, of its window */
  struct trace_stacks stacks;
  struct process_identity process;
  struct trace_log log;
};

/* Under the recorder's lock. As long as they have memory. */
static uint32_t client_count;
static uint64_t left_out_total;

_Static_assert(TRACE_MAX_CLIENTS + 2 == TRACE_LISTENERS, "and both of the flight recorder");

/* ---- a client ---- */

/* The window, when all is there that tells of it. */
static void begin(struct trace_recording *client) {
  trace_recorder_lock();
  trace_recorder_read();
  client->lost = trace_recorder_lost();
  client->start = agent_monotonic_nanoseconds();
  trace_recorder_look_at_counters();
  trace_recorder_unlock();
}

/* Under the lock. */
static void end_window(struct trace_recording *client) {
  trace_recorder_look_at_counters();
  client->end = agent_monotonic_nanoseconds();
}

/* What is told last, after a reading. */
static void complete(struct trace_recording *client) {
  trace_recorder_tell_states(&client->listener);
  client->lost = trace_recorder_lost() - client->lost;
  client->log.period = trace_recorder_period();
  client->log.is_sampled = client->log.period > 0;
}

static void leave(struct trace_recording *client) {
  trace_recorder_read();
  complete(client);
  left_out_total += client->listener.gather.left_out;
  trace_recorder_remove(&client->listener);
}

/* False: no memory. */
static bool finish(struct trace_recording *recording) {
  struct trace_gather *gathered = &recording->listener.gather;
  bool is_full = gathered->full_at && gathered->full_at < recording->end;
  if (is_full && gathered->full_at > recording->start) recording->end = gathered->full_at;
  process_identity_read(&recording->process);
  if (!trace_waits_link(gathered, recording->log.is_sampled) ||
      !trace_timeline_make(gathered, recording->start, recording->end) ||
      !trace_stacks_name(gathered, &recording->stacks))
    return false;
  struct trace_log *log = &recording->log;
  log->program = recording->process.comm;
  log->pid = recording->process.pid;
  log->start = recording->start;
  log->end = recording->end;
  log->lost = recording->lost + gathered->left_out;
  log->sample_hz = recording->listener.sampling.hz;
  if (log->sample_hz) log->samples_off = trace_samples_status().off_reason;
  log->events = gathered->events.items;
  log->event_count = gathered->events.count;
  log->stacks = recording->stacks.items;
  log->stack_count = gathered->stacks.count;
  return true;
}

static enum trace_result create(struct trace_recording **out) {
  trace_recorder_lock();
  bool has_place = client_count < TRACE_MAX_CLIENTS;
  *out = has_place ? agent_calloc(1, sizeof **out) : NULL;
  if (*out) client_count++;
  trace_recorder_unlock();
  if (!*out) return has_place ? TRACE_NO_MEMORY : TRACE_TOO_MANY;
  trace_gather_start(&(*out)->listener.gather, config.trace_buffer * GATHER_TIMES);
  announced_code_update(true);
  return TRACE_DONE;
}

/* *out: the recording if it has been done. */
static enum trace_result hand_over(struct trace_recording *recording, enum trace_result result,
                                   struct trace_recording **out) {
  if (result == TRACE_DONE && !finish(recording)) result = TRACE_NO_MEMORY;
  *out = result == TRACE_DONE ? recording : NULL;
  if (!*out) trace_recording_release(recording);
  return result;
}

static void adjust_samples(const struct trace_recording *client) {
  if (client->listener.sampling.hz)
    trace_samples_adjust(trace_recorder_wanted_samples, trace_recorder_take_sample);
}

enum trace_result trace_recording_take(struct http_response *response, int64_t nanoseconds,
                                       struct trace_sampling sampling,
                                       struct trace_recording **out) {
  struct trace_recording *recording;
  enum trace_result result = create(&recording);
  if (result != TRACE_DONE) return hand_over(NULL, result, out);
  recording->listener.sampling = sampling;
  trace_recorder_lock();
  bool listens = trace_recorder_add(&recording->listener);
  trace_recorder_unlock();
  if (!listens) return hand_over(recording, TRACE_NO_MEMORY, out);
  adjust_samples(recording);
  begin(recording);
  bool stayed = http_wait(response, recording->start + nanoseconds);
  trace_recorder_lock();
  end_window(recording);
  trace_recorder_unlock();
  if (sampling.hz) trace_samples_read();
  trace_recorder_lock();
  leave(recording);
  trace_recorder_unlock();
  adjust_samples(recording);
  return hand_over(recording, stayed ? TRACE_DONE : TRACE_CANCELED, out);
}

enum trace_result trace_recording_take_last(int64_t nanoseconds, struct trace_recording **out) {
  struct trace_recording *recording;
  enum trace_result result = create(&recording);
  if (result != TRACE_DONE) return hand_over(NULL, result, out);
  struct trace_flight_window window;
  trace_recorder_lock();
  bool runs = trace_flight_status().runs;
  if (runs) {
    end_window(recording);
    trace_recorder_read(); /* before the copy: what ends a state tells of it */
  }
  bool copied = runs && trace_flight_copy(&recording->listener.gather, &window);
  if (copied) {
    recording->lost = window.lost_before;
    complete(recording);
    recording->start = recording->end - nanoseconds;
    if (recording->start < window.since) recording->start = window.since;
  }
  trace_recorder_unlock();
  return hand_over(recording, copied ? TRACE_DONE : runs ? TRACE_NO_MEMORY : TRACE_NO_FLIGHT, out);
}

const struct trace_log *trace_recording_log(const struct trace_recording *recording) {
  return &recording->log;
}

void trace_recording_release(struct trace_recording *recording) {
  if (!recording) return;
  trace_gather_free(&recording->listener.gather);
  trace_stacks_release(&recording->stacks);
  agent_free(recording);
  trace_recorder_lock();
  client_count--;
  trace_recorder_unlock();
}

struct trace_recording_status trace_recording_status(void) {
  trace_recorder_lock();
  struct trace_recording_status status = {.running = client_count,
                                          .left_out = left_out_total,
                                          .names_cut = trace_ring_names_cut(),
                                          .recorder = trace_recorder_status(),
                                          .flight = trace_flight_status(),
                                          .samples = trace_samples_status()};
  trace_recorder_unlock();
  return status;
}
