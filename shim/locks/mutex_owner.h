/* What can be seen of a mutex without touching it, from the fields that glibc's own initializers
 * make part of its ABI (bits/struct_mutex.h); only read. Context: any thread; locks: none; a system
 * call where the mutex's type lets an unlock fail. */
#ifndef SHIM_MUTEX_OWNER_H
#define SHIM_MUTEX_OWNER_H

#include <pthread.h>
#include <stdbool.h>

/* glibc's trylock of a robust mutex that is not recoverable leaves it locked
 * (nptl/pthread_mutex_trylock.c, oldval == id); its lock does not. */
static inline bool mutex_may_be_tried(const pthread_mutex_t *mutex) {
  enum { ROBUST = 16 };
  return !(mutex->__data.__kind & ROBUST);
}

/* Of one that may not be tried: its word holds its owner. */
static inline bool mutex_is_held(const pthread_mutex_t *mutex) {
  enum { OWNER = 0x3fffffff };
  return !mutex_may_be_tried(mutex) &&
         (__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) & OWNER) != 0;
}

/* A pthread_mutex_t or a mtx_t, which are the same. False: a recursive one is held more than once,
 * or the caller does not hold it. */
bool mutex_unlock_releases(const void *mutex);

#endif
