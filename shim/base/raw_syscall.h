/* System calls that touch neither errno nor anything else of the thread's own: for signal handlers,
 * which may run on threads that have no thread-local storage. Result: as the kernel gives it,
 * -errno for failures. Context: any. */
#ifndef SHIM_RAW_SYSCALL_H
#define SHIM_RAW_SYSCALL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long raw_syscall6(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#else
#error "raw_syscall6 is not written for this architecture yet"
#endif
}

/* The same for calls that a program makes through syscall(): the number stays in a register that
 * the kernel keeps, where interrupted_call.c finds it (libc's syscall() loses it). */
static inline long raw_syscall_kept(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("mov %%rbx, %%rax\n\tsyscall"
                   : "=&a"(result)
                   : "b"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
#else
#error "raw_syscall_kept is not written for this architecture yet"
#endif
}

static inline long raw_syscall4(long number, long a, long b, long c, long d) {
  return raw_syscall6(number, a, b, c, d, 0, 0);
}

/* Whether a word that does not cross a page can be read, asked of the kernel without side effects:
 * an unknown `how` fails with EINVAL, but only after the set has been copied in; memory that cannot
 * be read gives EFAULT, and a filter that refuses the call tells nothing. (The trick is abseil's,
 * base/internal AddressIsReadable.) */
static inline bool raw_is_readable(uintptr_t address) {
  return raw_syscall4(SYS_rt_sigprocmask, -1, (long)address, 0, 8) == -EINVAL;
}

/* The same for a range of no more than a page. */
static inline bool raw_range_is_readable(const void *address, size_t size) {
  uintptr_t first = (uintptr_t)address, last = first + size - 1, word = sizeof(uintptr_t) - 1;
  return last >= first && raw_is_readable(first & ~word) && raw_is_readable(last & ~word);
}

/* Private futexes (futex(2)), for a word and those who wait for its change within the process.
 * timeout: relative; NULL: none. */
struct timespec;
static inline long raw_futex_wait(const _Atomic uint32_t *word, uint32_t value,
                                  const struct timespec *timeout) {
  enum { WAIT_PRIVATE = 0 | 128 }; /* linux/futex.h */
  return raw_syscall4(SYS_futex, (long)word, WAIT_PRIVATE, value, (long)timeout);
}
static inline void raw_futex_wake(const _Atomic uint32_t *word, int32_t how_many) {
  enum { WAKE_PRIVATE = 1 | 128 };
  raw_syscall4(SYS_futex, (long)word, WAKE_PRIVATE, how_many, 0);
}

/* A short sleep while another thread is about to change a word. By a futex that nobody wakes: a
 * sandbox may kill for nanosleep, but libc cannot do without futexes. */
static inline void raw_nap(void) {
  const long timespec[2] = {0, 50 * 1000};
  const _Atomic uint32_t word = 0;
  raw_futex_wait(&word, 0, (const struct timespec *)timespec);
}

#endif
