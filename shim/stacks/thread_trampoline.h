/* The functions of this library on which threads start: not shown in stacks. Context: malloc hook,
 * signal, agent; locks: none. */
#ifndef SHIM_THREAD_TRAMPOLINE_H
#define SHIM_THREAD_TRAMPOLINE_H

#include <stdint.h>

/* Takes it out of a whole stack; the number of frames that are left. */
uint32_t thread_trampoline_leave_out(uint64_t *frames, uint32_t count);

#endif
