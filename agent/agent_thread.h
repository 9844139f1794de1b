/* The agent's threads: every one is counted, named pprofagent, has all signals blocked and a small stack.
 *
 * What libc allocates for them (a new thread's dtv) does not come from the host's allocator: shim/thread_state.h.
 */
#ifndef AGENT_AGENT_THREAD_H
#define AGENT_AGENT_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AGENT_THREAD_MAX = 32, AGENT_THREAD_STACK = 256 * 1024 }; /* large_stack.h is for what recurses */

/* As pthread_create; attributes may be NULL. EAGAIN when AGENT_THREAD_MAX threads exist. Context: host thread or agent thread. */
int agent_thread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument);

/* Threads that the kernel still knows. Context: any thread of this process; no descriptors are used. */
unsigned agent_thread_count(void);
size_t agent_thread_ids(int32_t *tids, size_t capacity);
/* Whether one has been created, or is about to be, whose number is not known yet. Context: any. */
bool agent_thread_starting(void);

/* CPU time of all agent threads, ended ones included. */
uint64_t agent_thread_cpu_nanoseconds(void);

/* Waits until the kernel knows of no more than `remaining` agent threads; false when that takes longer. Context: any. */
bool agent_thread_await(unsigned remaining, int64_t deadline_ns);

/* CLOCK_MONOTONIC. */
int64_t agent_monotonic_nanoseconds(void);

#endif
