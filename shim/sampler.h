/* When to sample. "Memory is a long stream from which allocations are taken": sample points lie on it as a Poisson process with
 * a mean distance of `rate` bytes, and an allocation is sampled when at least one point falls into it, P = 1 - exp(-size / rate).
 * Context: malloc hook, signal; locks: none. */
#ifndef SHIM_SAMPLER_H
#define SHIM_SAMPLER_H

#include <stdint.h>

/* Bytes to the next sample point: ceil of an exponential variable of mean `rate`, at least 1. An allocation of `size` is sampled when
 * size >= interval; the distribution has no memory, so what is left of an interval may be dropped at any time. */
uint64_t sampler_draw_interval(uint64_t *random, uint64_t rate);

/* 64 random bits. */
uint64_t sampler_random(uint64_t *state);

/* A generator state for a new thread, never 0, different for each. */
uint64_t sampler_seed(uint64_t salt);

/* -ln(x), 0 < x <= 1, relative error below 1e-9. */
double sampler_negative_log(double x);

#endif
