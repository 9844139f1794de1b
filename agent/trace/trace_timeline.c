#include "trace_timeline.h"

#include "agent/profiles/number_order.h"
#include "agent/runtime/agent_memory.h"

/* What holds of a thread before its first event in the window, and then. */
struct thread_story {
  const struct trace_event *intro, *name, *state; /* held back until it is told; NULL: none */
  bool is_told, has_ended;
  uint8_t kind; /* the state's, TRACE_LOST: not known */
};

struct timeline {
  struct trace_growing out; /* struct trace_event */
  int64_t start, end;
  bool failed;
};

static void add(struct timeline *timeline, const struct trace_event *event, int64_t at) {
  struct trace_event *place = trace_growing_add(&timeline->out, sizeof *place);
  if (!place) {
    timeline->failed = true;
    return;
  }
  *place = *event;
  place->at = at < timeline->start ? timeline->start : at;
}

bool trace_timeline_is_state(uint8_t kind) {
  return kind == TRACE_RUNNING || kind == TRACE_RUNNABLE || kind == TRACE_BLOCKED;
}

static bool is_intro(uint8_t kind) {
  return kind == TRACE_THREAD_FOUND || kind == TRACE_THREAD_BORN;
}

/* at: of what comes first. */
static void tell(struct timeline *timeline, struct thread_story *story,
                 const struct trace_event *first, int64_t at) {
  struct trace_event intro = {.kind = TRACE_THREAD_FOUND, .tid = first->tid, .cpu = -1};
  if (story->intro) intro = *story->intro;
  bool is_born = intro.kind == TRACE_THREAD_BORN && intro.at >= timeline->start;
  intro.at = is_born ? intro.at : timeline->start;
  if (!is_born) intro.kind = TRACE_THREAD_FOUND;
  if (!is_born) intro.other = 0, intro.stack = 0;
  add(timeline, &intro, intro.at);
  if (story->name) add(timeline, story->name, intro.at);
  /* A state follows at once, in which it is until its first event. */
  struct trace_event state = {.kind = TRACE_RUNNABLE, .tid = first->tid, .cpu = -1};
  if (story->state) state = *story->state;
  if (story->state || !trace_timeline_is_state(first->kind) || at > intro.at) {
    add(timeline, &state, intro.at);
    story->kind = state.kind;
  }
  story->is_told = true;
}

/* Of what happens before the window, or before the thread is introduced, only the outcome. */
static void hold(struct timeline *timeline, struct thread_story *story,
                 const struct trace_event *event) {
  bool before = event->at < timeline->start;
  if (is_intro(event->kind)) story->intro = event;
  else if (event->kind == TRACE_THREAD_NAMED) story->name = event;
  else if (before && event->kind == TRACE_THREAD_ENDED) story->has_ended = true;
  else if (before && (trace_timeline_is_state(event->kind) || event->kind == TRACE_LOST))
    story->state = event; /* a gap goes on */
}

static void follow(struct timeline *timeline, struct thread_story *story,
                   const struct trace_event *event) {
  bool early = event->at < timeline->start || is_intro(event->kind) ||
               (event->kind == TRACE_THREAD_NAMED && !story->is_told);
  if (story->has_ended || event->at > timeline->end) return;
  if (early && !story->is_told) return hold(timeline, story, event);
  if (early) return; /* it is told already: one that was introduced twice */
  if (!story->is_told) tell(timeline, story, event, event->at);
  if (trace_timeline_is_state(event->kind)) {
    if (story->kind == event->kind) return;
    story->kind = event->kind;
  }
  if (event->kind == TRACE_LOST) story->kind = TRACE_LOST;
  if (event->kind == TRACE_THREAD_ENDED) story->has_ended = true;
  add(timeline, event, event->at);
}

/* One whose birth was not seen is found some time later (trace_threads.c), or not at all if it ends
 * soon: it was born before it did anything that is known. True: *out is its birth. */
static bool find_late_birth(const struct trace_event *events, const uint32_t *order, uint32_t count,
                            struct trace_event *out) {
  uint32_t first = 0, intro = 0;
  while (first < count && events[order[first]].kind == TRACE_NOTHING) first++;
  while (intro < count && !is_intro(events[order[intro]].kind)) intro++;
  if (first >= intro || first == count || events[order[first]].tid == 0) return false;
  *out = (struct trace_event){.kind = TRACE_THREAD_BORN, .cpu = -1};
  if (intro < count) *out = events[order[intro]];
  out->tid = events[order[first]].tid;
  out->at = events[order[first]].at;
  return out->kind == TRACE_THREAD_BORN;
}

/* The events of one thread, in order of time. */
static void tell_thread(struct timeline *timeline, const struct trace_event *events,
                        const uint32_t *order, uint32_t count) {
  struct thread_story story = {.kind = TRACE_LOST};
  struct trace_event birth;
  if (find_late_birth(events, order, count, &birth)) follow(timeline, &story, &birth);
  for (uint32_t i = 0; i < count; i++) {
    const struct trace_event *event = &events[order[i]];
    if (event->kind == TRACE_NOTHING) continue;
    if (event->tid) follow(timeline, &story, event);
    else if (event->at >= timeline->start && event->at <= timeline->end)
      add(timeline, event, event->at);
  }
  const struct trace_event *known = story.intro ? story.intro : story.state;
  bool is_born_later = known && known->at > timeline->end;
  if (!story.is_told && !story.has_ended && known && !is_born_later)
    tell(timeline, &story, known, timeline->start);
}

/* ---- orders ---- */

static bool by_thread_swapped(const void *things, uint32_t a, uint32_t b) {
  const struct trace_event *events = things;
  if (events[a].tid != events[b].tid) return events[b].tid < events[a].tid;
  return events[b].at < events[a].at;
}

static bool by_time_swapped(const void *things, uint32_t a, uint32_t b) {
  const struct trace_event *events = things;
  return events[b].at < events[a].at;
}

/* NULL: no memory. */
static uint32_t *order_of(const struct trace_growing *events, number_order_swapped *swapped) {
  uint32_t *order = agent_malloc((events->count + (size_t)1) * sizeof *order);
  for (uint32_t i = 0; order && i < events->count; i++) order[i] = i;
  if (order && number_order_sort(order, events->count, swapped, events->items)) return order;
  agent_free(order);
  return NULL;
}

uint32_t *trace_timeline_order(const struct trace_growing *events) {
  return order_of(events, by_thread_swapped);
}

static bool put_in_order(struct trace_growing *events) {
  const struct trace_event *items = events->items;
  uint32_t *order = order_of(events, by_time_swapped);
  struct trace_event *sorted = agent_malloc((events->count + (size_t)1) * sizeof *sorted);
  bool whole = order && sorted;
  for (uint32_t i = 0; whole && i < events->count; i++) sorted[i] = items[order[i]];
  agent_free(order);
  if (!whole) {
    agent_free(sorted);
    return false;
  }
  agent_free(events->items);
  *events = (struct trace_growing){sorted, events->count, events->count + 1};
  return true;
}

bool trace_timeline_make(struct trace_gather *gather, int64_t start, int64_t end) {
  struct timeline timeline = {.start = start, .end = end};
  const struct trace_event *events = gather->events.items;
  uint32_t *order = trace_timeline_order(&gather->events), count = gather->events.count;
  for (uint32_t i = 0, next; order && i < count; i = next) {
    for (next = i + 1; next < count && events[order[next]].tid == events[order[i]].tid;) next++;
    tell_thread(&timeline, events, order + i, next - i);
  }
  bool whole = order && !timeline.failed && put_in_order(&timeline.out);
  agent_free(order);
  if (!whole) {
    agent_free(timeline.out.items);
    return false;
  }
  agent_free(gather->events.items);
  gather->events = timeline.out;
  return true;
}
