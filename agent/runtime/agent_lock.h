/* A futex mutex for the agent's own state: never one of the host's pthread mutexes, so that no
 * profile of locks ever counts it. Zero-initialised means unlocked. Context: agent threads. */
#ifndef AGENT_AGENT_LOCK_H
#define AGENT_AGENT_LOCK_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct agent_lock {
  _Atomic uint32_t state; /* 0 free, 1 held, 2 held and somebody waits */
};

static inline void agent_lock_take(struct agent_lock *lock) {
  uint32_t expected = 0;
  if (atomic_compare_exchange_strong_explicit(&lock->state, &expected, 1, memory_order_acquire,
                                              memory_order_relaxed))
    return;
  while (atomic_exchange_explicit(&lock->state, 2, memory_order_acquire) != 0) {
    syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
  }
}

static inline void agent_lock_release(struct agent_lock *lock) {
  if (atomic_exchange_explicit(&lock->state, 0, memory_order_release) == 2) {
    syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  }
}

#endif
