/* A system call that our signal interrupted goes on as if nothing had been.
 *
 * SA_RESTART does not cover poll, epoll_wait, nanosleep, semop and their like: the kernel makes
 * them return EINTR as soon as a handler runs. That shows in what the handler's context says: the
 * pc is right behind a `syscall` instruction and the result is -EINTR. Its arguments are still in
 * their registers, its number is in the code before it (call_number.h) or kept (raw_syscall.h), so
 * the context is changed to make the call again. Where that code is not understood the EINTR stays,
 * and is counted. The whole timeout counts again; but a CPU timer only fires while the thread runs,
 * so the call had just begun. Where another signal of the program's is about to be delivered the
 * EINTR is the program's own and stays; one to which a handler of the program's has just returned
 * is marked (host_handlers.h).
 */
#ifndef SHIM_INTERRUPTED_CALL_H
#define SHIM_INTERRUPTED_CALL_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#include "shim/base/raw_syscall.h"

/* Context: signal handler with all signals blocked; locks: none. */
void interrupted_call_restart(ucontext_t *context);

/* If the context is right behind a system call that returned -EINTR, that is the program's own from
 * now on (host_handlers.h). Context: as above. */
void interrupted_call_mark(ucontext_t *context);

/* A thread in a system call, or right behind it. */
struct interrupted_thread {
  uintptr_t pc, sp; /* pc: behind the `syscall` */
  const greg_t *registers; /* NULL: not known */
  /* A word of its memory. False: it cannot be read. */
  bool (*read)(void *reader, uintptr_t address, uintptr_t *value);
  void *reader;
};

/* The number of its system call (one that can be made again), from the code before it: that of the
 * function, and where it gets the number as an argument (the cancellation points of glibc 2.41),
 * that of its caller. False: not understood.
 * The objects that have this code must stay loaded meanwhile. Context: any; locks: none. */
bool interrupted_call_number(const struct interrupted_thread *thread, uint32_t *number);

/* Whether that system call may be made again, with the same arguments, after an EINTR. Context:
 * any. */
bool interrupted_call_may_be_repeated(uint64_t number);

/* syscall(2) for such a call, which goes on after a tick. Context: any. */
static inline long interrupted_call_make(long number, long a, long b, long c, long d, long e,
                                         long f) {
  long result = raw_syscall_kept(number, a, b, c, d, e, f);
  if ((unsigned long)result < -4095UL) return result;
  errno = (int)-result;
  return -1;
}

/* How often that was done. Context: any. */
extern _Atomic uint64_t interrupted_calls_restarted;

#endif
