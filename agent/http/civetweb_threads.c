/* civetweb's threads, mutexes and conditions: the Makefile redirects its pthread_* calls to
 * civetweb_pthread_*. libc's would take the program for one of a single thread, and do without
 * atomic instructions. Context: agent threads. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim/base/raw_syscall.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_thread.h"
#include "civetweb_alone.h"
#include "civetweb_workers.h"

/* ---- threads ---- */

_Static_assert(sizeof(struct agent_thread) == sizeof(pthread_t), "one is kept in the other");

int civetweb_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                            void *(*main)(void *), void *argument) {
  struct agent_thread created;
  (void)attributes; /* all are joined, and have AGENT_THREAD_STACK */
  if (civetweb_is_alone()) return civetweb_alone_create(thread, main, argument), 0;
  if (!civetweb_workers_create(&created, main, argument)) return EAGAIN;
  memcpy(thread, &created, sizeof created);
  return 0;
}

int civetweb_pthread_join(pthread_t thread, void **result) {
  struct agent_thread joined;
  memcpy(&joined, &thread, sizeof joined);
  if (civetweb_is_alone()) civetweb_alone_join();
  else agent_thread_join(joined);
  if (result) *result = NULL;
  return 0;
}

int civetweb_pthread_attr_init(pthread_attr_t *attributes) { return (void)attributes, 0; }
int civetweb_pthread_attr_destroy(pthread_attr_t *attributes) { return (void)attributes, 0; }
int civetweb_pthread_attr_setdetachstate(pthread_attr_t *attributes, int state) {
  return (void)attributes, (void)state, 0;
}
int civetweb_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size) {
  return (void)attributes, (void)size, 0;
}

/* ---- mutexes: all are recursive, as most of civetweb's have to be ---- */

struct mutex {
  struct agent_lock lock;
  _Atomic int32_t
      owner; /* its tid, 0: nobody. Written by the owner; others compare it with theirs */
  uint32_t depth; /* the owner's */
};
_Static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t), "one is kept in the other");

int civetweb_pthread_mutexattr_init(pthread_mutexattr_t *attributes) { return (void)attributes, 0; }
int civetweb_pthread_mutexattr_destroy(pthread_mutexattr_t *attributes) {
  return (void)attributes, 0;
}
int civetweb_pthread_mutexattr_settype(pthread_mutexattr_t *attributes, int type) {
  return (void)attributes, (void)type, 0;
}

int civetweb_pthread_mutex_init(pthread_mutex_t *memory, const pthread_mutexattr_t *attributes) {
  (void)attributes;
  memset(memory, 0, sizeof *memory);
  return 0;
}
int civetweb_pthread_mutex_destroy(pthread_mutex_t *memory) { return (void)memory, 0; }

int civetweb_pthread_mutex_lock(pthread_mutex_t *memory) {
  struct mutex *mutex = (struct mutex *)memory;
  int32_t self = (int32_t)syscall(SYS_gettid);
  if (atomic_load_explicit(&mutex->owner, memory_order_relaxed) == self) return mutex->depth++, 0;
  agent_lock_take(&mutex->lock);
  atomic_store_explicit(&mutex->owner, self, memory_order_relaxed);
  return 0;
}

int civetweb_pthread_mutex_unlock(pthread_mutex_t *memory) {
  struct mutex *mutex = (struct mutex *)memory;
  if (mutex->depth) return mutex->depth--, 0;
  atomic_store_explicit(&mutex->owner, 0, memory_order_relaxed);
  agent_lock_release(&mutex->lock);
  return 0;
}

/* ---- conditions: a wait may end without a signal ---- */

static _Atomic uint32_t *signals_of(pthread_cond_t *memory) { return (_Atomic uint32_t *)memory; }

int civetweb_pthread_cond_init(pthread_cond_t *memory, const pthread_condattr_t *attributes) {
  (void)attributes;
  memset(memory, 0, sizeof *memory);
  return 0;
}
int civetweb_pthread_cond_destroy(pthread_cond_t *memory) { return (void)memory, 0; }

int civetweb_pthread_cond_wait(pthread_cond_t *memory, pthread_mutex_t *mutex) {
  _Atomic uint32_t *signals = signals_of(memory);
  uint32_t seen = atomic_load_explicit(signals, memory_order_relaxed); /* under the mutex */
  civetweb_pthread_mutex_unlock(mutex);
  if (civetweb_is_alone()) civetweb_alone_yield();
  else raw_futex_wait(signals, seen, NULL);
  return civetweb_pthread_mutex_lock(mutex);
}

static int wake(pthread_cond_t *memory, int count) {
  atomic_fetch_add_explicit(signals_of(memory), 1, memory_order_relaxed);
  raw_futex_wake(signals_of(memory), count);
  return 0;
}
int civetweb_pthread_cond_signal(pthread_cond_t *memory) { return wake(memory, 1); }
int civetweb_pthread_cond_broadcast(pthread_cond_t *memory) { return wake(memory, INT32_MAX); }
