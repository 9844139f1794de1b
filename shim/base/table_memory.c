#include "table_memory.h"

#include <sys/mman.h>

#include "confinement.h"
#include "raw_syscall.h"

/* ---- mappings that the program's mlockall does not lock ----
 *
 * It locks what is mapped, and with MCL_FUTURE what will be: all of it counts against
 * RLIMIT_MEMLOCK, and then the program's own malloc and pthread_create fail. A mapping made by mmap
 * is locked, counted and filled before munlock can say no. But mremap asks the mapping that it
 * starts from: a copy of one that is not locked, made larger, is not locked either.
 */
enum { PAGE = 4096, ERROR_MAX = 4095 };
enum { ACCESS = PROT_READ | PROT_WRITE, KIND = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

/* A page that nobody touches, to make copies of. NULL: the program has locked nothing. Written
 * once, by a release CAS of whoever mapped it. */
static _Atomic(char *) seed;

static bool failed(long result) { return result < 0 && result >= -ERROR_MAX; }

static long map(size_t size, int access) {
  return raw_syscall6(SYS_mmap, 0, (long)size, access, KIND, -1, 0);
}

static long grow(long start, long size, long new_size, long flags, long to) {
  return raw_syscall6(SYS_mremap, start, size, new_size, flags, to, 0);
}

static void unlock(uintptr_t start, size_t size) {
  raw_syscall4(SYS_munlock, (long)start, (long)size, 0, 0);
}

void own_mappings_stay_unlocked(void) {
  if (atomic_load_explicit(&seed, memory_order_acquire)) return;
  long fresh = map(PAGE, ACCESS);
  char *none = NULL;
  if (failed(fresh)) return;
  if (!atomic_compare_exchange_strong_explicit(&seed, &none, (char *)fresh, memory_order_release,
                                               memory_order_relaxed))
    raw_syscall4(SYS_munmap, fresh, PAGE, 0, 0); /* another thread was first */
}

/* Before Linux 5.7: counted for a moment, but not filled, because nothing may read it. */
static long map_and_unlock(size_t size) {
  long start = map(size, PROT_NONE);
  if (failed(start)) return start;
  unlock((uintptr_t)start, size);
  raw_syscall4(SYS_mprotect, start, (long)size, ACCESS, 0);
  return start;
}

static long map_unlocked(long from, size_t size) {
  unlock((uintptr_t)from, PAGE);
  long copy = grow(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
  if (failed(copy)) return map_and_unlock(size);
  long start = grow(copy, PAGE, (long)size, MREMAP_MAYMOVE, 0);
  if (failed(start)) raw_syscall4(SYS_munmap, copy, PAGE, 0, 0);
  return start;
}

static char *map_aligned(size_t size, size_t alignment) {
  size_t span = size + alignment - PAGE;
  char *from = atomic_load_explicit(&seed, memory_order_acquire);
  long base = from ? map_unlocked((long)from, span) : map(span, ACCESS);
  if (failed(base)) return NULL;
  long start = (base + (long)alignment - 1) & -(long)alignment;
  long end = start + (long)size, rest = base + (long)span - end;
  if (start > base) raw_syscall4(SYS_munmap, base, start - base, 0, 0);
  if (rest > 0) raw_syscall4(SYS_munmap, end, rest, 0, 0);
  return (char *)start;
}

/* start: 0 while the entry is free, TAKEN while its owner fills it, then the address; with
 * UNLOCKING while own_mappings_unlock works on it: its owner does not unmap it meanwhile, so
 * nothing of the program's comes to lie there. Taken by CAS; size is written before start is
 * (release). */
enum { TAKEN = 1, UNLOCKING = 2, FLAGS = PAGE - 1 };

/* One that finds no room is not entered: it stays locked if it was there before mlockall. */
static void enter(struct own_mappings *mappings, uintptr_t start, size_t size) {
  for (int i = 0; i < OWN_MAPPINGS_MAX; i++) {
    struct own_mapping *entry = &mappings->entries[i];
    uintptr_t expected = 0; /* not read first: that would be another fault of a fresh page */
    if (!atomic_compare_exchange_strong_explicit(&entry->start, &expected, TAKEN,
                                                 memory_order_acquire, memory_order_relaxed))
      continue;
    atomic_store_explicit(&entry->size, size, memory_order_relaxed);
    atomic_store_explicit(&entry->start, start, memory_order_release);
    return;
  }
}

/* In a forked child an entry may be marked for ever: who marked it was a thread of the parent's. */
static void leave(struct own_mapping *entry, uintptr_t start) {
  enum { NAPS_MAX = 200 };
  for (int naps = 0;; naps++) {
    uintptr_t expected = start;
    if (atomic_compare_exchange_strong_explicit(&entry->start, &expected, 0, memory_order_acq_rel,
                                                memory_order_relaxed))
      return;
    if (naps == NAPS_MAX) break;
    raw_nap();
  }
  atomic_store_explicit(&entry->start, 0, memory_order_release);
}

void own_mapping_forget(struct own_mappings *mappings, void *start) {
  for (int i = 0; i < OWN_MAPPINGS_MAX; i++) {
    struct own_mapping *entry = &mappings->entries[i];
    uintptr_t found = atomic_load_explicit(&entry->start, memory_order_relaxed);
    if ((found & ~(uintptr_t)FLAGS) == (uintptr_t)start) {
      leave(entry, (uintptr_t)start);
      return;
    }
  }
}

void own_mappings_unlock(struct own_mappings *mappings) {
  for (int i = 0; i < OWN_MAPPINGS_MAX; i++) {
    struct own_mapping *entry = &mappings->entries[i];
    uintptr_t start = atomic_load_explicit(&entry->start, memory_order_relaxed);
    if (start < PAGE || start & FLAGS ||
        !atomic_compare_exchange_strong_explicit(&entry->start, &start, start | UNLOCKING,
                                                 memory_order_acquire, memory_order_relaxed))
      continue;
    unlock(start, atomic_load_explicit(&entry->size, memory_order_relaxed));
    uintptr_t marked = start | UNLOCKING; /* or its owner has waited too long, and left */
    atomic_compare_exchange_strong_explicit(&entry->start, &marked, start, memory_order_release,
                                            memory_order_relaxed);
  }
}

void *own_mapping_add(struct own_mappings *mappings, size_t size, size_t alignment) {
  char *start = map_aligned(size, alignment);
  if (start) enter(mappings, (uintptr_t)start, size);
  return start;
}

void own_mapping_remove(struct own_mappings *mappings, void *start, size_t size) {
  own_mapping_forget(mappings, start);
  raw_syscall4(SYS_munmap, (long)start, (long)size, 0, 0);
}

void *own_mapping_resize(struct own_mappings *mappings, void *start, size_t size, size_t new_size,
                         size_t alignment) {
  own_mapping_forget(mappings, start);
  long moved = grow((long)start, (long)size, (long)new_size, 0, 0);
  if (failed(moved)) {
    char *place = map_aligned(new_size, alignment); /* mremap replaces it */
    long fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    moved = place ? grow((long)start, (long)size, (long)new_size, fixed, (long)place) : -ENOMEM;
    if (place && failed(moved)) raw_syscall4(SYS_munmap, (long)place, (long)new_size, 0, 0);
  }
  bool stays = failed(moved);
  enter(mappings, stays ? (uintptr_t)start : (uintptr_t)moved, stays ? size : new_size);
  return stays ? NULL : (void *)moved;
}

/* ---- tables ---- */

static struct own_mappings of_tables;

void *table_memory_map(size_t size) {
  if (confinement_forbids_calls()) return NULL;
  return own_mapping_add(&of_tables, (size + PAGE - 1) & ~(size_t)(PAGE - 1), PAGE);
}

void table_memory_unmap(void *address, size_t size) {
  own_mapping_remove(&of_tables, address, size);
}

void table_memory_unlock(void) { own_mappings_unlock(&of_tables); }

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
  } while (!atomic_compare_exchange_weak_explicit(&memory->used, &used, start + size,
                                                  memory_order_relaxed, memory_order_relaxed));

  _Atomic(char *) *slot = &memory->segments[start / TABLE_SEGMENT_BYTES];
  if (start >= TABLE_SEGMENT_BYTES && !atomic_load_explicit(slot, memory_order_acquire)) {
    char *fresh = table_memory_map(TABLE_SEGMENT_BYTES), *none = NULL;
    if (!fresh) { /* a later call in this segment tries again; the block is lost only if others took
                     more behind it */
      uint64_t end = start + size;
      atomic_compare_exchange_strong_explicit(&memory->used, &end, start, memory_order_relaxed,
                                              memory_order_relaxed);
      return UINT32_MAX;
    }
    if (!atomic_compare_exchange_strong_explicit(slot, &none, fresh, memory_order_release,
                                                 memory_order_acquire))
      table_memory_unmap(fresh, TABLE_SEGMENT_BYTES); /* another thread was first */
  }
  return (uint32_t)(start / TABLE_UNIT);
}

void *table_memory_at(const struct table_memory *memory, uint32_t position) {
  uint64_t start = (uint64_t)position * TABLE_UNIT;
  if (start / TABLE_SEGMENT_BYTES >= memory->segment_limit) return NULL;
  if (start < TABLE_SEGMENT_BYTES) return memory->first + start;
  char *segment =
      atomic_load_explicit(&memory->segments[start / TABLE_SEGMENT_BYTES], memory_order_acquire);
  return segment ? segment + start % TABLE_SEGMENT_BYTES : NULL;
}

uint64_t table_memory_mapped(const struct table_memory *memory) {
  uint64_t bytes = TABLE_SEGMENT_BYTES;
  for (uint32_t i = 1; i < memory->segment_limit; i++)
    if (atomic_load_explicit(&memory->segments[i], memory_order_relaxed))
      bytes += TABLE_SEGMENT_BYTES;
  return bytes;
}
