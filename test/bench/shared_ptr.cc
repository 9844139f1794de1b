// Copies of a shared_ptr: not counted atomically while libc says that there is one thread.
#include <cstdlib>
#include <memory>

int main(int argc, char **argv) {
  long count = (argc > 1 ? std::atol(argv[1]) : 100) * 1000000, sum = 0;
  auto pointer = std::make_shared<int>(5);
  for (long i = 0; i < count; i++) {
    std::shared_ptr<int> copy = pointer;
    sum += *copy;
  }
  return sum != count * 5;
}
