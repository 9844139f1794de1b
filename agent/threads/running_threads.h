/* Stacks that only the thread itself can tell, for the dump: one that is running is asked to write
 * down its own at its next tick (shim/cpu/cpu_sampling.h). Meanwhile the dump keeps looking whether
 * it has blocked. Context: agent threads; locks: none (one dump at a time). */
#ifndef AGENT_RUNNING_THREADS_H
#define AGENT_RUNNING_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/cpu/sample_buffer.h"

struct running_threads;

/* NULL: out of memory. No more than `most` threads will be asked. */
struct running_threads *running_threads_begin(size_t most);
/* Withdraws what is still asked for. NULL is fine. */
void running_threads_end(struct running_threads *threads);

/* record: of the thread, or 0. NULL when it was asked; else why it cannot be: one sentence, static.
 * index: the caller's name for it. is_blocked: by a signal at once, after which its call goes on;
 * only for calls that go on as if nothing had been (thread_dump.c). */
const char *running_threads_ask(struct running_threads *threads, int32_t tid, uint32_t record,
                                size_t index, bool is_blocked);
/* No longer wanted. */
void running_threads_forget(struct running_threads *threads, size_t index);

/* The next stack that has come in, and whose it is; NULL: none at the moment. Valid until the next
 * call. */
const struct stack_sample *running_threads_next(struct running_threads *threads, size_t *index);

#endif
