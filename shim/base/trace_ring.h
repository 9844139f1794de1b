/* What the program's threads tell the agent while it records a trace: waits for locks and their
 * releases, the program's own marks, sampled allocations. Many writers, one reader, no lock, no
 * wait. A bounded ring: what finds no room is counted by thread. While nobody records, each of them
 * costs one look at a word. Context of the writers: any host thread, signal handlers, a lock's
 * critical section. */
#ifndef SHIM_TRACE_RING_H
#define SHIM_TRACE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Written by the agent, and in a forked child. */
extern _Atomic uint32_t trace_ring_armed __attribute__((visibility("hidden")));

/* Relaxed: a wait that begins at the same moment may be in the trace or not. */
static inline bool trace_ring_is_armed(void) {
  return atomic_load_explicit(&trace_ring_armed, memory_order_relaxed) != 0;
}

enum trace_ring_kind {
  TRACE_RING_WAIT, /* from begin to at, for object (0: not known) */
  TRACE_RING_RELEASE, /* of object */
  TRACE_RING_MARK, /* name */
  TRACE_RING_MARK_BEGIN, /* name */
  TRACE_RING_MARK_END,
  TRACE_RING_ALLOCATION /* object: its bytes */
};

/* Whom a release wakes. */
enum release_wakes {
  LOCK_WAKES_NEXT, /* a lock: who takes it next */
  LOCK_WAKES_ONE, /* one of those who wait, nobody else */
  LOCK_WAKES_ALL, /* all who wait by then */
  /* who joins the thread, which is about to end; the object is its pthread_t */
  LOCK_WAKES_AT_END
};

enum { TRACE_NAME_MAX = 80 }; /* the NUL included */

struct trace_ring_event {
  uint64_t begin, at; /* CLOCK_MONOTONIC, ns */
  uint64_t object;
  uint32_t stack; /* stack_table.h; 0: lost, or none */
  int32_t tid; /* filled in by trace_ring_write */
  uint8_t kind; /* trace_ring_kind */
  uint8_t wakes; /* a release: release_wakes */
  bool was_released; /* a wait: by a release that is an event as well */
  char name[TRACE_NAME_MAX]; /* last: what has none is written without it */
};

/* For writers that have no clock of their own: a system call. */
uint64_t trace_ring_now(void);
/* A copy, cut where there is no room for it, which is counted. NULL: as empty. */
void trace_ring_take_name(struct trace_ring_event *event, const char *name);
/* By the thread itself. errno stays. */
void trace_ring_write(struct trace_ring_event *event);

/* ---- the agent, one thread at a time ---- */

/* bytes: of the ring, at most. False: no memory. */
bool trace_ring_open(size_t bytes);
void trace_ring_close(void);
/* False: there is none at the moment. */
bool trace_ring_next(struct trace_ring_event *out);
/* Events that a thread has lost since the last call that told of it; false: none has. tid 0: of
 * threads that are not known. */
bool trace_ring_next_loss(int32_t *tid, uint64_t *count);
uint64_t trace_ring_bytes(void); /* of the ring that is open; any thread */
uint64_t trace_ring_names_cut(void); /* ever; any thread */

/* In a forked child: nobody records. */
void trace_ring_forget(void);

#endif
