/* CPU samples of all of the program's threads without a signal: a ring a thread (perf_ring.h).
 *
 * When a sample is due: after each period of a thread's CPU time, the first after a part of one
 * that is drawn for each thread, so that lives and windows shorter than a period count for what
 * they are on average. The kernel knows one period a ring only: it is the drawn part at first, and
 * the period proper once the first sample has come. A sample stands for all that have become due
 * since the one before it. So a thread's sum is right even where samples were late or found no
 * room.
 *
 * A thread's ring is opened once the agent has heard of it: at the profile's start, when a thread
 * starts by a call that was seen (ring_sampling_wait), and at the next look at /proc for others.
 * Context: agent threads; locks: the caller's (cpu_profile.c) but for ring_sampling_wait.
 */
#ifndef AGENT_RING_SAMPLING_H
#define AGENT_RING_SAMPLING_H

#include <stdbool.h>
#include <stdint.h>

#include "shim/cpu/sample_buffer.h"

/* NULL: the agent may ask the kernel for rings (perf_ring.h); or why it must not. */
const char *ring_sampling_forbidden(void);
/* NULL: the kernel gives this process rings; or why it does not. Asks it. */
const char *ring_sampling_refusal(void);

typedef void ring_sampling_sink(const struct stack_sample *sample);

/* False: no memory. Then with every period that is wanted; it opens the rings anew. */
bool ring_sampling_start(void);
void ring_sampling_set_period(uint64_t nanoseconds);
void ring_sampling_stop(void);

struct ring_sampling_threads {
  uint32_t with_ring, without_ring;
};
/* Opens rings for threads that have none, closes those of threads that have ended. */
struct ring_sampling_threads ring_sampling_look(ring_sampling_sink *sink);
/* Reads all rings. */
void ring_sampling_drain(ring_sampling_sink *sink);

/* Until a thread starts, a thread's first sample is due or the rings want to be read. */
void ring_sampling_wait(void);
/* Ends a wait, or the next one. */
void ring_sampling_wake(void);

/* For the health page. Context: any agent thread. */
uint32_t ring_sampling_count(void);
uint64_t ring_sampling_bytes(void);
uint64_t ring_sampling_merged(void); /* samples that another one of the thread stands for */

#endif
