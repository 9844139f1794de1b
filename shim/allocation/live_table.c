#include "live_table.h"

#include <stdatomic.h>
#include <stddef.h>

#include "shim/base/table_memory.h"

enum { LINE_SLOTS = 5, LEVELS = 8, FIRST_LEVEL_LINES = 256, LEVEL_FACTOR = 4 };

/* Keys. Pointers of allocators are even; a hidden one is its pointer + 1. */
enum { KEY_FREE = 0, KEY_RESERVED = 1 };

/* keys: taken by an acquire-release CAS KEY_FREE -> KEY_RESERVED, after which the slot belongs to
 * that thread until its release store of the pointer; from then on only the pointer's owner writes
 * it. The rest is written while the slot is reserved (relaxed: the store of the pointer publishes
 * it); live_table_next reads it beside that, and looks at the key again. */
struct live_line {
  /* One cache line: what free asks. */
  _Atomic uintptr_t keys[LINE_SLOTS];
  _Atomic uint32_t buckets[LINE_SLOTS];
  uint32_t unused;
  /* And one that only those touch who record or read. */
  _Atomic uint64_t births[LINE_SLOTS];
  _Atomic int32_t tids[LINE_SLOTS];
  uint32_t unused_too;
};
_Static_assert(sizeof(struct live_line) == 128 && offsetof(struct live_line, births) == 64,
               "two cache lines");

static struct live_line first_level[FIRST_LEVEL_LINES] __attribute__((aligned(64)));
/* Published by a release CAS; never unmapped. Level 0 is static. */
static _Atomic(struct live_line *) levels[LEVELS] = {first_level};

static uint64_t level_lines(uint32_t level) { return (uint64_t)FIRST_LEVEL_LINES << (2 * level); }
_Static_assert(LEVEL_FACTOR == 4, "level_lines shifts by 2");

/* A full finalizer (Stafford's variant 13), because each level takes its line from other bits. */
static uint64_t hash_pointer(uintptr_t pointer) {
  uint64_t hash = pointer >> 4;
  hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9ull;
  hash = (hash ^ hash >> 27) * 0x94d049bb133111ebull;
  return hash ^ hash >> 31;
}

/* Other bits for each level, so that what shares a full line of one level spreads over the next. */
static struct live_line *line_in(struct live_line *lines, uint32_t level, uint64_t hash) {
  uint32_t rotate = 9 * level;
  uint64_t rotated = hash >> rotate | hash << ((64 - rotate) & 63);
  return &lines[rotated & (level_lines(level) - 1)];
}

static struct live_line *add_level(uint32_t level) {
  size_t bytes = level_lines(level) * sizeof(struct live_line);
  struct live_line *fresh = table_memory_map(bytes), *none = NULL;
  if (!fresh) return NULL;
  if (atomic_compare_exchange_strong_explicit(&levels[level], &none, fresh, memory_order_release,
                                              memory_order_acquire))
    return fresh;
  table_memory_unmap(fresh, bytes); /* another thread was first */
  return none;
}

bool live_table_reserve(uintptr_t pointer, struct live_slot *slot, bool *full) {
  uint64_t hash = hash_pointer(pointer);
  for (uint32_t level = 0; level < LEVELS; level++) {
    struct live_line *lines = atomic_load_explicit(&levels[level], memory_order_acquire);
    if (!lines && !(lines = add_level(level))) {
      *full = false;
      return false;
    }
    struct live_line *line = line_in(lines, level, hash);
    for (uint32_t i = 0; i < LINE_SLOTS; i++) {
      uintptr_t key = atomic_load_explicit(&line->keys[i], memory_order_relaxed);
      if (key == KEY_FREE &&
          atomic_compare_exchange_strong_explicit(&line->keys[i], &key, KEY_RESERVED,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
        *slot = (struct live_slot){line, i};
        return true;
      }
    }
  }
  *full = true;
  return false;
}

_Atomic uint8_t live_filter[1 << LIVE_FILTER_BITS];

void live_filter_add(uintptr_t pointer) {
  _Atomic uint8_t *slot = live_filter_slot(pointer);
  uint8_t count = 0; /* a guess: reading an untouched page before it is written faults twice */
  while (count != UINT8_MAX &&
         !atomic_compare_exchange_weak_explicit(slot, &count, count + 1, memory_order_relaxed,
                                                memory_order_relaxed)) {}
}

void live_filter_remove(uintptr_t pointer) {
  _Atomic uint8_t *slot = live_filter_slot(pointer);
  uint8_t count = atomic_load_explicit(slot, memory_order_relaxed);
  while (count != UINT8_MAX &&
         !atomic_compare_exchange_weak_explicit(slot, &count, count - 1, memory_order_relaxed,
                                                memory_order_relaxed)) {}
}

void live_table_publish(struct live_slot slot, uintptr_t pointer, const struct live_block *block) {
  struct live_line *line = slot.line;
  uint32_t i = slot.index;
  atomic_store_explicit(&line->buckets[i], block->bucket, memory_order_relaxed);
  atomic_store_explicit(&line->births[i], block->birth, memory_order_relaxed);
  atomic_store_explicit(&line->tids[i], block->tid, memory_order_relaxed);
  live_filter_add(pointer);
  atomic_store_explicit(&line->keys[slot.index], pointer, memory_order_release);
}

struct live_slot live_table_find(uintptr_t pointer) {
  /* A null pointer would match any free slot. */
  if (!pointer || !live_table_may_contain((const void *)pointer))
    return (struct live_slot){NULL, 0};
  uint64_t hash = hash_pointer(pointer);
  for (uint32_t level = 0; level < LEVELS; level++) {
    struct live_line *lines = atomic_load_explicit(&levels[level], memory_order_acquire);
    if (!lines) break;
    struct live_line *line = line_in(lines, level, hash);
    for (uint32_t i = 0; i < LINE_SLOTS; i++)
      if (atomic_load_explicit(&line->keys[i], memory_order_acquire) == pointer)
        return (struct live_slot){line, i};
  }
  return (struct live_slot){NULL, 0};
}

uint32_t live_table_bucket(struct live_slot slot) {
  return atomic_load_explicit(&((struct live_line *)slot.line)->buckets[slot.index],
                              memory_order_relaxed);
}

static void store_key(struct live_slot slot, uintptr_t key) {
  atomic_store_explicit(&((struct live_line *)slot.line)->keys[slot.index], key,
                        memory_order_release);
}

void live_table_remove(struct live_slot slot, uintptr_t pointer) {
  store_key(slot, KEY_FREE);
  live_filter_remove(pointer);
}

void live_table_hide(struct live_slot slot, uintptr_t pointer) { store_key(slot, pointer + 1); }

void live_table_show(struct live_slot slot, uintptr_t pointer) { store_key(slot, pointer); }

/* What belongs to the key that stands there; false: nothing does. */
static bool read_slot(struct live_line *line, uint32_t i, struct live_block *out) {
  uintptr_t key = atomic_load_explicit(&line->keys[i], memory_order_acquire);
  while (key != KEY_FREE && key != KEY_RESERVED) {
    out->bucket = atomic_load_explicit(&line->buckets[i], memory_order_relaxed);
    out->birth = atomic_load_explicit(&line->births[i], memory_order_relaxed);
    out->tid = atomic_load_explicit(&line->tids[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    uintptr_t again = atomic_load_explicit(&line->keys[i], memory_order_relaxed);
    if (again >> 1 == key >> 1) return true; /* hidden or shown meanwhile is the same block */
    key = again;
    atomic_thread_fence(memory_order_acquire); /* with the store of that key */
  }
  return false;
}

bool live_table_next(struct live_cursor *cursor, struct live_block *out) {
  for (; cursor->level < LEVELS; cursor->level++, cursor->line = 0) {
    struct live_line *lines = atomic_load_explicit(&levels[cursor->level], memory_order_acquire);
    if (!lines) return false;
    for (; cursor->line < level_lines(cursor->level); cursor->line++, cursor->index = 0)
      while (cursor->index < LINE_SLOTS)
        if (read_slot(&lines[cursor->line], cursor->index++, out)) return true;
  }
  return false;
}

uint64_t live_table_limit(void) {
  uint64_t lines = 0;
  for (uint32_t level = 0; level < LEVELS; level++) lines += level_lines(level);
  return lines * LINE_SLOTS;
}

uint64_t live_table_bytes(void) {
  uint64_t bytes = 0;
  for (uint32_t level = 0; level < LEVELS; level++)
    if (atomic_load_explicit(&levels[level], memory_order_relaxed))
      bytes += level_lines(level) * sizeof(struct live_line);
  return bytes + sizeof live_filter;
}
