// The middle of a chain of calls of every kind, for test_dwarf_forms.py. A line that is a frame
// ends with its name.
#include <cstdlib>

#include "dwarf_chain.h"

namespace {
struct Node {
  __attribute__((noinline)) void *fill(size_t size) {
    return kept(malloc(size)); // fill
  }
};
__attribute__((noinline, cold)) void refuse(size_t size) {
  if (size == 0) abort();
}
} // namespace

static inline __attribute__((always_inline)) void *inner(size_t size) {
  if (__builtin_expect(size == 0, 0)) refuse(size); // gives the function several ranges
  Node node;
  return kept(node.fill(size)); // inner
}
static inline __attribute__((always_inline)) void *middle(size_t size) {
  return kept(inner(size)); // middle
}

namespace deep {
__attribute__((noinline)) void *entry(size_t size) {
  return kept(middle(size)); // entry
}
} // namespace deep

#ifdef OTHER_BUILD
int other_build() { return 1; }
#endif
