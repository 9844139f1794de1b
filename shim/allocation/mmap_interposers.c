/* mmap and its kin. The program's call is made as ever; what is told of it, mmap_sampling.h. Calls
 * by syscall(2), and libc's own (malloc's, those for threads' stacks), do not come here. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mmap_sampling.h"
#include "shim/next/interposed.h"
#include "shim/next/next_functions.h"
#include "shim/base/thread_state.h"

/* <sys/mman.h> is left out: it declares mremap with a variable number of arguments, of which the
 * last is passed on here as it comes. */
enum { MAP_ANONYMOUS = 0x20, MREMAP_DONTUNMAP = 4 };
#define MAP_FAILED ((void *)-1)

#define MMAP_CALL(name)                                                                           \
  EXPORTED void *name(void *address, size_t size, int access, int kind, int file, off_t offset) { \
    void *start = NEXT_AT_FIRST_CALL(name)(address, size, access, kind, file, offset);            \
    bool anonymous = kind & MAP_ANONYMOUS;                                                        \
    if (UNLIKELY(mmap_is_of_interest(size, anonymous)) && start != MAP_FAILED) {                  \
      struct unwind_registers caller = CALLER_REGISTERS();                                        \
      mmap_has_mapped(start, size, anonymous, &caller);                                           \
    }                                                                                             \
    return start;                                                                                 \
  }

MMAP_CALL(mmap)
MMAP_CALL(mmap64)

/* Taken out before the call: once the addresses are free they are the next mmap's. */
EXPORTED int munmap(void *address, size_t size) {
  struct mmap_taken taken;
  bool is_told = munmap_is_of_interest() && !thread_state.agent;
  if (UNLIKELY(is_told)) mmap_take(address, size, &taken);
  int result = NEXT_AT_FIRST_CALL(munmap)(address, size);
  if (UNLIKELY(is_told && result != 0)) mmap_put_back(&taken);
  return result;
}

EXPORTED void *mremap(void *address, size_t size, size_t new_size, int flags, void *wanted) {
  bool is_told = munmap_is_of_interest() && !thread_state.agent;
  bool is_held = UNLIKELY(is_told) && mmap_hold(address, size);
  void *start = NEXT_AT_FIRST_CALL(mremap)(address, size, new_size, flags, wanted);
  if (LIKELY(!is_told)) return start;
  struct unwind_registers caller = CALLER_REGISTERS();
  if (start == MAP_FAILED) {
    if (is_held) mmap_stays(address, size);
  } else {
    mmap_has_moved(address, size, flags & MREMAP_DONTUNMAP, start, new_size, &caller);
  }
  return start;
}
