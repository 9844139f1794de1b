/* The bytes of Go's trace format, version 1: events in batches, one stream of rising times; strings
 * and stacks behind them. Context: agent threads; locks: none (one owner). */
#ifndef AGENT_GO_TRACE_WRITER_H
#define AGENT_GO_TRACE_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/byte_sink.h"
#include "agent/runtime/string_table.h"
#include "trace_log.h"

/* The numbers of internal/trace/parser.go. */
enum go_event {
  GO_BATCH = 1,
  GO_FREQUENCY = 2,
  GO_STACK = 3,
  GO_MAX_PROCS = 4,
  GO_PROC_START = 5,
  GO_PROC_STOP = 6,
  GO_CREATE = 13,
  GO_START = 14,
  GO_END = 15,
  GO_PREEMPT = 18,
  GO_SLEEP = 19,
  GO_BLOCK = 20,
  GO_UNBLOCK = 21,
  GO_BLOCK_SYNC = 25,
  GO_BLOCK_NET = 27,
  GO_SYSCALL = 28,
  GO_SYSCALL_EXIT = 29,
  GO_SYSCALL_BLOCK = 30,
  GO_WAITING = 31,
  GO_IN_SYSCALL = 32,
  GO_HEAP_ALLOC = 33,
  GO_STRING = 37,
  GO_USER_REGION = 47,
  GO_USER_LOG = 48
};

struct go_writer {
  struct byte_sink *sink;
  bool failed; /* the receiver is gone */
  const struct trace_log *log;
  struct string_table strings;
  uint32_t p; /* of the batch, UINT32_MAX: none yet */
  int64_t now, batch_now; /* CLOCK_MONOTONIC: of the last event; and of that in the batch */
  size_t used;
  uint8_t bytes[8192];
};

bool go_writer_start(struct go_writer *writer, const struct trace_log *log, struct byte_sink *sink);
/* Of a moment of the log; those of two events differ always. */
void go_writer_set_time(struct go_writer *writer, int64_t at);
/* On this P, at that time. count: of the arguments after the time, at most 5. */
void go_writer_event(struct go_writer *writer, uint32_t p, enum go_event event,
                     const uint64_t *arguments, size_t count);
/* Behind an event of GO_USER_LOG. */
void go_writer_text(struct go_writer *writer, const char *text);
/* The number of a string, 0: "". text must outlive the writer. */
uint64_t go_writer_string(struct go_writer *writer, const char *text);
/* The number of a stack of one function that does not exist and has this name. */
uint64_t go_writer_named_stack(struct go_writer *writer, const char *name);
/* Strings, stacks, the rest. False: something has failed. */
bool go_writer_end(struct go_writer *writer);
void go_writer_release(struct go_writer *writer);

#endif
