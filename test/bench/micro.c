/* One allocation pattern, timed from inside: micro PATTERN ITERATIONS [SIZE [DEPTH]]; prints CPU
 * nanoseconds of the process per iteration. Patterns: pair, threads, handoff, realloc_small,
 * realloc_large, mappings (mmap and munmap; DEPTH: how many others there are). */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static inline void *keep(void *pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

static double cpu_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static long iterations;
static size_t size = 64;

static __attribute__((noinline)) void pairs(long count) {
  for (long i = 0; i < count; i++) free(keep(malloc(size)));
}

static __attribute__((noinline)) void deep(int depth, long count) {
  if (depth == 0) pairs(count);
  else deep(depth - 1, count);
  __asm__ volatile("");
}

static void *pair_thread(void *argument) {
  pairs(iterations);
  return argument;
}

static void *no_work(void *argument) { return argument; }

static void create(void) {
  for (long i = 0; i < iterations; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, no_work, NULL) == 0) pthread_join(thread, NULL);
  }
}

enum { BATCH = 4096 };
static void *batch[BATCH];
static pthread_barrier_t barrier;

static void *releaser(void *argument) {
  for (long done = 0; done < iterations; done += BATCH) {
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < BATCH; i++) free(batch[i]);
    pthread_barrier_wait(&barrier);
  }
  return argument;
}

static void handoff(void) {
  pthread_t thread;
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_create(&thread, NULL, releaser, NULL);
  for (long done = 0; done < iterations; done += BATCH) {
    for (int i = 0; i < BATCH; i++) batch[i] = keep(malloc(size));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
  }
  pthread_join(thread, NULL);
}

/* Grows one block step by step to limit, over and over; an iteration is a step. */
static void grow(size_t step, size_t limit) {
  void *p = NULL;
  size_t now = 0;
  for (long i = 0; i < iterations; i++) {
    now += step;
    if (now > limit) {
      free(p);
      p = NULL;
      now = step;
    }
    p = keep(realloc(p, now));
    *(volatile char *)p = 1;
  }
  free(p);
}

static void map_others(int others) {
  for (int i = 0; i < others; i++) /* of two kinds, so that the kernel keeps them apart */
    mmap(NULL, 128 << 10, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void mappings(void) {
  for (long i = 0; i < iterations; i++)
    munmap(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), size);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  iterations = atol(argv[2]);
  if (argc > 3) size = strtoul(argv[3], NULL, 10);
  int depth = argc > 4 ? atoi(argv[4]) : 0;
  pairs(1000);
  if (strcmp(argv[1], "mappings") == 0) map_others(depth);
  double start = cpu_nanoseconds();
  if (strcmp(argv[1], "pair") == 0) {
    deep(depth, iterations);
  } else if (strcmp(argv[1], "threads") == 0) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, pair_thread, NULL);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  } else if (strcmp(argv[1], "create") == 0) {
    create();
  } else if (strcmp(argv[1], "handoff") == 0) {
    handoff();
  } else if (strcmp(argv[1], "realloc_small") == 0) {
    grow(64, 64 << 10);
  } else if (strcmp(argv[1], "realloc_large") == 0) {
    grow(64 << 10, 64 << 20);
  } else if (strcmp(argv[1], "mappings") == 0) {
    mappings();
  } else {
    return 2;
  }
  printf("%.3f\n", (cpu_nanoseconds() - start) / (double)iterations);
  return 0;
}
