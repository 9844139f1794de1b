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

/* What a blocked thread waits for without a time limit, where one thread alone can give it. */
enum need_kind {
  NEED_NONE, /* or not known */
  NEED_MUTEX, /* pthread_mutex_t, mtx_t */
  NEED_RWLOCK, /* that is held for writing */
  NEED_END, /* of a thread: a join */
  NEED_REFUSED /* a mutex that inherits priority, for which the kernel let nobody wait: EDEADLK, or
                  its holder had ended; libc then parks the thread for ever */
};

struct thread_need {
  enum need_kind kind;
  int32_t holder; /* tid; 0 for NEED_REFUSED */
  uint64_t object; /* address of the lock; of the thread's number in libc's record of it */
  uint64_t holder_at; /* of the 32 bits that name the holder, FUTEX_TID_MASK */
  bool shared; /* with other processes: the holder may be one of theirs */
};

/* deadlocks.h */
enum thread_stuck {
  NOT_STUCK,
  STUCK_IN_CYCLE, /* what it needs is held by a thread that needs ... what it holds */
  STUCK_AT_END, /* its holder has ended */
  STUCK_BEHIND /* its holder is stuck */
};

struct dumped_thread {
  int32_t tid;
  char name[THREAD_NAME_MAX]; /* /proc's comm; control characters replaced */
  bool is_main;
  const char *state; /* Go's vocabulary: "running", "IO wait", "sleep", "semacquire",
                        "sync.Mutex.Lock", ... */
  int64_t blocked_nanoseconds; /* since it last ran; -1: not known or running */
  char *waits_for; /* "fd 5 (socket:[1234])", "futex 0x7f.. held by 4242"; NULL: nothing to say */
  int32_t syscall; /* number, or -1: in none */
  uint64_t arguments[6]; /* of the system call */
  uint32_t frame_count; /* leaf first, as in stack_table.h: return addresses (an exact pc stored as
                           pc + 1), perhaps a marker last; 0: not read */
  uint32_t epoch; /* module_registry.h */
  const uint64_t *frames;
  const char *not_read; /* why there is no stack, one sentence; NULL when there is one */
  int32_t creator; /* tid, 0: not known */
  uint32_t creation_stack; /* stack_table.h, 0: not known */
  uintptr_t start_function; /* that it was created with, its outermost frame; 0: not known */
  uint64_t runs; /* blocked_thread.h, as it was read */
  struct thread_need need;
  enum thread_stuck stuck;
  uint32_t deadlock; /* 1 .. deadlock_count: which it is in or behind; 0: none */
};

struct thread_dump {
  int64_t time_nanos; /* wall clock */
  int64_t monotonic_nanos; /* the same moment, for durations */
  const char *fault; /* why threads may be missing (proc_fault), or NULL */
  size_t count;
  struct dumped_thread *threads; /* the first thread first, then by tid */
  struct mappings *mappings; /* as of the dump */
  struct symbolizer_session *symbols;
  uint32_t deadlock_count;
  size_t unjudged; /* blocked threads of which is not known what they wait for, as they may not be
                      read */
};

/* NULL: out of memory, or /proc cannot be read. */
struct thread_dump *thread_dump_take(void);
void thread_dump_release(struct thread_dump *dump); /* NULL is fine */
void thread_dump_keep_stuck(struct thread_dump *dump); /* the others' threads are released */

/* Around what else reads threads by the dump's means (wall_looks.h): no dump is taken meanwhile. */
void thread_dump_hold(void);
void thread_dump_let_go(void);

#endif
