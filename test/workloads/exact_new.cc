// Each function allocates exactly known counts and bytes with one form of operator new, and frees
// some with the matching delete.
// Usage: exact_new [without-failing-new]
#include <map>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "workload.h"

struct alignas(128) wide {
  char bytes[256];
};

#define TRUTHS(X)                 \
  X(by_new)                       \
  X(by_new_array)                 \
  X(by_new_nothrow)               \
  X(by_new_array_nothrow)         \
  X(by_new_aligned)               \
  X(by_new_array_aligned)         \
  X(by_new_aligned_nothrow)       \
  X(by_new_array_aligned_nothrow) \
  X(by_new_object)                \
  X(by_new_wide_object)           \
  X(by_sized_delete)              \
  X(by_throwing_constructor)      \
  X(by_failing_new)

#define X(name) static struct truth truth_##name = {#name, 0, 0, 0, 0};
TRUTHS(X)
#undef X

enum { ROUNDS = 20 };
static const std::align_val_t alignment{64};

static bool aligned(void *pointer, size_t to) {
  return reinterpret_cast<uintptr_t>(pointer) % to == 0;
}

// Each form: ROUNDS kept blocks of 100 + i bytes, ROUNDS freed ones of 40 bytes.
#define FORM(name, allocate, release)      \
  static FRAME void name() {               \
    for (size_t i = 0; i < ROUNDS; i++) {  \
      size_t size = 100 + i;               \
      void *p = keep(allocate);            \
      CHECK(p != nullptr);                 \
      memset(p, 1, size);                  \
      truth_alloc(&truth_##name, 1, size); \
      size = 40;                           \
      p = keep(allocate);                  \
      truth_alloc(&truth_##name, 1, size); \
      release;                             \
      truth_free(&truth_##name, 1, size);  \
    }                                      \
  }

FORM(by_new, ::operator new(size), ::operator delete(p))
FORM(by_new_array, ::operator new[](size), ::operator delete[](p))
FORM(by_new_nothrow, ::operator new(size, std::nothrow), ::operator delete(p, std::nothrow))
FORM(by_new_array_nothrow, ::operator new[](size, std::nothrow),
     ::operator delete[](p, std::nothrow))
FORM(by_new_aligned, ::operator new(size, alignment), ::operator delete(p, alignment))
FORM(by_new_array_aligned, ::operator new[](size, alignment), ::operator delete[](p, alignment))
FORM(by_new_aligned_nothrow, ::operator new(size, alignment, std::nothrow),
     ::operator delete(p, alignment, std::nothrow))
FORM(by_new_array_aligned_nothrow, ::operator new[](size, alignment, std::nothrow),
     ::operator delete[](p, alignment, std::nothrow))

static FRAME void by_sized_delete() {
  ::operator delete (keep(::operator new(72)), size_t{72});
  ::operator delete[](keep(::operator new[](72)), size_t{72});
  ::operator delete (keep(::operator new(72, alignment)), size_t{72}, alignment);
  ::operator delete[](keep(::operator new[](72, alignment)), size_t{72}, alignment);
  truth_alloc(&truth_by_sized_delete, 4, 72);
  truth_free(&truth_by_sized_delete, 4, 72);
}

static FRAME void by_new_object() {
  long *kept = new long(3);
  keep(kept);
  truth_alloc(&truth_by_new_object, 1, sizeof(long));
  long *freed = new long[10];
  keep(freed);
  truth_alloc(&truth_by_new_object, 1, 10 * sizeof(long));
  delete[] freed;
  truth_free(&truth_by_new_object, 1, 10 * sizeof(long));
}

static FRAME void by_new_wide_object() {
  wide *kept = new wide;
  CHECK(aligned(keep(kept), 128));
  truth_alloc(&truth_by_new_wide_object, 1, sizeof(wide));
  wide *freed = new wide;
  keep(freed);
  delete freed;
  truth_alloc(&truth_by_new_wide_object, 1, sizeof(wide));
  truth_free(&truth_by_new_wide_object, 1, sizeof(wide));
}

struct thrower {
  char bytes[90];
  thrower() {
    keep(this); // or the compiler leaves the allocation out
    throw 1;
  }
};

static FRAME void by_throwing_constructor() { // the new expression deletes what it allocated
  bool caught = false;
  try {
    keep(new thrower);
  } catch (int) {
    caught = true;
  }
  CHECK(caught);
  truth_alloc(&truth_by_throwing_constructor, 1, sizeof(thrower));
  truth_free(&truth_by_throwing_constructor, 1, sizeof(thrower));
}

static int new_handler_calls;
static void new_handler() {
  if (++new_handler_calls == 3) std::set_new_handler(nullptr);
}

static bool without_failing_new; // mimalloc's C build cannot throw: it aborts

// bad_alloc, the new handler and nothrow's null, and nothing counted
static FRAME void by_failing_new() {
  if (without_failing_new) return;
  volatile size_t too_much = PTRDIFF_MAX;
  std::set_new_handler(new_handler);
  bool caught = false;
  try {
    keep(::operator new(too_much));
  } catch (const std::bad_alloc &) {
    caught = true;
  }
  CHECK(caught && new_handler_calls == 3);
  CHECK(::operator new(too_much, std::nothrow) == nullptr);
  CHECK(::operator new[](too_much, alignment, std::nothrow) == nullptr);
}

static void all_forms() {
#define X(name) name();
  TRUTHS(X)
#undef X
}

// The containers: only their totals by function are compared.
static std::vector<std::vector<int>> *kept_vectors;
static FRAME void fill_vectors() {
  // 10 * 24 bytes in fill_vectors' callees, 24 here
  kept_vectors = new std::vector<std::vector<int>>(10);
  for (auto &vector : *kept_vectors) vector.reserve(1000);
}
static std::map<int, std::string> *kept_map;
static FRAME void fill_map() {
  kept_map = new std::map<int, std::string>;
  for (int i = 0; i < 100; i++) (*kept_map)[i] = std::string(50, 'x');
}

int main(int argc, char **argv) {
  without_failing_new = argc > 1 && strcmp(argv[1], "without-failing-new") == 0;
  std::thread first(all_forms);
  first.join();
  new_handler_calls = 0;
  all_forms();
  fill_vectors();
  fill_map();
#define X(name) truth_print(&truth_##name);
  TRUTHS(X)
#undef X
  // cumulative: everything that was allocated below the function, whatever its leaf
  // libstdc++'s _Rb_tree_node
  size_t node = 4 * sizeof(void *) + sizeof(std::pair<const int, std::string>);
  say("below fill_vectors %zu %zu\n", size_t{1 + 1 + 10},
      sizeof(*kept_vectors) + 10 * sizeof(std::vector<int>) + 10 * 1000 * sizeof(int));
  say("inuse fill_map %zu %zu\n", size_t{1 + 100 + 100}, sizeof(*kept_map) + 100 * node + 100 * 51);
  ready();
  delete kept_vectors;
  delete kept_map;
  ready();
  return 0;
}
