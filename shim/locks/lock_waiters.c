#include "lock_waiters.h"

#include <sys/mman.h>

#include "contention_table.h"
#include "shim/base/counters.h"
#include "lock_status.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"
#include "shim/base/thread_state.h"

/* A place. Taken by a CAS of object from FREE to TAKEN; the fields are then written, and a release
 * store of the object's address shows them to releasers. Given back by its waiter, who knows by
 * `life` that it still is its own, or, when it has LEFT, by its object's last releaser. charged is
 * moved on by releasers, each by a CAS that gives it the time between: a place that was taken anew
 * meanwhile has another value there, so the CAS fails. */
struct lock_waiter {
  _Atomic uintptr_t object;
  _Atomic uint64_t
      charged; /* until when, and the latest releaser that was looked at (pack_charge) */
  _Atomic uint64_t weight;
  struct lock_waiter_bucket *bucket; /* constant once published, as is the next */
  uint32_t next; /* in the bucket's chain */
  _Atomic uint8_t looking; /* the slice that goes on now is looked at; written, as the next two, by
                              releasers, who mostly hold the lock */
  _Atomic uint8_t looked_at; /* slices: the first ones, then those since `charged` */
  _Atomic uint16_t scale; /* slices that the one that is looked at stands for; a power of two */
  _Atomic uint64_t life; /* raised each time that it is taken */
  struct lock_waiter *outer; /* of its waiter: the wait that a signal handler's wait interrupted,
                                and that place's life */
  uint64_t outer_life;
  /* While not every slice is looked at; written by releasers, who mostly hold the lock. */
  _Atomic uint64_t opened; /* as charged: when the slice that goes on began */
  _Atomic uint64_t seen; /* ns of the slices looked at since `charged`, times their scales */
  _Atomic uint32_t candidate; /* the releaser of one of them, each with a chance as its length */
  _Atomic bool missed; /* for a trace: the latest release was not looked at; by releasers, each just
                          before it releases */
} __attribute__((aligned(64)));

enum { FREE = 0, TAKEN = 1 }; /* what is below any object's address */
/* The object's address with a bit that no address has: the waiter has left, its releaser has yet to
 * be named, and gives the place back. */
#define LEFT ((uintptr_t)1 << 63)
static uintptr_t left_by(const void *object) { return (uintptr_t)object | LEFT; }
static bool is_waiting(uintptr_t object) { return object > TAKEN && !(object & LEFT); }
enum {
  FIRST_SLICES = 8,
  SCALE_MAX = 4096,
  SLICE_TARGET = 16000, /* ns from look to look: what one costs (0.5 us) is then 3 % of it */
  LOOKS_A_CHARGE = 64 /* that one releaser is drawn from, who has the time of all */
};

/* A moment, in TIME_UNIT ns modulo 2^TIME_BITS, and an entry of the contention table, in one word.
 * A wait may last for half of that: 26 days. */
enum { ENTRY_BITS = 17, TIME_BITS = 64 - ENTRY_BITS, TIME_UNIT = 32 };
enum { UNNAMED = (1 << ENTRY_BITS) - 1 }; /* in place of an entry */
_Static_assert((int)CONTENTION_ENTRIES_MAX < (int)UNNAMED, "entries are numbered from 1");

static uint64_t pack_charge(uint64_t nanoseconds, uint32_t entry) {
  return nanoseconds / TIME_UNIT << ENTRY_BITS | entry;
}
static uint32_t entry_of(uint64_t charge) { return (uint32_t)(charge & ((1 << ENTRY_BITS) - 1)); }
/* ns; negative: `to` is earlier. */
static int64_t time_between(uint64_t from, uint64_t to) {
  return ((int64_t)((to >> ENTRY_BITS << ENTRY_BITS) - (from >> ENTRY_BITS << ENTRY_BITS)) >>
          ENTRY_BITS) *
         TIME_UNIT;
}

/* One mapping, wiped in a forked child. */
struct waiter_region {
  struct lock_waiter_bucket buckets[LOCK_WAITER_BUCKETS];
  _Atomic uint32_t places; /* handed out */
};
_Atomic(struct lock_waiter_bucket *) lock_waiter_buckets;

/* Wiped as well, but for the pointers to them: a child uses its copies of the mappings. Published
 * by a release CAS. */
enum { PLACES_PER_CHUNK = 1024, CHUNKS = LOCK_WAITERS_MAX / PLACES_PER_CHUNK };
static _Atomic(struct lock_waiter *) chunks[CHUNKS];

static void *map_wiped(size_t size) {
  void *memory = table_memory_map(size);
  if (!memory || raw_syscall4(SYS_madvise, (long)memory, (long)size, MADV_WIPEONFORK, 0) == 0)
    return memory;
  table_memory_unmap(memory, size);
  return NULL;
}

static struct waiter_region *region(void) {
  return (struct waiter_region *)atomic_load_explicit(&lock_waiter_buckets, memory_order_acquire);
}

static struct waiter_region *ensure_region(void) {
  struct waiter_region *known = region();
  if (LIKELY(known)) return known;
  struct waiter_region *fresh = map_wiped(sizeof *fresh);
  struct lock_waiter_bucket *none = NULL;
  if (!fresh) return NULL;
  if (atomic_compare_exchange_strong_explicit(&lock_waiter_buckets, &none, fresh->buckets,
                                              memory_order_release, memory_order_acquire))
    return fresh;
  table_memory_unmap(fresh, sizeof *fresh);
  return (struct waiter_region *)none;
}
_Static_assert(offsetof(struct waiter_region, buckets) == 0,
               "lock_waiter_buckets is the region's address");

/* Places are numbered from 1. */
static struct lock_waiter *waiter_at(uint32_t number) {
  struct lock_waiter *chunk =
      atomic_load_explicit(&chunks[(number - 1) / PLACES_PER_CHUNK], memory_order_acquire);
  return chunk + (number - 1) % PLACES_PER_CHUNK;
}

static bool ensure_chunk(uint32_t index) {
  if (atomic_load_explicit(&chunks[index], memory_order_acquire)) return true;
  struct lock_waiter *fresh = map_wiped(PLACES_PER_CHUNK * sizeof *fresh), *none = NULL;
  if (!fresh) return false;
  if (!atomic_compare_exchange_strong_explicit(&chunks[index], &none, fresh, memory_order_release,
                                               memory_order_relaxed))
    table_memory_unmap(fresh, PLACES_PER_CHUNK * sizeof *fresh);
  return true;
}

static struct lock_waiter *new_place(struct waiter_region *all, struct lock_waiter_bucket *bucket) {
  uint32_t known = atomic_load_explicit(&all->places, memory_order_relaxed);
  do {
    if (known >= LOCK_WAITERS_MAX || !ensure_chunk(known / PLACES_PER_CHUNK)) return NULL;
  } while (!atomic_compare_exchange_weak_explicit(&all->places, &known, known + 1,
                                                  memory_order_relaxed, memory_order_relaxed));
  struct lock_waiter *waiter = waiter_at(known + 1);
  atomic_store_explicit(&waiter->object, TAKEN, memory_order_relaxed);
  waiter->bucket = bucket;
  uint32_t first = atomic_load_explicit(&bucket->first, memory_order_relaxed);
  do {
    waiter->next = first;
  } while (!atomic_compare_exchange_weak_explicit(&bucket->first, &first, known + 1,
                                                  memory_order_release, memory_order_relaxed));
  return waiter;
}

static struct lock_waiter *take_place(struct waiter_region *all,
                                      struct lock_waiter_bucket *bucket) {
  for (uint32_t number = atomic_load_explicit(&bucket->first, memory_order_acquire); number;) {
    struct lock_waiter *waiter = waiter_at(number);
    uintptr_t expected = FREE;
    if (atomic_load_explicit(&waiter->object, memory_order_relaxed) == FREE &&
        atomic_compare_exchange_strong_explicit(&waiter->object, &expected, TAKEN,
                                                memory_order_acquire, memory_order_relaxed))
      return waiter;
    number = waiter->next;
  }
  return new_place(all, bucket);
}

struct lock_waiter_claim lock_waiters_enter(const void *object, uint64_t start, uint64_t weight) {
  struct waiter_region *all = ensure_region();
  struct lock_waiter_bucket *bucket = all ? &all->buckets[lock_waiter_bucket_of(object)] : NULL;
  struct lock_waiter *waiter = bucket ? take_place(all, bucket) : NULL;
  if (!waiter) {
    COUNT_LOSS(mutex_lost_waiters);
    return (struct lock_waiter_claim){0};
  }
  uint64_t life = atomic_load_explicit(&waiter->life, memory_order_relaxed) + 1;
  atomic_store_explicit(&waiter->life, life, memory_order_relaxed);
  /* Linked before anybody can see it: a signal handler may leave by a jump at any moment. */
  waiter->outer = thread_state.waiting;
  waiter->outer_life = thread_state.waiting_life;
  thread_state.waiting_life = life;
  atomic_signal_fence(memory_order_seq_cst);
  thread_state.waiting = waiter;
  atomic_signal_fence(memory_order_seq_cst);
  atomic_store_explicit(&waiter->charged, pack_charge(start, 0), memory_order_relaxed);
  atomic_store_explicit(&waiter->opened, pack_charge(start, 0), memory_order_relaxed);
  atomic_store_explicit(&waiter->weight, weight, memory_order_relaxed);
  atomic_store_explicit(&waiter->looking, 1, memory_order_relaxed);
  atomic_store_explicit(&waiter->scale, 1, memory_order_relaxed);
  atomic_store_explicit(&waiter->looked_at, 0, memory_order_relaxed);
  atomic_store_explicit(&waiter->seen, 0, memory_order_relaxed);
  atomic_store_explicit(&waiter->candidate, 0, memory_order_relaxed);
  atomic_store_explicit(&waiter->missed, false, memory_order_relaxed);
  atomic_fetch_add_explicit(&bucket->waiting, 1, memory_order_relaxed);
  atomic_store_explicit(&waiter->object, (uintptr_t)object, memory_order_release);
  return (struct lock_waiter_claim){waiter, object, life};
}

static void give_back(struct lock_waiter *waiter) {
  atomic_store_explicit(&waiter->object, FREE, memory_order_release);
  atomic_fetch_sub_explicit(&waiter->bucket->waiting, 1, memory_order_release);
}

/* By the waiter whose releaser is not named. It says so, then looks again; the releaser names, then
 * looks whether it has left: so at least one of them sees the other, and the CAS decides. True: the
 * releaser has been named meanwhile, and the place is ours to give back. */
static bool leave_to_releaser(struct lock_waiter *waiter, const void *object, uint64_t *charged) {
  uintptr_t left = left_by(object);
  atomic_store_explicit(&waiter->object, left, memory_order_seq_cst);
  *charged = atomic_load_explicit(&waiter->charged, memory_order_seq_cst);
  return entry_of(*charged) != UNNAMED &&
         atomic_compare_exchange_strong_explicit(&waiter->object, &left, TAKEN,
                                                 memory_order_acq_rel, memory_order_relaxed);
}

bool lock_waiters_leave(const struct lock_waiter_claim *claim, bool released, uint32_t *released_by,
                        uint64_t *weight) {
  struct lock_waiter *waiter = claim->waiter;
  /* In this order: who took the place after us had raised its life before it stored that object. */
  bool own =
      atomic_load_explicit(&waiter->object, memory_order_acquire) == (uintptr_t)claim->object &&
      atomic_load_explicit(&waiter->life, memory_order_relaxed) == claim->life;
  struct lock_waiter *outer = NULL;
  uint64_t outer_life = 0;
  if (own) {
    outer = waiter->outer;
    outer_life = waiter->outer_life;
    uint64_t charged = atomic_load_explicit(&waiter->charged, memory_order_acquire);
    int64_t rest =
        time_between(charged, atomic_load_explicit(&waiter->opened, memory_order_relaxed));
    *released_by = entry_of(charged);
    *weight = atomic_load_explicit(&waiter->weight, memory_order_relaxed);
    uint32_t candidate = atomic_load_explicit(&waiter->candidate, memory_order_relaxed);
    uint32_t looks = atomic_load_explicit(&waiter->looked_at, memory_order_relaxed) - FIRST_SLICES;
    struct lock_waiter_bucket *bucket = waiter->bucket;
    if (*released_by != UNNAMED || !released) {
      give_back(waiter); /* who gave up is nobody's event */
    } else if (leave_to_releaser(waiter, claim->object, &charged)) {
      *released_by = entry_of(charged);
      give_back(waiter);
    } else {
      own = false;
      atomic_fetch_sub_explicit(&bucket->waiting, 1, memory_order_release);
    }
    /* The releases since the last look took as long, on average, as those between two looks. */
    if (candidate && candidate != UNNAMED && rest > 0 && looks > 0)
      contention_table_add(candidate, 0, *weight * ((uint64_t)rest + (uint64_t)rest / looks));
  }
  if (thread_state.waiting != waiter || thread_state.waiting_life != claim->life) return own;
  thread_state.waiting = outer;
  thread_state.waiting_life = outer_life;
  return own;
}

/* One that is not shown yet has raised its bucket's count or not: it may stay raised, which costs
 * releases there a look. */
uint32_t lock_waiters_abandon(void) {
  enum {
    NESTED_MAX = 64
  }; /* waits within handlers within waits; no more, should threads share thread-local storage (raw
        clone) */
  uint32_t count = 0;
  struct lock_waiter *waiter = thread_state.waiting;
  uint64_t life = thread_state.waiting_life;
  for (uint32_t i = 0; waiter && i < NESTED_MAX &&
                       atomic_load_explicit(&waiter->life, memory_order_relaxed) == life;
       i++) {
    struct lock_waiter *outer = waiter->outer;
    uintptr_t object = atomic_load_explicit(&waiter->object, memory_order_relaxed);
    life = waiter->outer_life;
    if (object == TAKEN) atomic_store_explicit(&waiter->object, FREE, memory_order_release);
    else if (is_waiting(object)) give_back(waiter);
    count += object == TAKEN || is_waiting(object);
    waiter = outer;
  }
  thread_state.waiting = NULL;
  thread_state.waiting_life = 0;
  return count;
}

/* ---- releasers ---- */

uint32_t lock_waiters_crowd(const void *object) {
  struct waiter_region *all = region();
  return all ? atomic_load_explicit(&all->buckets[lock_waiter_bucket_of(object)].waiting,
                                    memory_order_relaxed)
             : 0;
}

static uint32_t first_of(const void *object) {
  struct waiter_region *all = region();
  return all ? atomic_load_explicit(&all->buckets[lock_waiter_bucket_of(object)].first,
                                    memory_order_acquire)
             : 0;
}

bool lock_waiters_wait_for(const void *object) {
  for (uint32_t number = first_of(object); number;) {
    struct lock_waiter *waiter = waiter_at(number);
    if (atomic_load_explicit(&waiter->object, memory_order_acquire) == (uintptr_t)object)
      return true;
    number = waiter->next;
  }
  return false;
}

/* Whether a release begins a slice that is looked at. */
static bool begins_a_look(uint32_t scale, uint64_t random) { return (random & (scale - 1)) == 0; }

enum lock_release_look lock_waiters_look(const void *object, uint64_t random) {
  enum lock_release_look look = RELEASE_PASSES;
  for (uint32_t number = first_of(object); number;) {
    struct lock_waiter *waiter = waiter_at(number);
    number = waiter->next;
    if (atomic_load_explicit(&waiter->object, memory_order_acquire) != (uintptr_t)object) continue;
    if (atomic_load_explicit(&waiter->looking, memory_order_relaxed)) return RELEASE_IS_CHARGED;
    if (begins_a_look(atomic_load_explicit(&waiter->scale, memory_order_relaxed), random))
      look = RELEASE_IS_TIMED;
  }
  return look;
}

/* Written only where it changes: releases in rapid succession share no line that is written. A
 * place that was taken anew meanwhile may be marked too: that wait then has no releaser in the
 * trace. */
void lock_waiters_mark(const void *object, bool missed) {
  for (uint32_t number = first_of(object); number;) {
    struct lock_waiter *waiter = waiter_at(number);
    number = waiter->next;
    if (atomic_load_explicit(&waiter->object, memory_order_acquire) == (uintptr_t)object &&
        atomic_load_explicit(&waiter->missed, memory_order_relaxed) != missed)
      atomic_store_explicit(&waiter->missed, missed, memory_order_relaxed);
  }
}

bool lock_waiters_has_missed(const struct lock_waiter_claim *claim) {
  return atomic_load_explicit(&claim->waiter->missed, memory_order_relaxed);
}

/* After a slice of `time` ns: the scale of those to come, which depends on those before them alone,
 * and whether the next is looked at. */
static void look_on(struct lock_waiter *waiter, uint64_t time, uint64_t random) {
  uint32_t looked_at = atomic_load_explicit(&waiter->looked_at, memory_order_relaxed);
  if (looked_at < FIRST_SLICES) {
    atomic_store_explicit(&waiter->looked_at, (uint8_t)(looked_at + 1), memory_order_relaxed);
    return;
  }
  uint32_t scale = atomic_load_explicit(&waiter->scale, memory_order_relaxed);
  if (time * scale < SLICE_TARGET && scale < SCALE_MAX) scale *= 2;
  else if (time * scale > 4 * SLICE_TARGET && scale > 1) scale /= 2;
  atomic_store_explicit(&waiter->scale, (uint16_t)scale, memory_order_relaxed);
  atomic_store_explicit(&waiter->looking, begins_a_look(scale, random), memory_order_relaxed);
}

/* Takes the time since `charged` for the releaser, or only notes the releaser there. False: the
 * time is another's. */
static bool take_time(struct lock_waiter *waiter, const void *object, bool take, uint64_t until,
                      int64_t *time) {
  uint64_t from = atomic_load_explicit(&waiter->charged, memory_order_acquire), to;
  do {
    if (atomic_load_explicit(&waiter->object, memory_order_acquire) != (uintptr_t)object)
      return false;
    *time = time_between(from, until);
    if (*time < 0)
      return false; /* another releaser looked at the clock later and was here earlier */
    to = take ? until : from >> ENTRY_BITS << ENTRY_BITS | entry_of(until);
  } while (!atomic_compare_exchange_weak_explicit(&waiter->charged, &from, to, memory_order_acq_rel,
                                                  memory_order_acquire));
  return true;
}

/* One of the slices that were looked at, drawn with a chance as its length and as those that it
 * stands for, has the time of all (A-Chao's reservoir of one). */
static uint64_t charge_one_of_many(struct lock_waiter *waiter, const void *object, uint32_t scale,
                                   uint64_t until, uint64_t random) {
  int64_t slice = time_between(
              atomic_exchange_explicit(&waiter->opened, until, memory_order_relaxed), until),
          time;
  uint32_t looks =
      atomic_load_explicit(&waiter->looked_at, memory_order_relaxed) - FIRST_SLICES + 1u;
  bool enough = looks >= LOOKS_A_CHARGE;
  if (slice < 0 || !take_time(waiter, object, enough, until, &time)) return 0;
  uint64_t charged = 0, share = (uint64_t)slice * scale,
           seen = atomic_load_explicit(&waiter->seen, memory_order_relaxed) + share;
  if (seen == share || (random >> 16) % seen < share)
    atomic_store_explicit(&waiter->candidate, entry_of(until), memory_order_relaxed);
  atomic_store_explicit(&waiter->looked_at, (uint8_t)(FIRST_SLICES + (enough ? 0 : looks)),
                        memory_order_relaxed);
  atomic_store_explicit(&waiter->seen, enough ? 0 : seen, memory_order_relaxed);
  if (enough) {
    uint32_t chosen = atomic_exchange_explicit(&waiter->candidate, 0, memory_order_relaxed);
    uint64_t weighted =
        atomic_load_explicit(&waiter->weight, memory_order_relaxed) * (uint64_t)time;
    if (chosen == UNNAMED) charged = weighted; /* this one */
    else contention_table_add(chosen, 0, weighted);
  }
  look_on(waiter, (uint64_t)slice, random >> 32);
  return charged;
}

static uint64_t charge(struct lock_waiter *waiter, const void *object, enum lock_release_look look,
                       uint64_t until, uint64_t random) {
  bool looking = atomic_load_explicit(&waiter->looking, memory_order_relaxed);
  uint32_t scale = atomic_load_explicit(&waiter->scale, memory_order_relaxed);
  if (looking ? look != RELEASE_IS_CHARGED : !begins_a_look(scale, random)) return 0;
  if (!looking) {
    atomic_store_explicit(&waiter->opened, until, memory_order_relaxed);
    atomic_store_explicit(&waiter->looking, 1, memory_order_relaxed);
    return 0;
  }
  if (scale > 1) return charge_one_of_many(waiter, object, scale, until, random);
  int64_t time;
  if (!take_time(waiter, object, true, until, &time)) return 0;
  uint64_t weight = atomic_load_explicit(&waiter->weight, memory_order_relaxed);
  atomic_store_explicit(&waiter->opened, until, memory_order_relaxed);
  if (weight != 1) look_on(waiter, (uint64_t)time, random >> 32);
  return weight * (uint64_t)time;
}

uint64_t lock_waiters_charge(const void *object, enum lock_release_look look, uint64_t now,
                             uint64_t random, uint64_t *mark) {
  uint64_t sum = 0, until = pack_charge(now, UNNAMED);
  for (uint32_t number = first_of(object); number;) {
    struct lock_waiter *waiter = waiter_at(number);
    if (atomic_load_explicit(&waiter->object, memory_order_acquire) == (uintptr_t)object)
      sum += charge(waiter, object, look, until, random);
    number = waiter->next;
  }
  *mark = until;
  return sum;
}

uint64_t lock_waiters_name(const void *object, uint64_t mark, uint32_t released_by) {
  uint64_t ended = 0;
  for (uint32_t number = first_of(object); number;) {
    struct lock_waiter *waiter = waiter_at(number);
    number = waiter->next;
    uint32_t unnamed = UNNAMED;
    uint64_t charged = atomic_load_explicit(&waiter->charged, memory_order_relaxed);
    uint64_t weight = atomic_load_explicit(&waiter->weight, memory_order_relaxed);
    uintptr_t left = left_by(object);
    /* What this release left in a word is no later than its mark (take_time may have left the time
     * as it was); a later one is another's. */
    if (entry_of(charged) != UNNAMED || time_between(charged, mark) < 0) continue;
    uintptr_t waits_for = atomic_load_explicit(&waiter->object, memory_order_acquire);
    if (waits_for != (uintptr_t)object && waits_for != left) continue;
    atomic_compare_exchange_strong_explicit(&waiter->candidate, &unnamed, released_by,
                                            memory_order_relaxed, memory_order_relaxed);
    if (!atomic_compare_exchange_strong_explicit(&waiter->charged, &charged,
                                                 charged >> ENTRY_BITS << ENTRY_BITS | released_by,
                                                 memory_order_seq_cst, memory_order_relaxed))
      continue;
    if (atomic_load_explicit(&waiter->object, memory_order_seq_cst) == left &&
        atomic_compare_exchange_strong_explicit(&waiter->object, &left, FREE, memory_order_acq_rel,
                                                memory_order_relaxed))
      ended += weight;
  }
  return ended;
}

/* ---- status ---- */

uint32_t lock_waiters_now(void) {
  uint32_t count = 0;
  for (uint32_t i = 1, places = lock_waiters_places(); i <= places; i++)
    count += is_waiting(atomic_load_explicit(&waiter_at(i)->object, memory_order_relaxed));
  return count;
}

uint32_t lock_waiters_places(void) {
  struct waiter_region *all = region();
  return all ? atomic_load_explicit(&all->places, memory_order_relaxed) : 0;
}

uint64_t lock_waiters_bytes(void) {
  uint64_t bytes = region() ? sizeof(struct waiter_region) : 0;
  for (uint32_t i = 0; i < CHUNKS; i++)
    if (atomic_load_explicit(&chunks[i], memory_order_relaxed))
      bytes += PLACES_PER_CHUNK * sizeof(struct lock_waiter);
  return bytes;
}
