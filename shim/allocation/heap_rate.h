/* At which rate allocations are sampled. It may be changed while the program runs: each rate that
 * was ever in force has a number, a thread keeps the number of the one at which its next sample was
 * drawn, and the sample that of the rate.
 *
 * A thread looks for a new rate when it has taken a sample, or a step of allocations without one:
 * malloc's fast path knows nothing of it. The allocation at which it looks is still decided by the
 * older rate, the next one by the new rate; so each allocation is drawn at one rate, chosen before
 * it, and its estimate has no bias.
 */
#ifndef SHIM_HEAP_RATE_H
#define SHIM_HEAP_RATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
  HEAP_RATES_MAX = 32, /* different ones in the life of a process */
  HEAP_RATE_STEP = 256 << 10 /* bytes that a thread allocates before it looks */
};

/* Mean bytes between samples; 1: every allocation, 0: none. */
struct heap_rates {
  _Atomic uint32_t now; /* number of the one in force; release: its rate stands there */
  uint32_t count; /* this, and a new number's rate, is written by who sets it, one at a time */
  uint64_t first; /* number 0: that of the start, on a page that each start writes */
};
extern struct heap_rates heap_rates;
extern uint64_t heap_rates_later[HEAP_RATES_MAX - 1];

static inline uint32_t heap_rate_now(void) {
  return atomic_load_explicit(&heap_rates.now, memory_order_acquire);
}
static inline uint64_t heap_rate_of(uint32_t number) {
  return number == 0 ? heap_rates.first : heap_rates_later[number - 1];
}

/* config.memprofile_rate is then the same. False: there were HEAP_RATES_MAX others. Context: the
 * constructor, then one agent thread at a time. */
bool heap_rate_set(uint64_t rate);

#endif
