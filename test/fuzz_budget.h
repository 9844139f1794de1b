/* How long a test of random inputs goes on, and from which seed: FUZZ_SECONDS and FUZZ_SEED in the
 * environment (make fuzz), else as the test says. The seed is printed, and makes the same inputs
 * again. */
#ifndef TEST_FUZZ_BUDGET_H
#define TEST_FUZZ_BUDGET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double fuzz_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline uint64_t fuzz_seed(uint64_t usual) {
  const char *given = getenv("FUZZ_SEED");
  uint64_t seed = given ? strtoull(given, NULL, 0) : usual;
  printf("FUZZ_SEED=%llu\n", (unsigned long long)seed);
  fflush(stdout);
  return seed ? seed : 1;
}

static inline double fuzz_seconds(double usual) {
  const char *given = getenv("FUZZ_SECONDS");
  return given ? atof(given) : usual;
}

static double fuzz_end;

/* The next part of a test begins, which has this share of FUZZ_SECONDS. */
static inline void fuzz_part(double share) { fuzz_end = fuzz_now() + share * fuzz_seconds(0); }
/* Whether there is one more round: `usual` of them where FUZZ_SECONDS is not set. */
static inline bool fuzz_goes_on(long round, long usual) {
  return getenv("FUZZ_SECONDS") ? fuzz_now() < fuzz_end : round < usual;
}

#endif
