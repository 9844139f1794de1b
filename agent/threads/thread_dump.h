/* Where every thread of the host is now. Blocked threads are read from outside (/proc and their
 * stack's memory), without a signal and without being scheduled; running ones write down their
 * stack at their next tick (shim/cpu/cpu_sampling.h). Context: agent threads; locks: one dump at a
 * time (a second waits).
 */
#ifndef AGENT_THREAD_DUMP_H
#define AGENT_THREAD_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/symbols/mappings.h"
#include "agent/symbols/symbolizer.h"

enum { THREAD_NAME_MAX = 16 };

struct dumped_thread {
  int32_t tid;
  char name[THREAD_NAME_MAX];   /* /proc's comm; control characters replaced */
  bool is_main;
  const char *state;            /* Go's vocabulary: "running", "IO wait", "sleep", "semacquire", "sync.Mutex.Lock", ... */
  int64_t blocked_nanoseconds;  /* since it last ran; -1: not known or running */
  char *waits_for;              /* "fd 5 (socket:[1234])", "futex 0x7f.. held by 4242"; NULL: nothing to say */
  int32_t syscall;              /* number, or -1: in none */
  uint64_t arguments[6];        /* of the system call */
  uint32_t frame_count;         /* leaf first, as in stack_table.h: return addresses (an exact pc stored as pc + 1), perhaps a marker last; 0: not read */
  uint32_t epoch;               /* module_registry.h */
  const uint64_t *frames;
  const char *not_read;         /* why there is no stack, one sentence; NULL when there is one */
  int32_t creator;              /* tid, 0: not known */
  uint32_t creation_stack;      /* stack_table.h, 0: not known */
  uintptr_t start_function;     /* that it was created with, its outermost frame; 0: not known */
};

struct thread_dump {
  int64_t time_nanos;           /* wall clock */
  int64_t monotonic_nanos;      /* the same moment, for durations */
  const char *fault;            /* why threads may be missing (proc_fault), or NULL */
  size_t count;
  struct dumped_thread *threads; /* the first thread first, then by tid */
  struct mappings *mappings;    /* as of the dump */
  struct symbolizer_session *symbols;
};

/* NULL: out of memory, or /proc cannot be read. */
struct thread_dump *thread_dump_take(void);
void thread_dump_release(struct thread_dump *dump); /* NULL is fine */

/* Around what else reads threads by the dump's means (wall_looks.h): no dump is taken meanwhile. */
void thread_dump_hold(void);
void thread_dump_let_go(void);

#endif
