/* Waits for locks and their releases, one by one, on their way to the agent while it records a
 * trace: many writers, one reader, no lock, no wait. A bounded ring: what finds no room is counted
 * by thread. While nobody records, a wait costs one look at a word, and nothing else does.
 * Context of the writers: any host thread, signal handlers, a lock's critical section. */
#ifndef SHIM_LOCK_TRACE_H
#define SHIM_LOCK_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Written by the agent, and in a forked child. */
extern _Atomic uint32_t lock_trace_armed __attribute__((visibility("hidden")));

/* Relaxed: a wait that begins at the same moment may be in the trace or not. */
static inline bool lock_trace_is_armed(void) {
  return atomic_load_explicit(&lock_trace_armed, memory_order_relaxed) != 0;
}

enum lock_trace_wakes { /* whom a release wakes */
                        LOCK_WAKES_NEXT, /* a lock: who takes it next */
                        LOCK_WAKES_ONE, /* one of those who wait, nobody else */
                        LOCK_WAKES_ALL, /* all who wait by then */
                        LOCK_WAKES_AT_END /* who joins the thread, which is about to end; the object
                                             is its pthread_t */
};

struct lock_trace_event {
  uint64_t begin, at; /* CLOCK_MONOTONIC, ns: of a wait, and its end; begin 0: at is of a release */
  uintptr_t object; /* 0: not known */
  uint32_t stack; /* stack_table.h; 0: lost */
  int32_t tid; /* filled in by lock_trace_write */
  bool was_released; /* a wait: by a release that is an event as well */
  uint8_t wakes; /* a release: lock_trace_wakes */
};

/* By the thread itself. errno stays. */
void lock_trace_write(struct lock_trace_event *event);

/* ---- the agent, one thread at a time ---- */

/* bytes: of the ring, at most. False: no memory. */
bool lock_trace_open(size_t bytes);
void lock_trace_close(void);
/* False: there is none at the moment. */
bool lock_trace_next(struct lock_trace_event *out);
/* Events that a thread has lost since the last call that told of it; false: none has. tid 0: of
 * threads that are not known. */
bool lock_trace_next_loss(int32_t *tid, uint64_t *count);
uint64_t lock_trace_bytes(void); /* of the ring that is open; any thread */

/* In a forked child: nobody records. */
void lock_trace_forget(void);

#endif
