#include "agent_memory.h"

#include <errno.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "shim/base/agent_hooks.h"
#include "shim/base/at_fork.h"
#include "shim/base/raw_syscall.h"
#include "shim/base/table_memory.h"
#include "agent_lock.h"

/* Memory comes in regions that start on a REGION_SIZE boundary, so a pointer's region is found by
 * clearing its low bits. A slab region holds blocks of one size class and goes back to the kernel
 * when its last block is freed (one is kept per class); a large block has a region of its own, as
 * long as it needs. */
enum { PAGE_SIZE = 4096 };
enum {
  REGION_SIZE = 64 * 1024,
  HEADER_SIZE = 64,
  SMALLEST = 16,
  LARGEST_SMALL = 8 * 1024,
  CLASS_COUNT = 40
};

struct region {
  struct region *next, *previous; /* slabs with free blocks, per class */
  size_t bytes; /* mapped */
  size_t block_size; /* 0: one large block */
  uint32_t used, fresh; /* blocks handed out; blocks never handed out yet start at this index */
  void *free_blocks;
  uint32_t class_index;
};
_Static_assert(sizeof(struct region) <= HEADER_SIZE, "the header must fit before the first block");

static struct agent_lock memory_lock;
static struct region *partial[CLASS_COUNT]; /* guarded by memory_lock */
static _Atomic uint64_t mapped_bytes;

/* Classes: 16, 32, 48, 64, then four steps to each doubling. */
static uint32_t class_of(size_t size) {
  if (size <= 64) return size == 0 ? 0 : (uint32_t)((size - 1) / 16);
  uint32_t top = 63 - (uint32_t)__builtin_clzll(size - 1); /* size - 1 in [2^top, 2^(top+1)) */
  return 4 + (top - 6) * 4 + (uint32_t)(((size - 1) >> (top - 2)) & 3);
}

static size_t size_of_class(uint32_t index) {
  if (index < 4) return (index + 1) * 16;
  uint32_t top = (index - 4) / 4 + 6;
  return ((size_t)1 << top) + ((size_t)((index - 4) % 4 + 1) << (top - 2));
}

static uint32_t block_capacity(const struct region *region) {
  return (uint32_t)((REGION_SIZE - HEADER_SIZE) / region->block_size);
}

static struct region *region_of(void *pointer) {
  return (struct region *)((uintptr_t)pointer & ~(uintptr_t)(REGION_SIZE - 1));
}

/* A child has no use for what this process's agent was in the middle of, nor for the list of it. */
static struct own_mappings mappings;

AT_START static void *map_aligned(size_t size, size_t alignment) {
  void *start = own_mapping_add(&mappings, size, alignment);
  if (start) raw_syscall4(SYS_madvise, (long)start, (long)size, MADV_DONTFORK, 0);
  return start;
}

AT_START void *agent_pages_map(size_t size) { return map_aligned(size, PAGE_SIZE); }
void agent_pages_unmap(void *start, size_t size) { own_mapping_remove(&mappings, start, size); }
void agent_pages_forget(void *start) { own_mapping_forget(&mappings, start); }

static void *map_region(size_t bytes) {
  void *start = map_aligned(bytes, REGION_SIZE);
  if (start) atomic_fetch_add_explicit(&mapped_bytes, bytes, memory_order_relaxed);
  return start;
}

static void unmap_region(struct region *region, size_t bytes) {
  atomic_fetch_sub_explicit(&mapped_bytes, bytes, memory_order_relaxed);
  own_mapping_remove(&mappings, region, bytes);
}

void agent_memory_unlock(void) { own_mappings_unlock(&mappings); }

static void list_insert(struct region *region) {
  struct region **head = &partial[region->class_index];
  region->previous = NULL;
  region->next = *head;
  if (*head) (*head)->previous = region;
  *head = region;
}

static void list_remove(struct region *region) {
  if (region->previous) region->previous->next = region->next;
  else partial[region->class_index] = region->next;
  if (region->next) region->next->previous = region->previous;
}

static void *allocate_small(size_t size) {
  uint32_t index = class_of(size);
  agent_lock_take(&memory_lock);
  struct region *region = partial[index];
  if (!region) {
    region = map_region(REGION_SIZE);
    if (!region) {
      agent_lock_release(&memory_lock);
      return NULL;
    }
    region->bytes = REGION_SIZE;
    region->block_size = size_of_class(index);
    region->class_index = index;
    list_insert(region);
  }
  void *block = region->free_blocks;
  if (block) memcpy(&region->free_blocks, block, sizeof(void *));
  else block = (char *)region + HEADER_SIZE + (size_t)region->fresh++ * region->block_size;
  region->used++;
  if (!region->free_blocks && region->fresh == block_capacity(region)) list_remove(region);
  agent_lock_release(&memory_lock);
  return block;
}

static void free_small(struct region *region, void *block) {
  agent_lock_take(&memory_lock);
  bool was_full = !region->free_blocks && region->fresh == block_capacity(region);
  memcpy(block, &region->free_blocks, sizeof(void *));
  region->free_blocks = block;
  region->used--;
  if (was_full) list_insert(region);
  bool release = region->used == 0 && (region->next || region->previous);
  if (release) list_remove(region);
  agent_lock_release(&memory_lock);
  if (release) unmap_region(region, REGION_SIZE);
}

static size_t large_region_bytes(size_t size) {
  return (size + HEADER_SIZE + 4095) & ~(size_t)4095;
}

static void *allocate_large(size_t size) {
  if (size > SIZE_MAX / 2) return NULL;
  size_t bytes = large_region_bytes(size);
  struct region *region = map_region(bytes);
  if (!region) return NULL;
  region->bytes = bytes;
  return (char *)region + HEADER_SIZE;
}

static size_t usable_size(const struct region *region) {
  return region->block_size ? region->block_size : region->bytes - HEADER_SIZE;
}

void *agent_malloc(size_t size) {
  void *block = size <= LARGEST_SMALL ? allocate_small(size) : allocate_large(size);
  if (!block) errno = ENOMEM;
  return block;
}

void *agent_calloc(size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) {
    errno = ENOMEM;
    return NULL;
  }
  void *block = agent_malloc(total);
  if (block && total <= LARGEST_SMALL)
    memset(block, 0, total); /* large blocks are fresh from the kernel */
  return block;
}

void agent_free(void *pointer) {
  if (!pointer) return;
  struct region *region = region_of(pointer);
  if (region->block_size) free_small(region, pointer);
  else unmap_region(region, region->bytes);
}

/* Moves the pages, not the bytes. */
static void *reallocate_large(struct region *region, size_t size) {
  size_t bytes = large_region_bytes(size), old_bytes = region->bytes;
  if (bytes == old_bytes) return (char *)region + HEADER_SIZE;
  struct region *moved = own_mapping_resize(&mappings, region, old_bytes, bytes, REGION_SIZE);
  if (!moved) return NULL;
  atomic_fetch_add_explicit(&mapped_bytes, bytes - old_bytes,
                            memory_order_relaxed); /* wraps when it shrinks, as it should */
  moved->bytes = bytes;
  return (char *)moved + HEADER_SIZE;
}

void *agent_realloc(void *pointer, size_t size) {
  if (!pointer) return agent_malloc(size);
  struct region *region = region_of(pointer);
  size_t usable = usable_size(region);
  if (!region->block_size && size > LARGEST_SMALL && size <= SIZE_MAX / 2) {
    void *same = reallocate_large(region, size);
    if (!same) errno = ENOMEM;
    return same;
  }
  if (region->block_size && size <= usable && size > usable / 2) return pointer;
  void *block = agent_malloc(size);
  if (!block) return NULL;
  memcpy(block, pointer, usable < size ? usable : size);
  agent_free(pointer);
  return block;
}

char *agent_strdup(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = agent_malloc(size);
  return copy ? memcpy(copy, text, size) : NULL;
}

uint64_t agent_memory_bytes(void) {
  return atomic_load_explicit(&mapped_bytes, memory_order_relaxed);
}
