/* Programs switch to an allocator's own calls where a weak reference or dlsym finds them (folly,
 * Rust's jemallocator, MariaDB ...), and tell the C++ runtime of code that they make. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "workload.h"

#define NAMES(X)        \
  X(mallocx)            \
  X(rallocx)            \
  X(xallocx)            \
  X(dallocx)            \
  X(sdallocx)           \
  X(nallocx)            \
  X(mallctl)            \
  X(tc_malloc)          \
  X(tc_free)            \
  X(tc_new)             \
  X(free_sized)         \
  X(free_aligned_sized) \
  X(__register_frame)   \
  X(__deregister_frame)

#define X(name) extern char name[] __attribute__((weak));
NAMES(X)
#undef X

int main(void) {
#define X(name)                                                                  \
  say("%s: weak reference %s, dlsym %s\n", #name, keep(name) ? "bound" : "NULL", \
      dlsym(RTLD_DEFAULT, #name) ? "found" : "NULL");
  NAMES(X)
#undef X
  return 0;
}
