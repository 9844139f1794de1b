/* Tables, mappings and symbols built by hand, in place of shim/ and of the symbolizer, for unit
 * tests and fuzzers of the encoders. */
#ifndef TEST_STUB_TABLES_H
#define TEST_STUB_TABLES_H

#include "agent/symbols/mappings.h"
#include "agent/profiles/profile.h"
#include "agent/symbols/symbolizer.h"
#include "shim/locks/contention_table.h"
#include "shim/allocation/heap_table.h"
#include "shim/allocation/live_table.h"
#include "shim/stacks/stack_table.h"

enum { STUB_MAX_MAPPINGS = 16, STUB_SYMBOL_FRAMES = 4 };

/* A function: addresses [start, end) of any mapping have these frames. */
struct stub_symbol {
  uint64_t start, end;
  uint32_t frame_count;
  struct symbol_frame frames[STUB_SYMBOL_FRAMES];
};

struct stub_tables {
  uint32_t bucket_count, stack_count, symbol_count, mapping_count, contention_count;
  uint64_t level_now, level_peak; /* heap_peak_levels */
  unsigned peaks_begun_anew;
  struct heap_bucket_view *buckets; /* [0] is bucket 1 */
  struct stack_view *stacks; /* [0] is stack 1 */
  struct stub_symbol *symbols; /* sorted by start */
  struct mapping mappings[STUB_MAX_MAPPINGS];
  struct contention_view
      *contention; /* [0] is entry 1; one without count and delay is not in use */
  struct live_block *blocks; /* the live ones */
  uint32_t block_count;
  uint64_t recorded_since;
  const char *heap_off_reason, *block_off_reason, *mutex_off_reason;
  unsigned resolved; /* calls of symbolizer_resolve */
  unsigned sessions; /* open ones */
};

extern struct stub_tables stub;

/* A byte_sink into memory. */
struct memory_sink {
  struct byte_sink base;
  char *bytes;
  size_t size, capacity;
  size_t refuse_after; /* write fails once more than this was written; 0: never */
};
void memory_sink_start(struct memory_sink *sink);
void memory_sink_release(struct memory_sink *sink);

#endif
