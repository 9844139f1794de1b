/* What an encoder must know of a recording before it comes to it: the threads and their names, and
 * of each event how far it goes. One pass over the log, four bytes an event.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_TRACE_LINKS_H
#define AGENT_TRACE_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/runtime/index_table.h"
#include "trace_log.h"

enum { TRACE_LINK_NONE = UINT32_MAX };

struct trace_thread {
  int32_t tid;
  const char *name; /* the last one it had; NULL: none */
  uint32_t state, release, mark; /* while the pass runs: what is open */
};

struct trace_links {
  struct trace_thread *threads; /* in the order of their first events */
  uint32_t thread_count, thread_capacity;
  struct index_table index;
  /* Of a state: the event that ends it, the thread's next state, LOST or ENDED; NONE: none did. Of
   * RELEASED: the state by which the wait that it ended was over; NONE: no wait is known. Of
   * MARK_BEGIN: its MARK_END, or the LOST or ENDED before that; NONE: still open. Of MARK_END: its
   * MARK_BEGIN; NONE: of that nothing is known. */
  uint32_t *to;
};

/* False: out of memory; release it in any case. */
bool trace_links_find(struct trace_links *links, const struct trace_log *log);
void trace_links_release(struct trace_links *links);
/* The number of a thread, TRACE_LINK_NONE for one that has no events of its own. */
uint32_t trace_links_thread(const struct trace_links *links, int32_t tid);

static inline bool trace_is_state(const struct trace_event *event) {
  return event->kind == TRACE_RUNNING || event->kind == TRACE_RUNNABLE ||
         event->kind == TRACE_BLOCKED;
}

/* Whether records were lost before this state's end: then it says only what held at its begin. */
static inline const struct trace_event *trace_gap(const struct trace_links *links,
                                                  const struct trace_log *log, size_t state) {
  uint32_t to = links->to[state];
  if (to == TRACE_LINK_NONE || log->events[to].kind != TRACE_LOST) return NULL;
  return &log->events[to];
}

/* When a state or mark ends. */
static inline int64_t trace_end_of(const struct trace_links *links, const struct trace_log *log,
                                   size_t event) {
  uint32_t to = links->to[event];
  if (to != TRACE_LINK_NONE) return log->events[to].at;
  int64_t last = log->event_count > 0 ? log->events[log->event_count - 1].at : log->end;
  return last > log->end ? last : log->end;
}

#endif
