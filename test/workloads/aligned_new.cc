// Aligned operator new, COUNT times SIZE bytes at ALIGNMENT (arguments), in both forms.
#include "workload.h"

#include <new>

FRAME static void by_aligned(size_t count, size_t size, std::align_val_t alignment) {
  for (size_t i = 0; i < count; i++)
    ::operator delete(keep(::operator new(size, alignment)), alignment);
}
FRAME static void by_aligned_nothrow(size_t count, size_t size, std::align_val_t alignment) {
  for (size_t i = 0; i < count; i++)
    ::operator delete(keep(::operator new(size, alignment, std::nothrow)), alignment);
}

int main(int argc, char **argv) {
  CHECK(argc > 3);
  size_t count = strtoul(argv[1], nullptr, 10), size = strtoul(argv[2], nullptr, 10),
         alignment = strtoul(argv[3], nullptr, 10);
  by_aligned(count, size, std::align_val_t(alignment));
  by_aligned_nothrow(count, size, std::align_val_t(alignment));
  ready();
}
