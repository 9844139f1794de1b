// Only the array forms of operator new are replaced, in a library, by blocks with a header: legal,
// and deadly for whoever mixes them. With -DLIBRARY: the library. Otherwise: the program.
#include <cstdio>
#include <cstdlib>
#include <new>

#ifdef LIBRARY
enum : long { MARK = 0x1234567 };
void *operator new[](size_t size) {
  long *block = static_cast<long *>(malloc(size + 2 * sizeof(long)));
  if (!block) throw std::bad_alloc();
  block[0] = MARK;
  return block + 2;
}
void operator delete[](void *pointer) noexcept {
  if (!pointer) return;
  long *block = static_cast<long *>(pointer) - 2;
  if (block[0] != MARK) {
    fputs("foreign block in operator delete[]\n", stderr);
    abort();
  }
  free(block);
}
void operator delete[](void *pointer, size_t) noexcept { operator delete[](pointer); }
#else
int main() {
  for (int i = 0; i < 2000000; i++) {
    char *block = new char[64];
    asm volatile("" : "+r"(block) : : "memory");
    delete[] block;
  }
  puts("ok");
}
#endif
