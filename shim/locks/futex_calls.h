/* Waits and releases that a program makes by libc's syscall(): futex(2) and futex_waitv(2). The
 * locks of Rust's standard library, parking_lot and abseil and C++20's waits are made so.
 *
 * Takes the arguments of syscall(), returns its result, and sets errno as it does. caller: the
 * registers of the caller of our wrapper of syscall(). That wrapper must not call this by a tail
 * call: who reads the stack from outside shall find the wrapper's frame. Context: host thread. */
#ifndef SHIM_FUTEX_CALLS_H
#define SHIM_FUTEX_CALLS_H

/* The same number on all architectures. It came with Linux 5.16; older headers do not have it. */
enum { SYS_FUTEX_WAITV = 449 };

struct unwind_registers;
long futex_call(const struct unwind_registers *caller, long number, long a, long b, long c, long d,
                long e, long f);

#endif
