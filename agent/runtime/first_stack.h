/* Where the first thread's stack began: what is at its very top, the program's entry, was called
 * by nobody. Context: agent threads; locks: none. */
#ifndef AGENT_FIRST_STACK_H
#define AGENT_FIRST_STACK_H

#include <stdint.h>

/* 0: not known. */
uintptr_t first_stack_start(void);

#endif
