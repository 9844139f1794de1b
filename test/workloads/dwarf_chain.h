/* What dwarf_chain.cc and dwarf_chain_main.cc share. */
#include <cstddef>

/* Not a tail call, and not at the line of the next statement. */
static inline __attribute__((always_inline)) void *kept(void *pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

namespace deep {
void *entry(size_t size);
}
