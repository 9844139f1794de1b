/* The host's threads, one record each, as far as they were seen to be created or were found. A
 * record is used again after its thread's end.
 *
 * Who takes a record:
 *  - the thread that creates another, for that one (thread_interposers.c);
 *  - the agent, for a thread that it has found in /proc/self/task: the first one, one made by a raw
 *    clone or by libc for itself.
 * Who gives it back:
 *  - the thread itself, when its start routine ends, in whatever way (syscall(SYS_exit), too);
 *  - the agent, for those that it has found, and for those that have vanished without a word.
 */
#ifndef SHIM_THREAD_REGISTRY_H
#define SHIM_THREAD_REGISTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* The kernel's number of a thread's CPU clock (posix-timers.h, MAKE_THREAD_CPUCLOCK). */
static inline clockid_t thread_cpu_clock(int32_t tid) {
  return (clockid_t)((~(uint32_t)tid << 3) | 6);
}

enum thread_origin { THREAD_CREATED, THREAD_FOUND };

struct thread_record {
  /* Odd: a thread has the record. Raised by one by who takes it, and by who gives it back. */
  _Atomic uint64_t life;
  /* 0: not running yet. Written by the new thread (THREAD_CREATED) or the agent. */
  _Atomic int32_t tid;
  /* cpu_sampling.h: its timer's id + 1; 0: it has none; -1: a counter of the agent's. Who exchanges
   * it for another deletes the timer. */
  _Atomic int32_t timer;
  /* Samples since the timer was armed. Written by the thread's handler. */
  _Atomic uint32_t ticks;
  _Atomic uint32_t free_next; /* of the free list */
  /* Up to here its CPU time (ns) is counted: its timer's last expiry, or the first, to come.
   * Written by who arms the timer, then by its handler. */
  _Atomic uint64_t expiry;
  /* From here on: written before tid, and constant for the life, but where it says otherwise. They
   * may be read by thread_registry_read meanwhile, which then looks at life again (relaxed). */
  _Atomic uint8_t origin; /* enum thread_origin */
  /* It has thread-local storage of its own: it was created, or is the first thread. */
  _Atomic uint8_t has_state;
  /* sampling_signal.h. Written by the thread and in its handlers; before its start, its creator's.
   */
  _Atomic bool signal_let_in;
  _Atomic uint8_t stack_class; /* stack_size_class; told by the creator, for that thread */
  _Atomic uint32_t birth; /* the order in which threads told their tids, modulo 2^32 */
  _Atomic int32_t creator; /* tid; 0: not known */
  _Atomic uint32_t creation_stack; /* stack_table.h; its leaf is the caller of pthread_create; 0:
                                      not known */
  void *start, *argument; /* what the program passed to pthread_create or thrd_create */
} __attribute__((aligned(64)));

enum { THREAD_RECORDS_MAX = 1 << 18 };

/* The number of a record, from 1 on; 0: none is free (counted in threads_lost). Context: any host
 * thread. Locks: none. It may map memory. */
uint32_t thread_registry_take(enum thread_origin origin);
/* To be called when the rest of the record has been written: others see it from here on. Context:
 * the new thread, or the agent. */
void thread_registry_tell_tid(struct thread_record *record, int32_t tid);
/* Ends that life of the record. False: somebody else has. Who has ended it takes its timer away,
 * and then puts the record on the free list (_recycle). If the agent gives it a timer meanwhile,
 * one of the two notices. */
bool thread_registry_end_life(uint32_t number, uint64_t life);
void thread_registry_recycle(uint32_t number);
struct thread_record *thread_registry_at(uint32_t number); /* NULL: there is none of that number */

/* In a forked child: of all records only the forking thread's goes on, under its new number.
 * Context: the child's only thread. */
void thread_registry_keep_only(int32_t tid_before, int32_t tid_now);
/* Whether the thread that forked this process had that tid in its parent, or the thread that forked
 * the parent had it before, and so on. Locks that were taken there name it still. Only so many
 * forks are kept: true, too, where more led here. Context: any. */
bool thread_registry_forked_here(int32_t tid);

/* Numbers handed out so far are 1 .. thread_registry_count(). Context: any. */
uint32_t thread_registry_count(void);
uint64_t thread_registry_bytes(void);

/* Whether a running thread that has told this tid has a record. Looks at all records. Context: any.
 */
bool thread_registry_has_tid(int32_t tid);

/* What thread_registry_read copies, all of it of one life. False: no running thread has that
 * record. Context: agent. */
struct thread_view {
  uint64_t life;
  int32_t tid, creator;
  uint32_t birth, creation_stack;
  uintptr_t start; /* 0: not known */
  enum thread_origin origin;
};
bool thread_registry_read(uint32_t number, struct thread_view *out);

#endif
