#include "trace_ring.h"

#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "shim/base/at_fork.h"
#include "shim/base/confinement.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"

_Atomic uint32_t trace_ring_armed;

/* A place of the ring. turn is counted from its index, so that zeroed memory is an empty ring: it
 * is free for position p when turn is p - index, and finished when it is p - index + 1. Writers
 * take positions by a CAS of `reserved`, write, and tell it by a release store of turn; the reader,
 * who acquires that, gives the place back by storing the turn of the next lap. */
struct place {
  _Atomic uint64_t turn;
  struct trace_ring_event event;
} __attribute__((aligned(64)));

/* Mapped by the first recording and kept, so that a writer that was held up may still write: it
 * then writes into a ring that is another recording's, or nobody's. */
static _Atomic(struct place *) places;
static uint64_t capacity; /* a power of two; constant once places is published (release) */
static _Atomic uint64_t reserved;
/* The reader's. */
static uint64_t consumed;
/* How often it came for a place that is taken and not finished: its writer may have been left by a
 * jump. */
static uint32_t waited_for;

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
    uint64_t turn = position & ~(capacity - 1);
    uint64_t now = atomic_load_explicit(&place->turn, memory_order_acquire);
    if ((int64_t)(now - turn) < 0) return count_loss(event->tid);
    if (now != turn) { /* somebody has taken it meanwhile */
      position = atomic_load_explicit(&reserved, memory_order_relaxed);
      continue;
    }
    if (!atomic_compare_exchange_weak_explicit(&reserved, &position, position + 1,
                                               memory_order_relaxed, memory_order_relaxed))
      continue;
    memcpy(&place->event, event, bytes_of(event));
    atomic_store_explicit(&place->turn, turn + 1, memory_order_release);
    return;
  }
}

/* ---- the reader ---- */

static void reset(void) {
  struct place *all = atomic_load_explicit(&places, memory_order_relaxed);
  raw_syscall4(SYS_madvise, (long)all, (long)(capacity * sizeof *all), MADV_DONTNEED, 0);
  atomic_store_explicit(&reserved, 0, memory_order_relaxed);
  consumed = waited_for = 0;
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

static void give_back(struct place *place) {
  uint64_t turn = consumed & ~(capacity - 1);
  atomic_store_explicit(&place->turn, turn + capacity, memory_order_release);
  consumed++;
  waited_for = 0;
}

bool trace_ring_next(struct trace_ring_event *out) {
  enum { PATIENCE = 200 };
  struct place *all = atomic_load_explicit(&places, memory_order_relaxed);
  if (!all) return false;
  struct place *place = &all[consumed & (capacity - 1)];
  bool is_taken = consumed < atomic_load_explicit(&reserved, memory_order_relaxed);
  if (atomic_load_explicit(&place->turn, memory_order_acquire) ==
      (consumed & ~(capacity - 1)) + 1) {
    memcpy(out, &place->event, bytes_of(&place->event));
    give_back(place);
    return true;
  }
  if (is_taken && ++waited_for > PATIENCE) {
    count_loss(0);
    give_back(place);
  }
  return false;
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
