/* The host's threads, as far as they were seen to be created or were found: one record a thread,
 * reused after its end.
 *
 * A record is taken by the thread that creates another (thread_interposers.c) or by the agent for a
 * thread that it found in /proc/self/task (the first thread, raw clone, threads of libc's own), and
 * given back by the thread itself when its start routine ends, however it ends (syscall(SYS_exit)
 * too); by the agent for those that it found, and for those that vanished without a word.
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
  _Atomic uint64_t
      life; /* raised by who takes the record and by who gives it back; odd: a thread has it */
  _Atomic int32_t
      tid; /* written by the new thread (THREAD_CREATED) or the agent; 0: not running yet */
  _Atomic int32_t timer; /* cpu_sampling.h: its timer's id + 1, 0: none, -1: a counter of the
                            agent's; who exchanges it deletes the timer */
  _Atomic uint32_t ticks; /* samples since the timer was armed; written by the thread's handler */
  _Atomic uint32_t free_next; /* of the free list */
  _Atomic uint64_t expiry; /* up to where its CPU time is counted: when its timer last expired or
                              first will; written by who arms, then by its handler */
  /* Written before tid, constant for the life; read meanwhile by thread_registry_read, which looks
   * at life again (relaxed). */
  _Atomic uint8_t origin; /* enum thread_origin */
  /* it has thread-local storage of its own: one that was created, or the first thread */
  _Atomic uint8_t has_state;
  /* sampling_signal.h; written by the thread and in its handlers. Before its start: its creator's
   */
  _Atomic bool signal_let_in;
  _Atomic uint8_t stack_class; /* stack_size_class; told by the creator, for that thread */
  _Atomic uint32_t birth; /* the order in which threads told their tids, modulo 2^32 */
  _Atomic int32_t creator; /* tid; 0: not known */
  /* stack_table.h, leaf = the caller of pthread_create; 0: not known */
  _Atomic uint32_t creation_stack;
  /* what the program passed to pthread_create or thrd_create; as the other words above */
  void *start, *argument;
} __attribute__((aligned(64)));

enum { THREAD_RECORDS_MAX = 1 << 18 };

/* Records are numbered from 1. 0: none is free (counted in threads_lost). Context: any host thread;
 * locks: none; may map memory. */
uint32_t thread_registry_take(enum thread_origin origin);
/* Who has written the rest of the record tells its thread's number: it is to be seen from here on.
 * Context: that thread, or the agent. */
void thread_registry_tell_tid(struct thread_record *record, int32_t tid);
/* Ends the life that is meant; false: somebody else did. Whoever did then takes its timer away (a
 * timer that the agent gives it meanwhile is noticed by one of the two) and puts it on the free
 * list. */
bool thread_registry_end_life(uint32_t number, uint64_t life);
void thread_registry_recycle(uint32_t number);
struct thread_record *thread_registry_at(uint32_t number); /* NULL: there is none of that number */

/* In a forked child: of all records only the forking thread's goes on, under its new number.
 * Context: the child's only thread. */
void thread_registry_keep_only(int32_t tid_before, int32_t tid_now);
/* Whether the thread that forked this process, or the parent it was forked from, had that number
 * there: locks that it took before name it. True, too, where more forks than are kept led here.
 * Context: any. */
bool thread_registry_forked_here(int32_t tid);

/* Numbers handed out so far are 1 .. thread_registry_count(). Context: any. */
uint32_t thread_registry_count(void);
uint64_t thread_registry_bytes(void);

/* Whether a running thread that has told this number has a record. Looks at all of them. Context:
 * any. */
bool thread_registry_has_tid(int32_t tid);

/* A copy that belongs together; false: no running thread has that record. Context: agent. */
struct thread_view {
  uint64_t life;
  int32_t tid, creator;
  uint32_t birth, creation_stack;
  uintptr_t start; /* 0: not known */
  enum thread_origin origin;
};
bool thread_registry_read(uint32_t number, struct thread_view *out);

#endif
