/* One thread as /proc/self/task/TID shows it: running, or blocked since when, in which system call, at which pc and sp. Nothing of this needs
 * the thread's help, and none of it disturbs the thread.
 *
 * A thread is blocked from one reading to another if the kernel has not run it in between; blocked_thread_still says so, and only then does
 * what was read meanwhile (its stack) belong together.
 * Context: agent threads; locks: none (one dump at a time).
 */
#ifndef AGENT_BLOCKED_THREAD_H
#define AGENT_BLOCKED_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum thread_presence {
  THREAD_BLOCKED,
  THREAD_RUNNING, /* on a processor or waiting for one */
  THREAD_ENDED,   /* there is no such thread any more, or only its number is left (a first thread that called pthread_exit) */
  THREAD_HIDDEN   /* the kernel does not tell; hidden_because says why */
};

struct blocked_thread {
  int task, runs_file;          /* descriptors, -1: none */
  uint64_t runs;                /* times that the kernel ran it, as far as it counts */
  int32_t number;               /* of the system call; -1: none (a page fault, a stop) */
  uint64_t arguments[6];
  uintptr_t pc, sp;
  const char *hidden_because;
};

/* After blocked_thread_open, whatever it returns, blocked_thread_close. False: the thread is gone. */
bool blocked_thread_open(struct blocked_thread *thread, int32_t tid);
void blocked_thread_close(struct blocked_thread *thread);

enum thread_presence blocked_thread_look(struct blocked_thread *thread);
bool blocked_thread_still(struct blocked_thread *thread);

/* The thread's name without its newline, control characters replaced; "" when it is gone. */
void blocked_thread_name(const struct blocked_thread *thread, char *name, size_t size);

/* For a thread without a system call: it was stopped (by a signal or a debugger), rather than in a page fault. */
bool blocked_thread_is_stopped(const struct blocked_thread *thread);

/* ---- for how long ---- */

/* At the start and the end of a dump. */
void blocked_times_begin(void);
void blocked_times_end(void);
/* Nanoseconds since the thread last ran; -1: not known. The kernel says so (/proc/TID/sched); where it does not, from the time on when an
 * earlier dump found it as it is now. */
int64_t blocked_thread_time(const struct blocked_thread *thread, int32_t tid);

#endif
