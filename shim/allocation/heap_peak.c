#include "heap_peak.h"

#include <stddef.h>

/* Both change together or not at all, or a thread that is held up between the two would put the
 * highest moment where it was not. moment: how often it began anew (16 bits), and the highest
 * level since (48): it never has the same value twice. */
struct level {
  _Atomic uint64_t now, moment;
};
static struct level level __attribute__((aligned(16)));

enum { LEVEL_BITS = 48, LIVE_BITS = 26 };
#define LEVEL_MAX (((uint64_t)1 << LEVEL_BITS) - 1)
#define LIVE_MAX (((uint64_t)1 << LIVE_BITS) - 1)

struct level_value {
  uint64_t now, moment;
};

/* The two halves may be of different moments: exchange then refuses them. */
static struct level_value read_level(void) {
  return (struct level_value){atomic_load_explicit(&level.now, memory_order_relaxed),
                              atomic_load_explicit(&level.moment, memory_order_acquire)};
}

/* Sequentially consistent, as every locked instruction. False: *expected is what was there. */
static bool exchange(struct level_value *expected, struct level_value value) {
#if defined(__x86_64__)
  bool done;
  __asm__ volatile("lock cmpxchg16b %1\n\tsetz %0"
                   : "=q"(done), "+m"(level), "+a"(expected->now), "+d"(expected->moment)
                   : "b"(value.now), "c"(value.moment)
                   : "cc", "memory");
  return done;
#else
#error "exchange is not written for this architecture yet"
#endif
}

void heap_peak_grow(uint64_t weight) {
  struct level_value before = read_level(), after;
  do {
    after = (struct level_value){before.now + weight, before.moment};
    uint64_t bytes = after.now < LEVEL_MAX ? after.now : LEVEL_MAX;
    if (bytes > (before.moment & LEVEL_MAX)) after.moment = (before.moment & ~LEVEL_MAX) | bytes;
  } while (!exchange(&before, after));
}

void heap_peak_shrink(uint64_t weight) {
  struct level_value before = read_level();
  while (!exchange(&before, (struct level_value){before.now - weight, before.moment})) {}
}

void heap_peak_begin_anew(void) {
  struct level_value before = read_level(), after;
  do {
    uint64_t bytes = before.now < LEVEL_MAX ? before.now : LEVEL_MAX;
    uint64_t times = (before.moment >> LEVEL_BITS) + 1;
    after = (struct level_value){before.now, times << LEVEL_BITS | bytes};
  } while (!exchange(&before, after));
}

struct heap_levels heap_peak_levels(void) {
  struct level_value value = read_level();
  return (struct heap_levels){value.now, value.moment & LEVEL_MAX};
}

/* ---- notes ---- */

/* Of two moments the hashes differ, but for one pair in 2^38. Of 0, before the first: 0, as new
 * buckets have it. */
static uint64_t hash_of_moment(void) {
  uint64_t moment = atomic_load_explicit(&level.moment, memory_order_acquire);
  return moment * 0x9e3779b97f4a7c15ull >> LIVE_BITS << LIVE_BITS;
}

/* frees first: never more of them than of allocs. */
static uint64_t live_now(const _Atomic uint64_t *allocs, const _Atomic uint64_t *frees) {
  uint64_t freed = atomic_load_explicit(frees, memory_order_acquire);
  return atomic_load_explicit(allocs, memory_order_acquire) - freed;
}

void heap_peak_keep(_Atomic uint64_t *note, const _Atomic uint64_t *allocs,
                    const _Atomic uint64_t *frees) {
  uint64_t hash = hash_of_moment(), word = atomic_load_explicit(note, memory_order_acquire);
  if ((word & ~LIVE_MAX) == hash) return;
  uint64_t live = live_now(allocs, frees);
  if (live > LIVE_MAX) live = LIVE_MAX; /* more than the table of live ones has room for */
  atomic_compare_exchange_strong_explicit(note, &word, hash | live, memory_order_acq_rel,
                                          memory_order_relaxed);
}

uint64_t heap_peak_live(const _Atomic uint64_t *note, const _Atomic uint64_t *allocs,
                        const _Atomic uint64_t *frees) {
  uint64_t live = live_now(allocs, frees); /* who changed it had written the note before */
  uint64_t word = atomic_load_explicit(note, memory_order_acquire);
  return (word & ~LIVE_MAX) == hash_of_moment() ? word & LIVE_MAX : live;
}

/* ---- weights ---- */

/* size / (1 - exp(-size / rate)) = size + rate f(size / rate), f(x) = x / (exp(x) - 1): f at 0,
 * 1/2, 1, ... in 1024ths, straight lines between. */
uint64_t heap_peak_weight(uint64_t size, uint64_t rate) {
  enum { ONE = 1024, STEPS_TO_ONE = 2, STEPS = 16 };
  static const uint16_t f[STEPS + 2] = {1024, 789, 596, 441, 321, 229, 161, 112, 76,
                                        52,   35,  23,  15,  10,  7,   4,   3,   0};
  if (size == 0) size = 1; /* as heap_sampling.c counts it */
  if (rate <= 1 || size / rate >= STEPS / STEPS_TO_ONE) return size;
  if (rate > LEVEL_MAX / ONE) return rate;
  uint64_t scaled = size * STEPS_TO_ONE * ONE / rate, step = scaled / ONE, part = scaled % ONE;
  uint64_t at = f[step] - (f[step] - f[step + 1]) * part / ONE;
  return size + rate * at / ONE;
}
