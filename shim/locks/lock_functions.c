#include "lock_functions.h"

#include <errno.h>
#include <link.h>

#include "shim/next/dynamic_symbols.h"
#include "shim/next/next_functions.h"
#include "shim/next/startup.h"

extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));
extern ElfW(Dyn) _DYNAMIC[] __attribute__((visibility("hidden")));

struct lock_wrappers lock_wrappers;

static void find_wrappers(void) {
  struct dynamic_symbols own;
  if (!dynamic_symbols_open(&own, (uintptr_t)&__ehdr_start, _DYNAMIC)) return;
#define X(type, name, parameters) \
  lock_wrappers.name = (uintptr_t)dynamic_symbols_find(&own, #name) + 1;
  INTERPOSED_LOCKS(X)
  INTERPOSED_COND(X)
#undef X
  lock_wrappers.syscall = (uintptr_t)dynamic_symbols_find(&own, "syscall") + 1;
}

/* ---- sanitizers and valgrind watch the calls themselves: theirs are made as the program makes
 * them ---- */

static int busy(void) { return EBUSY; }
static int busy_c11(void) { return thrd_busy; }
static int busy_semaphore(void) {
  errno = EAGAIN;
  return -1;
}
static void nothing(void) {}

static void try_nothing(void) {
  real_locks.pthread_mutex_trylock = (real_pthread_mutex_trylock_function)(void (*)(void))busy;
  real_locks.pthread_rwlock_tryrdlock =
      (real_pthread_rwlock_tryrdlock_function)(void (*)(void))busy;
  real_locks.pthread_rwlock_trywrlock =
      (real_pthread_rwlock_trywrlock_function)(void (*)(void))busy;
  real_locks.pthread_spin_trylock = (real_pthread_spin_trylock_function)(void (*)(void))busy;
  real_locks.pthread_tryjoin_np = (real_pthread_tryjoin_np_function)(void (*)(void))busy;
  real_locks.mtx_trylock = (real_mtx_trylock_function)(void (*)(void))busy_c11;
  real_locks.sem_trywait = (real_sem_trywait_function)(void (*)(void))busy_semaphore;
  real_locks.pthread_testcancel = nothing;
}

bool lock_functions_find(void) {
  if (!real.malloc || !startup_await()) return false;
  find_wrappers();
  next_functions_resolve_locks();
  if (next_allocator.asan || next_allocator.valgrind) try_nothing();
  return true;
}
