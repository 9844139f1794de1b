#include "perfetto_trace.h"

#include <inttypes.h>
#include <stdio.h>

#include "agent/runtime/agent_memory.h"
#include "perfetto_packets.h"
#include "trace_walk.h"
#include "trace_words.h"

enum { CPU_LIMIT = 4096, CLOCK_MONOTONIC_ID = 3, ANNOTATIONS_MAX = 6 };

typedef Perfetto__Protos__TracePacket trace_packet;
typedef Perfetto__Protos__TrackEvent track_event;
typedef Perfetto__Protos__GenericKernelTaskStateEvent task_state;

/* Lanes of a thread, and below it. The process itself has the number 0, counters their own. */
enum track { TRACK_MAIN, TRACK_STATE, TRACK_SAMPLES, TRACK_COUNTER };

struct lane {
  int32_t cpu; /* where it ran last */
  uint8_t state; /* that was sent last */
  bool has_samples;
};

struct encoder {
  const struct trace_log *log;
  struct trace_links links;
  struct perfetto_packets packets;
  struct lane *lanes;
  const char **counters; /* by number, sent */
  uint32_t counter_count, counter_capacity;
  bool by_cpu; /* states fill the scheduler's tables */
};

static uint64_t track_of(const struct encoder *encoder, enum track track, uint32_t number) {
  return (uint64_t)(uint32_t)encoder->log->pid << 34 | (uint64_t)number << 2 | track;
}

static uint64_t thread_track(const struct encoder *encoder, enum track track, uint32_t thread) {
  return track_of(encoder, track, (uint32_t)encoder->links.threads[thread].tid);
}

static void at_time(trace_packet *packet, int64_t at) {
  packet->has_timestamp = true;
  packet->timestamp = (uint64_t)at;
}

/* ---- track events ---- */

struct annotated_event {
  track_event event;
  char *category;
  Perfetto__Protos__DebugAnnotation annotations[ANNOTATIONS_MAX], *pointers[ANNOTATIONS_MAX];
};

static void start_event(struct annotated_event *out, Perfetto__Protos__TrackEvent__Type type,
                        uint64_t track, const char *category) {
  perfetto__protos__track_event__init(&out->event);
  out->event.has_type = out->event.has_track_uuid = true;
  out->event.type = type;
  out->event.track_uuid = track;
  out->category = (char *)(uintptr_t)category;
  if (!category) return;
  out->event.n_categories = 1;
  out->event.categories = &out->category;
}

static Perfetto__Protos__DebugAnnotation *annotate(struct annotated_event *out, const char *name) {
  Perfetto__Protos__DebugAnnotation *annotation = &out->annotations[out->event.n_debug_annotations];
  perfetto__protos__debug_annotation__init(annotation);
  annotation->name = (char *)(uintptr_t)name;
  out->pointers[out->event.n_debug_annotations++] = annotation;
  out->event.debug_annotations = out->pointers;
  return annotation;
}

static void annotate_number(struct annotated_event *out, const char *name, uint64_t value) {
  Perfetto__Protos__DebugAnnotation *annotation = annotate(out, name);
  annotation->has_uint_value = true;
  annotation->uint_value = value;
}

static void annotate_address(struct annotated_event *out, const char *name, uint64_t value) {
  Perfetto__Protos__DebugAnnotation *annotation = annotate(out, name);
  annotation->has_pointer_value = true;
  annotation->pointer_value = value;
}

static void annotate_text(struct encoder *encoder, struct annotated_event *out, const char *name,
                          const char *text) {
  annotate(out, name)->string_value = (char *)(uintptr_t)perfetto_text(&encoder->packets, text);
}

static bool send_event(struct encoder *encoder, int64_t at, struct annotated_event *event) {
  trace_packet packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
  at_time(&packet, at);
  packet.track_event = &event->event;
  return perfetto_send(&encoder->packets, &packet);
}

static bool send_end(struct encoder *encoder, uint64_t track, int64_t at) {
  struct annotated_event end;
  start_event(&end, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_SLICE_END, track, NULL);
  return send_event(encoder, at, &end);
}

/* ---- states ---- */

#define TASK_STATE(name) \
  PERFETTO__PROTOS__GENERIC_KERNEL_TASK_STATE_EVENT__TASK_STATE_ENUM__TASK_STATE_##name

static uint8_t state_of(const struct encoder *encoder, uint32_t number) {
  const struct trace_event *event = &encoder->log->events[number];
  if (event->kind == TRACE_THREAD_ENDED) /* the main thread's end would be the process's */
    return event->tid == encoder->log->pid ? TASK_STATE(DEAD) : TASK_STATE(DESTROYED);
  if (trace_gap(&encoder->links, encoder->log, number)) return TASK_STATE(STOPPED);
  if (event->kind == TRACE_RUNNING) return TASK_STATE(RUNNING);
  if (event->kind == TRACE_RUNNABLE) return TASK_STATE(RUNNABLE);
  return event->reason == TRACE_REASON_DISK ? TASK_STATE(UNINTERRUPTIBLE_SLEEP)
                                            : TASK_STATE(INTERRUPTIBLE_SLEEP);
}

/* It holds for no time: the next state is what is told of this moment. */
static bool is_momentary(const struct encoder *encoder, uint32_t number) {
  uint32_t to = encoder->links.to[number];
  return to != TRACE_LINK_NONE && encoder->log->events[to].at == encoder->log->events[number].at;
}

/* The CPU goes with every state: it closes what ran there. */
static bool send_task_state(struct encoder *encoder, uint32_t thread, uint32_t number) {
  struct lane *lane = &encoder->lanes[thread];
  const struct trace_thread *is = &encoder->links.threads[thread];
  uint8_t state = state_of(encoder, number);
  if (state == lane->state) return true; /* RUNNING twice is an error */
  lane->state = state;
  if (state == TASK_STATE(RUNNING)) lane->cpu = trace_cpu_of(&encoder->links, encoder->log, number);
  task_state out = PERFETTO__PROTOS__GENERIC_KERNEL_TASK_STATE_EVENT__INIT;
  out.has_cpu = out.has_tid = out.has_state = true;
  out.cpu = lane->cpu;
  out.tid = is->tid;
  out.state = state;
  if (is->name && *is->name) out.comm = (char *)perfetto_text(&encoder->packets, is->name);
  trace_packet packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
  at_time(&packet, encoder->log->events[number].at);
  packet.generic_kernel_task_state_event = &out;
  return perfetto_send(&encoder->packets, &packet);
}

static bool send_state_slice(struct encoder *encoder, uint32_t thread, uint32_t number) {
  const struct trace_event *event = &encoder->log->events[number];
  if (!trace_is_state(event)) return true;
  uint64_t track = thread_track(encoder, TRACK_STATE, thread);
  struct annotated_event begin;
  start_event(&begin, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_SLICE_BEGIN, track, "state");
  const char *name = trace_gap(&encoder->links, encoder->log, number) ? "records lost"
                     : event->kind == TRACE_RUNNING                   ? "running"
                     : event->kind == TRACE_RUNNABLE                  ? "runnable"
                                                                      : "blocked";
  perfetto_use_name(&encoder->packets, &begin.event, name);
  int32_t cpu = trace_cpu_of(&encoder->links, encoder->log, number);
  if (event->kind == TRACE_RUNNING && cpu >= 0) annotate_number(&begin, "cpu", (uint32_t)cpu);
  return send_event(encoder, event->at, &begin) &&
         send_end(encoder, track, trace_end_of(&encoder->links, encoder->log, number));
}

static bool send_state(void *context, uint32_t thread, uint32_t number) {
  struct encoder *encoder = context;
  if (trace_is_state(&encoder->log->events[number]) && is_momentary(encoder, number)) return true;
  return encoder->by_cpu ? send_task_state(encoder, thread, number)
                         : send_state_slice(encoder, thread, number);
}

/* Whether each thread that runs does so on a known CPU. */
static bool knows_cpus(const struct encoder *encoder) {
  const struct trace_log *log = encoder->log;
  if (log->is_sampled) return false;
  for (size_t i = 0; i < log->event_count; i++) {
    if (log->events[i].kind != TRACE_RUNNING || is_momentary(encoder, (uint32_t)i)) continue;
    int32_t cpu = trace_cpu_of(&encoder->links, log, (uint32_t)i);
    if (cpu < 0 || cpu >= CPU_LIMIT) return false;
  }
  return true;
}

/* ---- slices and instants ---- */

static void add_arrow_out(track_event *event, uint64_t *arrow) {
  if (*arrow == 0) return;
  event->n_flow_ids = 1;
  event->flow_ids = arrow;
}

static void add_arrow_in(track_event *event, uint64_t *arrow) {
  if (*arrow == 0) return;
  event->n_terminating_flow_ids = 1;
  event->terminating_flow_ids = arrow;
}

static bool begin_slice(void *context, const struct trace_slice *slice) {
  static const char *const categories[] = {[TRACE_SLICE_NONE] = NULL,
                                           [TRACE_SLICE_WAIT] = "wait",
                                           [TRACE_SLICE_WOKEN] = "wake",
                                           [TRACE_SLICE_GAP] = "gap"};
  struct encoder *encoder = context;
  const struct trace_event *event = &encoder->log->events[slice->event];
  const struct trace_event *lost = trace_gap(&encoder->links, encoder->log, slice->event);
  struct annotated_event out;
  uint64_t arrow = slice->arrow;
  start_event(&out, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_SLICE_BEGIN,
              thread_track(encoder, TRACK_MAIN, slice->thread), categories[slice->kind]);
  add_arrow_in(&out.event, &arrow);
  if (slice->kind == TRACE_SLICE_WAIT) {
    perfetto_use_name(&encoder->packets, &out.event, trace_wait_name(event));
    perfetto_use_stack(&encoder->packets, &out.event, event->stack);
    annotate_text(encoder, &out, "reason", trace_reason_name(event));
  } else if (slice->kind == TRACE_SLICE_GAP) {
    perfetto_use_name(&encoder->packets, &out.event, "records lost");
    annotate_number(&out, "lost", lost ? lost->value : 0);
  } else {
    perfetto_use_name(&encoder->packets, &out.event, "woken");
  }
  return send_event(encoder, slice->from, &out);
}

static bool end_slice(void *context, const struct trace_slice *slice, int64_t at) {
  struct encoder *encoder = context;
  return send_end(encoder, thread_track(encoder, TRACK_MAIN, slice->thread), at);
}

static bool begin_mark(void *context, uint32_t thread, uint32_t number) {
  struct encoder *encoder = context;
  const struct trace_event *event = &encoder->log->events[number];
  struct annotated_event out;
  start_event(&out, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_SLICE_BEGIN,
              thread_track(encoder, TRACK_MAIN, thread), "mark");
  perfetto_use_name(&encoder->packets, &out.event, trace_mark_name(event));
  perfetto_use_stack(&encoder->packets, &out.event, event->stack);
  return send_event(encoder, event->at, &out);
}

static bool end_mark(void *context, uint32_t thread, int64_t at) {
  struct encoder *encoder = context;
  return send_end(encoder, thread_track(encoder, TRACK_MAIN, thread), at);
}

static bool send_track(struct encoder *encoder, Perfetto__Protos__TrackDescriptor *track) {
  trace_packet packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
  at_time(&packet, encoder->log->start);
  track->has_uuid = true;
  packet.track_descriptor = track;
  return perfetto_send(&encoder->packets, &packet);
}

static bool send_child_track(struct encoder *encoder, enum track kind, uint32_t thread,
                             const char *name) {
  Perfetto__Protos__TrackDescriptor track = PERFETTO__PROTOS__TRACK_DESCRIPTOR__INIT;
  track.uuid = thread_track(encoder, kind, thread);
  track.has_parent_uuid = true;
  track.parent_uuid = thread_track(encoder, TRACK_MAIN, thread);
  track.name = (char *)(uintptr_t)name;
  return send_track(encoder, &track);
}

static bool send_sample(struct encoder *encoder, const struct trace_instant *instant) {
  const struct trace_event *event = &encoder->log->events[instant->event];
  struct annotated_event out;
  if (!encoder->lanes[instant->thread].has_samples &&
      !send_child_track(encoder, TRACK_SAMPLES, instant->thread, "CPU samples"))
    return false;
  encoder->lanes[instant->thread].has_samples = true;
  start_event(&out, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_INSTANT,
              thread_track(encoder, TRACK_SAMPLES, instant->thread), "sample");
  perfetto_use_name(&encoder->packets, &out.event, "CPU sample");
  perfetto_use_stack(&encoder->packets, &out.event, event->stack);
  if (event->value != 0) annotate_number(&out, "cpu_ns", event->value);
  return send_event(encoder, event->at, &out);
}

static bool send_instant(void *context, const struct trace_instant *instant) {
  struct encoder *encoder = context;
  const struct trace_event *event = &encoder->log->events[instant->event];
  struct annotated_event out;
  uint64_t arrow_out = instant->arrow_out, arrow_in = instant->arrow_in;
  const char *category = "wake", *name = "release";
  bool own_stack = true;
  if (instant->kind == TRACE_INSTANT_SAMPLE) return send_sample(encoder, instant);
  switch (instant->kind) {
    case TRACE_INSTANT_WAKE: name = "wake", own_stack = false; break;
    case TRACE_INSTANT_CREATE: name = "create thread", category = "thread"; break;
    case TRACE_INSTANT_BORN: name = "born", category = "thread", own_stack = false; break;
    case TRACE_INSTANT_MARK: name = trace_mark_name(event), category = "mark"; break;
    default: break;
  }
  start_event(&out, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_INSTANT,
              thread_track(encoder, TRACK_MAIN, instant->thread), category);
  add_arrow_out(&out.event, &arrow_out);
  add_arrow_in(&out.event, &arrow_in);
  perfetto_use_name(&encoder->packets, &out.event, name);
  if (own_stack) perfetto_use_stack(&encoder->packets, &out.event, event->stack);
  if (instant->kind == TRACE_INSTANT_RELEASE) {
    annotate_number(&out, "thread", (uint32_t)event->other);
    annotate_address(&out, "lock", event->value);
  } else if (instant->kind == TRACE_INSTANT_WAKE || instant->kind == TRACE_INSTANT_CREATE) {
    annotate_number(&out, "thread", (uint32_t)event->tid);
  } else if (instant->kind == TRACE_INSTANT_BORN) {
    annotate_number(&out, "creator", (uint32_t)event->other);
  } else if (event->value != 0) {
    annotate_number(&out, "bytes", event->value);
  }
  return send_event(encoder, event->at, &out);
}

/* The number of a counter's lane, sent when it is new; UINT32_MAX: that failed. */
static uint32_t counter_number(struct encoder *encoder, const char *name) {
  const char *text = perfetto_text(&encoder->packets, name); /* the same text, the same pointer */
  for (uint32_t i = 0; i < encoder->counter_count; i++)
    if (encoder->counters[i] == text) return i;
  if (encoder->counter_count == encoder->counter_capacity) {
    uint32_t capacity = encoder->counter_capacity + 16;
    const char **counters = agent_realloc(encoder->counters, capacity * sizeof *counters);
    if (!counters) return UINT32_MAX;
    encoder->counters = counters;
    encoder->counter_capacity = capacity;
  }
  Perfetto__Protos__TrackDescriptor track = PERFETTO__PROTOS__TRACK_DESCRIPTOR__INIT;
  Perfetto__Protos__CounterDescriptor counter = PERFETTO__PROTOS__COUNTER_DESCRIPTOR__INIT;
  track.uuid = track_of(encoder, TRACK_COUNTER, encoder->counter_count);
  track.has_parent_uuid = true;
  track.parent_uuid = track_of(encoder, TRACK_MAIN, 0);
  track.name = (char *)(uintptr_t)text;
  track.counter = &counter;
  if (!send_track(encoder, &track)) return UINT32_MAX;
  encoder->counters[encoder->counter_count] = text;
  return encoder->counter_count++;
}

static bool send_counter(void *context, uint32_t number) {
  struct encoder *encoder = context;
  const struct trace_event *event = &encoder->log->events[number];
  uint32_t counter = counter_number(encoder, event->text ? event->text : "");
  if (counter == UINT32_MAX) return false;
  struct annotated_event out;
  start_event(&out, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_COUNTER,
              track_of(encoder, TRACK_COUNTER, counter), NULL);
  out.event.has_counter_value = true;
  out.event.counter_value = event->value > INT64_MAX ? INT64_MAX : (int64_t)event->value;
  return send_event(encoder, event->at, &out);
}

/* ---- before everything ---- */

static bool send_clock(struct encoder *encoder) {
  trace_packet packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
  Perfetto__Protos__TracePacketDefaults defaults = PERFETTO__PROTOS__TRACE_PACKET_DEFAULTS__INIT;
  Perfetto__Protos__ClockSnapshot snapshot = PERFETTO__PROTOS__CLOCK_SNAPSHOT__INIT;
  Perfetto__Protos__ClockSnapshot__Clock clock = PERFETTO__PROTOS__CLOCK_SNAPSHOT__CLOCK__INIT;
  Perfetto__Protos__ClockSnapshot__Clock *clock_pointer = &clock;
  clock.has_clock_id = clock.has_timestamp = true;
  clock.clock_id = CLOCK_MONOTONIC_ID;
  clock.timestamp = (uint64_t)encoder->log->start;
  snapshot.n_clocks = 1;
  snapshot.clocks = &clock_pointer;
  snapshot.has_primary_trace_clock = true;
  snapshot.primary_trace_clock = PERFETTO__PROTOS__BUILTIN_CLOCK__BUILTIN_CLOCK_MONOTONIC;
  defaults.has_timestamp_clock_id = true;
  defaults.timestamp_clock_id = CLOCK_MONOTONIC_ID;
  packet.trace_packet_defaults = &defaults;
  packet.clock_snapshot = &snapshot;
  return perfetto_send(&encoder->packets, &packet);
}

static bool send_process(struct encoder *encoder) {
  char *program = (char *)(uintptr_t)perfetto_text(&encoder->packets, encoder->log->program);
  Perfetto__Protos__TrackDescriptor track = PERFETTO__PROTOS__TRACK_DESCRIPTOR__INIT;
  Perfetto__Protos__ProcessDescriptor process = PERFETTO__PROTOS__PROCESS_DESCRIPTOR__INIT;
  process.has_pid = true;
  process.pid = encoder->log->pid;
  process.process_name = program;
  track.uuid = track_of(encoder, TRACK_MAIN, 0);
  track.process = &process;
  if (!send_track(encoder, &track)) return false;
  if (!encoder->by_cpu) return true;
  trace_packet packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
  Perfetto__Protos__GenericKernelProcessTree tree =
      PERFETTO__PROTOS__GENERIC_KERNEL_PROCESS_TREE__INIT;
  Perfetto__Protos__GenericKernelProcessTree__Process
      out = PERFETTO__PROTOS__GENERIC_KERNEL_PROCESS_TREE__PROCESS__INIT,
      *out_pointer = &out;
  out.has_pid = true;
  out.pid = encoder->log->pid;
  out.cmdline = program;
  tree.n_processes = 1;
  tree.processes = &out_pointer;
  at_time(&packet, encoder->log->start);
  packet.generic_kernel_process_tree = &tree;
  return perfetto_send(&encoder->packets, &packet);
}

static bool send_kernel_thread(struct encoder *encoder, int32_t tid, char *name) {
  trace_packet packet = PERFETTO__PROTOS__TRACE_PACKET__INIT;
  Perfetto__Protos__GenericKernelProcessTree tree =
      PERFETTO__PROTOS__GENERIC_KERNEL_PROCESS_TREE__INIT;
  Perfetto__Protos__GenericKernelProcessTree__Thread
      out = PERFETTO__PROTOS__GENERIC_KERNEL_PROCESS_TREE__THREAD__INIT,
      *out_pointer = &out;
  out.has_tid = out.has_pid = out.has_is_main_thread = true;
  out.tid = tid;
  out.pid = encoder->log->pid;
  out.is_main_thread = tid == encoder->log->pid;
  out.comm = name;
  tree.n_threads = 1;
  tree.threads = &out_pointer;
  at_time(&packet, encoder->log->start);
  packet.generic_kernel_process_tree = &tree;
  return perfetto_send(&encoder->packets, &packet);
}

static bool send_thread(struct encoder *encoder, uint32_t thread) {
  const struct trace_thread *is = &encoder->links.threads[thread];
  Perfetto__Protos__TrackDescriptor track = PERFETTO__PROTOS__TRACK_DESCRIPTOR__INIT;
  Perfetto__Protos__ThreadDescriptor out = PERFETTO__PROTOS__THREAD_DESCRIPTOR__INIT;
  out.has_pid = out.has_tid = true;
  out.pid = encoder->log->pid;
  out.tid = is->tid;
  if (is->name && *is->name)
    out.thread_name = (char *)(uintptr_t)perfetto_text(&encoder->packets, is->name);
  track.uuid = thread_track(encoder, TRACK_MAIN, thread);
  track.thread = &out;
  if (!send_track(encoder, &track)) return false;
  return encoder->by_cpu ? send_kernel_thread(encoder, is->tid, out.thread_name)
                         : send_child_track(encoder, TRACK_STATE, thread, "state");
}

/* What the recording is worth, in the process's lane. */
static bool send_recording(struct encoder *encoder) {
  const struct trace_log *log = encoder->log;
  struct annotated_event out;
  start_event(&out, PERFETTO__PROTOS__TRACK_EVENT__TYPE__TYPE_INSTANT,
              track_of(encoder, TRACK_MAIN, 0), "recording");
  perfetto_use_name(&encoder->packets, &out.event, "recording");
  annotate_text(encoder, &out, "states", log->is_sampled ? "sampled" : "recorded");
  annotate_number(&out, "period_ns", log->is_sampled ? (uint64_t)log->period : 0);
  annotate_number(&out, "lost", log->lost);
  annotate_number(&out, "duration_ns", (uint64_t)(log->end - log->start));
  annotate_number(&out, "cpu_sample_hz", log->sample_hz);
  if (log->samples_off) annotate_text(encoder, &out, "cpu_samples_off", log->samples_off);
  return send_event(encoder, log->start, &out);
}

static bool send_head(struct encoder *encoder) {
  encoder->by_cpu = knows_cpus(encoder);
  if (!send_clock(encoder) || !send_process(encoder)) return false;
  for (uint32_t i = 0; i < encoder->links.thread_count; i++)
    if (!send_thread(encoder, i)) return false;
  return send_recording(encoder);
}

bool perfetto_trace_write(const struct trace_log *log, struct byte_sink *sink) {
  static const struct trace_visitor visitor = {.state = send_state,
                                               .slice_begin = begin_slice,
                                               .slice_end = end_slice,
                                               .mark_begin = begin_mark,
                                               .mark_end = end_mark,
                                               .instant = send_instant,
                                               .counter = send_counter};
  struct encoder *encoder = agent_calloc(1, sizeof *encoder);
  if (!encoder) return false;
  encoder->log = log;
  bool ok = perfetto_packets_start(&encoder->packets, log, sink) &&
            trace_links_find(&encoder->links, log);
  if (ok) encoder->lanes = agent_calloc(encoder->links.thread_count + 1, sizeof *encoder->lanes);
  ok = ok && encoder->lanes && send_head(encoder) &&
       trace_walk(log, &encoder->links, &visitor, encoder) &&
       perfetto_packets_end(&encoder->packets);
  perfetto_packets_release(&encoder->packets);
  trace_links_release(&encoder->links);
  agent_free(encoder->lanes);
  agent_free(encoder->counters);
  agent_free(encoder);
  return ok;
}
