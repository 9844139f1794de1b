#include "trace_waits.h"

#include "agent/profiles/number_order.h"
#include "agent/runtime/agent_memory.h"
#include "trace_timeline.h"

struct linking {
  struct trace_gather *gather;
  uint32_t *events; /* the states' numbers, by thread and time */
  uint32_t state_count;
  uint32_t *releases; /* by object and time */
  bool is_sampled, failed;
};

/* The first of count numbers of which is_before does not hold; they are in that order. */
#define FIRST_NOT(count, is_before)           \
  ({                                          \
    uint32_t low_ = 0, high_ = (count);       \
    while (low_ < high_) {                    \
      uint32_t i = low_ + (high_ - low_) / 2; \
      if (is_before) low_ = i + 1;            \
      else high_ = i;                         \
    }                                         \
    low_;                                     \
  })

static struct trace_event *state_at(const struct linking *linking, uint32_t place) {
  return (struct trace_event *)linking->gather->events.items + linking->events[place];
}

static const struct trace_release *release_at(const struct linking *linking, uint32_t place) {
  return (struct trace_release *)linking->gather->releases.items + linking->releases[place];
}

/* ---- orders ---- */

static bool releases_swapped(const void *things, uint32_t a, uint32_t b) {
  const struct trace_release *releases = things;
  if (releases[a].object != releases[b].object) return releases[b].object < releases[a].object;
  return releases[b].at < releases[a].at;
}

static bool prepare(struct linking *linking) {
  const struct trace_growing *events = &linking->gather->events;
  const struct trace_growing *releases = &linking->gather->releases;
  const struct trace_event *items = events->items;
  linking->events = trace_timeline_order(events);
  linking->releases = agent_malloc((releases->count + (size_t)1) * sizeof *linking->releases);
  if (!linking->events || !linking->releases) return false;
  for (uint32_t i = 0; i < events->count; i++)
    if (trace_timeline_is_state(items[linking->events[i]].kind))
      linking->events[linking->state_count++] = linking->events[i];
  for (uint32_t i = 0; i < releases->count; i++) linking->releases[i] = i;
  return number_order_sort(linking->releases, releases->count, releases_swapped, releases->items);
}

/* ---- what comes to the events ---- */

/* May move them. */
static void add(struct linking *linking, struct trace_event event) {
  struct trace_event *place = trace_growing_add(&linking->gather->events, sizeof *place);
  if (place) *place = event;
  else linking->failed = true;
}

static struct trace_event state(int32_t tid, enum trace_kind kind, int64_t at) {
  return (struct trace_event){.at = at, .tid = tid, .cpu = -1, .kind = (uint8_t)kind};
}

/* Places of the thread's states: the first that begins later, and the first of all. */
static uint32_t states_after(const struct linking *linking, int32_t tid, int64_t at) {
  return FIRST_NOT(linking->state_count,
                   state_at(linking, i)->tid < tid ||
                       (state_at(linking, i)->tid == tid && state_at(linking, i)->at <= at));
}

/* The state that it is in then; NULL: not known. */
static struct trace_event *state_then(const struct linking *linking, int32_t tid, int64_t at) {
  for (uint32_t after = states_after(linking, tid, at); after > 0; after--) {
    struct trace_event *event = state_at(linking, after - 1);
    if (event->tid != tid) return NULL;
    if (event->kind != TRACE_NOTHING) return event;
  }
  return NULL;
}

/* The last release of its object by another thread, within the wait. */
static const struct trace_release *release_of(const struct linking *linking,
                                              const struct trace_wait *wait) {
  uint32_t after = FIRST_NOT(linking->gather->releases.count,
                             release_at(linking, i)->object < wait->object ||
                                 (release_at(linking, i)->object == wait->object &&
                                  release_at(linking, i)->at <= wait->end));
  for (; wait->object && wait->was_released && after > 0; after--) {
    const struct trace_release *release = release_at(linking, after - 1);
    if (release->object != wait->object || release->at < wait->begin) return NULL;
    if (release->tid != wait->tid) return release;
  }
  return NULL;
}

/* ---- a wait ---- */

/* The kernel's records say when it was blocked. */
static void explain(const struct linking *linking, const struct trace_wait *wait) {
  uint32_t end = states_after(linking, wait->tid, wait->end);
  for (uint32_t place = states_after(linking, wait->tid, wait->begin - 1); place < end; place++) {
    struct trace_event *event = state_at(linking, place);
    if (event->kind != TRACE_BLOCKED) continue;
    event->reason = TRACE_REASON_LOCK;
    if (wait->stack) event->stack = wait->stack;
  }
}

/* Nobody has seen more than a few of its states: it ran just before and just after. What the looks
 * found before the wait, and again after it, holds again. */
static void insert(struct linking *linking, const struct trace_wait *wait) {
  const struct trace_event *known = state_then(linking, wait->tid, wait->begin);
  struct trace_event before = known ? *known : state(wait->tid, TRACE_RUNNING, wait->begin);
  uint32_t end = states_after(linking, wait->tid, wait->end);
  uint32_t place = states_after(linking, wait->tid, wait->begin);
  bool is_seen = place < end;
  for (; place < end; place++) state_at(linking, place)->kind = TRACE_NOTHING;
  struct trace_event blocked = state(wait->tid, TRACE_BLOCKED, wait->begin);
  blocked.reason = TRACE_REASON_LOCK;
  blocked.stack = wait->stack;
  if (before.kind != TRACE_RUNNING) add(linking, state(wait->tid, TRACE_RUNNING, wait->begin - 1));
  add(linking, blocked);
  add(linking, state(wait->tid, TRACE_RUNNING, wait->end));
  before.at = wait->end + 1;
  if (before.kind != TRACE_RUNNING && !is_seen) add(linking, before);
}

/* Who releases runs, whatever the looks found. */
static void insert_release(struct linking *linking, const struct trace_release *release) {
  const struct trace_event *known = state_then(linking, release->tid, release->at);
  if (!known || known->kind == TRACE_RUNNING) return;
  struct trace_event again = *known;
  again.at = release->at + 2;
  add(linking, state(release->tid, TRACE_RUNNING, release->at - 1));
  add(linking, again);
}

static void wake(struct linking *linking, const struct trace_wait *wait,
                 const struct trace_release *release) {
  const struct trace_event *then = state_then(linking, wait->tid, release->at);
  bool was_blocked = linking->is_sampled || (then && then->kind == TRACE_BLOCKED);
  if (linking->is_sampled) insert_release(linking, release);
  add(linking, (struct trace_event){.at = release->at,
                                    .tid = release->tid,
                                    .cpu = -1,
                                    .other = wait->tid,
                                    .value = release->object,
                                    .stack = release->stack,
                                    .kind = TRACE_RELEASED});
  struct trace_event runnable = state(wait->tid, TRACE_RUNNABLE, release->at + 1);
  runnable.other = release->tid;
  if (was_blocked && release->at < wait->end) add(linking, runnable);
}

static void link_wait(struct linking *linking, const struct trace_wait *wait) {
  const struct trace_release *release = release_of(linking, wait);
  if (linking->is_sampled) insert(linking, wait);
  else explain(linking, wait);
  if (release) wake(linking, wait, release);
}

bool trace_waits_link(struct trace_gather *gather, bool states_are_sampled) {
  struct linking linking = {.gather = gather, .is_sampled = states_are_sampled};
  const struct trace_wait *waits = gather->waits.items;
  bool whole = prepare(&linking);
  for (uint32_t i = 0; whole && i < gather->waits.count; i++) link_wait(&linking, &waits[i]);
  agent_free(linking.events);
  agent_free(linking.releases);
  return whole && !linking.failed;
}
