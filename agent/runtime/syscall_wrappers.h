/* The C library's functions that hand their arguments to a system call as they are: what the kernel
 * was asked is what the function was called with. Context: agent threads; locks: none. */
#ifndef AGENT_SYSCALL_WRAPPERS_H
#define AGENT_SYSCALL_WRAPPERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SYSCALL_ARGUMENTS_MAX = 160 };

/* Whether `function` (a name as in the symbol table) is the wrapper of system call `number`; then
 * its arguments in hex: "0x5, 0x7ffe01, 0x10, 0xffffffff"; ", ..." at the end stands for those that
 * the kernel was given in another form. */
bool syscall_wrapper_arguments(int32_t number, const uint64_t arguments[6], const char *function,
                               char out[SYSCALL_ARGUMENTS_MAX]);

#endif
