/* The samples of one client's window: distinct (stack, thread) pairs with their sums, as they come
 * out of the sample buffer. Names are looked up at the end of the window only, so that a profile
 * costs nothing but hashing while it runs. Context: agent threads; locks: the caller's.
 */
#ifndef AGENT_CPU_SAMPLE_TABLE_H
#define AGENT_CPU_SAMPLE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/cpu/sample_buffer.h"
#include "agent/runtime/index_table.h"
#include "agent/profiles/profile_builder.h"

enum { CPU_SAMPLE_TABLE_BYTES = 32 << 20 }; /* bound on frames and entries together */

struct cpu_sample_table { /* zeroed: empty */
  uint64_t ticks, nanoseconds; /* of all samples added */
  uint64_t lost; /* samples that did not fit */
  struct cpu_stack *stacks;
  struct cpu_thread_stack *entries;
  uint64_t *frames; /* of all stacks, one behind the other */
  uint32_t stack_count, stack_capacity, entry_count, entry_capacity, frame_count, frame_capacity;
  struct index_table stack_index, entry_index;
};

void cpu_sample_table_add(struct cpu_sample_table *table, const struct stack_sample *sample);
/* Samples with values [ticks, nanoseconds] and the labels thread_name and tid. False: out of
 * memory. */
bool cpu_sample_table_build(const struct cpu_sample_table *table, struct profile_builder *builder);
void cpu_sample_table_release(struct cpu_sample_table *table);

#endif
