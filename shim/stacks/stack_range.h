/* The stack that is being walked: what of it can certainly be read, and reading it. Unwind tables
 * and registers can say anything, so nothing else is read.
 * Context: malloc hook, signal, agent; locks: none; system calls only to ask for pages that are not
 * known to be mapped. */
#ifndef SHIM_STACK_RANGE_H
#define SHIM_STACK_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "announcements.h"
#include "shim/next/interposed.h"

struct thread_state;

/* What lies above a copy, by another way than through memory; value: a word of it. */
struct stack_rest {
  bool (*read)(void *argument, uintptr_t address, uintptr_t *value);
  void *argument;
};

struct stack_range {
  uintptr_t low, high; /* readable for sure */
  struct thread_state *thread; /* NULL: a thread of which not even that is known */
  bool is_own; /* the thread's own stack, which ends at high: no frame of it lies elsewhere */
  bool is_copy; /* of a stack from sp on: nothing else can be read */
  bool past_copy; /* what lies above it would have been */
  const struct stack_rest *rest; /* of a copy: who knows that; or NULL */
  uintptr_t shift; /* from an address to where it is read: 0, or to the copy */
  /* Of the walk, whatever stack it is on. */
  uint32_t code_read; /* instructions, in search of return addresses (epilogue.h) */
  uint32_t probes; /* pages that were asked for; bounded */
  struct announcements_answer announced;
};

/* Below sp, where a leaf function may have saved something (psABI). */
enum { STACK_RED_ZONE = 128 };

/* Highest address of the first thread's stack. Written by stack_capture_start, constant
 * afterwards. */
extern uintptr_t stack_range_main_high;

/* The rest of the current thread's stack, from sp up: what is readable without a gap up to the top
 * that is known, the first stack's or a thread's control block, which glibc puts at the top of the
 * thread's stack. (Not the first thread's: that lies elsewhere.) Looked at once and then
 * remembered, because a thread's own stack stays as long as the thread. On any other stack
 * (coroutines, alternate signal stacks) nothing is known and every page is asked for. */
struct stack_range stack_range_own(struct thread_state *thread, uintptr_t sp);
/* The same, where a walk goes on there. */
void stack_range_go_to(struct stack_range *range, uintptr_t sp);

/* Makes address part of what is known, where that may be: unwind tables and registers can say
 * anything, and reading what is no stack is not harmless everywhere (devices, pages that another
 * thread provides). The thread's own stack is not left again. On one of which nothing is known
 * every page from there on must be readable, and a walk that has asked for 64 of them ends. */
bool stack_range_learn(struct stack_range *range, uintptr_t address);

/* A frame pointer may lead from a piece of stack to another: split stacks, and functions that run
 * others on a stack that they have made. */
bool stack_range_leave_for(struct stack_range *range, uintptr_t address);

static inline __attribute__((always_inline)) bool read_stack(struct stack_range *range,
                                                             uintptr_t address, uintptr_t *value) {
  if (UNLIKELY(address & (sizeof(uintptr_t) - 1))) return false;
  if (UNLIKELY(address < range->low || address >= range->high)) {
    if (range->rest && address >= range->high)
      return range->rest->read(range->rest->argument, address, value);
    if (!stack_range_learn(range, address)) return false;
  }
  *value = *(const uintptr_t *)(address + range->shift);
  return true;
}

#endif
