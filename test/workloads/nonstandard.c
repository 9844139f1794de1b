/* jemalloc's and tcmalloc's own calls, found at run time. Usage: nonstandard jemalloc|tcmalloc;
 * exact truth as exact.c. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "workload.h"

/* jemalloc.h: flags of the *allocx functions */
#define ALIGN_LG(lg) (lg)
#define ZERO 0x40

#define DECLARE(type, name, parameters) static type(*name) parameters;
#define FIND(name) CHECK(name = (__typeof__(name))dlsym(RTLD_DEFAULT, #name))

DECLARE(void *, mallocx, (size_t, int))
DECLARE(void *, rallocx, (void *, size_t, int))
DECLARE(size_t, xallocx, (void *, size_t, size_t, int))
DECLARE(void, dallocx, (void *, int))
DECLARE(void, sdallocx, (void *, size_t, int))

DECLARE(void *, tc_malloc, (size_t))
DECLARE(void *, tc_calloc, (size_t, size_t))
DECLARE(void *, tc_realloc, (void *, size_t))
DECLARE(void, tc_free, (void *))
DECLARE(void, tc_free_sized, (void *, size_t))
DECLARE(int, tc_posix_memalign, (void **, size_t, size_t))
DECLARE(void *, tc_memalign, (size_t, size_t))
DECLARE(void *, tc_valloc, (size_t))
DECLARE(void *, tc_new, (size_t))
DECLARE(void *, tc_newarray, (size_t))
DECLARE(void, tc_delete, (void *))
DECLARE(void, tc_deletearray, (void *))

#define TRUTHS(X)     \
  X(by_mallocx)       \
  X(by_mallocx_flags) \
  X(by_rallocx)       \
  X(by_xallocx)       \
  X(by_tc_malloc)     \
  X(by_tc_realloc)    \
  X(by_tc_aligned)    \
  X(by_tc_new)
#define X(name) static struct truth truth_##name = {.function = #name};
TRUTHS(X)
#undef X

static FRAME void by_mallocx(void) {
  for (size_t size = 1; size < 200; size++) {
    void *kept = keep(mallocx(size, 0)), *freed = keep(mallocx(64, 0)),
         *sized = keep(mallocx(80, 0));
    CHECK(kept && freed && sized);
    dallocx(freed, 0);
    sdallocx(sized, 80, 0);
    truth_alloc(&truth_by_mallocx, 1, size);
    truth_alloc(&truth_by_mallocx, 1, 64);
    truth_alloc(&truth_by_mallocx, 1, 80);
    truth_free(&truth_by_mallocx, 1, 64);
    truth_free(&truth_by_mallocx, 1, 80);
  }
}

static FRAME void by_mallocx_flags(void) {
  for (int lg = 3; lg <= 14; lg++) {
    unsigned char *p = keep(mallocx(100, ALIGN_LG(lg) | ZERO));
    CHECK(p && (uintptr_t)p % (1u << lg) == 0);
    for (int i = 0; i < 100; i++) CHECK(p[i] == 0);
    memset(p, 0xff, 100);
    truth_alloc(&truth_by_mallocx_flags, 1, 100);
    if (lg % 2) {
      sdallocx(p, 100, ALIGN_LG(lg));
      truth_free(&truth_by_mallocx_flags, 1, 100);
    }
  }
}

static FRAME void by_rallocx(void) {
  char *p = keep(mallocx(30, 0));
  p[29] = 'x';
  truth_alloc(&truth_by_rallocx, 1, 30);
  for (size_t size = 60, old = 30; size < 20000; old = size, size += 500) {
    CHECK(p = keep(rallocx(p, size, 0)));
    CHECK(p[29] == 'x');
    truth_alloc(&truth_by_rallocx, 1, size);
    truth_free(&truth_by_rallocx, 1, old);
  }
}

/* resizes in place, which counts as a realloc, or not at all; here the size stays */
static FRAME void by_xallocx(void) {
  void *p = keep(mallocx(4096, 0));
  CHECK(xallocx(p, 4096, 0, 0) >= 4096);
  truth_alloc(&truth_by_xallocx, 2, 4096);
  truth_free(&truth_by_xallocx, 1, 4096);
}

static FRAME void by_tc_malloc(void) {
  for (size_t size = 1; size < 200; size++) {
    void *kept = keep(tc_malloc(size)), *freed = keep(tc_calloc(8, 8)),
         *sized = keep(tc_malloc(80));
    CHECK(kept && freed && sized);
    tc_free(freed);
    tc_free_sized(sized, 80);
    truth_alloc(&truth_by_tc_malloc, 1, size);
    truth_alloc(&truth_by_tc_malloc, 1, 64);
    truth_alloc(&truth_by_tc_malloc, 1, 80);
    truth_free(&truth_by_tc_malloc, 1, 64);
    truth_free(&truth_by_tc_malloc, 1, 80);
  }
}

static FRAME void by_tc_realloc(void) {
  char *p = keep(tc_malloc(30));
  p[29] = 'x';
  truth_alloc(&truth_by_tc_realloc, 1, 30);
  for (size_t size = 60, old = 30; size < 20000; old = size, size += 500) {
    CHECK(p = keep(tc_realloc(p, size)));
    CHECK(p[29] == 'x');
    truth_alloc(&truth_by_tc_realloc, 1, size);
    truth_free(&truth_by_tc_realloc, 1, old);
  }
}

static FRAME void by_tc_aligned(void) {
  void *p = NULL;
  CHECK(tc_posix_memalign(&p, 64, 70) == 0 && (uintptr_t)keep(p) % 64 == 0);
  CHECK((uintptr_t)keep(tc_memalign(128, 70)) % 128 == 0);
  CHECK((uintptr_t)keep(tc_valloc(70)) % 4096 == 0);
  truth_alloc(&truth_by_tc_aligned, 3, 70);
}

static FRAME void by_tc_new(void) {
  void *kept = keep(tc_new(70)), *freed = keep(tc_new(70)), *array = keep(tc_newarray(70));
  CHECK(kept);
  tc_delete(freed);
  tc_deletearray(array);
  truth_alloc(&truth_by_tc_new, 3, 70);
  truth_free(&truth_by_tc_new, 2, 70);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  if (strcmp(argv[1], "jemalloc") == 0) {
    FIND(mallocx);
    FIND(rallocx);
    FIND(xallocx);
    FIND(dallocx);
    FIND(sdallocx);
    by_mallocx(), by_mallocx_flags(), by_rallocx(), by_xallocx();
  } else {
    FIND(tc_malloc);
    FIND(tc_calloc);
    FIND(tc_realloc);
    FIND(tc_free);
    FIND(tc_free_sized);
    FIND(tc_posix_memalign);
    FIND(tc_memalign);
    FIND(tc_valloc);
    FIND(tc_new);
    FIND(tc_newarray);
    FIND(tc_delete);
    FIND(tc_deletearray);
    by_tc_malloc(), by_tc_realloc(), by_tc_aligned(), by_tc_new();
  }
#define X(name) \
  if (truth_##name.allocs) truth_print(&truth_##name);
  TRUTHS(X)
#undef X
  ready();
  return 0;
}
