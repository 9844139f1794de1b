#define _GNU_SOURCE
#include "large_stack.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "agent_memory.h"

static const size_t STACK_SIZE = 8 << 20, GUARD_SIZE = 64 << 10;

struct call {
  void (*function)(void *);
  void *argument;
};

static void run(unsigned high, unsigned low) { /* makecontext passes ints */
  struct call *call = (struct call *)(((uintptr_t)high << 32) | low);
  call->function(call->argument);
}

bool large_stack_call(struct large_stack *stack, void (*function)(void *), void *argument) {
  if (stack->memory == NULL) {
    void *memory = agent_pages_map(STACK_SIZE);
    if (memory == NULL) return false;
    if (mprotect(memory, GUARD_SIZE, PROT_NONE) != 0) {
      agent_pages_unmap(memory, STACK_SIZE);
      return false;
    }
    stack->memory = memory;
  }
  struct call call = {function, argument};
  ucontext_t here, there;
  if (getcontext(&there) != 0) return false;
  there.uc_stack.ss_sp = (char *)stack->memory + GUARD_SIZE;
  there.uc_stack.ss_size = STACK_SIZE - GUARD_SIZE;
  there.uc_link = &here;
  makecontext(&there, (void (*)(void))run, 2, (unsigned)((uintptr_t)&call >> 32), (unsigned)(uintptr_t)&call);
  return swapcontext(&here, &there) == 0;
}

void large_stack_release(struct large_stack *stack) {
  if (stack->memory != NULL) agent_pages_unmap(stack->memory, STACK_SIZE);
  stack->memory = NULL;
}
