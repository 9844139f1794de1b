/* Where the return address of a function without unwind rules is, read from its code: from the
 * instruction that is next, on to a `ret`, counting what moves the stack pointer on the way. All
 * ways through a function agree on that, so one is enough: no conditional jump is taken unless the
 * way without it leads nowhere. x86-64.
 *
 * What follows a call that never returns is not this function's code: so what comes out is a
 * proposal, to be checked by what lies there. Context: signal; locks: none; asks for each page of
 * code before reading it (readable_pages.h); bounded work.
 */
#ifndef SHIM_EPILOGUE_H
#define SHIM_EPILOGUE_H

#include <stdbool.h>
#include <stdint.h>

struct epilogue {
  int64_t return_slot; /* from sp, or from the address in rbp or rbx */
  int64_t fp_slot; /* of the caller's rbp, from where return_slot is */
  bool from_fp; /* the function ends with rsp set from rbp */
  bool from_rbx; /* the same from rbx, if that stays what it is */
  bool fp_saved; /* else rbp is the caller's still, or lost */
};

enum { EPILOGUE_WALK_MAX = 20000 }; /* instructions: some 400 us */

/* False: no `ret` within so many instructions, or code that is not understood. read: how many this
 * walk of a stack has read already, EPILOGUE_WALK_MAX at most; grows. elsewhere: another thread's
 * code, which may be unmapped meanwhile (agent only). */
bool epilogue_find(uintptr_t pc, uint32_t instructions, uint32_t *read, bool elsewhere,
                   struct epilogue *out);

#endif
