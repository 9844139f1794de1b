/* empty_blocks COUNT: leaks COUNT blocks of no bytes by each call that makes them, and COUNT of one
 * and of eight bytes. */
#define _GNU_SOURCE
#include <malloc.h>

#include "workload.h"

static long count;

#define LEAKS(name, call)                               \
  FRAME static void name(void) {                        \
    for (long i = 0; i < count; i++) CHECK(keep(call)); \
  }

static void *empty_posix_memalign(void) {
  void *block = NULL;
  CHECK(posix_memalign(&block, 64, 0) == 0);
  return block;
}

LEAKS(by_malloc, malloc(0))
LEAKS(by_calloc_count, calloc(0, 8))
LEAKS(by_calloc_size, calloc(8, 0))
LEAKS(by_realloc, realloc(NULL, 0))
LEAKS(by_reallocarray, reallocarray(NULL, 0, 8))
LEAKS(by_memalign, memalign(64, 0))
LEAKS(by_aligned_alloc, aligned_alloc(64, 0))
LEAKS(by_posix_memalign, empty_posix_memalign())
LEAKS(one_byte, malloc(1))
LEAKS(eight_bytes, malloc(8))
/* Freed by realloc: neither lives on nor counts as another block. */
FRAME static void freed_by_realloc(void) {
  for (long i = 0; i < count; i++) CHECK(realloc(keep(malloc(0)), 0) == NULL);
}

int main(int argc, char **argv) {
  CHECK(argc == 2 && (count = atol(argv[1])) > 0);
  by_malloc();
  by_calloc_count();
  by_calloc_size();
  by_realloc();
  by_reallocarray();
  by_memalign();
  by_aligned_alloc();
  by_posix_memalign();
  one_byte();
  eight_bytes();
  freed_by_realloc();
  ready();
  return 0;
}
