/* What the encoders say of an event, in words that all of them share. Context: any; locks: none. */
#ifndef AGENT_TRACE_WORDS_H
#define AGENT_TRACE_WORDS_H

#include "trace_links.h"
#include "trace_log.h"

static inline const char *trace_reason_name(const struct trace_event *blocked) {
  static const char *const names[] = {
      [TRACE_REASON_UNKNOWN] = "unknown", [TRACE_REASON_LOCK] = "lock",
      [TRACE_REASON_SLEEP] = "sleep",     [TRACE_REASON_READ_WRITE] = "read or write",
      [TRACE_REASON_POLL] = "poll",       [TRACE_REASON_CALL] = "system call",
      [TRACE_REASON_DISK] = "disk"};
  return names[blocked->reason < sizeof names / sizeof *names ? blocked->reason : 0];
}

/* "futex", "read: pipe:[1]"; never empty. */
static inline const char *trace_wait_name(const struct trace_event *blocked) {
  return blocked->text && *blocked->text ? blocked->text : trace_reason_name(blocked);
}

static inline const char *trace_mark_name(const struct trace_event *mark) {
  if (mark->text && *mark->text) return mark->text;
  return mark->value != 0 ? "allocation" : "mark";
}

/* NULL: none, or one without frames. */
static inline const struct trace_stack *trace_stack_of(const struct trace_log *log,
                                                       const struct trace_event *event) {
  if (event->stack == 0 || event->stack > log->stack_count) return NULL;
  const struct trace_stack *stack = &log->stacks[event->stack - 1];
  return stack->frame_count > 0 ? stack : NULL;
}

/* The outermost frame of a stack of which a format takes only the innermost ones. */
static const struct trace_frame trace_frame_cut = {0, "[truncated]", "", 0};

/* On which CPU a state was: its end may know it too. */
static inline int32_t trace_cpu_of(const struct trace_links *links, const struct trace_log *log,
                                   uint32_t state) {
  uint32_t to = links->to[state];
  if (log->events[state].cpu >= 0 || to == TRACE_LINK_NONE || !trace_is_state(&log->events[to]))
    return log->events[state].cpu;
  return log->events[to].cpu;
}

#endif
