/* Stacks of threads seen from outside: of one that is blocked, or as it was when the kernel took a
 * sample. libunwind's remote interface does it, in an address space that is this process's own. All
 * registers are followed, and DWARF expressions and signal frames understood; nothing is guessed.
 *
 * An unwinder remembers rows of tables and blocks of memory that it has read: below 700 KB, and up
 * to 32 MB more of what it must read of files (debug_frames.h). All of it goes with the unwinder.
 * Context: agent threads. Locks: none; an unwinder has one owner at a time.
 */
#ifndef AGENT_REMOTE_UNWIND_H
#define AGENT_REMOTE_UNWIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Registers, as DWARF numbers them; 16 is the pc. */
enum {
  REMOTE_RAX,
  REMOTE_RDX,
  REMOTE_RCX,
  REMOTE_RBX,
  REMOTE_RSI,
  REMOTE_RDI,
  REMOTE_RBP,
  REMOTE_RSP,
  REMOTE_R8,
  REMOTE_R9,
  REMOTE_R10,
  REMOTE_R11,
  REMOTE_R12,
  REMOTE_R13,
  REMOTE_R14,
  REMOTE_R15,
  REMOTE_PC,
  REMOTE_REGISTERS
};
enum { REMOTE_ALL_KNOWN = (1 << REMOTE_REGISTERS) - 1 };

struct remote_registers {
  uint64_t value[REMOTE_REGISTERS];
  uint32_t known; /* bit n: value[n] is known; those of REMOTE_RSP and REMOTE_PC must be */
  bool exact; /* the pc is the next instruction to be executed; false: it is a return address */
};

/* A piece of the stack as it was, from sp or below it upwards. */
struct stack_copy {
  uintptr_t start;
  const void *bytes;
  size_t size;
  bool rest_is_as_it_was; /* the thread waits: what lies above has not changed, and may be read */
};

enum remote_step {
  REMOTE_CALLER, /* the frame is now its caller's */
  REMOTE_OUTERMOST, /* it has no caller */
  REMOTE_NO_UNWIND, /* code without unwind information, or such as is not understood */
  REMOTE_NO_MEMORY, /* the stack cannot be read there, or does not go up */
  REMOTE_PAST_COPY, /* the caller's frame lies above what was copied */
  REMOTE_NEEDS_REGISTER, /* frame.missing is not known; set it and step again */
  REMOTE_DEPTH /* no room for more frames (remote_unwind) */
};

struct remote_frame {
  uintptr_t pc, sp;
  bool exact;
  int missing;
};

struct remote_unwinder;

struct remote_unwinder *remote_unwinder_new(void); /* NULL: out of memory */
void remote_unwinder_release(struct remote_unwinder *unwinder); /* NULL is fine */

/* Unwinds the whole stack into frames, leaf first, as in stack_table.h but without a marker: return
 * addresses, and pc + 1 where a frame was interrupted. copy: NULL: all is read as it is now. *end
 * says why it ended (REMOTE_OUTERMOST: the stack is whole). Returns the number of frames, at least
 * one. */
size_t remote_unwind(struct remote_unwinder *unwinder, const struct remote_registers *registers,
                     const struct stack_copy *copy, uint64_t *frames, size_t capacity,
                     enum remote_step *end);

/* The same, step by step, for a caller that knows more about a frame than the tables say. */
void remote_unwind_begin(struct remote_unwinder *unwinder, const struct remote_registers *registers,
                         const struct stack_copy *copy);
/* To the caller's frame. On anything but REMOTE_CALLER the frame stays as it was, and so do its
 * registers, but on REMOTE_NO_MEMORY and REMOTE_PAST_COPY. */
enum remote_step remote_unwind_step(struct remote_unwinder *unwinder);
const struct remote_frame *remote_unwind_frame(const struct remote_unwinder *unwinder);
/* A register in the current frame. False: not known there. */
bool remote_unwind_register(struct remote_unwinder *unwinder, int number, uintptr_t *value);
void remote_unwind_set_register(struct remote_unwinder *unwinder, int number, uintptr_t value);

#endif
