/* Arrays that grow at the end. Context: agent threads; locks: none (one owner). */
#ifndef AGENT_GROWING_ARRAY_H
#define AGENT_GROWING_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "agent_memory.h"

/* Room for one item more: false, and nothing has changed: there is no memory. items: the address of
 * the pointer to the first, NULL while *capacity is 0. */
static inline bool growing_array_reserve(void *items, size_t count, uint32_t *capacity,
                                         size_t item_size) {
  enum { FIRST = 256 };
  if (count < *capacity) return true;
  uint32_t larger = *capacity ? *capacity * 2 : FIRST;
  void *before;
  memcpy(&before, items, sizeof before);
  void *after = larger > *capacity ? agent_realloc(before, larger * item_size) : NULL;
  if (!after) return false;
  memcpy(items, &after, sizeof after);
  *capacity = larger;
  return true;
}

#endif
