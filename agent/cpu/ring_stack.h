/* The stack of a sample that the kernel has put into a ring (perf_ring.h), from its registers and
 * the copy of its top.
 *
 * What lies above the copy, which is 64 KB at most, is read from the thread's own memory a moment
 * later. It is as it was if the thread has not returned into it meanwhile, which nobody can see:
 * it is taken where the thread has run for RING_STACK_LATE_NANOSECONDS at most since the sample,
 * and the frames that it told count as guessed (STACK_GUESSED). Else the stack is cut there.
 * Context: agent; locks: the caller's (ring_sampling.c). */
#ifndef AGENT_RING_STACK_H
#define AGENT_RING_STACK_H

#include <stdbool.h>
#include <stdint.h>

#include "perf_ring.h"
#include "shim/cpu/sample_buffer.h"

enum { RING_STACK_LATE_NANOSECONDS = 200000 };

/* Before the rings are read. */
void ring_stack_begin(void);
/* The sample's frames and epoch; out has room for stack_depth() + 1 frames. taken: the thread's CPU
 * time then. True: the kernel's copy was too small, whether or not the rest was found. */
bool ring_stack_unwind(const struct perf_ring_record *record, int32_t tid, uint64_t taken,
                       struct stack_sample *out);
/* Gives back what it needed. */
void ring_stack_stop(void);

#endif
