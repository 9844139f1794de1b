/* Prints what the allocation family answers in ordinary, odd and failing cases; the same with and
 * without the agent, byte for byte. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>

#include "workload.h"

static volatile size_t too_much = PTRDIFF_MAX, most = SIZE_MAX;

#define TRY(expression)                                                                     \
  do {                                                                                      \
    errno = 77;                                                                             \
    void *result = keep(expression);                                                        \
    int error = errno;                                                                      \
    say("%s: %s, errno %d\n", #expression, result ? "block" : "NULL", result ? 77 : error); \
    if (result && error != 77) say("  errno was changed to %d by a success\n", error);      \
    errno = 77;                                                                             \
    free(result);                                                                           \
    if (errno != 77) say("  errno was changed by free\n");                                  \
  } while (0)

static void alignments(void) {
  for (size_t alignment = 1; alignment <= 1 << 21; alignment *= 2)
    for (size_t size = 0; size <= 70000; size = size * 7 + 1) {
      void *p = (void *)1;
      errno = 77;
      int result = posix_memalign(&p, alignment, size);
      if (result) {
        say("posix_memalign %zu %zu: %d, errno %d, pointer %s\n", alignment, size, result, errno,
            p == (void *)1 ? "untouched" : "changed");
      } else {
        if ((uintptr_t)p % alignment) say("posix_memalign %zu %zu: misaligned\n", alignment, size);
        if (malloc_usable_size(p) < size)
          say("posix_memalign %zu %zu: usable size too small\n", alignment, size);
        memset(p, 0xa5, size);
        free(p);
      }
      p = keep(memalign(alignment, size));
      if (!p || (uintptr_t)p % alignment)
        say("memalign %zu %zu: %s\n", alignment, size, p ? "misaligned" : "NULL");
      free(p);
      p = keep(aligned_alloc(alignment, size));
      if (p && (uintptr_t)p % alignment)
        say("aligned_alloc %zu %zu: misaligned\n", alignment, size);
      free(p);
    }
  say("alignments done\n");
}

/* Contents survive every realloc, whatever was sampled; calloc's memory is zero although freed
 * memory was dirty. */
static void contents(void) {
  enum { BLOCKS = 64 };
  static unsigned char *blocks[BLOCKS];
  static size_t sizes[BLOCKS];
  unsigned seed = 12345;
  for (int step = 0; step < 40000; step++) {
    seed = seed * 1103515245u + 12345u;
    int i = (int)(seed >> 16) % BLOCKS;
    size_t size = (seed >> 8) % 9000 + 1;
    if (seed % 7 == 0) size *= 40;
    unsigned char mark = (unsigned char)i;
    if (step % 5 == 0) {
      free(blocks[i]);
      blocks[i] = keep(calloc(size, 1));
      for (size_t b = 0; b < size; b += 13) CHECK(blocks[i][b] == 0);
      memset(blocks[i], mark, size);
    } else {
      unsigned char *p = keep(realloc(blocks[i], size));
      size_t kept = size < sizes[i] ? size : sizes[i];
      for (size_t b = 0; b < kept; b += 11) CHECK(p[b] == mark);
      if (kept) CHECK(p[kept - 1] == mark);
      memset(p, mark, size);
      CHECK(malloc_usable_size(p) >= size);
      memset(p, mark, malloc_usable_size(p));
      blocks[i] = p;
    }
    sizes[i] = size;
  }
  for (int i = 0; i < BLOCKS; i++) free(blocks[i]);
  say("contents done\n");
}

static void sized_frees(void) {
  void (*free_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "free_sized");
  void (*free_aligned_sized)(void *, size_t, size_t) =
      (void (*)(void *, size_t, size_t))dlsym(RTLD_DEFAULT, "free_aligned_sized");
  for (int i = 0; i < 1000; i++) {
    if (free_sized) free_sized(keep(malloc(100)), 100), free_sized(NULL, 10);
    if (free_aligned_sized) free_aligned_sized(keep(aligned_alloc(64, 128)), 64, 128);
  }
}

int main(void) {
  TRY(malloc(0));
  TRY(malloc(1));
  TRY(malloc(100000));
  TRY(malloc(100000000));
  TRY(malloc(most));
  TRY(malloc(most - 4096));
  TRY(malloc(too_much));
  TRY(calloc(0, 0));
  TRY(calloc(0, 5));
  TRY(calloc(5, 0));
  TRY(calloc(most, most));
  TRY(calloc(most / 2, 3));
  TRY(calloc(1, most));
  TRY(realloc(NULL, 0));
  TRY(realloc(NULL, 10));
  TRY(realloc(NULL, most));
  TRY(realloc(malloc(10), 20));
  TRY(realloc(malloc(1 << 20), 1 << 23));
  TRY(reallocarray(NULL, 3, 4));
  TRY(reallocarray(NULL, most, 4));
  TRY(memalign(64, most));
  TRY(memalign(4096, too_much));
  TRY(aligned_alloc(64, 64));
  TRY(aligned_alloc(64, most));
  TRY(valloc(1));
  TRY(valloc(most));
  TRY(strdup("text"));
  void *p = NULL;
  int results[] = {posix_memalign(&p, 3, 10), posix_memalign(&p, 0, 10), posix_memalign(&p, 4, 10),
                   posix_memalign(&p, 64, most)};
  for (int i = 0; i < 4; i++) say("posix_memalign fails with %d\n", results[i]);
  free(NULL);
  alignments();
  contents();
  sized_frees();
  ready();
  return 0;
}
