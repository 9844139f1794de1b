/* own_mapping_* by libc's functions, which the thread sanitizer follows: what is mapped anew has no
 * history. The true ones make system calls of their own: test/unit_own_mappings.c. */
#include <string.h>
#include <sys/mman.h>

#include "shim/base/table_memory.h"

void *own_mapping_add(struct own_mappings *mappings, size_t size, size_t alignment) {
  (void)mappings;
  size_t span = size + alignment;
  char *base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return NULL;
  char *start = (char *)(((uintptr_t)base + alignment - 1) & ~(uintptr_t)(alignment - 1));
  if (start > base) munmap(base, (size_t)(start - base));
  munmap(start + size, (size_t)(base + span - (start + size)));
  return start;
}

void own_mapping_remove(struct own_mappings *mappings, void *start, size_t size) {
  (void)mappings;
  munmap(start, size);
}

void *own_mapping_resize(struct own_mappings *mappings, void *start, size_t size, size_t new_size,
                         size_t alignment) {
  char *moved = own_mapping_add(mappings, new_size, alignment);
  if (!moved) return NULL;
  memcpy(moved, start, size < new_size ? size : new_size);
  munmap(start, size);
  return moved;
}

void own_mapping_forget(struct own_mappings *mappings, void *start) { (void)mappings, (void)start; }
void own_mappings_unlock(struct own_mappings *mappings) { (void)mappings; }
