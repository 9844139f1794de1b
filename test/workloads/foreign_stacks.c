/* flags: -O1 */
/* Stacks of the program's own making in awkward places: `below_tls`, next to the first thread's
 * control block with a hole made between them later; `near_main`, in the first stack's reserve. The
 * switch is as many programs write it, and its unwind rule leads just past the stack's top.
 * x86-64. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>

#include "workload.h"

FRAME static void work(void) { free(keep(malloc(100))); }

FRAME __attribute__((optimize("omit-frame-pointer"))) static void run_on(char *top,
                                                                         void (*function)(void)) {
  char pad[256];
  __asm__ volatile("" ::"r"(pad) : "memory");
  __asm__ volatile(
      "mov %%rsp, %%rbx; mov %0, %%rsp; call *%1; mov %%rbx, %%rsp" ::"r"(top), "r"(function)
      : "rbx", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

enum { SIZE = 64 << 10 };

int main(int argc, char **argv) {
  CHECK(argc > 1);
  char *stack;
  if (strcmp(argv[1], "below_tls") == 0) {
    char *between = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    run_on(stack + SIZE, work);
    munmap(between, SIZE);
  } else {
    char *wanted = (char *)(((uintptr_t)&argc - (64l << 20)) & ~4095ul);
    stack = mmap(wanted, SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  }
  CHECK(stack != MAP_FAILED);
  for (int i = 0; i < 1000; i++) run_on(stack + SIZE, work);
  puts("ok");
  return 0;
}
