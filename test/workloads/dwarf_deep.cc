// DEPTH functions inlined into each other, each in a block of its own, and beside them an ordinary
// one: for test_dwarf_forms.py.
#include "dwarf_chain.h"
#include "workload.h"

template <int Level>
static inline __attribute__((always_inline)) void *level(size_t size) {
  {
    void *pointer = level<Level - 1>(size); // level
    return kept(pointer);
  }
}
template <>
inline __attribute__((always_inline)) void *level<0>(size_t size) {
  return kept(malloc(size)); // leaf
}

__attribute__((noinline)) static void *outermost(size_t size) {
  return kept(level<DEPTH>(size)); // outermost
}
static inline __attribute__((always_inline)) void *shallow(size_t size) {
  return kept(malloc(size)); // shallow
}
__attribute__((noinline)) static void *unrelated(size_t size) {
  return kept(shallow(size)); // unrelated
}

int main() {
  outermost(100001);
  unrelated(100002);
  say("ready\n");
  while (wait_for_line()) {}
}
