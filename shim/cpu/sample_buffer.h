/* Stacks on their way from signal handlers to the agent: many writers, one reader, no lock, no
 * wait.
 *
 * A bounded ring. A writer that finds no room drops its sample and counts it; a reader stops at a
 * sample that is not finished yet and comes back to it later.
 */
#ifndef SHIM_SAMPLE_BUFFER_H
#define SHIM_SAMPLE_BUFFER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SAMPLE_NAME_SIZE = 16 }; /* TASK_COMM_LEN */

struct stack_sample {
  int32_t tid;
  uint32_t record; /* thread_registry.h */
  uint32_t ticks; /* timer expirations that this sample stands for, >= 1 */
  uint64_t nanoseconds; /* CPU time that it stands for: ticks * the sampler's period then */
  int64_t at; /* CLOCK_MONOTONIC, ns; 0: not known, another one's stack stands for that time */
  uint32_t epoch; /* module_registry.h */
  uint32_t frame_count; /* 1 .. stack_depth() + 1, as in stack_table.h: return addresses, an
                           interrupted pc stored as pc + 1 */
  char name[SAMPLE_NAME_SIZE]; /* the thread's name then, NUL-terminated */
  uint64_t frames[];
};

struct sample_buffer {
  _Atomic(char *) memory; /* NULL: closed. Published by sample_buffer_open */
  uint64_t capacity; /* bytes, a power of two */
  _Atomic uint64_t reserved; /* bytes ever reserved by writers, padding included */
  _Atomic uint64_t consumed; /* bytes ever given back by the reader */
  _Atomic uint64_t dropped; /* samples that found no room, ever */
  _Atomic uint32_t writers; /* inside sample_buffer_write: sample_buffer_close waits for them */
  bool unread; /* reader: the sample at consumed has been handed out and not been given back */
};

/* Agent, one at a time. Capacity: a power of two. False: no memory. */
bool sample_buffer_open(struct sample_buffer *buffer, uint64_t capacity);
/* After everything that writes has been told to stop; unread samples are dropped. */
void sample_buffer_close(struct sample_buffer *buffer);

/* In a forked child, whose parent may have had it open. Context: its only thread, with the sampling
 * signal blocked. */
void sample_buffer_forget(struct sample_buffer *buffer);

/* Copies a sample and its frames in; false: dropped. Context: signal handler; locks: none. */
bool sample_buffer_write(struct sample_buffer *buffer, const struct stack_sample *head,
                         const uint64_t *frames);

/* The oldest finished sample, valid until sample_buffer_next is called again; NULL: none at the
 * moment. Context: the reader. */
const struct stack_sample *sample_buffer_next(struct sample_buffer *buffer);

#endif
