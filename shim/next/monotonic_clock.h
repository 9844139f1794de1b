/* CLOCK_MONOTONIC in ns, straight from the kernel's vdso: no system call where the vdso can do
 * without, no libc (which a program may have wrapped). Context: any; locks: none; errno stays. */
#ifndef SHIM_MONOTONIC_CLOCK_H
#define SHIM_MONOTONIC_CLOCK_H

#include <stdint.h>

uint64_t monotonic_clock_now(void);

#endif
