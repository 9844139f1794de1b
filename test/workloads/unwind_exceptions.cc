// Works for ever in the C++ library: maps, strings, regular expressions, exceptions through deep
// calls.
#include <map>
#include <regex>
#include <stdexcept>
#include <string>

static int deep(int depth) {
  std::string text(depth, 'x');
  if (depth == 0) throw std::runtime_error(text);
  return deep(depth - 1) + static_cast<int>(text.size());
}

int main() {
  std::map<std::string, int> counts;
  std::regex pattern("([a-z]+)([0-9]+)");
  for (int i = 0;; i++) {
    std::string key = "k" + std::to_string(i % 1000);
    counts[key] += std::regex_match(key, pattern);
    try {
      deep(i % 40);
    } catch (const std::exception &) {
      counts["caught"]++;
    }
  }
}
