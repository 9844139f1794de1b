/* What other unwinders cost, 20 frames deep, for comparison with one heap sample: libunwind's
 * unw_backtrace warm, its first use on each thread, and glibc's backtrace. Prints `NAME
 * NANOSECONDS`, -1 where the library is not there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int (*unwind)(void **, int);
static double result;

static __attribute__((noinline)) void measure(int count) {
  void *frames[64];
  double start = now();
  for (int i = 0; i < count; i++) unwind(frames, 64);
  result = (now() - start) / count;
}

static __attribute__((noinline)) void deep(int depth, int count) {
  if (depth == 0) measure(count);
  else deep(depth - 1, count);
  __asm__ volatile("");
}

static void *first_use(void *argument) {
  deep(20, 1);
  return argument;
}

int main(void) {
  void *library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  unwind = library ? (int (*)(void **, int))dlsym(library, "unw_backtrace") : NULL;
  double warm = -1, first = -1;
  if (unwind) {
    deep(20, 100);
    deep(20, 100000);
    warm = result;
    first = 0;
    for (int i = 0; i < 20; i++) {
      pthread_t thread;
      pthread_create(&thread, NULL, first_use, NULL);
      pthread_join(thread, NULL);
      first += result / 20;
    }
  }
  printf("libunwind_warm %.0f\nlibunwind_first_use_on_a_thread %.0f\n", warm, first);
  unwind = backtrace;
  deep(20, 100);
  deep(20, 20000);
  printf("glibc_backtrace %.0f\n", result);
  return 0;
}
