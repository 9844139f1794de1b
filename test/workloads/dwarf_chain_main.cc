// The start of the chain of dwarf_chain.cc, in a unit of its own.
#include "dwarf_chain.h"
#include "workload.h"

static __attribute__((noinline)) void *caller(size_t size) {
  auto lambda = [](size_t bytes) __attribute__((always_inline)) {
    return kept(deep::entry(bytes)); // operator()
  };
  return kept(lambda(size)); // caller
}

int main() {
  caller(100001); // main
  say("ready\n");
  while (wait_for_line()) {}
}

#ifdef OTHER_BUILD
int other_main() { return 1; }
#endif
