/* flags: -lm */
/* 1 / (1 - exp(-x)) against long double expm1, from 1e-18 to 1e3, and the corner cases. */
#include "agent/profiles/sampling_scale.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int failures;

static void check(bool ok, const char *what, double x, double got, double want) {
  if (ok) return;
  failures++;
  fprintf(stderr, "FAILED %s: x=%.17g got %.17g want %.17g\n", what, x, got, want);
}

int main(void) {
  double worst = 0;
  for (int i = 0; i < 400000; i++) {
    long double x = expl(-41.4L + 48.3L * i / 400000);
    double xd = (double)x, want = (double)(-1.0L / expm1l(-(long double)xd)),
           got = sampling_scale_of_ratio(xd);
    double error = fabs(got / want - 1);
    if (error > worst) worst = error;
    check(error < 2e-15, "relative error", xd, got, want);
  }
  static const double edges[] = {
      0.5, 0x1.0000000000001p-1, 64, 63.999999, 0.34657359027997264, 0x1p-1022, 1e300};
  for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
    double want = (double)(-1.0L / expm1l(-(long double)edges[i])),
           got = sampling_scale_of_ratio(edges[i]);
    check(fabs(got / want - 1) < 2e-15, "edge", edges[i], got, want);
  }
  /* Go's own figures: 1/(1-exp(-64/524288)) and friends. */
  check(fabs(sampling_scale(64, 524288) - 8192.50001017) < 1e-7, "64/512k", 64,
        sampling_scale(64, 524288), 8192.50001017);
  check(sampling_scale(64, 1) == 1, "rate 1", 1, sampling_scale(64, 1), 1);
  check(sampling_scale(64, 0) == 1, "rate 0", 0, sampling_scale(64, 0), 1);
  check(sampling_scale(0, 524288) == sampling_scale(1, 524288), "size 0", 0,
        sampling_scale(0, 524288), sampling_scale(1, 524288));
  check(sampling_scale(0, 1) == 1, "size 0 at rate 1", 0, sampling_scale(0, 1), 1);
  check(sampling_scale(UINT64_C(1) << 50, 524288) == 1, "huge", 0,
        sampling_scale(UINT64_C(1) << 50, 524288), 1);
  static const struct {
    double value;
    int64_t rounded;
  } roundings[] = {{0.49999999999999994, 0},
                   {0.5, 1},
                   {1.5, 2},
                   {-0.5, -1},
                   {-1.4, -1},
                   {1e300, INT64_MAX},
                   {-1e300, INT64_MIN},
                   {9007199254740993.0, INT64_C(9007199254740992)},
                   {-2.5, -3},
                   {0, 0}};
  for (size_t i = 0; i < sizeof roundings / sizeof *roundings; i++)
    check(sampling_round(roundings[i].value) == roundings[i].rounded, "rounding",
          roundings[i].value, (double)sampling_round(roundings[i].value),
          (double)roundings[i].rounded);
  printf("worst relative error %.3g\n", worst);
  return failures != 0;
}
