#include "table_memory.h"

#include <sys/mman.h>

#include "confinement.h"
#include "raw_syscall.h"

void *table_memory_map(size_t size) {
  enum { ERROR_MAX = 4095 };
  if (confinement_forbids_calls()) return NULL;
  long memory = raw_syscall6(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory < 0 && memory >= -ERROR_MAX ? NULL : (void *)memory;
}

void table_memory_unmap(void *address, size_t size) {
  raw_syscall4(SYS_munmap, (long)address, (long)size, 0, 0);
}

uint32_t table_memory_allocate(struct table_memory *memory, size_t size, bool *full) {
  *full = false;
  size = (size + TABLE_UNIT - 1) & ~(size_t)(TABLE_UNIT - 1);
  uint64_t used = atomic_load_explicit(&memory->used, memory_order_relaxed), start;
  do {
    start = used;
    uint64_t room = TABLE_SEGMENT_BYTES - start % TABLE_SEGMENT_BYTES;
    if (room < size) start += room; /* a block does not cross into the next segment */
    if ((start + size - 1) / TABLE_SEGMENT_BYTES >= memory->segment_limit) {
      *full = true;
      return UINT32_MAX;
    }
  } while (!atomic_compare_exchange_weak_explicit(&memory->used, &used, start + size, memory_order_relaxed, memory_order_relaxed));

  _Atomic(char *) *slot = &memory->segments[start / TABLE_SEGMENT_BYTES];
  if (start >= TABLE_SEGMENT_BYTES && !atomic_load_explicit(slot, memory_order_acquire)) {
    char *fresh = table_memory_map(TABLE_SEGMENT_BYTES), *none = NULL;
    if (!fresh) { /* a later call in this segment tries again; the block is lost only if others took more behind it */
      uint64_t end = start + size;
      atomic_compare_exchange_strong_explicit(&memory->used, &end, start, memory_order_relaxed, memory_order_relaxed);
      return UINT32_MAX;
    }
    if (!atomic_compare_exchange_strong_explicit(slot, &none, fresh, memory_order_release, memory_order_acquire))
      table_memory_unmap(fresh, TABLE_SEGMENT_BYTES); /* another thread was first */
  }
  return (uint32_t)(start / TABLE_UNIT);
}

void *table_memory_at(const struct table_memory *memory, uint32_t position) {
  uint64_t start = (uint64_t)position * TABLE_UNIT;
  if (start / TABLE_SEGMENT_BYTES >= memory->segment_limit) return NULL;
  if (start < TABLE_SEGMENT_BYTES) return memory->first + start;
  char *segment = atomic_load_explicit(&memory->segments[start / TABLE_SEGMENT_BYTES], memory_order_acquire);
  return segment ? segment + start % TABLE_SEGMENT_BYTES : NULL;
}

uint64_t table_memory_mapped(const struct table_memory *memory) {
  uint64_t bytes = TABLE_SEGMENT_BYTES;
  for (uint32_t i = 1; i < memory->segment_limit; i++)
    if (atomic_load_explicit(&memory->segments[i], memory_order_relaxed)) bytes += TABLE_SEGMENT_BYTES;
  return bytes;
}
