/* Memory of this library's own. For the append-only tables: segments of anonymous memory, mapped
 * when first used, never moved and never unmapped.
 * Context: malloc hook, signal; locks: none; maps memory (a system call) once a segment. */
#ifndef SHIM_TABLE_MEMORY_H
#define SHIM_TABLE_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TABLE_SEGMENT_BYTES = 128 * 1024, TABLE_SEGMENTS_MAX = 2048, TABLE_UNIT = 8 };

struct table_memory {
  char *first; /* segment 0, in .bss: small programs, and those that may not map memory, need no
                  other */
  _Atomic(char *) *segments; /* segment_limit of them, from 1 on; published by a release CAS of
                                whoever mapped one */
  _Atomic uint64_t used; /* bytes handed out, gaps at segment ends included; only rises */
  uint32_t segment_limit; /* <= TABLE_SEGMENTS_MAX */
};

/* Defines one. The segments lie apart, in .bss: what is relocated at each exec stays in a page. */
#define TABLE_MEMORY(name, limit)                                             \
  static char name##_first[TABLE_SEGMENT_BYTES] __attribute__((aligned(64))); \
  static _Atomic(char *) name##_segments[limit];                              \
  static struct table_memory name = {                                         \
      .first = name##_first, .segments = name##_segments, .segment_limit = (limit)}

/* A zeroed block of `size` bytes (<= TABLE_SEGMENT_BYTES) within one segment. Returns its position
 * in units of TABLE_UNIT, or UINT32_MAX: the bound is reached (*full true) or there is no memory
 * (*full false). */
uint32_t table_memory_allocate(struct table_memory *memory, size_t size, bool *full);

/* The block at a position that table_memory_allocate returned; NULL when that segment does not
 * exist. */
void *table_memory_at(const struct table_memory *memory, uint32_t position);

uint64_t table_memory_mapped(const struct table_memory *memory);

/* Anonymous zeroed memory straight from the kernel, or NULL (also where no system call may be
 * made); errno is left alone. Not locked, whatever mlockall(2) the program calls. */
void *table_memory_map(size_t size);
void table_memory_unmap(void *address, size_t size);

/* ---- what lies under it ---- */

/* The mappings of one part of this library. Written by whoever maps, by the rules in the .c file.
 */
enum { OWN_MAPPINGS_MAX = 256 };
struct own_mappings {
  struct own_mapping {
    _Atomic uintptr_t start;
    _Atomic size_t size;
  } entries[OWN_MAPPINGS_MAX];
};

/* As table_memory_map, at a multiple of `alignment` (a power of two, >= the page's size). */
void *own_mapping_add(struct own_mappings *mappings, size_t size, size_t alignment);
void own_mapping_remove(struct own_mappings *mappings, void *start, size_t size);
/* Moves it where it must, to such a multiple again; NULL: it is as it was. */
void *own_mapping_resize(struct own_mappings *mappings, void *start, size_t size, size_t new_size,
                         size_t alignment);
/* It is not one of these any more: its owner unmaps it. */
void own_mapping_forget(struct own_mappings *mappings, void *start);

/* Before the program's mlockall: from now on new mappings are made so that they cannot be locked.
 */
void own_mappings_stay_unlocked(void);
/* After it: those that were there already. */
void own_mappings_unlock(struct own_mappings *mappings);
void table_memory_unlock(void);

#endif
