#include "trace_waits.h"

#include "agent/profiles/number_order.h"
#include "agent/runtime/agent_memory.h"
#include "shim/base/trace_ring.h"
#include "trace_timeline.h"

struct linking {
  struct trace_gather *gather;
  uint32_t *events; /* the states' numbers, by thread and time */
  uint32_t state_count;
  uint32_t *releases; /* by object and time */
  uint32_t *untaken; /* by place of a release: itself, or a later one, if it has woken its one */
  uint32_t *waits; /* in the order in which they were woken, as far as that is known */
  int64_t *woken; /* by wait: when */
  uint32_t *ends; /* the events' numbers of threads' ends, by thread */
  uint32_t end_count;
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

static bool woken_swapped(const void *things, uint32_t a, uint32_t b) {
  const int64_t *woken = things;
  return woken[b] < woken[a];
}

static bool allocate(struct linking *linking) {
  size_t releases = linking->gather->releases.count + (size_t)1;
  size_t waits = linking->gather->waits.count + (size_t)1;
  linking->events = trace_timeline_order(&linking->gather->events);
  linking->ends = agent_malloc((linking->gather->events.count + (size_t)1) * sizeof *linking->ends);
  linking->releases = agent_malloc(releases * sizeof *linking->releases);
  linking->untaken = agent_malloc(releases * sizeof *linking->untaken);
  linking->waits = agent_malloc(waits * sizeof *linking->waits);
  linking->woken = agent_malloc(waits * sizeof *linking->woken);
  return linking->events && linking->ends && linking->releases && linking->untaken &&
         linking->waits && linking->woken;
}

static void release(struct linking *linking) {
  agent_free(linking->events);
  agent_free(linking->ends);
  agent_free(linking->releases);
  agent_free(linking->untaken);
  agent_free(linking->waits);
  agent_free(linking->woken);
}

static void pick_events(struct linking *linking) {
  const struct trace_event *items = linking->gather->events.items;
  for (uint32_t i = 0; i < linking->gather->events.count; i++) {
    uint32_t number = linking->events[i];
    if (items[number].kind == TRACE_THREAD_ENDED) linking->ends[linking->end_count++] = number;
    if (trace_timeline_is_state(items[number].kind))
      linking->events[linking->state_count++] = number;
  }
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

/* The first place of the object's releases after that time. */
static uint32_t releases_after(const struct linking *linking, uint64_t object, int64_t at) {
  return FIRST_NOT(linking->gather->releases.count, release_at(linking, i)->object < object ||
                                                        (release_at(linking, i)->object == object &&
                                                         release_at(linking, i)->at <= at));
}

/* From this place on. Paths are made shorter on the way. */
static uint32_t first_untaken(struct linking *linking, uint32_t place) {
  uint32_t *untaken = linking->untaken;
  while (untaken[place] != place) place = untaken[place] = untaken[untaken[place]];
  return place;
}

/* Of a condition, a barrier, a thread: the first that woke all, or woke one who is not found yet.
 */
static const struct trace_release *signal_of(struct linking *linking, const struct trace_wait *wait,
                                             int64_t until) {
  uint32_t count = linking->gather->releases.count;
  uint32_t place = first_untaken(linking, releases_after(linking, wait->object, wait->begin - 1));
  for (; place < count; place = first_untaken(linking, place + 1)) {
    const struct trace_release *release = release_at(linking, place);
    if (release->object != wait->object || release->at > until) return NULL;
    if (release->tid == wait->tid) continue;
    if (release->wakes == LOCK_WAKES_ONE) linking->untaken[place] = place + 1;
    return release;
  }
  return NULL;
}

/* Of a lock: the last one of its object by another thread, within the wait. */
static const struct trace_release *release_of(struct linking *linking,
                                              const struct trace_wait *wait, int64_t woken) {
  uint32_t after = releases_after(linking, wait->object, wait->end);
  for (; wait->object && wait->was_released && after > 0; after--) {
    const struct trace_release *release = release_at(linking, after - 1);
    if (release->object != wait->object || release->at < wait->begin) return NULL;
    if (release->wakes != LOCK_WAKES_NEXT) {
      const struct trace_release *early = signal_of(linking, wait, woken);
      return early ? early : signal_of(linking, wait, wait->end);
    }
    if (release->tid != wait->tid) return release;
  }
  return NULL;
}

/* When a thread ended for which somebody waited. It has said so itself when its function returned,
 * and is still there when it wakes who waits; its end is told a moment later. */
static int64_t end_of(const struct linking *linking, const struct trace_wait *wait,
                      const struct trace_release *release) {
  const struct trace_event *events = linking->gather->events.items;
  uint32_t found = FIRST_NOT(linking->end_count, events[linking->ends[i]].tid < release->tid);
  const struct trace_event *end = found < linking->end_count ? &events[linking->ends[found]] : NULL;
  int64_t at = wait->end;
  if (end && end->tid == release->tid && end->at > release->at && end->at < at) at = end->at;
  for (uint32_t place = states_after(linking, wait->tid, wait->end); place > 0; place--) {
    const struct trace_event *state = state_at(linking, place - 1);
    if (state->tid != wait->tid || state->at <= wait->begin || linking->is_sampled) break;
    if (state->kind == TRACE_BLOCKED) break;
    if (state->at < at) at = state->at; /* it was on its CPU before the other had left its own */
  }
  at -= 2; /* the wake follows, then its CPU */
  return at > release->at ? at : release->at;
}

/* ---- before all ---- */

/* Where the kernel tells of states: when it was on a CPU again after it had first lost it. What
 * ended the wait of a condition was before that; it may have waited for its mutex since. */
static int64_t woken_at(const struct linking *linking, const struct trace_wait *wait) {
  uint32_t end = states_after(linking, wait->tid, wait->end);
  if (linking->is_sampled) return wait->end;
  for (uint32_t place = states_after(linking, wait->tid, wait->begin - 1); place + 1 < end; place++)
    if (state_at(linking, place)->kind == TRACE_BLOCKED) return state_at(linking, place + 1)->at;
  return wait->end;
}

static bool prepare(struct linking *linking) {
  const struct trace_growing *releases = &linking->gather->releases;
  const struct trace_wait *waits = linking->gather->waits.items;
  uint32_t wait_count = linking->gather->waits.count;
  if (!allocate(linking)) return false;
  pick_events(linking);
  for (uint32_t i = 0; i < releases->count; i++) linking->releases[i] = linking->untaken[i] = i;
  linking->untaken[releases->count] = releases->count;
  for (uint32_t i = 0; i < wait_count; i++) {
    linking->waits[i] = i;
    linking->woken[i] = woken_at(linking, &waits[i]);
  }
  return number_order_sort(linking->releases, releases->count, releases_swapped, releases->items) &&
         number_order_sort(linking->waits, wait_count, woken_swapped, linking->woken);
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

/* Who releases, or tells of itself, runs then, whatever the looks found. */
static void insert_running(struct linking *linking, int32_t tid, int64_t at) {
  const struct trace_event *known = state_then(linking, tid, at);
  if (known && known->kind == TRACE_RUNNING) return;
  struct trace_event again = known ? *known : (struct trace_event){0};
  again.at = at + 2;
  add(linking, state(tid, TRACE_RUNNING, at - 1));
  if (again.tid) add(linking, again);
}

static void wake(struct linking *linking, const struct trace_wait *wait,
                 const struct trace_release *release) {
  const struct trace_event *then = state_then(linking, wait->tid, release->at);
  bool was_blocked = linking->is_sampled || (then && then->kind == TRACE_BLOCKED);
  if (linking->is_sampled) insert_running(linking, release->tid, release->at);
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

static void link_wait(struct linking *linking, const struct trace_wait *wait, int64_t woken) {
  const struct trace_release *found = release_of(linking, wait, woken);
  struct trace_release release = found ? *found : (struct trace_release){0};
  if (found && release.wakes == LOCK_WAKES_AT_END) release.at = end_of(linking, wait, found);
  if (linking->is_sampled) insert(linking, wait);
  else explain(linking, wait);
  if (found) wake(linking, wait, &release);
}

static bool is_mark(uint8_t kind) {
  return kind == TRACE_MARK || kind == TRACE_MARK_BEGIN || kind == TRACE_MARK_END;
}

bool trace_waits_link(struct trace_gather *gather, bool states_are_sampled) {
  struct linking linking = {.gather = gather, .is_sampled = states_are_sampled};
  const struct trace_wait *waits = gather->waits.items;
  uint32_t event_count = gather->events.count;
  bool whole = prepare(&linking);
  for (uint32_t i = 0; whole && i < gather->waits.count; i++)
    link_wait(&linking, &waits[linking.waits[i]], linking.woken[linking.waits[i]]);
  for (uint32_t i = 0; whole && states_are_sampled && i < event_count; i++) {
    struct trace_event event = ((const struct trace_event *)gather->events.items)[i];
    if (is_mark(event.kind)) insert_running(&linking, event.tid, event.at);
  }
  release(&linking);
  return whole && !linking.failed;
}
