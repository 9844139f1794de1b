/* All threads of the program while somebody records: finds new ones, reads their rings, looks at
 * those that wait or have no ring. What it costs has a bound. One set: locks: the caller's
 * (trace_recorder.c). Context: agent threads. */
#ifndef AGENT_TRACE_THREADS_H
#define AGENT_TRACE_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "traced_thread.h"

/* by_rings: those may be asked for; bytes: of all rings. False: no memory. */
bool trace_threads_start(bool by_rings, size_t bytes, traced_sink *sink);
void trace_threads_stop(void);

/* What the rings have, which threads there are, what they wait for: each as often as it is due;
 * hurried: else a tenth as often. */
void trace_threads_work(bool hurried);
void trace_threads_read(void);
/* So many of the thread's events of locks are lost. */
void trace_threads_lose(int32_t tid, uint64_t count);
/* For a client that comes or goes, after a reading. */
void trace_threads_tell_newcomer(traced_sink *sink, void *owner);
void trace_threads_tell_leaver(traced_sink *sink, void *owner);

struct trace_threads_status {
  uint32_t with_ring, without_ring;
  uint64_t ring_bytes, lost;
  int64_t period; /* of the looks at those without */
};
struct trace_threads_status trace_threads_status(void);

#endif
