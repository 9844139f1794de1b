/* Each function allocates exactly known counts and bytes with one call of the C allocation family,
 * in several threads.
 * Usage: exact [without-pvalloc] */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>

#include "workload.h"

enum { THREADS = 4, ROUNDS = 50, DESTRUCTOR_ROUNDS = 4 };

#define TRUTHS(X)          \
  X(by_malloc)             \
  X(by_malloc_zero)        \
  X(by_calloc)             \
  X(by_realloc_null)       \
  X(by_realloc_grow)       \
  X(by_realloc_shrink)     \
  X(by_realloc_zero)       \
  X(by_reallocarray)       \
  X(by_posix_memalign)     \
  X(by_aligned_alloc)      \
  X(by_memalign)           \
  X(by_valloc)             \
  X(by_pvalloc)            \
  X(by_large_malloc)       \
  X(by_large_realloc)      \
  X(failing_realloc)       \
  X(freed_by_other_thread) \
  X(by_destructor)         \
  X(by_short_thread)       \
  X(by_strdup)             \
  X(mixed_sizes)

#define X(name) static struct truth truth_##name = {.function = #name};
TRUTHS(X)
#undef X

static FRAME void by_malloc(void) {
  for (int i = 1; i <= ROUNDS; i++) {
    void *kept = keep(malloc((size_t)i)), *freed = keep(malloc(1000));
    CHECK(kept && freed);
    truth_alloc(&truth_by_malloc, 1, (uint64_t)i);
    truth_alloc(&truth_by_malloc, 1, 1000);
    free(freed);
    truth_free(&truth_by_malloc, 1, 1000);
  }
}

static FRAME void by_malloc_zero(void) {
  void *kept = keep(malloc(0)), *freed = keep(malloc(0));
  truth_alloc(&truth_by_malloc_zero, 2, 0);
  CHECK(kept != freed);
  free(freed);
  truth_free(&truth_by_malloc_zero, 1, 0);
  free(NULL);
}

static FRAME void by_calloc(void) {
  for (int i = 1; i <= ROUNDS; i++) {
    unsigned char *kept = keep(calloc((size_t)i, 12)), *freed = keep(calloc(33, 3));
    for (int b = 0; b < i * 12; b++) CHECK(kept[b] == 0);
    for (int b = 0; b < 99; b++) CHECK(freed[b] == 0);
    memset(freed, 0xff, 99);
    truth_alloc(&truth_by_calloc, 1, (uint64_t)i * 12);
    truth_alloc(&truth_by_calloc, 1, 99);
    free(freed);
    truth_free(&truth_by_calloc, 1, 99);
  }
}

static FRAME void by_realloc_null(void) {
  CHECK(keep(realloc(NULL, 77)));
  truth_alloc(&truth_by_realloc_null, 1, 77);
}

/* A successful realloc is an allocation of the new size and a free of the old one. */
static FRAME void by_realloc_grow(void) {
  unsigned char *p = keep(malloc(10));
  memset(p, 7, 10);
  truth_alloc(&truth_by_realloc_grow, 1, 10);
  for (size_t size = 20, old = 10; size < 3000; old = size, size += 10) {
    p = keep(realloc(p, size));
    CHECK(p && p[0] == 7 && p[9] == 7);
    truth_alloc(&truth_by_realloc_grow, 1, size);
    truth_free(&truth_by_realloc_grow, 1, old);
  }
}

static FRAME void by_realloc_shrink(void) {
  void *p = keep(malloc(5000));
  truth_alloc(&truth_by_realloc_shrink, 1, 5000);
  p = keep(realloc(p, 50));
  CHECK(p);
  truth_alloc(&truth_by_realloc_shrink, 1, 50);
  truth_free(&truth_by_realloc_shrink, 1, 5000);
}

static FRAME void by_realloc_zero(void) {
  void *p = keep(malloc(60));
  truth_alloc(&truth_by_realloc_zero, 1, 60);
  p = keep(realloc(p, 0)); /* frees and returns NULL; mimalloc returns a block */
  if (p) truth_alloc(&truth_by_realloc_zero, 1, 0);
  truth_free(&truth_by_realloc_zero, 1, 60);
}

static FRAME void by_reallocarray(void) {
  void *p = keep(reallocarray(NULL, 11, 13));
  truth_alloc(&truth_by_reallocarray, 1, 143);
  p = keep(reallocarray(p, 17, 19));
  truth_alloc(&truth_by_reallocarray, 1, 323);
  truth_free(&truth_by_reallocarray, 1, 143);
  volatile size_t too_many = SIZE_MAX / 2;
  CHECK(keep(reallocarray(p, too_many, 4)) == NULL);
}

static FRAME void by_posix_memalign(void) {
  for (size_t alignment = sizeof(void *); alignment <= 65536; alignment *= 2) {
    void *p = NULL;
    CHECK(posix_memalign(&p, alignment, 123) == 0 && (uintptr_t)keep(p) % alignment == 0);
    truth_alloc(&truth_by_posix_memalign, 1, 123);
    if (alignment == 32) {
      free(p);
      truth_free(&truth_by_posix_memalign, 1, 123);
    }
  }
}

static FRAME void by_aligned_alloc(void) {
  void *p = keep(aligned_alloc(256, 512));
  CHECK(p); /* conformance.c looks at alignments: mimalloc 2.0.9 misaligns this one by itself */
  truth_alloc(&truth_by_aligned_alloc, 1, 512);
}

static FRAME void by_memalign(void) {
  void *p = keep(memalign(128, 200));
  CHECK((uintptr_t)p % 128 == 0);
  truth_alloc(&truth_by_memalign, 1, 200);
}

static FRAME void by_valloc(void) {
  void *p = keep(valloc(300));
  CHECK((uintptr_t)p % (uintptr_t)getpagesize() == 0);
  truth_alloc(&truth_by_valloc, 1, 300);
}

static int without_pvalloc; /* jemalloc and mimalloc have none: the block would be glibc's */

static FRAME void by_pvalloc(void) {
  if (without_pvalloc) return;
  size_t page = (size_t)getpagesize();
  void *p = keep(pvalloc(2 * page)); /* a whole number of pages: asked for and given are the same */
  CHECK((uintptr_t)p % page == 0);
  truth_alloc(&truth_by_pvalloc, 1, 2 * page);
}

static FRAME void by_large_malloc(void) { /* beyond glibc's mmap threshold */
  void *kept = keep(malloc(3000001)), *freed = keep(malloc(40000000));
  truth_alloc(&truth_by_large_malloc, 1, 3000001);
  truth_alloc(&truth_by_large_malloc, 1, 40000000);
  CHECK(kept && freed);
  free(freed);
  truth_free(&truth_by_large_malloc, 1, 40000000);
}

static FRAME void by_large_realloc(void) { /* the mremap path */
  char *p = keep(malloc(1 << 20));
  p[0] = 'a';
  truth_alloc(&truth_by_large_realloc, 1, 1 << 20);
  for (size_t old = 1 << 20, size = 2 << 20; size <= 16 << 20; old = size, size += 1 << 20) {
    p = keep(realloc(p, size));
    CHECK(p && p[0] == 'a');
    truth_alloc(&truth_by_large_realloc, 1, size);
    truth_free(&truth_by_large_realloc, 1, old);
  }
}

static FRAME void failing_realloc(void) { /* the block, and its record, stay */
  char *p = keep(malloc(640));
  p[639] = 'z';
  truth_alloc(&truth_failing_realloc, 1, 640);
  volatile size_t too_much = PTRDIFF_MAX;
  char *volatile same = p; /* volatile: the compiler thinks that realloc has freed p */
  CHECK(keep(realloc(p, too_much + 1)) == NULL);
  CHECK(same[639] == 'z');
}

/* malloc is called by libc itself: strdup is the leaf, by_strdup its caller */
static FRAME void by_strdup(void) {
  CHECK(keep(strdup("twelve bytes")));
  truth_alloc(&truth_by_strdup, 1, 13);
}

static FRAME void mixed_sizes(void) { /* one stack, many sizes */
  for (size_t size = 1; size < 100000; size = size * 3 + 1) {
    void *p = keep(malloc(size));
    truth_alloc(&truth_mixed_sizes, 1, size);
    if (size % 2) {
      free(p);
      truth_free(&truth_mixed_sizes, 1, size);
    }
  }
}

static void *handed_over[THREADS][ROUNDS];

static FRAME void freed_by_other_thread(int thread) {
  for (int i = 0; i < ROUNDS; i++) {
    handed_over[thread][i] = keep(malloc(500 + (size_t)i));
    truth_alloc(&truth_freed_by_other_thread, 1, 500 + (uint64_t)i);
  }
}

static pthread_key_t key;

static FRAME void by_destructor(void *value) {
  intptr_t round = *(intptr_t *)value;
  free(value);
  truth_free(&truth_by_destructor, 1, 48);
  if (round == DESTRUCTOR_ROUNDS) return;
  intptr_t *next = keep(malloc(48));
  truth_alloc(&truth_by_destructor, 1, 48);
  *next = round + 1;
  /* runs this destructor again, up to PTHREAD_DESTRUCTOR_ITERATIONS times */
  pthread_setspecific(key, next);
}

static FRAME void by_short_thread(void) {
  CHECK(keep(malloc(222)));
  truth_alloc(&truth_by_short_thread, 1, 222);
}

static void *short_thread(void *argument) {
  by_short_thread();
  return argument;
}

static pthread_barrier_t barrier;

static void *thread_main(void *argument) {
  int thread = (int)(intptr_t)argument;
  intptr_t *value = keep(malloc(48)); /* freed by the destructor, and accounted there too */
  *value = 1;
  pthread_setspecific(key, value);
  by_malloc();
  by_malloc_zero();
  by_calloc();
  by_realloc_null();
  by_realloc_grow();
  by_realloc_shrink();
  by_realloc_zero();
  by_reallocarray();
  by_posix_memalign();
  by_aligned_alloc();
  by_memalign();
  by_valloc();
  by_pvalloc();
  by_large_malloc();
  by_large_realloc();
  failing_realloc();
  by_strdup();
  mixed_sizes();
  freed_by_other_thread(thread);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < ROUNDS; i += 2) {
    free(handed_over[(thread + 1) % THREADS][i]);
    truth_free(&truth_freed_by_other_thread, 1, 500 + (uint64_t)i);
  }
  return NULL;
}

int main(int argc, char **argv) {
  without_pvalloc = argc > 1 && strcmp(argv[1], "without-pvalloc") == 0;
  pthread_t threads[THREADS];
  CHECK(pthread_key_create(&key, by_destructor) == 0);
  pthread_barrier_init(&barrier, NULL, THREADS);
  for (intptr_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, thread_main, (void *)i) == 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  /* The first value of each thread was allocated by thread_main: it is freed there, not on
   * by_destructor's stack. */
  truth_by_destructor.frees -= THREADS;
  truth_by_destructor.free_bytes -= THREADS * 48;
  struct truth truth_thread_main = {.function = "thread_main",
                                    .allocs = THREADS,
                                    .alloc_bytes = THREADS * 48,
                                    .frees = THREADS,
                                    .free_bytes = THREADS * 48};
  for (int i = 0; i < ROUNDS; i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, short_thread, NULL) == 0);
    pthread_join(thread, NULL);
  }
#define X(name) truth_print(&truth_##name);
  TRUTHS(X)
#undef X
  truth_print(&truth_thread_main);
  ready();
  return 0;
}
