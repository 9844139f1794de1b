/* Which system call an instruction `syscall` makes, from the code of its function: of what is in
 * eax after a call nothing is left.
 *
 * Code cannot be read backwards: the bytes of `mov $7,%eax` are also the end of `mov $7,%r8d`. So
 * the function is read from its first byte, which the unwind tables tell, as a disassembler does;
 * the number counts if it is the last thing written to eax before, by an instruction that is
 * followed only by such as are known to leave eax alone, and if nothing in the function jumps in
 * between. (Not seen: jumps from another function's code, a part that the compiler has split off
 * included, and through tables.) Context: any; locks: none; reads the function's bytes only.
 */
#ifndef SHIM_CALL_NUMBER_H
#define SHIM_CALL_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum number_place {
  NUMBER_CONSTANT, /* value */
  NUMBER_IN_REGISTER, /* it still is there, by its number in the instruction set */
  NUMBER_IN_MEMORY, /* at displacement from rsp or rbp */
  /* In a register when the function was entered, which has been written since. Until the `syscall`
   * the function has moved neither rsp nor rbp, and written no memory but between the return
   * address and displacement from rsp. */
  NUMBER_AT_ENTRY
};

struct call_number {
  enum number_place place;
  uint32_t value; /* of a register: its number; of memory: the one that it is relative to */
  int32_t displacement;
};

/* at: where in the function the `syscall` is. False: not understood. */
bool call_number_find(const uint8_t *function, size_t size, size_t at, struct call_number *out);

/* What the `call` at `at`, a direct one to `target` (an offset as well), finds in a register: a
 * constant, or the memory from which the instruction at *from loads it, which is not written on the
 * way from there to the `call`, but for what is pushed. */
bool call_argument_find(const uint8_t *function, size_t size, size_t at, size_t target,
                        uint32_t in_register, struct call_number *out, size_t *from);

#endif
