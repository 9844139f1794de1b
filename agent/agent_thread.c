#include "agent_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../shim/thread_registry.h"
#include "../shim/thread_state.h"

/* A slot is taken by the creator, filled by the new thread, and free again when the kernel does not
 * know the tid any more, or knows another thread by it. state: SLOT_FREE, SLOT_STARTING, or the
 * tid. */
enum { SLOT_FREE = 0, SLOT_STARTING = -1 };
struct thread_slot {
  _Atomic int32_t state;
  /* not 0: then its CPU time was added to ended_cpu, and nothing is left for it to do but to end */
  _Atomic int64_t ended_at;
  void *(*start)(void *);
  void *argument;
};
static struct thread_slot slots[AGENT_THREAD_MAX];
static _Atomic uint64_t ended_cpu;

int64_t agent_monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint64_t clock_nanoseconds(clockid_t clock) {
  struct timespec now;
  return clock_gettime(clock, &now) == 0 ? (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec : 0;
}

static bool kernel_knows(int32_t tid) { return syscall(SYS_tgkill, getpid(), tid, 0) == 0; }

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
  if (state == SLOT_STARTING || (kernel_knows(state) && !is_another_thread(slot, state)))
    return true;
  atomic_compare_exchange_strong_explicit(&slot->state, &state, SLOT_FREE, memory_order_acq_rel, memory_order_relaxed);
  return false;
}

static void thread_ends(struct thread_slot *slot) {
  atomic_fetch_add_explicit(&ended_cpu, clock_nanoseconds(CLOCK_THREAD_CPUTIME_ID), memory_order_relaxed);
  atomic_store_explicit(&slot->ended_at, agent_monotonic_nanoseconds(), memory_order_release);
}

static void *thread_main(void *argument) {
  struct thread_slot *slot = argument;
  thread_enter_agent(); /* for good */
  atomic_store_explicit(&slot->state, (int32_t)syscall(SYS_gettid), memory_order_release);
  prctl(PR_SET_NAME, "pprofagent");
  void *result = slot->start(slot->argument);
  thread_ends(slot);
  return result;
}

static struct thread_slot *take_slot(void) {
  for (size_t i = 0; i < AGENT_THREAD_MAX; i++) {
    int32_t expected = SLOT_FREE;
    slot_alive(&slots[i]);
    if (atomic_compare_exchange_strong_explicit(&slots[i].state, &expected, SLOT_STARTING, memory_order_acq_rel,
                                                memory_order_relaxed)) {
      return &slots[i];
    }
  }
  return NULL;
}

int agent_thread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  struct thread_slot *slot = take_slot();
  if (!slot) return EAGAIN;
  slot->start = start;
  slot->argument = argument;
  atomic_store_explicit(&slot->ended_at, 0, memory_order_relaxed);
  pthread_attr_t own;
  int error = 0;
  if (!attributes) {
    error = pthread_attr_init(&own);
    if (!error) pthread_attr_setdetachstate(&own, PTHREAD_CREATE_DETACHED);
    if (!error) pthread_attr_setstacksize(&own, AGENT_THREAD_STACK);
  }
  pthread_t ignored;
  struct agent_section before = thread_enter_agent();
  sigset_t all, host;
  memset(&all, ~0, sizeof(all)); /* sigfillset is in a page of libc of its own; pthread_sigmask leaves libc's signals out */
  /* The new thread inherits this mask (an attribute mask would need malloc). A signal for the host's thread waits meanwhile. */
  pthread_sigmask(SIG_SETMASK, &all, &host);
  if (!error) error = pthread_create(thread ? thread : &ignored, attributes ? attributes : &own, thread_main, slot);
  pthread_sigmask(SIG_SETMASK, &host, NULL);
  thread_leave_agent(before);
  if (!attributes) pthread_attr_destroy(&own);
  if (error) atomic_store_explicit(&slot->state, SLOT_FREE, memory_order_release);
  return error;
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

bool agent_thread_await(unsigned remaining, int64_t deadline_ns) {
  while (agent_thread_count() > remaining) {
    if (agent_monotonic_nanoseconds() > deadline_ns) return false;
    struct timespec pause = {.tv_nsec = 100 * 1000};
    nanosleep(&pause, NULL);
  }
  return true;
}
