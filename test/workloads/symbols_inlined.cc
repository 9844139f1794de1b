// Inlined, static, templated, overloaded and nested functions, for test_symbols.py. Compiled with
// many options, never run.
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace deep {
namespace {
struct Node {
  std::map<std::string, std::vector<int>> data;
  __attribute__((noinline)) void fill(int n);
};
void Node::fill(int n) {
  for (int i = 0; i < n; i++) data[std::to_string(i)].push_back(i * n);
}
__attribute__((noinline)) int hidden(int x) {
  Node node;
  node.fill(x);
  return static_cast<int>(node.data.size());
}
} // namespace
template <class T>
struct Tree {
  T value;
  __attribute__((noinline)) T operator()(T x) { return value + x * hidden(3); }
};
} // namespace deep

static inline __attribute__((always_inline)) int innermost(int x) {
  void *volatile block = malloc(static_cast<size_t>(x));
  return block != nullptr;
}
static inline __attribute__((always_inline)) int middle(int x) {
  return innermost(x + 1) + deep::Tree<int>{x}(x);
}

extern "C" __attribute__((noinline)) int c_function(int x) {
  auto lambda = [&](int y) { return middle(y) + deep::hidden(y); };
  return lambda(x) + lambda(x + 1);
}

int main(int count, char **) { return c_function(count) == 0; }
