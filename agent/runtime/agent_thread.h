/* The agent's threads: every one is counted, named pprofagent, has all signals blocked and a small
 * stack. libc does not know them (bare_thread.h), but for one: the front of remote admin.
 */
#ifndef AGENT_AGENT_THREAD_H
#define AGENT_AGENT_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* large_stack.h is for what recurses. */
enum { AGENT_THREAD_MAX = 32, AGENT_THREAD_STACK = 256 * 1024 };

struct agent_thread {
  uint32_t slot, life;
};

/* thread: for agent_thread_join, may be NULL. Result: 0 or an errno value; EAGAIN when
 * AGENT_THREAD_MAX threads exist. Context: host thread or agent thread. */
int agent_thread_create(struct agent_thread *thread, size_t stack_size, void (*start)(void *),
                        void *argument);
/* One that libc knows, which may enter the loader. Context: as above, after agent_thread_announce.
 */
int agent_thread_create_for_libc(struct agent_thread *thread, size_t stack_size,
                                 void (*start)(void *), void *argument);
/* From here on libc takes the program for one of several threads, and its locks hold against ours.
 * Context: host thread; the loader's locks may be held. */
void agent_thread_announce(void);
/* Waits for the thread's end. Context: agent threads. */
void agent_thread_join(struct agent_thread thread);

/* Threads that the kernel still knows. Context: any thread of this process; no descriptors are
 * used. */
unsigned agent_thread_count(void);
size_t agent_thread_ids(int32_t *tids, size_t capacity);
bool agent_thread_is_libcs(int32_t tid); /* one that libc knows */
/* Whether one has been created, or is about to be, whose number is not known yet. Context: any. */
bool agent_thread_starting(void);

/* CPU time of all agent threads, ended ones included. */
uint64_t agent_thread_cpu_nanoseconds(void);
/* Of the calling thread, which is not one of the program's. */
static inline int64_t agent_own_cpu_nanoseconds(void) {
  struct timespec now = {0};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Waits until the kernel knows of no more than `remaining` agent threads; false when that takes
 * longer. Context: any. */
bool agent_thread_await(unsigned remaining, int64_t deadline_ns);

/* The same for those that libc knows: none may remain. */
bool agent_thread_await_libcs(int64_t deadline_ns);

/* CLOCK_MONOTONIC. */
int64_t agent_monotonic_nanoseconds(void);

#endif
