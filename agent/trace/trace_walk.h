/* A walk over a recording for the viewers that show slices in a lane a thread: it turns the log's
 * events into states, slices that nest, instants and arrows, in order of time.
 *
 * In a thread's lane lie its own marks and, always innermost, what its state says: a wait, the time
 * from being woken to running, or a gap. Where states were sampled a mark may begin or end within
 * such a slice; the slice is cut there, so that slices nest in any case. A gap reaches from the
 * last state before the loss to the state after it.
 *
 * An arrow has a number, from 1. Its begin, an instant, always comes before its end; each that
 * begins also ends. Context: agent threads; locks: none (one owner). */
#ifndef AGENT_TRACE_WALK_H
#define AGENT_TRACE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trace_links.h"
#include "trace_log.h"

enum trace_slice_kind {
  TRACE_SLICE_NONE,
  TRACE_SLICE_WAIT, /* event: BLOCKED */
  TRACE_SLICE_WOKEN, /* event: the state after it */
  TRACE_SLICE_GAP /* event: the state from which on records are missing */
};

struct trace_slice {
  uint32_t thread; /* as trace_links numbers them */
  uint32_t event;
  enum trace_slice_kind kind;
  int64_t from;
  uint64_t arrow; /* that ends here; 0: none */
};

enum trace_instant_kind {
  TRACE_INSTANT_RELEASE, /* event: RELEASED */
  TRACE_INSTANT_WAKE, /* event: a state of the thread that this one woke */
  TRACE_INSTANT_CREATE, /* event: BORN of the thread that this one made */
  TRACE_INSTANT_BORN,
  TRACE_INSTANT_SAMPLE,
  TRACE_INSTANT_MARK
};

struct trace_instant {
  uint32_t thread;
  uint32_t event;
  enum trace_instant_kind kind;
  uint64_t arrow_out, arrow_in; /* that begins, ends here; 0: none */
};

/* What an encoder does with what comes. Each returns whether to go on. */
struct trace_visitor {
  bool (*state)(void *encoder, uint32_t thread, uint32_t event); /* also ENDED */
  bool (*slice_begin)(void *encoder, const struct trace_slice *slice);
  bool (*slice_end)(void *encoder, const struct trace_slice *slice, int64_t at);
  bool (*mark_begin)(void *encoder, uint32_t thread, uint32_t event);
  bool (*mark_end)(void *encoder, uint32_t thread, int64_t at);
  bool (*instant)(void *encoder, const struct trace_instant *instant);
  bool (*counter)(void *encoder, uint32_t event);
};

/* False: out of memory, or a visitor ended it. */
bool trace_walk(const struct trace_log *log, const struct trace_links *links,
                const struct trace_visitor *visitor, void *encoder);

#endif
