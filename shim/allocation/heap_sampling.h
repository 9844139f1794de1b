/* The slow paths of the allocation family: an allocation that is sampled, a pointer that may have
 * been sampled, a thread's first call.
 *
 * A sampled block is an ordinary one, asked for exactly as the program asked: addresses, layout and
 * malloc_usable_size are what they would be without the agent. It is found again by its pointer
 * (live_table.h). Context: malloc hook; locks: none of the agent's.
 */
#ifndef SHIM_HEAP_SAMPLING_H
#define SHIM_HEAP_SAMPLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heap_status.h"
#include "shim/next/interposed.h"
#include "sampler.h"
#include "shim/base/thread_state.h"

/* Whether an allocation takes the slow path: it is to be sampled, or of no bytes (which count as
 * one there, or programs that leak empty blocks would never show). One comparison: size - 1 of an
 * empty one is the largest number. */
static inline bool heap_takes_slow_path(uint64_t bytes_until_sample, uint64_t size) {
  return bytes_until_sample <= size - 1;
}

/* While the next allocator serves a call that is counted already, its own calls of exported names
 * (tcmalloc's posix_memalign calls memalign) must not be counted again: bytes_until_sample is 0, so
 * that they take the slow path, which finds guard_sp set. A handler that leaves by siglongjmp
 * leaves the guard behind: a call from a frame above it on the same stack proves it dead. */
static inline void heap_guard_enter(void) {
  thread_state.guard_sp = (uintptr_t)__builtin_frame_address(0);
  thread_state.bytes_until_sample = 0;
}
static inline void heap_guard_leave(uint64_t bytes_until_sample) {
  thread_state.guard_sp = 0;
  thread_state.bytes_until_sample = bytes_until_sample;
}

void heap_sampling_start(uintptr_t main_stack_high);
/* For good: in a forked child, by its only thread; where nobody will be able to read what is kept
 * (confinement.h), by any. */
void heap_sampling_stop(const char *reason);
/* A forked child has a sequence of sample points of its own: siblings' samples are independent of
 * each other. Split before the fork (pid: the parent's), begun in the child by its only thread
 * (pid: its own). */
struct sampler_sequence heap_sampling_split(int32_t pid);
void heap_sampling_begin_sequence(const struct sampler_sequence *sequence, int32_t pid);

/* Called as the last act of an exported wrapper (a tail call), so that their own return address is
 * the wrapper's caller. */
void *heap_slow_malloc(size_t size);
void *heap_slow_calloc(size_t count, size_t size);
void *heap_slow_realloc(void *pointer, size_t size);
void heap_slow_free(void *pointer);
int heap_slow_posix_memalign(void **out, size_t alignment, size_t size);
void *heap_slow_aligned_alloc(size_t alignment, size_t size);
void *heap_slow_memalign(size_t alignment, size_t size);
void *heap_slow_valloc(size_t size);
void *heap_slow_pvalloc(size_t size);

/* operator new: next is the definition to use when the allocation is not sampled, counts what it
 * then takes (next_functions.h). */
typedef void (*heap_new_function)(
    void); /* cast back to its own type by the function that calls it */
void *heap_slow_new(size_t size, heap_new_function next, uint64_t counts);
void *heap_slow_new_nothrow(size_t size, const void *nothrow, heap_new_function next,
                            uint64_t counts);
/* Also for what is not sampled: aligned forms are too rare for a fast path, and some allocators'
 * call exported names. */
void *heap_slow_new_aligned(size_t size, size_t alignment, heap_new_function next, uint64_t counts);
void *heap_slow_new_aligned_nothrow(size_t size, size_t alignment, const void *nothrow,
                                    heap_new_function next, uint64_t counts);

/* jemalloc's interface, served by jemalloc itself. */
void *heap_slow_mallocx(size_t size, int flags);
void *heap_slow_rallocx(void *pointer, size_t size, int flags);
size_t heap_slow_xallocx(void *pointer, size_t size, size_t extra, int flags);

/* Takes a pointer's record out before some other function frees it. */
void heap_forget(void *pointer);

#endif
