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

struct call_number {
  bool in_register; /* `mov %register,%eax` right before: value is the register's number in the
                       instruction set */
  uint32_t value;
};

/* at: where in the function the `syscall` is. False: not understood. */
bool call_number_find(const uint8_t *function, size_t size, size_t at, struct call_number *out);

#endif
