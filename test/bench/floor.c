/* The least that any preload agent costs. FLOOR=0: forward only. FLOOR=1: and an initial-exec byte
 * countdown in what allocates, a test of the pointer's low bits in what frees. FLOOR=2: and a mutex
 * lock that tries first, an unlock that forwards. The pointers start at functions that resolve, so
 * the hot path has no "initialised?" test. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

static void *first_malloc(size_t);
static void *first_calloc(size_t, size_t);
static void *first_realloc(void *, size_t);
static void first_free(void *);

static void *(*next_malloc)(size_t) = first_malloc;
static void *(*next_calloc)(size_t, size_t) = first_calloc;
static void *(*next_realloc)(void *, size_t) = first_realloc;
static void (*next_free)(void *) = first_free;

static char arena[65536]; /* for dlsym's own allocations */
static size_t arena_used;
static int resolving;

static void *arena_allocate(size_t size) {
  void *p = arena + arena_used;
  arena_used += (size + 15) & ~(size_t)15;
  return p;
}

static void resolve(void) {
  resolving = 1;
  void *(*found_malloc)(size_t) = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
  void *(*found_calloc)(size_t, size_t) = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
  void *(*found_realloc)(void *, size_t) = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
  next_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
  next_malloc = found_malloc, next_calloc = found_calloc, next_realloc = found_realloc;
  resolving = 0;
}

static void *first_malloc(size_t size) {
  if (resolving) return arena_allocate(size);
  resolve();
  return next_malloc(size);
}
static void *first_calloc(size_t count, size_t size) {
  if (resolving) return memset(arena_allocate(count * size), 0, count * size);
  resolve();
  return next_calloc(count, size);
}
static void *first_realloc(void *pointer, size_t size) {
  if (resolving) return arena_allocate(size);
  resolve();
  return next_realloc(pointer, size);
}
static void first_free(void *pointer) {
  if (resolving || !pointer) return;
  resolve();
  next_free(pointer);
}

#if FLOOR >= 1
static __thread int64_t left __attribute__((tls_model("initial-exec"))) = INT64_MAX;
static volatile uint64_t seen;
static __attribute__((noinline)) void slow(void) { seen++; }
#define COUNT_DOWN(size) \
  if (UNLIKELY((left -= (int64_t)(size)) < 0)) slow()
#define TEST_POINTER(pointer) \
  if (UNLIKELY(((uintptr_t)(pointer)&4095) == 0)) slow()
#else
#define COUNT_DOWN(size) (void)(size)
#define TEST_POINTER(pointer) (void)(pointer)
#endif

EXPORTED void *malloc(size_t size) {
  COUNT_DOWN(size);
  return next_malloc(size);
}
EXPORTED void *calloc(size_t count, size_t size) {
  COUNT_DOWN(count * size);
  return next_calloc(count, size);
}
EXPORTED void *realloc(void *pointer, size_t size) {
  COUNT_DOWN(size);
  TEST_POINTER(pointer);
  return next_realloc(pointer, size);
}
EXPORTED void free(void *pointer) {
  TEST_POINTER(pointer);
  next_free(pointer);
}

#if FLOOR == 2
static int first_trylock(pthread_mutex_t *);
static int first_lock(pthread_mutex_t *);
static int first_unlock(pthread_mutex_t *);
static int (*next_trylock)(pthread_mutex_t *) = first_trylock;
static int (*next_lock)(pthread_mutex_t *) = first_lock;
static int (*next_unlock)(pthread_mutex_t *) = first_unlock;

static void resolve_locks(void) {
  next_lock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_lock");
  next_unlock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_unlock");
  next_trylock = (int (*)(pthread_mutex_t *))dlsym(RTLD_NEXT, "pthread_mutex_trylock");
}
static int first_trylock(pthread_mutex_t *mutex) {
  resolve_locks();
  return next_trylock(mutex);
}
static int first_lock(pthread_mutex_t *mutex) {
  resolve_locks();
  return next_lock(mutex);
}
static int first_unlock(pthread_mutex_t *mutex) {
  resolve_locks();
  return next_unlock(mutex);
}

EXPORTED int pthread_mutex_lock(pthread_mutex_t *mutex) {
  int result = next_trylock(mutex);
  return UNLIKELY(result == EBUSY) ? next_lock(mutex) : result;
}
EXPORTED int pthread_mutex_unlock(pthread_mutex_t *mutex) { return next_unlock(mutex); }
#endif
