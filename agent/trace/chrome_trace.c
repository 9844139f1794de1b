/* One line an event. Slices are written when they end; viewers sort by time, and of what begins at
 * the same time take what comes first for the outer one. */
#include "chrome_trace.h"

#include <inttypes.h>

#include "agent/http/text_sink.h"
#include "agent/runtime/agent_memory.h"
#include "trace_walk.h"
#include "trace_words.h"

enum { CPU_LIMIT = 4096 }; /* Perfetto's: it takes no CPU above */

struct encoder {
  const struct trace_log *log;
  struct trace_links links;
  struct text_sink text;
  int64_t start;
  bool some; /* an event was written */
};

static void write_time(struct encoder *encoder, const char *key, int64_t nanoseconds) {
  text_sink_format(&encoder->text, ",\"%s\":%" PRId64 ".%03d", key, nanoseconds / 1000,
                   (int)(nanoseconds % 1000));
}

static void write_text(struct encoder *encoder, const char *key, const char *text) {
  text_sink_format(&encoder->text, ",\"%s\":", key);
  text_sink_json(&encoder->text, text);
}

/* Up to the time; what follows begins with a comma, "}" ends it. */
static void open_event(struct encoder *encoder, char phase, uint32_t thread, int64_t at) {
  text_sink_text(&encoder->text, encoder->some ? ",\n" : "\n");
  encoder->some = true;
  text_sink_format(&encoder->text, "{\"ph\":\"%c\",\"pid\":%" PRId32 ",\"tid\":%" PRId32, phase,
                   encoder->log->pid, encoder->links.threads[thread].tid);
  write_time(encoder, "ts", at - encoder->start);
}

static bool close_event(struct encoder *encoder) {
  text_sink_text(&encoder->text, "}");
  return !encoder->text.failed;
}

static void write_stack(struct encoder *encoder, const struct trace_event *event) {
  if (trace_stack_of(encoder->log, event))
    text_sink_format(&encoder->text, ",\"sf\":\"%" PRIu32 ".0\"", event->stack);
}

static bool write_arrow(struct encoder *encoder, char phase, uint32_t thread, int64_t at,
                        uint64_t arrow) {
  open_event(encoder, phase, thread, at);
  text_sink_format(&encoder->text, ",\"id\":%" PRIu64 ",\"cat\":\"wake\",\"name\":\"wake\"%s",
                   arrow, phase == 'f' ? ",\"bp\":\"e\"" : "");
  return close_event(encoder);
}

/* ---- what the walk meets ---- */

static bool write_state(void *context, uint32_t thread, uint32_t number) {
  struct encoder *encoder = context;
  const struct trace_event *event = &encoder->log->events[number];
  int64_t end = trace_end_of(&encoder->links, encoder->log, number);
  if (!trace_is_state(event) || trace_gap(&encoder->links, encoder->log, number)) return true;
  if (end == event->at) return true;
  bool disk = event->kind == TRACE_BLOCKED && event->reason == TRACE_REASON_DISK;
  open_event(encoder, 'T', thread, event->at);
  write_time(encoder, "dur", end - event->at);
  text_sink_format(&encoder->text, ",\"name\":\"%s\",\"args\":{\"io_wait\":%d",
                   event->kind == TRACE_RUNNING    ? "Running"
                   : event->kind == TRACE_RUNNABLE ? "R"
                   : disk                          ? "D"
                                                   : "S",
                   disk);
  int32_t cpu = trace_cpu_of(&encoder->links, encoder->log, number);
  if (event->kind == TRACE_RUNNING && cpu >= 0 && cpu < CPU_LIMIT)
    text_sink_format(&encoder->text, ",\"cpu\":%" PRId32, cpu);
  if (event->kind == TRACE_BLOCKED) {
    const struct trace_stack *stack = trace_stack_of(encoder->log, event);
    write_text(encoder, "blocked_function",
               stack ? stack->frames[0].function : trace_wait_name(event));
  }
  text_sink_text(&encoder->text, "}");
  return close_event(encoder);
}

static bool write_nothing(void *context, const struct trace_slice *slice) {
  (void)context, (void)slice;
  return true;
}

static void write_slice_words(struct encoder *encoder, const struct trace_slice *slice) {
  const struct trace_event *event = &encoder->log->events[slice->event];
  const struct trace_event *lost = trace_gap(&encoder->links, encoder->log, slice->event);
  switch (slice->kind) {
    case TRACE_SLICE_WAIT:
      write_text(encoder, "name", trace_wait_name(event));
      text_sink_format(&encoder->text, ",\"cat\":\"wait\",\"args\":{\"reason\":\"%s\"}",
                       trace_reason_name(event));
      write_stack(encoder, event);
      break;
    case TRACE_SLICE_GAP:
      text_sink_format(&encoder->text,
                       ",\"name\":\"records lost\",\"cat\":\"gap\",\"args\":{\"lost\":%" PRIu64 "}",
                       lost ? lost->value : 0);
      break;
    default: text_sink_text(&encoder->text, ",\"name\":\"woken\",\"cat\":\"wake\""); break;
  }
}

static bool write_slice(void *context, const struct trace_slice *slice, int64_t at) {
  struct encoder *encoder = context;
  open_event(encoder, 'X', slice->thread, slice->from);
  write_time(encoder, "dur", at - slice->from);
  write_slice_words(encoder, slice);
  if (!close_event(encoder)) return false;
  return slice->arrow == 0 || write_arrow(encoder, 'f', slice->thread, slice->from, slice->arrow);
}

static bool write_mark(void *context, uint32_t thread, uint32_t number) {
  struct encoder *encoder = context;
  const struct trace_event *event = &encoder->log->events[number];
  open_event(encoder, 'X', thread, event->at);
  write_time(encoder, "dur", trace_end_of(&encoder->links, encoder->log, number) - event->at);
  write_text(encoder, "name", trace_mark_name(event));
  text_sink_text(&encoder->text, ",\"cat\":\"mark\"");
  write_stack(encoder, event);
  return close_event(encoder);
}

static bool skip_mark_end(void *context, uint32_t thread, int64_t at) {
  (void)context, (void)thread, (void)at;
  return true;
}

static void write_instant_words(struct encoder *encoder, const struct trace_instant *instant) {
  const struct trace_event *event = &encoder->log->events[instant->event];
  struct text_sink *text = &encoder->text;
  switch (instant->kind) {
    case TRACE_INSTANT_RELEASE:
      text_sink_format(text,
                       ",\"name\":\"release\",\"cat\":\"wake\",\"args\":{\"thread\":%" PRId32
                       ",\"lock\":\"0x%" PRIx64 "\"}",
                       event->other, event->value);
      break;
    case TRACE_INSTANT_WAKE:
      text_sink_format(text,
                       ",\"name\":\"wake\",\"cat\":\"wake\",\"args\":{\"thread\":%" PRId32 "}",
                       event->tid);
      return; /* the stack is the other thread's */
    case TRACE_INSTANT_CREATE:
      text_sink_format(
          text, ",\"name\":\"create thread\",\"cat\":\"thread\",\"args\":{\"thread\":%" PRId32 "}",
          event->tid);
      break;
    case TRACE_INSTANT_BORN:
      text_sink_format(text,
                       ",\"name\":\"born\",\"cat\":\"thread\",\"args\":{\"creator\":%" PRId32 "}",
                       event->other);
      return;
    case TRACE_INSTANT_SAMPLE:
      text_sink_text(text, ",\"name\":\"CPU sample\",\"cat\":\"sample\"");
      if (event->value != 0)
        text_sink_format(text, ",\"args\":{\"cpu_ns\":%" PRIu64 "}", event->value);
      break;
    case TRACE_INSTANT_MARK:
      write_text(encoder, "name", trace_mark_name(event));
      text_sink_text(text, ",\"cat\":\"mark\"");
      if (event->value != 0)
        text_sink_format(text, ",\"args\":{\"bytes\":%" PRIu64 "}", event->value);
      break;
  }
  write_stack(encoder, event);
}

/* Where an arrow begins or ends there must be a slice. */
static bool write_instant(void *context, const struct trace_instant *instant) {
  struct encoder *encoder = context;
  int64_t at = encoder->log->events[instant->event].at;
  bool slice = instant->arrow_out != 0 || instant->arrow_in != 0;
  open_event(encoder, slice ? 'X' : 'i', instant->thread, at);
  text_sink_text(&encoder->text, slice ? ",\"dur\":0" : ",\"s\":\"t\"");
  write_instant_words(encoder, instant);
  bool ok = close_event(encoder);
  if (ok && instant->arrow_out)
    ok = write_arrow(encoder, 's', instant->thread, at, instant->arrow_out);
  if (ok && instant->arrow_in)
    ok = write_arrow(encoder, 'f', instant->thread, at, instant->arrow_in);
  return ok;
}

static bool write_counter(void *context, uint32_t number) {
  struct encoder *encoder = context;
  const struct trace_event *event = &encoder->log->events[number];
  text_sink_text(&encoder->text, encoder->some ? ",\n" : "\n");
  encoder->some = true;
  text_sink_format(&encoder->text, "{\"ph\":\"C\",\"pid\":%" PRId32, encoder->log->pid);
  write_time(encoder, "ts", event->at - encoder->start);
  write_text(encoder, "name", event->text ? event->text : "");
  text_sink_format(&encoder->text, ",\"args\":{\"value\":%" PRIu64 "}", event->value);
  return close_event(encoder);
}

/* ---- before and behind ---- */

static void write_head(struct encoder *encoder) {
  const struct trace_log *log = encoder->log;
  struct text_sink *text = &encoder->text;
  text_sink_text(text, "{\"displayTimeUnit\":\"ns\",\"metadata\":{\"program\":");
  text_sink_json(text, log->program ? log->program : "");
  text_sink_format(text,
                   ",\"pid\":%" PRId32 ",\"clock\":\"CLOCK_MONOTONIC\",\"start_ns\":%" PRId64
                   ",\"duration_ns\":%" PRId64 ",\"states\":\"%s\",\"period_ns\":%" PRId64
                   ",\"lost\":%" PRIu64 ",\"cpu_sample_hz\":%" PRIu32 ",\"cpu_samples_off\":",
                   log->pid, encoder->start, log->end - encoder->start,
                   log->is_sampled ? "sampled" : "recorded", log->is_sampled ? log->period : 0,
                   log->lost, log->sample_hz);
  if (log->samples_off) text_sink_json(text, log->samples_off);
  else text_sink_text(text, "null");
  text_sink_text(text, "},\n\"traceEvents\":[");
}

static bool write_name(struct encoder *encoder, const char *what, int32_t tid, const char *name) {
  text_sink_text(&encoder->text, encoder->some ? ",\n" : "\n");
  encoder->some = true;
  text_sink_format(&encoder->text,
                   "{\"ph\":\"M\",\"pid\":%" PRId32 ",\"tid\":%" PRId32
                   ",\"name\":\"%s\",\"args\":{\"name\":",
                   encoder->log->pid, tid, what);
  text_sink_json(&encoder->text, name);
  text_sink_text(&encoder->text, "}");
  return close_event(encoder);
}

static bool write_names(struct encoder *encoder) {
  const struct trace_links *links = &encoder->links;
  const char *program = encoder->log->program;
  if (program && *program && !write_name(encoder, "process_name", encoder->log->pid, program))
    return false;
  for (uint32_t i = 0; i < links->thread_count; i++) {
    const struct trace_thread *thread = &links->threads[i];
    if (!thread->name || !*thread->name) continue; /* Perfetto counts an empty one as an error */
    if (!write_name(encoder, "thread_name", thread->tid, thread->name)) return false;
  }
  return true;
}

/* Frame "S.F": the outer ones have the larger F. */
static bool write_stack_frames(struct encoder *encoder) {
  struct text_sink *text = &encoder->text;
  const char *comma = "\n";
  text_sink_text(text, "\n],\n\"stackFrames\":{");
  for (uint32_t i = 0; i < encoder->log->stack_count && !text->failed; i++) {
    const struct trace_stack *stack = &encoder->log->stacks[i];
    for (uint32_t f = 0; f < stack->frame_count && !text->failed; f++) {
      const struct trace_frame *frame = &stack->frames[f];
      text_sink_format(text, "%s\"%" PRIu32 ".%" PRIu32 "\":{\"name\":", comma, i + 1, f);
      comma = ",\n";
      text_sink_json(text, frame->function);
      if (f + 1 < stack->frame_count)
        text_sink_format(text, ",\"parent\":\"%" PRIu32 ".%" PRIu32 "\"", i + 1, f + 1);
      write_text(encoder, "category", frame->file ? frame->file : "");
      text_sink_format(text, ",\"line\":%" PRIu32 "}", frame->line);
    }
  }
  text_sink_text(text, "\n}}\n");
  return text_sink_end(text);
}

bool chrome_trace_write(const struct trace_log *log, struct byte_sink *sink) {
  static const struct trace_visitor visitor = {.state = write_state,
                                               .slice_begin = write_nothing,
                                               .slice_end = write_slice,
                                               .mark_begin = write_mark,
                                               .mark_end = skip_mark_end,
                                               .instant = write_instant,
                                               .counter = write_counter};
  struct encoder *encoder = agent_calloc(1, sizeof *encoder);
  if (!encoder) return false;
  encoder->log = log;
  encoder->start = log->start;
  if (log->event_count > 0 && log->events[0].at < log->start) encoder->start = log->events[0].at;
  text_sink_start(&encoder->text, sink);
  bool ok = trace_links_find(&encoder->links, log);
  if (ok) write_head(encoder);
  ok = ok && write_names(encoder) && trace_walk(log, &encoder->links, &visitor, encoder) &&
       write_stack_frames(encoder);
  trace_links_release(&encoder->links);
  agent_free(encoder);
  return ok;
}
