/* The container of Go's trace format of 1.22: batches, of a thread's events or of strings, stacks
 * and samples, in one generation. The reader holds all of them before it looks at any.
 * Context: agent threads; locks: none (one owner). */
#ifndef AGENT_GO_BATCHES_H
#define AGENT_GO_BATCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/http/text_sink.h"
#include "agent/runtime/string_table.h"
#include "trace_log.h"

/* The reader takes batches of 64 KiB, strings of 1 KiB and 128 frames a stack. */
enum {
  GO_LANE_BYTES = 1024, /* of a thread's batch */
  GO_TABLE_BYTES = 32 * 1024,
  GO_STRING_MAX = 1024,
  GO_FRAMES_MAX = 128,
  GO_FIELDS_MAX = 5
};

enum go_event {
  GO_BATCH = 1,
  GO_STACKS = 2,
  GO_STACK = 3,
  GO_STRINGS = 4,
  GO_STRING = 5,
  GO_CPU_SAMPLES = 6,
  GO_CPU_SAMPLE = 7,
  GO_FREQUENCY = 8,
  GO_PROC_STOP = 11,
  GO_PROC_STATUS = 13,
  GO_CREATE = 14,
  GO_START = 16,
  GO_DESTROY = 17,
  GO_STOP = 19,
  GO_BLOCK = 20,
  GO_UNBLOCK = 21,
  GO_SYSCALL_BEGIN = 22,
  GO_SYSCALL_END = 23,
  GO_STATUS = 25,
  GO_HEAP_ALLOC = 37,
  GO_LABEL = 39,
  GO_REGION_BEGIN = 42,
  GO_REGION_END = 43,
  GO_LOG = 44
};

/* A batch of a thread's events that is being filled. */
struct go_lane {
  uint8_t *bytes; /* NULL: none yet */
  size_t used;
  int64_t first, last;
};

/* A batch of strings, stacks or samples that is being filled. */
struct go_table {
  uint8_t kind; /* its first byte */
  size_t used;
  uint8_t bytes[GO_TABLE_BYTES];
};

struct go_batches {
  const struct trace_log *log;
  struct text_sink output;
  struct string_table strings;
  uint8_t *string_uses; /* by its number: bits of enum go_string */
  uint32_t string_capacity;
  uint64_t made; /* strings of our own */
  int64_t now; /* the time of the last event */
  uint8_t *stack_uses;
  bool failed; /* out of memory */
  struct go_table made_strings, samples, table;
};

/* How a text is given: as it is, or as a lock's, by which -pprof=sync knows it. */
enum go_string { GO_TEXT = 1, GO_LOCK_TEXT = 2 };

bool go_batches_start(struct go_batches *batches, const struct trace_log *log,
                      struct byte_sink *sink);
void go_batches_release(struct go_batches *batches);
/* Strings, stacks and what is left; false: something was not written. */
bool go_batches_end(struct go_batches *batches);

/* Adds an event to a thread's batch, which goes out when it is full. What comes at one time is set
 * apart by 1 ns each, as the reader does: it finds its way between threads by times, and loses it
 * for a moment where they are the same. */
void go_event_put(struct go_batches *batches, struct go_lane *lane, int32_t tid, int64_t at,
                  enum go_event kind, unsigned count, const uint64_t *fields);
/* Sends what is left in it and frees it. */
void go_lane_end(struct go_batches *batches, struct go_lane *lane, int32_t tid);

/* Numbers for events' fields. text lives as long as batches. */
uint64_t go_string(struct go_batches *batches, const char *text, enum go_string form);
uint64_t go_made_string(struct go_batches *batches, const char *text); /* copied */
uint64_t go_stack(struct go_batches *batches, uint32_t stack); /* as in trace_event */

void go_sample_put(struct go_batches *batches, int64_t at, uint64_t thread, uint64_t processor,
                   uint64_t stack);

static inline bool go_batches_ok(const struct go_batches *batches) {
  return !batches->failed && !batches->strings.failed && !batches->output.failed;
}

#endif
