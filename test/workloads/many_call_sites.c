/* 90,000 calls of malloc in a function that a stripped program has no name for (compile with -s).
 * x86-64. */
#include "workload.h"

__asm__(
    "\t.text\n\t.type calls,@function\ncalls:\n\t.cfi_startproc\n\tsubq "
    "$8,%rsp\n\t.cfi_adjust_cfa_offset 8\n"
    "\t.rept 90000\n\tmovl $16,%edi\n\tcall malloc@PLT\n\t.endr\n"
    "\taddq $8,%rsp\n\t.cfi_adjust_cfa_offset -8\n\tret\n\t.cfi_endproc\n\t.size calls,.-calls\n");
void calls(void) __attribute__((visibility("hidden")));

int main(void) {
  calls();
  ready();
  return 0;
}
