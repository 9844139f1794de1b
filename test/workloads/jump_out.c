/* flags: -O1 */
/* The stack overflows inside malloc; a handler on another stack leaves by siglongjmp, again and
 * again. Then a million allocations. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>

#include "workload.h"

static sigjmp_buf out;
static void jump(int number) {
  (void)number;
  siglongjmp(out, 1);
}

FRAME static int deeper(int depth) {
  volatile char here[16];
  here[0] = (char)depth;
  free(keep(malloc(100)));
  return deeper(depth + 1) + here[0];
}

FRAME static void afterwards(void) {
  for (long i = 0; i < 1000000; i++) free(keep(malloc(1000)));
}

int main(void) {
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_handler = jump, .sa_flags = SA_ONSTACK | SA_NODEFER};
  sigaction(SIGSEGV, &action, NULL);
  for (int i = 0; i < 20; i++) {
    volatile char *other_place = __builtin_alloca(16 * (size_t)(i + 1)); /* for the end to come */
    other_place[0] = 0;
    if (!sigsetjmp(out, 1)) deeper(0);
  }
  afterwards();
  ready();
  return 0;
}
