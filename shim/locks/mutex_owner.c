#include "mutex_owner.h"

#include <pthread.h>

#include "shim/base/raw_syscall.h"

bool mutex_unlock_releases(const void *object) {
  const pthread_mutex_t *mutex = object;
  enum { TYPE = 3, ROBUST = 16, PRIORITY_INHERIT = 32 };
  int kind = mutex->__data.__kind, type = kind & TYPE;
  if (!(kind & (ROBUST | PRIORITY_INHERIT)) &&
      (type == PTHREAD_MUTEX_NORMAL || type == PTHREAD_MUTEX_ADAPTIVE_NP))
    return true;
  if (type == PTHREAD_MUTEX_RECURSIVE && mutex->__data.__count > 1) return false;
  return mutex->__data.__owner == (int)raw_syscall4(SYS_gettid, 0, 0, 0, 0);
}
