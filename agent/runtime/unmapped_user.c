#include "unmapped_user.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

enum { DEFAULT_OVERFLOW = 65534, TEXT_MAX = 256 };

/* The first of a small file's bytes, NUL-terminated. */
static bool read_text(const char *path, char text[TEXT_MAX]) {
  int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  ssize_t size = file < 0 ? -1 : read(file, text, TEXT_MAX - 1);
  if (file >= 0) close(file);
  text[size > 0 ? size : 0] = 0;
  return size > 0;
}

static bool all_users_are_mapped(void) {
  char map[TEXT_MAX], *at = map;
  unsigned long numbers[3];
  if (!read_text("/proc/thread-self/uid_map", map)) return false;
  for (int i = 0; i < 3; i++) numbers[i] = strtoul(at, &at, 10);
  return numbers[0] == 0 && numbers[1] == 0 && numbers[2] == UINT32_MAX;
}

uid_t unmapped_user(void) {
  /* As it was last seen, for when /proc is gone, plus 1; 0: never (a forked child forgets it). Any
   * thread writes it: each writes what is true. */
  static _Atomic uint64_t last;
  char text[TEXT_MAX], *end;
  if (all_users_are_mapped()) return (uid_t)-1;
  if (read_text("/proc/sys/kernel/overflowuid", text)) {
    unsigned long number = strtoul(text, &end, 10);
    if (end != text) atomic_store_explicit(&last, number + 1, memory_order_relaxed);
  }
  uint64_t seen = atomic_load_explicit(&last, memory_order_relaxed);
  return seen ? (uid_t)(seen - 1) : DEFAULT_OVERFLOW;
}
