#include "trace_ring.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "shim/base/at_fork.h"
#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"

_Atomic uint32_t trace_ring_armed;

/* A place of the ring. Positions count on from a recording's base, its number in the upper bits. A
 * place is free for position p when turn is p's lap (p less its index), or, in the first lap, what
 * an earlier recording has left; it is finished when turn is one more. Writers take positions by a
 * CAS of `reserved`, write, and tell it by a CAS of turn (release). The reader, who acquires that,
 * gives the place back by storing the turn of the next lap. A place whose writer is held up for too
 * long is abandoned: nobody uses it until the next recording, so that the writer may still write,
 * and its CAS fails. */
struct place {
  _Atomic uint64_t turn;
  struct trace_ring_event event;
} __attribute__((aligned(64)));

enum { NUMBER_SHIFT = 48 };

/* Mapped by the first recording and kept, so that a writer that was held up may still write. */
static _Atomic(struct place *) places;
static uint64_t capacity; /* a power of two; constant once places is published (release) */
static _Atomic uint64_t reserved;
/* The reader's. */
static uint64_t consumed;
/* How often it came for a place that is taken and not finished: its writer may have been left by a
 * jump. */
static uint32_t waited_for;

static uint64_t recording_of(uint64_t position) { return position >> NUMBER_SHIFT; }

static uint64_t lap_of(uint64_t position) { return position & ~(capacity - 1); }

/* As lap + 1 is odd, and this even and no lap of a ring of more places than one, it is its own. */
static uint64_t abandoned(uint64_t position) {
  return recording_of(position) << NUMBER_SHIFT | ((UINT64_C(1) << NUMBER_SHIFT) - 2);
}

static bool is_first_lap(uint64_t position) {
  return (position & ((UINT64_C(1) << NUMBER_SHIFT) - 1)) < capacity;
}

/* By thread: a slot is taken by a CAS of tid and never given back, as threads that lose events are
 * few; the count is exchanged by the reader. Relaxed: numbers to show. */
enum { LOSERS = 256 };
static struct loser {
  _Atomic int32_t tid;
  _Atomic uint64_t count;
} losers[LOSERS];
static _Atomic uint64_t lost_by_others, names_cut;

static void count_loss(int32_t tid) {
  for (uint32_t i = tid ? 0 : LOSERS, at = (uint32_t)tid; i < LOSERS; i++, at++) {
    struct loser *loser = &losers[at % LOSERS];
    int32_t known = 0;
    if (!atomic_compare_exchange_strong_explicit(&loser->tid, &known, tid, memory_order_relaxed,
                                                 memory_order_relaxed) &&
        known != tid)
      continue;
    atomic_fetch_add_explicit(&loser->count, 1, memory_order_relaxed);
    return;
  }
  atomic_fetch_add_explicit(&lost_by_others, 1, memory_order_relaxed);
}

uint64_t trace_ring_now(void) {
  struct timespec now = {0, 0};
  raw_syscall4(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void trace_ring_take_name(struct trace_ring_event *event, const char *name) {
  size_t size = name ? strnlen(name, TRACE_NAME_MAX) : 0;
  if (size == TRACE_NAME_MAX) {
    size--;
    atomic_fetch_add_explicit(&names_cut, 1, memory_order_relaxed);
  }
  if (size) memcpy(event->name, name, size);
  event->name[size] = 0;
}

uint64_t trace_ring_names_cut(void) {
  return atomic_load_explicit(&names_cut, memory_order_relaxed);
}

static size_t bytes_of(const struct trace_ring_event *event) {
  bool has_name = event->kind == TRACE_RING_MARK || event->kind == TRACE_RING_MARK_BEGIN;
  return has_name ? sizeof *event : offsetof(struct trace_ring_event, name);
}

void trace_ring_write(struct trace_ring_event *event) {
  struct place *all = atomic_load_explicit(&places, memory_order_acquire);
  if (!all || confinement_forbids_calls()) return; /* confined while it waited: nobody records */
  event->tid = (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
  uint64_t position = atomic_load_explicit(&reserved, memory_order_relaxed);
  for (;;) {
    struct place *place = &all[position & (capacity - 1)];
    uint64_t lap = lap_of(position);
    uint64_t now = atomic_load_explicit(&place->turn, memory_order_acquire);
    bool is_left = is_first_lap(position) && recording_of(now) != recording_of(position);
    bool is_abandoned = now == abandoned(position);
    if (!is_left && !is_abandoned && now < lap) return count_loss(event->tid);
    if (!is_left && !is_abandoned && now != lap) { /* somebody has taken it meanwhile */
      position = atomic_load_explicit(&reserved, memory_order_relaxed);
      continue;
    }
    if (!atomic_compare_exchange_weak_explicit(&reserved, &position, position + 1,
                                               memory_order_relaxed, memory_order_relaxed))
      continue;
    if (is_abandoned) { /* passed over, by the reader too */
      position++;
      continue;
    }
    memcpy(&place->event, event, bytes_of(event));
    atomic_compare_exchange_strong_explicit(&place->turn, &now, lap + 1, memory_order_release,
                                            memory_order_relaxed);
    return;
  }
}

/* ---- the reader ---- */

static void reset(void) {
  struct place *all = atomic_load_explicit(&places, memory_order_relaxed);
  raw_syscall4(SYS_madvise, (long)all, (long)(capacity * sizeof *all), MADV_DONTNEED, 0);
  consumed = (recording_of(consumed) + 1) << NUMBER_SHIFT;
  waited_for = 0;
  atomic_store_explicit(&reserved, consumed, memory_order_relaxed);
}

bool trace_ring_open(size_t bytes) {
  struct place *all = atomic_load_explicit(&places, memory_order_relaxed);
  if (!all) {
    uint64_t wanted = 1;
    while (wanted * 2 * sizeof *all <= bytes) wanted *= 2;
    all = table_memory_map(wanted * sizeof *all);
    if (!all) return false;
    capacity = wanted;
    atomic_store_explicit(&places, all, memory_order_release);
  }
  reset();
  atomic_store_explicit(&trace_ring_armed, 1, memory_order_relaxed);
  return true;
}

void trace_ring_close(void) {
  int32_t tid;
  uint64_t count;
  atomic_store_explicit(&trace_ring_armed, 0, memory_order_relaxed);
  if (atomic_load_explicit(&places, memory_order_relaxed)) reset();
  while (trace_ring_next_loss(&tid, &count)) {}
}

/* The writer is held up, or was left by a jump: nobody waits for it any longer. */
static void abandon(struct place *place, uint64_t now) {
  if (!atomic_compare_exchange_strong_explicit(&place->turn, &now, abandoned(consumed),
                                               memory_order_release, memory_order_relaxed))
    return; /* it has finished just now */
  count_loss(0);
  waited_for = 0;
}

bool trace_ring_next(struct trace_ring_event *out) {
  enum { PATIENCE = 200 };
  struct place *all = atomic_load_explicit(&places, memory_order_relaxed);
  if (!all) return false;
  for (;;) {
    struct place *place = &all[consumed & (capacity - 1)];
    uint64_t now = atomic_load_explicit(&place->turn, memory_order_acquire);
    bool is_taken = consumed != atomic_load_explicit(&reserved, memory_order_relaxed);
    if (is_taken && now == abandoned(consumed)) {
      consumed++;
      continue;
    }
    if (is_taken && now == lap_of(consumed) + 1) {
      memcpy(out, &place->event, bytes_of(&place->event));
      atomic_store_explicit(&place->turn, lap_of(consumed) + capacity, memory_order_release);
      consumed++;
      waited_for = 0;
      return true;
    }
    if (is_taken && ++waited_for > PATIENCE) abandon(place, now);
    return false;
  }
}

bool trace_ring_next_loss(int32_t *tid, uint64_t *count) {
  for (uint32_t i = 0; i < LOSERS; i++) {
    *count = atomic_exchange_explicit(&losers[i].count, 0, memory_order_relaxed);
    *tid = atomic_load_explicit(&losers[i].tid, memory_order_relaxed);
    if (*count) return true;
  }
  *tid = 0;
  *count = atomic_exchange_explicit(&lost_by_others, 0, memory_order_relaxed);
  return *count > 0;
}

uint64_t trace_ring_bytes(void) {
  return trace_ring_is_armed() ? capacity * sizeof(struct place) : 0;
}

/* Writes only what is not as it should be: a page that a child writes is copied first. */
AT_FORK void trace_ring_forget(void) {
  if (trace_ring_is_armed()) atomic_store_explicit(&trace_ring_armed, 0, memory_order_relaxed);
}
