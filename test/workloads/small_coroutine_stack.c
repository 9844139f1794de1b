/* A coroutine that computes on a stack of SIZE bytes from the heap, with a pattern in the memory
 * below it: small_coroutine_stack SIZE. The kernel's own frame of a signal has room on it. */
#define _GNU_SOURCE
#include <time.h>
#include <ucontext.h>

#include "workload.h"

enum { BELOW = 16384, PATTERN = 0xa5, SECONDS = 2 };

static ucontext_t home, coroutine;
static volatile long sink;

static void body(void) {
  for (;;) {
    for (int i = 0; i < 1000000; i++) sink += i;
    swapcontext(&coroutine, &home);
  }
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  size_t size = (size_t)atol(argv[1]);
  unsigned char *memory = malloc(BELOW + size);
  memset(memory, PATTERN, BELOW);
  getcontext(&coroutine);
  coroutine.uc_stack.ss_sp = memory + BELOW;
  coroutine.uc_stack.ss_size = size;
  makecontext(&coroutine, body, 0);
  ready();
  struct timespec start, now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
  do {
    swapcontext(&home, &coroutine);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  } while (now.tv_sec - start.tv_sec < SECONDS);
  int overwritten = 0;
  for (int i = 0; i < BELOW; i++) overwritten += memory[i] != PATTERN;
  say("%d bytes below the stack overwritten\n", overwritten);
  ready();
  return 0;
}
