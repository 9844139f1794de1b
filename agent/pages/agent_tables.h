/* What of the agent's memory its allocator knows nothing of, in one list: X(name in health, bytes).
 * Context: agent threads. */
#ifndef AGENT_AGENT_TABLES_H
#define AGENT_AGENT_TABLES_H

#include "agent/cpu/cpu_profile.h"
#include "agent/cpu/ring_sampling.h"
#include "agent/trace/trace_recording.h"
#include "shim/allocation/heap_table.h"
#include "shim/allocation/mmap_ranges.h"
#include "shim/allocation/mmap_table.h"
#include "shim/locks/contention_table.h"
#include "shim/locks/lock_status.h"
#include "shim/stacks/module_registry.h"
#include "shim/stacks/registered_frames.h"
#include "shim/stacks/stack_table.h"
#include "shim/threads/thread_registry.h"

#define AGENT_TABLES(X)                                      \
  X(stack_table, stack_table_bytes())                        \
  X(heap_tables, heap_table_bytes())                         \
  X(mmap_tables, mmap_table_bytes() + mmap_ranges_bytes())   \
  X(module_registry, module_registry_bytes())                \
  X(thread_registry, thread_registry_bytes())                \
  X(contention_table, contention_table_bytes())              \
  X(lock_waiters, lock_waiters_bytes())                      \
  X(registered_frames, registered_frames_bytes())            \
  X(cpu_sample_buffer, cpu_profile_buffer_bytes())           \
  X(cpu_rings, ring_sampling_bytes())                        \
  X(trace_rings, trace_recording_status().recorder.ring_bytes)

static inline uint64_t agent_tables_bytes(void) {
#define X(name, bytes) +(bytes)
  return 0 AGENT_TABLES(X);
#undef X
}

#endif
