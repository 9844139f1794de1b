#include "memory_lock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/confinement.h"
#include "shim/next/interposed.h"
#include "shim/base/raw_syscall.h"
#include "shim/next/startup.h"
#include "shim/base/table_memory.h"

enum { PAGE = 4096, ERROR_MAX = 4095 };

extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));

/* Capabilities do not tell: those of a user namespace do not count here. So the kernel is asked for
 * one page more than the limit; nothing may read them, so it fills none. */
static bool limit_counts(void) {
  struct rlimit limit;
  if (raw_syscall4(SYS_prlimit64, 0, RLIMIT_MEMLOCK, 0, (long)&limit)) return true;
  if (limit.rlim_cur == RLIM_INFINITY) return false;
  size_t size = (limit.rlim_cur & ~(rlim_t)(PAGE - 1)) + PAGE;
  const long kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_LOCKED;
  long start = raw_syscall6(SYS_mmap, 0, (long)size, PROT_NONE, kind, -1, 0);
  if (start < 0 && start >= -ERROR_MAX) return true;
  raw_syscall4(SYS_munmap, start, (long)size, 0, 0);
  return false;
}

/* What the program's threads use of ours stays locked where that takes nothing from the program: a
 * real-time thread is not to wait for a page of it. */
static void unlock_own(void) {
  agent_memory_unlock();
  if (!limit_counts()) return;
  uintptr_t start = (uintptr_t)__ehdr_start & ~(uintptr_t)(PAGE - 1);
  raw_syscall4(SYS_munlock, (long)start, (long)((uintptr_t)_end - start), 0, 0);
  table_memory_unlock();
}

long memory_lock_all(long flags) {
  bool silent = confinement_forbids_calls();
  if (!silent) own_mappings_stay_unlocked();
  long result = real.syscall(SYS_mlockall, flags, 0, 0, 0, 0, 0);
  if (result == 0 && !silent && flags & MCL_CURRENT) unlock_own();
  return result;
}

EXPORTED int mlockall(int flags) {
  if (!startup_ensure() || !real.syscall) return STARTUP_NEXT(mlockall)(flags);
  return (int)memory_lock_all(flags);
}
