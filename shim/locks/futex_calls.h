/* futex(2) and futex_waitv(2) as made through libc's syscall(): the locks of Rust's standard
 * library, parking_lot, abseil, and C++20's waits. Takes the arguments of syscall() and gives its
 * result and errno. caller: of that wrapper, which is no tail call here: who reads its stack from
 * outside finds its frame. Context: host thread. */
#ifndef SHIM_FUTEX_CALLS_H
#define SHIM_FUTEX_CALLS_H

enum {
  SYS_FUTEX_WAITV = 449
}; /* on all architectures; Linux 5.16, later than Debian 11's headers */

struct unwind_registers;
long futex_call(const struct unwind_registers *caller, long number, long a, long b, long c, long d,
                long e, long f);

#endif
