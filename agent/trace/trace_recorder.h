/* Records what every thread does while somebody listens: one thread of the agent's reads the
 * kernel's rings and the program's own, and tells all listeners. The first listener starts it, the
 * last one ends it. Context: agent threads; its lock is the listeners' too. */
#ifndef AGENT_TRACE_RECORDER_H
#define AGENT_TRACE_RECORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "trace_gather.h"
#include "trace_samples.h"

struct trace_listener {
  struct trace_gather gather;
  struct trace_sampling sampling;
  bool is_patient; /* may be told later, and less often what waits are for, so that it costs less */
};

enum { TRACE_LISTENERS = 6 };

void trace_recorder_lock(void);
void trace_recorder_unlock(void);

/* ---- under the lock ---- */

/* Is told what happens from now on. False: no memory, no thread, or too many. */
bool trace_recorder_add(struct trace_listener *listener);
void trace_recorder_remove(struct trace_listener *listener);
/* What has happened until now, which all are told. */
void trace_recorder_read(void);
/* The state that each thread is in, which is told to this one alone: its last events. */
void trace_recorder_tell_states(struct trace_listener *listener);
void trace_recorder_look_at_counters(void);
/* Records, ever. */
uint64_t trace_recorder_lost(void);
/* Nanoseconds between two looks where states are sampled; 0: the kernel records them. */
int64_t trace_recorder_period(void);
/* Called by the recorder's thread after each reading; NULL: nobody. It may add and remove. */
void trace_recorder_call_each_time(void (*call)(void));

struct trace_recorder_status {
  uint32_t threads_with_ring, threads_without_ring;
  uint64_t events, lost, ring_bytes;
  const char *source; /* "switch records" or "looks"; NULL: nobody has listened */
  const char *off_reason; /* why it is looks; NULL: it is not */
};
struct trace_recorder_status trace_recorder_status(void);

/* ---- takes the lock: for trace_samples_adjust ---- */

struct trace_sampling trace_recorder_wanted_samples(void);
void trace_recorder_take_sample(void *owner, const struct trace_event *event,
                                const struct trace_taken_stack *stack);

#endif
