/* How many allocations one sampled allocation stands for.
 *
 * Samples are drawn as a Poisson process over the bytes allocated, one per `rate` bytes on average,
 * so an allocation of `size` bytes is sampled with probability 1 - exp(-size / rate), and each
 * sample counts for the inverse of that. Context: any; no libm, so that the library needs nothing
 * but libc.
 */
#ifndef AGENT_SAMPLING_SCALE_H
#define AGENT_SAMPLING_SCALE_H

#include <stdint.h>

/* 1 / (1 - exp(-x)) for x > 0, to about 1e-15 relative. */
double sampling_scale_of_ratio(double x);

/* 1 when rate <= 1 (every allocation was recorded). A block of size 0 is drawn as if it had one
 * byte. */
double sampling_scale(uint64_t size, uint64_t rate);

/* To the nearest integer (halves away from 0), clamped to int64. Go truncates here, which loses
 * half an object per (stack, size) on average; totals that are to be without bias cannot afford
 * that. */
int64_t sampling_round(double value);

#endif
