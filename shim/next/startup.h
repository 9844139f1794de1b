/* Starting the library: on the first intercepted call or in the constructor, whichever comes first,
 * exactly once.
 *
 * Three stages: not relocated (real.* are NULL: memory comes from the startup arena), started (the
 * next definitions are known and the environment is read), agent running (agent/load.c).
 */
#ifndef SHIM_STARTUP_H
#define SHIM_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/next/next_functions.h"

/* True once the next definitions are known. False only inside startup itself, and before
 * relocation: the caller must use the startup arena, or STARTUP_NEXT. Context: any; locks: the
 * loader's, the first time. */
bool startup_ensure(void);

/* The same, but where another thread is starting the library it waits for that. Context: not the
 * allocator's. */
bool startup_await(void);

/* Whether the next allocator serves this call; false: the startup arena does. */
bool startup_is_over(void);

/* Memory for calls that come before anything else can serve them, and for what libc allocates on
 * the agent's behalf (thread_state.agent: a new thread's TLS vector), so that the host's allocator
 * is left out of it. A block takes whole pages; they are marked in live_filter, so that free's one
 * test sends them to its slow path. Zeroed. Context: any, even before relocation; locks: none. */
void *startup_arena_allocate(size_t size, size_t alignment);
void startup_arena_free(void *pointer);
size_t startup_arena_size_of(const void *pointer);

/* One page a thread of the agent's, and 20 for loading libssl (agent/tls/tls_library.c), once more
 * in a child that holds the port after its parent. */
enum { STARTUP_ARENA_PAGE = 4096, STARTUP_ARENA_PAGES = 128 };
/* hidden: reached without a relocation, which may be yet to come */
extern char startup_arena[STARTUP_ARENA_PAGES * STARTUP_ARENA_PAGE]
    __attribute__((visibility("hidden")));
static inline bool startup_arena_contains(const void *pointer) {
  return (uintptr_t)pointer - (uintptr_t)startup_arena < sizeof startup_arena;
}

/* The next definition, found directly: in the middle of the start a call is served as if we were
 * not there. Several such calls are the first thing that a program does (a sanitizer's own start),
 * or a library's IFUNC resolver. */
#define STARTUP_NEXT(name) ((real_##name##_function)next_function_find_now(#name))
/* The same for wrappers that need not start the library. real.NAME: NULL before relocation. */
#define NEXT_OF(name) (LIKELY(real.name != NULL) ? real.name : STARTUP_NEXT(name))
/* And for those that do. */
#define STARTED_NEXT_OF(name) \
  (LIKELY(startup_ensure() && real.name) ? real.name : STARTUP_NEXT(name))

/* Stand-ins for the next definitions while startup is not over. */
void *startup_malloc(size_t size);
void *startup_calloc(size_t count, size_t size);
void *startup_realloc(void *pointer, size_t size);
void startup_free(void *pointer);
int startup_posix_memalign(void **out, size_t alignment, size_t size);
void *startup_aligned_alloc(size_t alignment, size_t size);
void *startup_memalign(size_t alignment, size_t size);
void *startup_valloc(size_t size);
void *startup_pvalloc(size_t size);
int startup_dlclose(void *handle);
int startup_unshare(int flags);
int startup_setns(int fd, int type);
long startup_syscall(long number, long a, long b, long c, long d, long e, long f);
int startup_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
void startup_pthread_exit(void *result);
void startup_thrd_exit(int result);

#endif
