#include "large_stack.h"

#include <stddef.h>
#include <sys/mman.h>

#include "agent/runtime/agent_memory.h"
#include "symbol_memory.h"

static const size_t STACK_SIZE = 8 << 20, GUARD_SIZE = 64 << 10;

/* libc's contexts would make three system calls for each call, and end the process if the last of
 * them, after the function, fails. */
static void call_on(char *stack_end, void (*function)(void *), void *argument) {
#if defined(__x86_64__)
  __asm__ volatile(
      "movq %%rsp, %%rbx\n\t"
      "movq %[end], %%rsp\n\t"
      "call *%[function]\n\t"
      "movq %%rbx, %%rsp"
      : "+D"(argument)
      : [end] "r"(stack_end), [function] "r"(function)
      : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3",
        "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
        "xmm15", "st", "memory", "cc");
#else
#error "call_on is not written for this architecture yet"
#endif
}

bool large_stack_call(struct large_stack *stack, void (*function)(void *), void *argument) {
  if (stack->memory == NULL) {
    if (!symbol_memory_take(STACK_SIZE)) return false;
    stack->memory = agent_pages_map(STACK_SIZE);
    if (stack->memory == NULL) {
      symbol_memory_give(STACK_SIZE);
      return false;
    }
    if (mprotect(stack->memory, GUARD_SIZE, PROT_NONE) != 0) {
      large_stack_release(stack);
      return false;
    }
  }
  call_on((char *)stack->memory + STACK_SIZE, function, argument);
  return true;
}

void large_stack_release(struct large_stack *stack) {
  if (stack->memory == NULL) return;
  agent_pages_unmap(stack->memory, STACK_SIZE);
  symbol_memory_give(STACK_SIZE);
  stack->memory = NULL;
}
