#include "agent_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shim/base/raw_syscall.h"
#include "shim/threads/thread_registry.h"
#include "shim/base/thread_state.h"
#include "bare_thread.h"

/* A slot is taken by the creator, filled by the new thread, and free again when the kernel does not
 * know the tid any more, or knows another thread by it. state: SLOT_FREE, SLOT_STARTING, or the
 * tid. */
enum { SLOT_FREE = 0, SLOT_STARTING = -1 };
struct thread_slot {
  _Atomic int32_t state;
  /* not 0: then its CPU time was added to ended_cpu, and nothing is left for it to do but to end */
  _Atomic int64_t ended_at;
  void (*start)(void *);
  void *argument;
  _Atomic int32_t running; /* 0: it has ended. For bare threads written by the kernel, else by us */
  _Atomic bool is_libcs; /* by the taker, before the thread exists */
  _Atomic uint32_t life; /* counts the threads that had this slot: by the slot's taker */
};
static struct thread_slot slots[AGENT_THREAD_MAX];

enum agent_thread_kind { AGENT_THREAD_BARE, AGENT_THREAD_OF_LIBC };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define AGENT_THREAD_KIND AGENT_THREAD_OF_LIBC /* sanitizers know no others */
#else
#define AGENT_THREAD_KIND AGENT_THREAD_BARE
#endif
static _Atomic uint64_t ended_cpu;

int64_t agent_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint64_t clock_nanoseconds(clockid_t clock) {
  struct timespec now;
  return clock_gettime(clock, &now) == 0
             ? (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec
             : 0;
}

/* By its clock: unlike tgkill, no sandbox kills for that. Where one refuses it, the word that the
 * kernel clears tells nearly as well: when the thread is about to end. */
static bool kernel_knows(struct thread_slot *slot, int32_t tid) {
  struct timespec now;
  if (clock_gettime(thread_cpu_clock(tid), &now) == 0) return true;
  return errno != EINVAL && atomic_load_explicit(&slot->running, memory_order_acquire) != 0;
}

/* The thread has ended and the kernel knows its number: for a moment it is still the same thread,
 * later it is one of the program's that was given the number anew. The program's have a record, but
 * for those made past the thread library; nothing takes an ending thread a second. */
static bool is_another_thread(struct thread_slot *slot, int32_t tid) {
  int64_t ended_at = atomic_load_explicit(&slot->ended_at, memory_order_acquire);
  return ended_at && (thread_registry_has_tid(tid) ||
                      agent_monotonic_nanoseconds() - ended_at > INT64_C(1000000000));
}

/* SLOT_STARTING counts as alive: its thread may be about to run. */
static bool slot_alive(struct thread_slot *slot) {
  int32_t state = atomic_load_explicit(&slot->state, memory_order_acquire);
  if (state == SLOT_FREE) return false;
  if (state == SLOT_STARTING || (kernel_knows(slot, state) && !is_another_thread(slot, state)))
    return true;
  atomic_compare_exchange_strong_explicit(&slot->state, &state, SLOT_FREE, memory_order_acq_rel,
                                          memory_order_relaxed);
  return false;
}

static void thread_ends(struct thread_slot *slot) {
  atomic_fetch_add_explicit(&ended_cpu, clock_nanoseconds(CLOCK_THREAD_CPUTIME_ID),
                            memory_order_relaxed);
  atomic_store_explicit(&slot->ended_at, agent_monotonic_nanoseconds(), memory_order_release);
}

static void thread_main(void *argument) {
  struct thread_slot *slot = argument;
  int32_t tid = (int32_t)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
  atomic_store_explicit(&slot->state, tid, memory_order_release);
  raw_syscall4(SYS_prctl, PR_SET_NAME, (long)"pprofagent", 0, 0);
  slot->start(slot->argument);
  thread_ends(slot);
}

static void *libc_thread_main(void *argument) {
  struct thread_slot *slot = argument;
  thread_enter_agent(); /* for good */
  thread_main(slot);
  atomic_store_explicit(&slot->running, 0, memory_order_release);
  syscall(SYS_futex, &slot->running, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
  return NULL;
}

static struct thread_slot *take_slot(void) {
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++) {
    int32_t expected = SLOT_FREE;
    slot_alive(&slots[i]);
    if (atomic_compare_exchange_strong_explicit(&slots[i].state, &expected, SLOT_STARTING,
                                                memory_order_acq_rel, memory_order_relaxed)) {
      return &slots[i];
    }
  }
  return NULL;
}

/* For every thread of libc's there is memory of the loader's and libc's own. */
static int create_for_libc(struct thread_slot *slot, size_t stack_size) {
  pthread_t ignored;
  pthread_attr_t attributes;
  atomic_store_explicit(&slot->running, 1, memory_order_relaxed);
  struct agent_section before = thread_enter_agent();
  int error = pthread_attr_init(&attributes);
  if (!error) {
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, stack_size);
    error = pthread_create(&ignored, &attributes, libc_thread_main, slot);
    pthread_attr_destroy(&attributes);
  }
  thread_leave_agent(before);
  if (error) atomic_store_explicit(&slot->running, 0, memory_order_relaxed);
  return error;
}

static int create_in(struct thread_slot *slot, struct agent_thread *thread,
                     enum agent_thread_kind kind, size_t stack_size) {
  uint32_t life = atomic_fetch_add_explicit(&slot->life, 1, memory_order_relaxed) + 1;
  atomic_store_explicit(&slot->ended_at, 0, memory_order_relaxed);
  atomic_store_explicit(&slot->is_libcs, kind == AGENT_THREAD_OF_LIBC, memory_order_relaxed);
  int error = kind == AGENT_THREAD_BARE
                  ? bare_thread_create(&slot->running, stack_size, thread_main, slot)
                  : create_for_libc(slot, stack_size);
  if (error) atomic_store_explicit(&slot->state, SLOT_FREE, memory_order_release);
  else if (thread) *thread = (struct agent_thread){(uint32_t)(slot - slots), life};
  return error;
}

static int create(struct agent_thread *thread, enum agent_thread_kind kind, size_t stack_size,
                  void (*start)(void *), void *argument) {
  /* But for libc's own, 32 and 33: the second is for agent_thread_call.h. */
  const uint64_t all = ~(UINT64_C(3) << 31);
  uint64_t host;
  /* The new thread inherits this mask. A signal for the host's thread waits meanwhile: its handler
   * might wait for a slot that is being filled. */
  if (raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&host, sizeof all) != 0)
    return EPERM;
  int error = EAGAIN;
  struct thread_slot *slot = take_slot();
  if (slot) {
    slot->start = start;
    slot->argument = argument;
    error = create_in(slot, thread, kind, stack_size);
  }
  raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&host, 0, sizeof host);
  return error;
}

static void does_nothing(void *unused) { (void)unused; }

void agent_thread_announce(void) {
  if (__libc_single_threaded)
    create(NULL, AGENT_THREAD_OF_LIBC, AGENT_THREAD_STACK, does_nothing, NULL);
}

int agent_thread_create(struct agent_thread *thread, size_t stack_size, void (*start)(void *),
                        void *argument) {
  return create(thread, AGENT_THREAD_KIND, stack_size, start, argument);
}

int agent_thread_create_for_libc(struct agent_thread *thread, size_t stack_size,
                                 void (*start)(void *), void *argument) {
  return create(thread, AGENT_THREAD_OF_LIBC, stack_size, start, argument);
}

void agent_thread_join(struct agent_thread thread) {
  struct thread_slot *slot = &slots[thread.slot];
  for (;;) { /* running first: the slot may be taken anew, with another life */
    int32_t tid = atomic_load_explicit(&slot->running, memory_order_acquire);
    uint32_t life = atomic_load_explicit(&slot->life, memory_order_acquire);
    if (tid == 0 || life != thread.life) return;
    syscall(SYS_futex, &slot->running, FUTEX_WAIT, tid, NULL, NULL, 0);
  }
}

unsigned agent_thread_count(void) {
  unsigned count = 0;
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++) count += slot_alive(&slots[i]);
  return count;
}

size_t agent_thread_ids(int32_t *tids, size_t capacity) {
  size_t count = 0;
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++) {
    int32_t state = atomic_load_explicit(&slots[i].state, memory_order_acquire);
    if (!slot_alive(&slots[i]) || state == SLOT_STARTING) continue;
    if (count < capacity) tids[count] = state;
    count++;
  }
  return count;
}

bool agent_thread_is_libcs(int32_t tid) {
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++)
    if (atomic_load_explicit(&slots[i].state, memory_order_acquire) == tid)
      return atomic_load_explicit(&slots[i].is_libcs, memory_order_relaxed);
  return false;
}

bool agent_thread_starting(void) {
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++)
    if (atomic_load_explicit(&slots[i].state, memory_order_acquire) == SLOT_STARTING) return true;
  return false;
}

uint64_t agent_thread_cpu_nanoseconds(void) {
  uint64_t total = atomic_load_explicit(&ended_cpu, memory_order_relaxed);
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++) {
    int32_t state = atomic_load_explicit(&slots[i].state, memory_order_acquire);
    if (state <= 0 || atomic_load_explicit(&slots[i].ended_at, memory_order_acquire)) continue;
    total += clock_nanoseconds(thread_cpu_clock(state));
  }
  return total;
}

static bool await(unsigned (*count)(void), unsigned remaining, int64_t deadline_ns) {
  while (count() > remaining) {
    if (agent_monotonic_nanoseconds() > deadline_ns) return false;
    raw_nap();
  }
  return true;
}

static unsigned count_libcs(void) {
  unsigned count = 0;
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++)
    count +=
        slot_alive(&slots[i]) && atomic_load_explicit(&slots[i].is_libcs, memory_order_relaxed);
  return count;
}

bool agent_thread_await(unsigned remaining, int64_t deadline_ns) {
  return await(agent_thread_count, remaining, deadline_ns);
}

bool agent_thread_await_libcs(int64_t deadline_ns) { return await(count_libcs, 0, deadline_ns); }
