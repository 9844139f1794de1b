/* Floating point in a thread of the host's: that may have chosen to be killed by an inexact result,
 * rounds as it likes, and looks at the flags of what it has computed itself.
 *
 * Context: any. What lies between the two must depend on the values that are handed through, or the
 * compiler may move it out; it must not return another way. */
#ifndef SHIM_FLOAT_STATE_H
#define SHIM_FLOAT_STATE_H

#include <stdint.h>

#if defined(__x86_64__)

struct float_state {
  uint32_t control;
};

/* No traps, to the nearest, until float_state_restore; the host's state is returned. */
static inline struct float_state float_state_begin(uint64_t *value_1, uint64_t *value_2) {
  static const uint32_t none = 0x1f80;
  struct float_state hosts;
  __asm__ volatile("stmxcsr %0\n\tldmxcsr %3"
                   : "=m"(hosts.control), "+r"(*value_1), "+r"(*value_2)
                   : "m"(none));
  return hosts;
}

static inline void float_state_restore(struct float_state hosts, uint64_t *result) {
  __asm__ volatile("ldmxcsr %1" : "+r"(*result) : "m"(hosts.control));
}

#else
#error "float_state_begin is not written for this architecture yet"
#endif

#endif
