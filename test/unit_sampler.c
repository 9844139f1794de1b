/* flags: -lm */
/* The sampler against its own law: P(sampled) = 1 - exp(-size / rate), whatever the sizes before;
 * and the logarithm against libm. */
#include "shim/allocation/sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

static void check(int ok, const char *what, double got, double want) {
  if (ok) return;
  failures++;
  printf("%s: got %.17g, want %.17g\n", what, got, want);
}

static void test_logarithm(void) {
  double worst = 0;
  for (double x = 0x1p-53; x <= 1; x *= 1.000937) {
    double want = -log(x),
           error = fabs(sampler_negative_log(x) - want) / (want > 1e-300 ? want : 1);
    if (error > worst) worst = error;
  }
  check(worst < 1e-9, "largest relative error of -ln", worst, 0);
  check(sampler_negative_log(1) == 0, "-ln 1", sampler_negative_log(1), 0);
}

/* Runs the fast path's arithmetic over a stream of sizes; the share of sampled ones must lie within
 * 4 standard errors of the law. */
static void test_share(uint64_t rate, const uint64_t *sizes, int kinds, long rounds) {
  uint64_t random = sampler_seed(&rate, 0), left = sampler_draw_interval(&random, rate);
  long sampled[8] = {0};
  for (long round = 0; round < rounds; round++)
    for (int kind = 0; kind < kinds; kind++) {
      if (left > sizes[kind]) {
        left -= sizes[kind];
      } else {
        sampled[kind]++;
        left = sampler_draw_interval(&random, rate);
      }
    }
  for (int kind = 0; kind < kinds; kind++) {
    double p = -expm1(-(double)sizes[kind] / (double)rate),
           error = sqrt(p * (1 - p) / (double)rounds);
    double share = (double)sampled[kind] / (double)rounds;
    char what[80];
    snprintf(what, sizeof what, "share of size %llu at rate %llu", (unsigned long long)sizes[kind],
             (unsigned long long)rate);
    check(fabs(share - p) <= 4 * error + 1e-12, what, share, p);
  }
}

static void test_mean(uint64_t rate) {
  uint64_t random = sampler_seed(&failures, 0);
  double sum = 0;
  enum { DRAWS = 400000 };
  for (int i = 0; i < DRAWS; i++) {
    uint64_t interval = sampler_draw_interval(&random, rate);
    check(interval >= 1, "interval", (double)interval, 1);
    sum += (double)interval;
  }
  double mean =
      1 / -expm1(-1 / (double)rate); /* of a geometric variable: ceil of an exponential one */
  check(fabs(sum / DRAWS - mean) < 4 * mean / sqrt(DRAWS), "mean interval", sum / DRAWS, mean);
}

/* Two children of one parent, with the same pid (each in a namespace of its own) or with two, and
 * the parent itself: no draws in common. */
static void test_children(void) {
  struct sampler_sequence first = sampler_split(&failures, 1, 524288),
                          second = sampler_split(&failures, 1, 524288);
  check(first.random != second.random && first.lock_random != second.lock_random &&
            first.random != first.lock_random,
        "children's states", 0, 1);
  check(first.interval != second.interval, "children's first intervals", (double)first.interval,
        (double)second.interval);
  check(sampler_state_of_child(first.random, 5) != sampler_state_of_child(first.random, 6),
        "two pids", 0, 1);
  check(sampler_state_of_child((uint64_t)5 << 32, 5) != 0, "a state that is not 0", 0, 1);
  check(sampler_seed(&failures, 5) != sampler_seed(&failures, 6), "seeds of two pids", 0, 1);
}

int main(void) {
  test_children();
  test_logarithm();
  const uint64_t mixed[] = {16, 4096, 1, 100000, 64, 524288, 3000000};
  test_share(524288, mixed, 7, 300000);
  test_share(100, mixed, 5, 300000);
  test_share(2, mixed, 2, 300000);
  test_mean(524288);
  test_mean(2);
  test_mean((uint64_t)1 << 40);
  uint64_t random = 1;
  for (int i = 0; i < 1000; i++)
    check(sampler_draw_interval(&random, UINT64_MAX) <= (uint64_t)1 << 62, "bounded interval", 0,
          0);
  check(sampler_seed(&failures, 1) != sampler_seed(&failures, 1), "two threads' seeds", 0, 1);
  return failures != 0;
}
