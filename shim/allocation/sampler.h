/* When to sample. "Memory is a long stream from which allocations are taken": sample points lie on
 * it as a Poisson process with a mean distance of `rate` bytes, and an allocation is sampled when
 * at least one point falls into it, P = 1 - exp(-size / rate). Context: malloc hook, signal; locks:
 * none. */
#ifndef SHIM_SAMPLER_H
#define SHIM_SAMPLER_H

#include <stdint.h>

/* Bytes to the next sample point: ceil of an exponential variable of mean `rate`, at least 1. An
 * allocation of `size` is sampled when size >= interval; the distribution has no memory, so what is
 * left of an interval may be dropped at any time. */
uint64_t sampler_draw_interval(uint64_t *random, uint64_t rate);

/* 64 random bits. */
uint64_t sampler_random(uint64_t *state);

/* A generator state for a new thread, never 0, different for each: in the processes that came of
 * one by fork as well. pid: 0 where it cannot be had. */
uint64_t sampler_seed(const void *thread, int32_t pid);

/* With what a child that is about to be forked goes on in place of its parent's, drawn by the
 * parent: a child pays for each page that it touches. */
struct sampler_sequence {
  uint64_t random, lock_random; /* generator states; the child makes its pid a part of them */
  uint64_t interval; /* sampler_draw_interval; 0: there is none to draw */
  uint8_t rate; /* number of the rate at which it is drawn; the caller's */
};
struct sampler_sequence sampler_split(const void *thread, int32_t pid, uint64_t rate);
static inline uint64_t sampler_state_of_child(uint64_t state, int32_t pid) {
  state ^= (uint64_t)pid << 32;
  return state ? state : 1;
}

/* -ln(x), 0 < x <= 1, relative error below 1e-9. */
double sampler_negative_log(double x);

#endif
