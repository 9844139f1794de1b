/* Another preloaded library that wraps locks, as lock checkers and tracers do: each wrapper looks
 * its next definition up at the first call, counts, and allocates once in a while. The counts are
 * printed to stdout at the end if LOCKHAZ_COUNTS is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

static _Atomic long calls;
#define NEXT(type, name, parameters)                   \
  static type(*next) parameters;                       \
  if (!next) *(void **)&next = dlsym(RTLD_NEXT, name); \
  if (calls++ % 1000 == 999) free(malloc(64))

#define EXPORT __attribute__((visibility("default")))
EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex) {
  NEXT(int, "pthread_mutex_lock", (pthread_mutex_t *));
  return next(mutex);
}
EXPORT int pthread_mutex_trylock(pthread_mutex_t *mutex) {
  NEXT(int, "pthread_mutex_trylock", (pthread_mutex_t *));
  return next(mutex);
}
EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex) {
  NEXT(int, "pthread_mutex_unlock", (pthread_mutex_t *));
  return next(mutex);
}
EXPORT int pthread_rwlock_rdlock(pthread_rwlock_t *lock) {
  NEXT(int, "pthread_rwlock_rdlock", (pthread_rwlock_t *));
  return next(lock);
}
EXPORT int sem_wait(sem_t *sem) {
  NEXT(int, "sem_wait", (sem_t *));
  return next(sem);
}
EXPORT int sem_post(sem_t *sem) {
  NEXT(int, "sem_post", (sem_t *));
  return next(sem);
}
EXPORT int pthread_join(pthread_t thread, void **result) {
  NEXT(int, "pthread_join", (pthread_t, void **));
  return next(thread, result);
}
__attribute__((constructor)) static void start(void) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  for (int i = 0; i < 3000; i++) pthread_mutex_lock(&mutex), pthread_mutex_unlock(&mutex);
}
__attribute__((destructor)) static void finish(void) {
  if (getenv("LOCKHAZ_COUNTS"))
    printf("wrapped calls: %s\n", calls > 20000 ? "many" : "few"), fflush(stdout);
}
