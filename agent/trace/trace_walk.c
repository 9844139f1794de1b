#include "trace_walk.h"

#include "agent/runtime/agent_memory.h"

struct lane {
  struct trace_slice slice; /* kind NONE: none is open */
  uint64_t arrow; /* of the release that ends its wait; 0: none */
  uint32_t marks; /* that are open */
  bool alive, blocked;
};

struct walk {
  const struct trace_log *log;
  const struct trace_links *links;
  const struct trace_visitor *visitor;
  void *encoder;
  struct lane *lanes; /* one a thread */
  uint64_t arrows;
};

static bool begin_slice(struct walk *walk, uint32_t thread, uint32_t event,
                        enum trace_slice_kind kind, uint64_t arrow) {
  struct trace_slice *slice = &walk->lanes[thread].slice;
  *slice = (struct trace_slice){.thread = thread,
                                .event = event,
                                .kind = kind,
                                .from = walk->log->events[event].at,
                                .arrow = arrow};
  return walk->visitor->slice_begin(walk->encoder, slice);
}

static bool end_slice(struct walk *walk, uint32_t thread, int64_t at) {
  struct trace_slice *slice = &walk->lanes[thread].slice;
  if (slice->kind == TRACE_SLICE_NONE) return true;
  bool ok = walk->visitor->slice_end(walk->encoder, slice, at);
  slice->kind = TRACE_SLICE_NONE;
  return ok;
}

static bool end_marks(struct walk *walk, uint32_t thread, int64_t at) {
  struct lane *lane = &walk->lanes[thread];
  for (; lane->marks > 0; lane->marks--)
    if (!walk->visitor->mark_end(walk->encoder, thread, at)) return false;
  return true;
}

/* A mark begins or ends: what is innermost is cut there. */
static bool add_mark(struct walk *walk, uint32_t thread, uint32_t event) {
  struct lane *lane = &walk->lanes[thread];
  const struct trace_event *mark = &walk->log->events[event];
  struct trace_slice cut = lane->slice;
  bool begins = mark->kind == TRACE_MARK_BEGIN;
  if (!begins && (walk->links->to[event] == TRACE_LINK_NONE || lane->marks == 0)) return true;
  if (!end_slice(walk, thread, mark->at)) return false;
  bool ok = begins ? walk->visitor->mark_begin(walk->encoder, thread, event)
                   : walk->visitor->mark_end(walk->encoder, thread, mark->at);
  lane->marks += begins ? 1 : -1u;
  if (!ok || cut.kind == TRACE_SLICE_NONE) return ok;
  cut.from = mark->at;
  cut.arrow = 0;
  lane->slice = cut;
  return walk->visitor->slice_begin(walk->encoder, &lane->slice);
}

static bool add_instant(struct walk *walk, uint32_t thread, uint32_t event,
                        enum trace_instant_kind kind, uint64_t out, uint64_t in) {
  struct trace_instant instant = {
      .thread = thread, .event = event, .kind = kind, .arrow_out = out, .arrow_in = in};
  return walk->visitor->instant(walk->encoder, &instant);
}

/* The other thread of an event, when it can have an instant now; else NONE. */
static uint32_t living_other(const struct walk *walk, uint32_t thread, uint32_t event) {
  uint32_t other = trace_links_thread(walk->links, walk->log->events[event].other);
  return other == thread || other == TRACE_LINK_NONE || !walk->lanes[other].alive ? TRACE_LINK_NONE
                                                                                  : other;
}

/* The number of the arrow to a thread that has just been woken, 0 when nobody is known for it. */
static bool find_waker(struct walk *walk, uint32_t thread, uint32_t event, uint64_t *arrow) {
  struct lane *lane = &walk->lanes[thread];
  *arrow = lane->arrow;
  lane->arrow = 0;
  if (*arrow != 0) return true;
  uint32_t other = living_other(walk, thread, event);
  if (other == TRACE_LINK_NONE) return true;
  *arrow = ++walk->arrows;
  return add_instant(walk, other, event, TRACE_INSTANT_WAKE, *arrow, 0);
}

static bool add_state(struct walk *walk, uint32_t thread, uint32_t event) {
  struct lane *lane = &walk->lanes[thread];
  const struct trace_event *state = &walk->log->events[event];
  bool gap = trace_gap(walk->links, walk->log, event) != NULL;
  bool woken = lane->blocked && state->kind != TRACE_BLOCKED;
  uint64_t arrow = 0;
  if (!end_slice(walk, thread, state->at)) return false;
  if (woken && !find_waker(walk, thread, event, &arrow)) return false;
  if (!walk->visitor->state(walk->encoder, thread, event)) return false;
  lane->blocked = state->kind == TRACE_BLOCKED;
  bool lasts = state->kind == TRACE_RUNNABLE && !gap;
  if (woken && (lasts || arrow != 0)) {
    if (!begin_slice(walk, thread, event, TRACE_SLICE_WOKEN, arrow)) return false;
    if (!lasts && !end_slice(walk, thread, state->at)) return false;
  }
  if (gap) return begin_slice(walk, thread, event, TRACE_SLICE_GAP, 0);
  if (lane->blocked) return begin_slice(walk, thread, event, TRACE_SLICE_WAIT, 0);
  return true;
}

static bool add_release(struct walk *walk, uint32_t thread, uint32_t event) {
  uint64_t arrow = 0;
  if (walk->links->to[event] != TRACE_LINK_NONE) {
    uint32_t woken = trace_links_thread(walk->links, walk->log->events[event].other);
    arrow = walk->lanes[woken].arrow = ++walk->arrows;
  }
  return add_instant(walk, thread, event, TRACE_INSTANT_RELEASE, arrow, 0);
}

static bool add_birth(struct walk *walk, uint32_t thread, uint32_t event) {
  uint32_t creator = living_other(walk, thread, event);
  uint64_t arrow = 0;
  walk->lanes[thread].alive = true;
  if (creator != TRACE_LINK_NONE) {
    arrow = ++walk->arrows;
    if (!add_instant(walk, creator, event, TRACE_INSTANT_CREATE, arrow, 0)) return false;
  }
  return add_instant(walk, thread, event, TRACE_INSTANT_BORN, 0, arrow);
}

static bool end_lane(struct walk *walk, uint32_t thread, int64_t at) {
  return end_slice(walk, thread, at) && end_marks(walk, thread, at);
}

static bool add_end(struct walk *walk, uint32_t thread, uint32_t event) {
  if (!end_lane(walk, thread, walk->log->events[event].at)) return false;
  walk->lanes[thread].alive = false;
  return walk->visitor->state(walk->encoder, thread, event);
}

static bool add_event(struct walk *walk, uint32_t event) {
  const struct trace_event *is = &walk->log->events[event];
  if (is->kind == TRACE_COUNTER) return walk->visitor->counter(walk->encoder, event);
  uint32_t thread = trace_links_thread(walk->links, is->tid);
  switch ((enum trace_kind)is->kind) {
    case TRACE_THREAD_FOUND: walk->lanes[thread].alive = true; return true;
    case TRACE_THREAD_BORN: return add_birth(walk, thread, event);
    case TRACE_THREAD_ENDED: return add_end(walk, thread, event);
    case TRACE_RUNNING:
    case TRACE_RUNNABLE:
    case TRACE_BLOCKED: return add_state(walk, thread, event);
    case TRACE_RELEASED: return add_release(walk, thread, event);
    case TRACE_LOST: walk->lanes[thread].blocked = false; return end_lane(walk, thread, is->at);
    case TRACE_SAMPLE: return add_instant(walk, thread, event, TRACE_INSTANT_SAMPLE, 0, 0);
    case TRACE_MARK: return add_instant(walk, thread, event, TRACE_INSTANT_MARK, 0, 0);
    case TRACE_MARK_BEGIN:
    case TRACE_MARK_END: return add_mark(walk, thread, event);
    default: return true;
  }
}

bool trace_walk(const struct trace_log *log, const struct trace_links *links,
                const struct trace_visitor *visitor, void *encoder) {
  struct walk walk = {.log = log, .links = links, .visitor = visitor, .encoder = encoder};
  walk.lanes = agent_calloc(links->thread_count + 1, sizeof *walk.lanes);
  if (!walk.lanes) return false;
  bool ok = true;
  for (size_t i = 0; i < log->event_count && ok; i++) ok = add_event(&walk, (uint32_t)i);
  int64_t end = log->event_count > 0 ? log->events[log->event_count - 1].at : log->end;
  if (end < log->end) end = log->end;
  for (uint32_t i = 0; i < links->thread_count && ok; i++) ok = end_lane(&walk, i, end);
  agent_free(walk.lanes);
  return ok;
}
