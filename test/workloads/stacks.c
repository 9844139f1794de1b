/* Allocates on call chains that the test knows, in each place from which a stack is hard to follow.
 * The name of each leaf is unique; the chain is leaf <- middle <- outer <- ... <- main, thread or
 * coroutine entry. */
#define _GNU_SOURCE
#include <alloca.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include "workload.h"

static volatile int one = 1; /* keeps the compiler from knowing sizes */

static FRAME void leaf_plain(void) { keep(malloc(100)); }
static FRAME void middle_plain(void) {
  leaf_plain();
  __asm__ volatile("");
}
static FRAME void outer_plain(void) {
  middle_plain();
  __asm__ volatile("");
}

static FRAME void leaf_alloca(void) {
  char *p = alloca((size_t)(one * 300));
  keep(p);
  keep(malloc(100));
}
static FRAME void middle_vla(void) {
  char p[one * 5000];
  keep(p);
  leaf_alloca();
  keep(p);
}

/* A frame realigned to 64 bytes: its CFA is an expression (DW_CFA_def_cfa_expression), and with a
 * variable size besides. */
static FRAME void leaf_realigned(void) {
  _Alignas(64) char p[64];
  keep(p);
  CHECK((uintptr_t)p % 64 == 0);
  keep(malloc(100));
  keep(p);
}
static FRAME void middle_realigned(int size) {
  _Alignas(64) char p[128];
  char *q = alloca((size_t)size);
  keep(p);
  keep(q);
  leaf_realigned();
  keep(p);
}

static FRAME void leaf_many_arguments(int a, int b, int c, int d, int e, int f, int g, int h,
                                      int i) {
  keep(malloc((size_t)(a + b + c + d + e + f + g + h + i)));
}
/* arguments on the stack: DW_CFA_GNU_args_size, a moving CFA offset */
static FRAME void middle_many_arguments(void) {
  leaf_many_arguments(one, one, one, one, one, one, one, one, one);
  leaf_many_arguments(2, one, one, one, one, one, one, one, 2);
}

static FRAME void leaf_recursion_100(void) { keep(malloc(100)); }
static FRAME void leaf_recursion_300(void) { keep(malloc(100)); }
static FRAME void recurse_100(int depth) {
  if (depth == 1) leaf_recursion_100();
  else recurse_100(depth - 1);
  __asm__ volatile("");
}
static FRAME void recurse_300(int depth) {
  if (depth == 1) leaf_recursion_300();
  else recurse_300(depth - 1);
  __asm__ volatile("");
}

static FRAME int leaf_compare(const void *a, const void *b) {
  free(keep(malloc(30)));
  return *(const int *)a - *(const int *)b;
}
static FRAME void sorter(void) {
  int numbers[] = {5, 2, 9, 1};
  qsort(numbers, 4, sizeof numbers[0], leaf_compare);
  CHECK(numbers[0] == 1 && numbers[3] == 9);
}

static FRAME void leaf_once(void) { keep(malloc(100)); }
static FRAME void user_of_once(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, leaf_once);
}

/* Signals: an instruction that traps, first in its function, so that only its exact pc (not pc - 1)
 * names it. */
#if defined __x86_64__
__asm__(
    ".text\n.globl trapping\n.type trapping,@function\ntrapping:\n"
    ".cfi_startproc\nud2\nret\n.cfi_endproc\n.size trapping,.-trapping\n");
#else
__asm__(
    ".text\n.globl trapping\n.type trapping,%function\ntrapping:\n"
    ".cfi_startproc\nudf #0\nret\n.cfi_endproc\n.size trapping,.-trapping\n");
#endif
void trapping(void);
static FRAME void leaf_in_handler(void) { keep(malloc(100)); }
static FRAME void leaf_on_alternate_stack(void) { keep(malloc(100)); }
static volatile int alternate;
static FRAME void handler(int signal_number, siginfo_t *info, void *context) {
  (void)signal_number, (void)info;
  if (alternate) leaf_on_alternate_stack();
  else leaf_in_handler();
  ucontext_t *interrupted = context;
#if defined __x86_64__
  interrupted->uc_mcontext.gregs[REG_RIP] += 2;
#else
  interrupted->uc_mcontext.pc += 4;
#endif
}
static FRAME void interrupted_caller(void) {
  trapping();
  __asm__ volatile("");
}
static FRAME void signals(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  CHECK(sigaction(SIGILL, &action, NULL) == 0);
  interrupted_caller();
  static char stack[65536];
  stack_t alternate_stack = {.ss_sp = stack, .ss_size = sizeof stack};
  CHECK(sigaltstack(&alternate_stack, NULL) == 0);
  action.sa_flags |= SA_ONSTACK;
  CHECK(sigaction(SIGILL, &action, NULL) == 0);
  alternate = 1;
  interrupted_caller();
}

static ucontext_t main_context, coroutine_context;
static FRAME void leaf_coroutine(void) { keep(malloc(100)); }
static FRAME void coroutine(void) {
  leaf_coroutine();
  swapcontext(&coroutine_context, &main_context);
  leaf_coroutine();
}
static FRAME void coroutines(void) {
  static char stack[65536];
  CHECK(getcontext(&coroutine_context) == 0);
  coroutine_context.uc_stack.ss_sp = stack;
  coroutine_context.uc_stack.ss_size = sizeof stack;
  coroutine_context.uc_link = &main_context;
  makecontext(&coroutine_context, coroutine, 0);
  CHECK(swapcontext(&main_context, &coroutine_context) == 0);
  CHECK(swapcontext(&main_context, &coroutine_context) == 0);
}

static FRAME void leaf_thread(void) { keep(malloc(100)); }
static FRAME void leaf_small_thread(void) { keep(malloc(100)); }
static FRAME void *thread_entry(void *argument) {
  leaf_thread();
  return argument;
}
static FRAME void *small_thread_entry(void *argument) {
  leaf_small_thread();
  return argument;
}
static FRAME void threads(void) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, thread_entry, NULL) == 0);
  pthread_join(thread, NULL);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, (size_t)sysconf(_SC_THREAD_STACK_MIN)) == 0);
  CHECK(pthread_create(&thread, &attributes, small_thread_entry, NULL) == 0);
  pthread_join(thread, NULL);
}

int main(void) {
  outer_plain();
  middle_vla();
  middle_realigned(one * 999);
  middle_many_arguments();
  recurse_100(100);
  recurse_300(300);
  sorter();
  user_of_once();
  signals();
  coroutines();
  threads();
  ready();
  return 0;
}
