/* One thread of the program while somebody records: its ring of switch records, and the state that
 * it is in. The state's event is handed out when the next one begins, as what it waits for may only
 * be found meanwhile. Context: agent threads; locks: the caller's (trace_recorder.c). */
#ifndef AGENT_TRACED_THREAD_H
#define AGENT_TRACED_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/cpu/perf_ring.h"
#include "trace_gather.h"
#include "trace_look.h"

struct traced_thread {
  int32_t tid;
  struct perf_ring ring; /* memory NULL: none, it is looked at */
  bool is_listed; /* in the list of threads that is gone through now */
  bool has_ended;
  struct trace_event intro; /* found or born */
  int intro_tries; /* that are left to find who created it where; 0: handed out */
  char name[16];
  /* the state; what stack and text are is its own */
  struct trace_event state; /* kind TRACE_LOST: not known */
  bool is_looked_at;
  char *text;
  uint64_t *frames;
  uint32_t frame_count, epoch;
  /* before its first record */
  int64_t opened; /* the ring */
  uint64_t cpu_before; /* CPU time that it had used then */
  bool was_blocked, is_new;
  uint64_t lost;
};

/* Who takes what happens. */
typedef void traced_sink(void *owner, const struct trace_event *event,
                         const struct trace_taken_stack *stack);
/* Births that a thread's ring tells of. */
typedef void traced_births(void *owner, int32_t child, int64_t at, int32_t creator);

struct traced_context {
  void *owner;
  traced_sink *sink;
  traced_births *born;
  struct current_stacks *stacks;
  struct trace_look *look; /* room for one */
  char *scratch; /* PERF_RING_RECORD_MAX bytes */
};

/* intro: its kind, at, tid, other. pages: of its ring, 0: it gets none. 0 or an errno value: ESRCH:
 * it has ended already; others: it has no ring. */
int traced_thread_begin(struct traced_thread *thread, const struct trace_event *intro,
                        uint32_t pages);
void traced_thread_end(struct traced_thread *thread);

/* What its ring has. */
void traced_thread_read(struct traced_thread *thread, const struct traced_context *context);
/* What it waits for, if it has for a while; and the state itself, where it has no ring. */
void traced_thread_look(struct traced_thread *thread, const struct traced_context *context);
/* Its intro, as far as it is not handed out yet. last: now or never. */
void traced_thread_introduce(struct traced_thread *thread, const struct traced_context *context,
                             bool last);
/* Events of locks: from its last state on, which is told again. */
void traced_thread_lost_events(const struct traced_thread *thread,
                               const struct traced_context *context, uint64_t count);
/* The end, seen from outside. */
void traced_thread_vanishes(struct traced_thread *thread, const struct traced_context *context);
/* For one client: who it is, for one that comes; the state that it is in, for one that goes. */
void traced_thread_tell_newcomer(const struct traced_thread *thread, traced_sink *sink,
                                 void *owner);
void traced_thread_tell_leaver(const struct traced_thread *thread, traced_sink *sink, void *owner);

#endif
