#include "sampler.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>

#include "float_state.h"

double sampler_negative_log(double x) {
  /* x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh((m-1)/(m+1)), whose series converges
   * fast there (|s| <= 0.172). */
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  int exponent = (int)(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
  double m;
  memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    exponent++;
  }
  double s = (m - 1) / (m + 1), q = s * s;
  double series =
      1 + q * (1.0 / 3 +
               q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13))))));
  return -(exponent * 0.6931471805599453 + 2 * s * series);
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
uint64_t sampler_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

static uint64_t interval_at(uint64_t point, uint64_t rate) {
  double uniform = (double)(point + 1) * 0x1p-53; /* (0, 1] */
  double interval = sampler_negative_log(uniform) * (double)rate; /* at most 36.8 * rate */
  if (interval >= 0x1p62) return (uint64_t)1 << 62;
  uint64_t whole = (uint64_t)interval;
  return (double)whole < interval || whole == 0 ? whole + 1 : whole;
}

uint64_t sampler_draw_interval(uint64_t *random, uint64_t rate) {
  uint64_t point = sampler_random(random) >> 11;
  struct float_state hosts = float_state_begin(&point, &rate);
  uint64_t interval = interval_at(point, rate);
  float_state_restore(hosts, &interval);
  return interval;
}

/* A child has the count that its parent had, so it takes the pid to tell them apart; the count
 * alone tells those that have the same pid, each in a namespace of its own. */
static _Atomic uint64_t seeds_given;

uint64_t sampler_seed(const void *thread, int32_t pid) {
  uint64_t seed =
      (uintptr_t)thread ^ (uint64_t)pid << 42 ^
      atomic_fetch_add_explicit(&seeds_given, 1, memory_order_relaxed) * 0xd1342543de82ef95ull;
  const void *kernel_random = (const void *)getauxval(AT_RANDOM); /* 16 bytes, fresh at each exec */
  uint64_t entropy = 0;
  if (kernel_random) memcpy(&entropy, kernel_random, sizeof entropy);
  seed ^= entropy;
  seed = sampler_random(&seed);
  return seed ? seed : 1;
}

/* Both draws are hashes of one more seed, so no state of this process's own leads to them. */
struct sampler_sequence sampler_split(const void *thread, int32_t pid, uint64_t rate) {
  uint64_t state = ~sampler_seed(thread, pid);
  struct sampler_sequence sequence = {.random = sampler_random(&state),
                                      .lock_random = sampler_random(&state)};
  sequence.interval = sampler_draw_interval(&state, rate ? rate : 1);
  return sequence;
}
