// Allocations while exceptions fly: in the thrower, in libstdc++'s own __cxa_allocate_exception, in
// a destructor during unwinding and in the catch block; and inlined functions, templates and
// lambdas, for names.
#include <memory>
#include <stdexcept>
#include <vector>

#include "workload.h"

static FRAME void leaf_in_destructor() { keep(malloc(100)); }
static FRAME void leaf_in_catch() { keep(malloc(100)); }

struct guard {
  ~guard() { leaf_in_destructor(); }
};

struct large_exception {
  char bytes[500];
};

static FRAME void thrower(int depth) {
  guard g;
  if (depth == 0) throw large_exception{};
  thrower(depth - 1);
  __asm__ volatile("");
}

static FRAME void catcher() {
  try {
    thrower(3);
  } catch (const large_exception &) {
    leaf_in_catch();
  }
}

static inline __attribute__((always_inline)) void inlined_inner() { keep(malloc(100)); }
static inline __attribute__((always_inline)) void inlined_outer() { inlined_inner(); }
static FRAME void with_inlines() {
  inlined_outer();
  __asm__ volatile("");
}

namespace shop {
template <typename T>
struct shelf {
  FRAME void fill(T count) { keep(malloc(static_cast<size_t>(count))); }
};
} // namespace shop

// No linkage names: the debug information alone says which of many `fill` this is.
namespace depot {
namespace {
template <typename T>
struct crate {
  __attribute__((always_inline)) void fill(T count) { keep(malloc(static_cast<size_t>(count))); }
};
FRAME void fill_crates() {
  crate<long>().fill(200);
  __asm__ volatile("");
}
} // namespace
} // namespace depot

int main() {
  for (int i = 0; i < 3; i++) catcher();
  with_inlines();
  shop::shelf<long>().fill(100);
  depot::fill_crates();
  auto lambda = [](int n) FRAME { keep(malloc(static_cast<size_t>(n))); };
  lambda(100);
  ready();
  return 0;
}
