#include "shim/next/startup.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "shim/allocation/heap_sampling.h"
#include "shim/next/interposed.h"
#include "shim/allocation/live_table.h"
#include "shim/locks/lock_functions.h"
#include "shim/next/next_functions.h"
#include "shim/base/preload_variable.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/stack_depth.h"
#include "shim/base/thread_state.h"

extern void
    *__libc_stack_end; /* exported by the loader: the stack pointer at entry, where argc lies */

enum { NOT_STARTED, STARTING, STARTED };
static _Atomic int stage;
static _Atomic uintptr_t starter; /* the thread that is starting, or has started, the library */

/* libc sets environ in its own constructor; before that the same strings are above argc on the
 * first stack. NULL: too early to know (a program that refers to __libc_stack_end has a copy of it,
 * which is filled when the program is relocated, last of all). */
static char *const *find_environment(void) {
  if (environ) return environ;
  uintptr_t *stack = __libc_stack_end;
  return stack ? (char *const *)(stack + 1 + stack[0] + 1) : NULL;
}

bool startup_ensure(void) {
  int now = atomic_load_explicit(&stage, memory_order_acquire);
  if (LIKELY(now == STARTED)) return true;
  if (!real.malloc) return false; /* not relocated: no variable of libc's can be reached */
  char *const *environment = find_environment();
  if (!environment || now == STARTING ||
      !atomic_compare_exchange_strong_explicit(&stage, &now, STARTING, memory_order_acq_rel,
                                               memory_order_acquire))
    return now == STARTED;
  int saved_errno = errno;
  atomic_store_explicit(&starter, (uintptr_t)__builtin_thread_pointer(), memory_order_relaxed);
  next_functions_resolve();
  static char *const no_environment[] = {NULL};
  bool is_secure = getauxval(AT_SECURE);
  config_read(is_secure ? no_environment : environment, &config);
  if (is_secure) config_switch_off(&config);
  if (UNLIKELY(config.stack_depth != STACK_DEFAULT_FRAMES))
    stack_depth_beyond_default = (int32_t)config.stack_depth - STACK_DEFAULT_FRAMES;
  if (config.children != CHILDREN_ALL)
    preload_variable_remove((char **)environment, preload_variable_own_path());
  heap_sampling_start((uintptr_t)__libc_stack_end);
  errno = saved_errno;
  atomic_store_explicit(&stage, STARTED, memory_order_release);
  if (next_functions_may_change()) lock_functions_find();
  return true;
}

bool startup_await(void) {
  while (!startup_ensure()) {
    if (atomic_load_explicit(&stage, memory_order_acquire) != STARTING) return false;
    if (atomic_load_explicit(&starter, memory_order_relaxed) ==
        (uintptr_t)__builtin_thread_pointer())
      return false;
    raw_nap();
  }
  return true;
}

/* ---- arena: for a handful of calls, so pages are spent freely ---- */

char startup_arena[STARTUP_ARENA_PAGES * STARTUP_ARENA_PAGE]
    __attribute__((aligned(STARTUP_ARENA_PAGE)));
/* Of each page: 0 free, else the block's size + 1 in its first page and 1 in the others. Taken by
 * an acquire CAS, given back by a release store of the block's owner. */
static _Atomic uint32_t arena_pages[STARTUP_ARENA_PAGES];
static _Atomic bool arena_used[STARTUP_ARENA_PAGES]; /* before: no longer zero */

static size_t arena_index(const void *pointer) {
  return ((uintptr_t)pointer - (uintptr_t)startup_arena) / STARTUP_ARENA_PAGE;
}

static size_t pages_of(size_t size) {
  return size ? (size + STARTUP_ARENA_PAGE - 1) / STARTUP_ARENA_PAGE : 1;
}

static void give_back(size_t first, size_t count) {
  for (size_t i = first; i < first + count; i++) {
    atomic_store_explicit(&arena_used[i], true, memory_order_relaxed);
    atomic_store_explicit(&arena_pages[i], 0, memory_order_release);
  }
}

void *startup_arena_allocate(size_t size, size_t alignment) {
  if (alignment > STARTUP_ARENA_PAGE || size > sizeof startup_arena) return NULL;
  size_t wanted = pages_of(size), run = 0;
  for (size_t i = 0; i < STARTUP_ARENA_PAGES; i++) {
    uint32_t free_page = 0;
    if (!atomic_compare_exchange_strong_explicit(&arena_pages[i], &free_page, 1,
                                                 memory_order_acquire, memory_order_relaxed)) {
      give_back(i - run, run);
      run = 0;
      continue;
    }
    if (++run < wanted) continue;
    size_t first = i + 1 - run;
    char *block = startup_arena + first * STARTUP_ARENA_PAGE;
    /* Not at once: memset cannot be called before this library is relocated, when all pages are
     * new. */
    for (size_t page = first; page <= i; page++)
      if (atomic_load_explicit(&arena_used[page], memory_order_relaxed))
        memset(startup_arena + page * STARTUP_ARENA_PAGE, 0, STARTUP_ARENA_PAGE);
    live_filter_add((uintptr_t)block);
    atomic_store_explicit(&arena_pages[first], (uint32_t)size + 1, memory_order_relaxed);
    return block;
  }
  give_back(STARTUP_ARENA_PAGES - run, run);
  return NULL;
}

size_t startup_arena_size_of(const void *pointer) {
  return atomic_load_explicit(&arena_pages[arena_index(pointer)], memory_order_relaxed) - 1u;
}

void startup_arena_free(void *pointer) {
  live_filter_remove((uintptr_t)pointer);
  give_back(arena_index(pointer), pages_of(startup_arena_size_of(pointer)));
}

/* ---- stand-ins ---- */

bool startup_is_over(void) { return startup_ensure() && !thread_state.agent; }

void *startup_malloc(size_t size) {
  return startup_is_over() ? real.malloc(size) : startup_arena_allocate(size, 16);
}

void *startup_calloc(size_t count, size_t size) {
  if (startup_is_over()) return real.calloc(count, size);
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
  return startup_arena_allocate(bytes, 16);
}

void *startup_realloc(void *pointer, size_t size) {
  /* On an agent thread libc may hold a block of the host's (the TLS vector of a thread stack that
   * is used again). */
  if (startup_is_over() || (pointer && !startup_arena_contains(pointer) && startup_ensure()))
    return real.realloc(pointer, size);
  void *moved = startup_arena_allocate(size, 16);
  if (moved && startup_arena_contains(pointer)) {
    size_t old = startup_arena_size_of(pointer);
    memcpy(moved, pointer, old < size ? old : size);
  }
  return moved;
}

void startup_free(void *pointer) {
  if (startup_is_over()) real.free(pointer);
}

int startup_posix_memalign(void **out, size_t alignment, size_t size) {
  if (startup_is_over()) return real.posix_memalign(out, alignment, size);
  *out = startup_arena_allocate(size, alignment);
  return *out ? 0 : ENOMEM;
}

void *startup_aligned_alloc(size_t alignment, size_t size) {
  return startup_is_over() ? real.aligned_alloc(alignment, size)
                           : startup_arena_allocate(size, alignment);
}

void *startup_memalign(size_t alignment, size_t size) {
  return startup_is_over() ? real.memalign(alignment, size)
                           : startup_arena_allocate(size, alignment);
}

void *startup_valloc(size_t size) {
  return startup_is_over() ? real.valloc(size) : startup_arena_allocate(size, STARTUP_ARENA_PAGE);
}

void *startup_pvalloc(size_t size) {
  return startup_is_over() ? real.pvalloc(size) : startup_arena_allocate(size, STARTUP_ARENA_PAGE);
}

/* In the middle of the start real.NAME still is this function. */
#define NOW(name) (startup_ensure() ? real.name : STARTUP_NEXT(name))

int startup_dlclose(void *handle) { return NOW(dlclose)(handle); }

int startup_unshare(int flags) { return NOW(unshare)(flags); }

int startup_setns(int fd, int type) { return NOW(setns)(fd, type); }

void startup_pthread_exit(void *result) { NOW(pthread_exit)(result); }

long startup_syscall(long number, long a, long b, long c, long d, long e, long f) {
  long result = raw_syscall6(number, a, b, c, d, e, f);
  enum { ERROR_MAX = 4095 };
  if (result >= 0 || result < -ERROR_MAX) return result;
  errno = (int)-result;
  return -1;
}

int startup_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  return NOW(prctl)(option, a, b, c, d);
}

void startup_thrd_exit(int result) { NOW(thrd_exit)(result); }
