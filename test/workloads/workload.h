/* What the workloads share: the conversation with harness.py and the truth that a test compares a
 * profile with.
 *
 * A workload prints lines of truth, then `ready`, then reads a line before it goes on; it ends when
 * its stdin does.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A function whose frame is really there: not inlined, not cloned, not merged with a twin;
 * -fno-optimize-sibling-calls does the rest. */
#define FRAME __attribute__((noinline, noclone, no_icf))

/* Keeps the compiler from removing an allocation. */
static inline void *keep(void *pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

/* Without stdio, so that the conversation allocates nothing. */
__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  for (int done = 0; done < length;) {
    ssize_t n = write(1, line + done, (size_t)(length - done));
    if (n <= 0) _exit(98);
    done += (int)n;
  }
}

static inline int wait_for_line(void) { /* 0 at the end of stdin */
  char c;
  while (read(0, &c, 1) == 1)
    if (c == '\n') return 1;
  return 0;
}

static inline int ready(void) {
  say("ready\n");
  return wait_for_line();
}

/* Those that the kernel knows, the agent's included, by a call that no library sees: for one that
 * it does see the agent's step aside. */
static inline int threads_of_kernel(void) {
  struct stat status;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(SYS_stat), "D"("/proc/self/task"), "S"(&status)
                   : "rcx", "r11", "memory");
  return result == 0 ? (int)status.st_nlink - 2 : -1;
}

struct truth {
  const char *function;
  uint64_t allocs, alloc_bytes, frees, free_bytes;
};

static inline void truth_alloc(struct truth *truth, uint64_t count, uint64_t size) {
  __atomic_fetch_add(&truth->allocs, count, __ATOMIC_RELAXED);
  __atomic_fetch_add(&truth->alloc_bytes, count * size, __ATOMIC_RELAXED);
}

static inline void truth_free(struct truth *truth, uint64_t count, uint64_t size) {
  __atomic_fetch_add(&truth->frees, count, __ATOMIC_RELAXED);
  __atomic_fetch_add(&truth->free_bytes, count * size, __ATOMIC_RELAXED);
}

/* truth FUNCTION alloc_objects alloc_bytes inuse_objects inuse_bytes, in the order of pprof's
 * sample types */
static inline void truth_print(const struct truth *truth) {
  say("truth %s %llu %llu %llu %llu\n", truth->function, (unsigned long long)truth->allocs,
      (unsigned long long)truth->alloc_bytes, (unsigned long long)(truth->allocs - truth->frees),
      (unsigned long long)(truth->alloc_bytes - truth->free_bytes));
}

#define CHECK(condition)                                         \
  do {                                                           \
    if (!(condition)) {                                          \
      say("failed %s:%d: %s\n", __FILE__, __LINE__, #condition); \
      _exit(97);                                                 \
    }                                                            \
  } while (0)

#endif
