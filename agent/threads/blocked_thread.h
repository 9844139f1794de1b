/* One thread as /proc/self/task/TID shows it: running, or blocked since when, in which system call,
 * at which pc and sp. Nothing of this needs the thread's help, and none of it disturbs the thread.
 *
 * A thread is blocked from one reading to another if the kernel has not run it in between;
 * blocked_thread_still says so, and only then does what was read meanwhile (its stack) belong
 * together. Context: agent threads; locks: none (one dump at a time).
 */
#ifndef AGENT_BLOCKED_THREAD_H
#define AGENT_BLOCKED_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum thread_presence {
  THREAD_BLOCKED,
  THREAD_ASLEEP, /* blocked, but not even this process may know where: hidden_because says why */
  THREAD_RUNNING, /* on a processor or waiting for one */
  THREAD_ENDED, /* there is no such thread any more, or only its number is left (a first thread that
                   called pthread_exit) */
  THREAD_HIDDEN /* not even whether it runs can be known; hidden_because says why */
};

struct blocked_thread {
  int32_t tid;
  int task, runs_file; /* descriptors, -1: none */
  uint64_t runs; /* times that the kernel ran it, as far as it counts */
  int32_t number; /* of the system call; -1: none (a page fault, a stop) */
  uint64_t arguments[6];
  uintptr_t pc, sp;
  const char *hidden_because;
  char kernel_function[64]; /* THREAD_ASLEEP: in which it waits, as far as the kernel says; or "" */
};

/* After blocked_thread_open, blocked_thread_close. */
void blocked_thread_open(struct blocked_thread *thread, int32_t tid);
void blocked_thread_close(struct blocked_thread *thread);

enum thread_presence blocked_thread_look(struct blocked_thread *thread);
bool blocked_thread_still(struct blocked_thread *thread);

/* The thread's name without its newline, control characters replaced; "" when it is gone. */
void blocked_thread_name(const struct blocked_thread *thread, char *name, size_t size);

/* For a thread of which no system call is known: it was stopped, by a signal or a debugger. */
bool blocked_thread_is_stopped(const struct blocked_thread *thread);

/* ---- for how long ---- */

/* At the start and the end of a dump. */
void blocked_times_begin(void);
void blocked_times_end(void);
/* Nanoseconds since the thread last ran; -1: not known. The kernel says so (/proc/TID/sched); where
 * it does not, from the time on when an earlier dump found it as it is now. */
int64_t blocked_thread_time(const struct blocked_thread *thread, int32_t tid);

#endif
