/* What the kernel writes about one thread into a ring of memory that it shares with the agent
 * (perf_event_open(2)). Nothing happens in the thread itself: no signal, no handler, no system call
 * that ends early. A ring is of one of two kinds:
 *   samples (the task clock): the thread's registers and a copy of the top of its stack, each time
 *     that it has used so much CPU time;
 *   switches: when it got a CPU and when it left it, what it gave birth to and when it ended.
 * Both tell its names. Context: agent threads; locks: the caller's. */
#ifndef AGENT_PERF_RING_H
#define AGENT_PERF_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/stacks/remote_unwind.h"

struct perf_ring {
  int descriptor; /* of the agent's table, -1: given up; the mapping keeps the event */
  void *memory; /* NULL: not open */
  size_t bytes;
  uint64_t tail; /* bytes ever read */
  uint32_t unread; /* bytes of the record that was handed out last: not given back yet */
  bool has_trailers; /* a ring of switches: each record ends with its time and CPU */
};

/* Bytes of stack a sample; the kernel's records are less than 64 KB in all. */
enum { PERF_RING_STACK = 8192, PERF_RING_DEEP_STACK = 65000 };

/* pages: of the ring, a power of two. The first sample comes after `first` nanoseconds of the
 * thread's CPU time from now on, and so does each one after it. wakes: each wakes who polls the
 * descriptor; else what fills half of the ring does. 0 or an errno value. */
int perf_ring_open(struct perf_ring *ring, int32_t tid, uint64_t first, uint32_t stack_bytes,
                   uint32_t pages, bool wakes);
/* A ring of switches. 0 or an errno value. */
int perf_ring_open_switches(struct perf_ring *ring, int32_t tid, uint32_t pages);
void perf_ring_close(struct perf_ring *ring);
/* What that value means for a user. */
const char *perf_ring_describe(int fault);
/* From now on a sample each `period`. False: there is no descriptor any more. */
bool perf_ring_set_period(struct perf_ring *ring, uint64_t period);
/* CPU time of the thread since the ring was opened, also of one that has ended. False: there is no
 * descriptor any more. */
bool perf_ring_total(const struct perf_ring *ring, uint64_t *nanoseconds);
void perf_ring_give_up_descriptor(struct perf_ring *ring);

enum perf_ring_kind {
  PERF_RING_SAMPLE,
  PERF_RING_NAME,
  /* of a ring of switches */
  PERF_RING_ON_CPU,
  PERF_RING_OFF_CPU,
  PERF_RING_BIRTH,
  PERF_RING_END,
  PERF_RING_LOST /* records that found no room, since the one before */
};
struct perf_ring_record {
  enum perf_ring_kind kind;
  uint64_t nanoseconds; /* sample: CPU time of the thread since the ring was opened */
  struct remote_registers registers; /* sample: in user mode */
  const char *stack; /* sample: a copy of what is at its sp */
  size_t stack_size;
  bool stack_is_cut; /* there is more of it */
  const char *name; /* name: the thread's new one */
  int64_t at; /* CLOCK_MONOTONIC; a name: of a ring of switches alone */
  int32_t cpu; /* of a ring of switches: where */
  bool preempted; /* off CPU: it would have gone on */
  int32_t child; /* birth: of which thread */
  uint64_t lost;
};
/* Hardly any room is left: samples may have found none. */
bool perf_ring_is_full(const struct perf_ring *ring);
/* The next record, valid until the next call with the same scratch; false: there is none.
 * scratch: PERF_RING_RECORD_MAX bytes. */
enum { PERF_RING_RECORD_MAX = 65536 };
bool perf_ring_next(struct perf_ring *ring, char *scratch, struct perf_ring_record *out);

#endif
