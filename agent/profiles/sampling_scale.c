#include "sampling_scale.h"

#include <string.h>

/* x (1 - x/2 (1 - x/3 (1 - ...))) = 1 - exp(-x), without the cancellation that 1 - exp(-x) suffers
 * for small x. For x <= 0.5 the 18th term is below 2^-53 of the sum. */
static double one_minus_exp_series(double x) {
  double sum = 1.0;
  for (int n = 18; n >= 2; n--) sum = 1.0 - x / n * sum;
  return x * sum;
}

static double power_of_two(int exponent) { /* -1022 <= exponent <= 1023 */
  uint64_t bits = (uint64_t)(exponent + 1023) << 52;
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* exp(-x) for 0.5 < x < 64: exp(-x) = 2^-k exp(-r), |r| <= ln(2)/2. */
static double exp_negative(double x) {
  const double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
  int k = (int)(x / (ln2_high + ln2_low) + 0.5);
  double r = (x - k * ln2_high) - k * ln2_low;
  double sum = 1.0;
  for (int n = 16; n >= 1; n--) sum = 1.0 - r / n * sum;
  return sum * power_of_two(-k);
}

double sampling_scale_of_ratio(double x) {
  if (x <= 0.5) return 1.0 / one_minus_exp_series(x);
  if (x >= 64.0) return 1.0; /* exp(-64) is far below half a unit in the last place of 1 */
  return 1.0 / (1.0 - exp_negative(x));
}

double sampling_scale(uint64_t size, uint64_t rate) {
  if (rate <= 1) return 1.0;
  /* an empty block counts one byte */
  return sampling_scale_of_ratio((size ? (double)size : 1.0) / (double)rate);
}

int64_t sampling_round(double value) {
  if (value >= 9223372036854775807.0) return INT64_MAX;
  if (value <= -9223372036854775808.0) return INT64_MIN;
  int64_t whole = (int64_t)value;
  double rest = value - (double)whole;
  if (rest >= 0.5) return whole + 1;
  if (rest <= -0.5) return whole - 1;
  return whole;
}
