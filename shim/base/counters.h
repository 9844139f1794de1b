/* Every loss has a name. Written with relaxed atomic adds from any context, read by the agent; they
 * only ever rise. */
#ifndef SHIM_COUNTERS_H
#define SHIM_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* X(identifier, what a reader of the index page is told when it is not 0) */
#define SHIM_LOSS_COUNTERS(X)                                                                      \
  X(heap_lost_stack_table_full,                                                                    \
    "sampled allocations dropped: the stack table is full, or there is no memory for it")          \
  X(heap_lost_bucket_table_full, "sampled allocations dropped: the (stack, size) table is full")   \
  X(heap_lost_live_table_full,                                                                     \
    "sampled allocations dropped: the table of live allocations is full")                          \
  X(heap_lost_no_memory, "sampled allocations dropped: no memory for the tables")                  \
  X(heap_lost_no_stack,                                                                            \
    "sampled allocations dropped: no room on their stack, and too many threads had none at once")  \
  X(heap_lost_reentrant,                                                                           \
    "allocations not considered: made by a signal handler inside the sampler")                     \
  X(heap_lost_unknown_new,                                                                         \
    "sampled allocations that may be missing: a library replaces some forms of the allocator's "   \
    "operator new")                                                                                \
  X(heap_guards_abandoned,                                                                         \
    "times that a signal handler left malloc by a jump: a few allocations were not considered")    \
  X(heap_sizes_rounded,                                                                            \
    "sampled allocations whose size was rounded by up to 0.8 %: the (stack, size) table is half "  \
    "full")                                                                                        \
  X(heap_stale_records,                                                                            \
    "live records replaced: the block had been freed without the agent seeing it")                 \
  X(mmap_lost_table_full,                                                                          \
    "sampled calls of mmap dropped: the table of their stacks is full, or there is no memory")     \
  X(mmap_lost_no_stack, "sampled calls of mmap dropped: no room on their stack")                   \
  X(mmap_lost_ranges,                                                                              \
    "anonymous mappings, or parts of them, not kept: the table of ranges is full")                 \
  X(mmap_lost_races,                                                                               \
    "ranges that may be counted as mapped still: another thread was changing its neighbour")       \
  X(mmap_lost_taken, "ranges lost in a munmap of more than 8 at once that the kernel refused")     \
  X(stacks_truncated_depth,                                                                        \
    "stacks of more frames than are kept (PPROFAGENT_STACKDEPTH; 128 where it is not set): "       \
    "those in the middle are left out")                                                            \
  X(stacks_truncated_no_unwind, "stacks cut at code without unwind information")                   \
  X(stacks_guessed,                                                                                \
    "stacks with frames found by frame pointer, in code without unwind information: labelled "     \
    "guessed_frames")                                                                              \
  X(stacks_truncated_memory, "stacks cut at memory that cannot be read")                           \
  X(stacks_truncated_small,                                                                        \
    "stacks of waits and releases cut at their first frame: there was no room on them for "        \
    "following them")                                                                              \
  X(registered_lost_full,                                                                          \
    "functions made at run time whose registered unwind entries were not kept: "                   \
    "there are too many, or no memory")                                                            \
  X(registered_lost_invalid,                                                                       \
    "unwind entries registered for code made at run time that cannot be read or understood")       \
  X(threads_lost,                                                                                  \
    "threads without a record (the table is full, or the program has put itself under a seccomp "  \
    "filter): not in threadcreate")                                                                \
  X(threads_lost_stack, "threads whose creator's stack could not be kept")                         \
  X(cpu_lost_buffer_full, "CPU samples dropped: the buffer was full")                              \
  X(cpu_lost_no_stack,                                                                             \
    "CPU samples dropped: too many threads took one at once (they may have seen EINTR)")           \
  X(cpu_lost_no_memory, "CPU samples dropped: there was no memory for more distinct stacks")       \
  X(cpu_threads_signal_blocked,                                                                    \
    "threads left out of CPU profiles: they block the signal that sampling uses")                  \
  X(cpu_threads_no_timer,                                                                          \
    "threads left out of CPU profiles: the kernel had no timer or ring for them "                  \
    "(RLIMIT_SIGPENDING, RLIMIT_NOFILE)")                                                          \
  X(cpu_calls_interrupted,                                                                         \
    "system calls that a sample interrupted and that could not be made to go on: the program may " \
    "have seen EINTR")                                                                             \
  X(contention_lost_table_full,                                                                    \
    "waits and releases dropped from block and mutex: the table of their stacks is full")          \
  X(contention_lost_no_memory,                                                                     \
    "waits and releases dropped from block and mutex: no memory for their stacks")                 \
  X(mutex_lost_waiters,                                                                            \
    "waits whose releasers were not looked for: the table of waiters is full, or there is no "     \
    "memory")                                                                                      \
  X(mutex_lost_releases,                                                                           \
    "waits whose release was not seen: it came while the wait was being entered (a few are "       \
    "usual), or from another process")                                                             \
  X(mutex_waits_abandoned,                                                                         \
    "waits left out of mutex: a signal handler left them, or itself, by a jump")                   \
  X(modules_lost, "loaded objects not remembered: the module table is full")

struct shim_counters {
#define X(identifier, text) _Atomic uint64_t identifier;
  SHIM_LOSS_COUNTERS(X)
#undef X
};

extern struct shim_counters shim_counters;

#define COUNT_LOSS(identifier) \
  atomic_fetch_add_explicit(&shim_counters.identifier, 1, memory_order_relaxed)

#endif
