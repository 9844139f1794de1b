/* The caller's stack, as far as unwind information leads.
 *
 * A frame's rule (where its caller's frame and registers are) is found by interpreting the call
 * frame information (cfi.h) once per pc and process; a table that all threads share holds it in one
 * word, so that a warm frame costs a lookup and two loads. Context: malloc hook, signal; locks:
 * none; no malloc; system calls only to probe stack memory that is not known to be mapped.
 */
#ifndef SHIM_STACK_CAPTURE_H
#define SHIM_STACK_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stack_table.h"

/* Registers in the frame that is to be the leaf, as they are after its call returns. */
struct unwind_registers {
  uintptr_t pc; /* return address */
  uintptr_t sp;
  uintptr_t fp; /* rbp or x29 */
  uintptr_t rbx; /* of what was interrupted; else not used */
};

/* In a function that is compiled with a frame pointer: the registers of its caller. */
#if defined(__x86_64__)
#define CALLER_REGISTERS()                                                                   \
  ((struct unwind_registers){.pc = ((uintptr_t *)__builtin_frame_address(0))[1],             \
                             .sp = (uintptr_t)((uintptr_t *)__builtin_frame_address(0) + 2), \
                             .fp = ((uintptr_t *)__builtin_frame_address(0))[0]})
#else
#error "CALLER_REGISTERS is not written for this architecture yet"
#endif

struct captured_stack {
  uint32_t frame_count;
  bool crosses_signal; /* the leaf runs in a signal handler */
  uint64_t frames[]; /* as in stack_table.h */
};

/* Of a stack that is being taken, on the stack that is in use. */
#define CAPTURED_STACK_BYTES \
  (sizeof(struct captured_stack) + (stack_depth() + 1) * sizeof(uint64_t))
#define CAPTURED_STACK(name)                                     \
  uint64_t name##_room[CAPTURED_STACK_BYTES / sizeof(uint64_t)]; \
  struct captured_stack *name = (struct captured_stack *)name##_room

void stack_capture(const struct unwind_registers *caller, struct captured_stack *out);

/* The stack of what a signal interrupted; registers: as they were then, pc exact. thread: this
 * thread's state, or NULL on a thread that may have none (raw clone): nothing of thread-local
 * storage is then touched and every page of its stack is asked for. Frames of this library are
 * shown: what it costs is not hidden. Context: signal handler. */
struct thread_state;
void stack_capture_interrupted(const struct unwind_registers *registers,
                               struct thread_state *thread, struct captured_stack *out);

/* The stack of a thread that was interrupted elsewhere, from a copy of the `size` bytes at its sp,
 * a multiple of 8. Where rest is NULL, what is deeper than the copy is cut off
 * (STACK_TRUNCATED_MEMORY); else tables, but no guess, lead on in what it reads. Losses are not
 * counted: the caller may find out more. Context: agent, while it borrows the unwind tables
 * (unwind_rule.h). */
struct stack_rest; /* stack_range.h */
void stack_capture_copied(const struct unwind_registers *registers, const void *copy, size_t size,
                          const struct stack_rest *rest, struct captured_stack *out);
/* Counts what that stack lacks. */
void stack_capture_count_losses(const struct captured_stack *stack);

/* Whether there is certainly room for what stack_capture and the tables take below sp, which lies
 * on the stack that is in use: not where nobody has told its end (coroutines), on a small thread's
 * and on a signal handler's alternate one. That memory is mapped says nothing: it may be the
 * heap's. Context: host thread; a system call where it is not known yet. */
enum { STACK_CAPTURE_NEEDS = 8192 }; /* and stack_depth_bytes_beyond() */
bool stack_capture_has_room(uintptr_t sp);

/* Whether this is the thread on which the library was started. Context: host thread. */
bool stack_capture_is_first_thread(void);

/* Highest address of the first thread's stack; before the first capture. */
void stack_capture_start(uintptr_t main_stack_high);

/* Where this library's code is. */
void stack_capture_own_code(uintptr_t *start, uintptr_t *end);

/* Forgets all cached rules: code may have been unmapped. */
void stack_capture_forget_rules(void);
/* The same, where it matters that an object is seen for the first time: code that was in none may
 * have been there. */
void stack_capture_object_appears(void);

#endif
